/* What CUDA C++ and HIP have in common. */

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

DEVICE int perfx_axis(dim3 sizes, int axis) { return (int)(axis == 0 ? sizes.x : axis == 1 ? sizes.y : sizes.z); }
DEVICE int perfx_axis(uint3 ids, int axis) { return (int)(axis == 0 ? ids.x : axis == 1 ? ids.y : ids.z); }

#define LOCAL_ID(axis) perfx_axis(threadIdx, axis)
#define GROUP_ID(axis) perfx_axis(blockIdx, axis)
#define LOCAL_SIZE(axis) perfx_axis(blockDim, axis)
#define NUM_GROUPS(axis) perfx_axis(gridDim, axis)
#define GLOBAL_ID(axis) (GROUP_ID(axis) * LOCAL_SIZE(axis) + LOCAL_ID(axis))
#define BARRIER() __syncthreads()
#define BARRIER_GLOBAL() __syncthreads()

#define ATOMIC_CAS(pointer, expected, value) atomicCAS(pointer, expected, value)
#define ATOMIC_ADD(pointer, value) atomicAdd(pointer, value)
#define ATOMIC_MAX(pointer, value) atomicMax(pointer, value)

#define AS_FLOAT(bits) __uint_as_float((uint32_t)(bits))
#define AS_UINT(value) __float_as_uint(value)

#if HAS_DOT4
#define DOT4(a, b, c) __dp4a((int)(a), (int)(b), c)
#endif
