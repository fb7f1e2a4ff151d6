/* What CUDA C++ and HIP have in common. */

/* By macros: whether compilers know these names, and as which types, depends on their versions. */
typedef long long perfx_int64;
typedef unsigned long long perfx_uint64;
#define int8_t signed char
#define uint8_t unsigned char
#define int16_t short
#define uint16_t unsigned short
#define int32_t int
#define uint32_t unsigned
#define int64_t perfx_int64
#define uint64_t perfx_uint64

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;

#define KERNEL extern "C" __global__ void
#define KERNEL_OF(x, y, z) extern "C" __global__ void __launch_bounds__((x) * (y) * (z))
#define DEVICE static __device__ inline
#define GLOBAL
#define LOCAL
#define LOCAL_ARRAY(type, name, count) __shared__ type name[count]
#define CONSTANT static __device__ const
#define RESTRICT __restrict__

#define PERFX_AXIS(sizes, axis) ((int)((axis) == 0 ? sizes.x : (axis) == 1 ? sizes.y : sizes.z))
#define LOCAL_ID(axis) PERFX_AXIS(threadIdx, axis)
#define GROUP_ID(axis) PERFX_AXIS(blockIdx, axis)
#define LOCAL_SIZE(axis) PERFX_AXIS(blockDim, axis)
#define NUM_GROUPS(axis) PERFX_AXIS(gridDim, axis)
#define GLOBAL_ID(axis) (GROUP_ID(axis) * LOCAL_SIZE(axis) + LOCAL_ID(axis))
#define BARRIER() __syncthreads()
#define BARRIER_GLOBAL() __syncthreads()

#define ATOMIC_CAS(pointer, expected, value) atomicCAS(pointer, expected, value)
#define ATOMIC_ADD(pointer, value) atomicAdd(pointer, value)
#define ATOMIC_MAX(pointer, value) atomicMax(pointer, value)

#ifndef INFINITY
#define INFINITY __uint_as_float(0x7f800000u)
#define NAN __uint_as_float(0x7fc00000u)
#endif

#define AS_FLOAT(bits) __uint_as_float((uint32_t)(bits))
#define AS_UINT(value) __float_as_uint(value)

#if HAS_SUBGROUPS
DEVICE float perfx_subgroup_sum(float value) {
  for (int mask = SUBGROUP_SIZE / 2; mask > 0; mask /= 2) value += SHUFFLE_XOR(value, mask);
  return value;
}

DEVICE float perfx_subgroup_max(float value) {
  for (int mask = SUBGROUP_SIZE / 2; mask > 0; mask /= 2) value = fmax(value, SHUFFLE_XOR(value, mask));
  return value;
}

#define SUBGROUP_SUM(x) perfx_subgroup_sum(x)
#define SUBGROUP_MAX(x) perfx_subgroup_max(x)
#endif
