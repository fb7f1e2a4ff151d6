/* What hiprtc declares before a program, beside clang's own header of HIP, for a clang without ROCm. Signatures are
 * those of ROCm's amd_hip_vector_types.h, amd_device_functions.h and amd_hip_atomic.h. */

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  __device__ operator uint3() const { return {x, y, z}; }
};

/* In ROCm too these are types of their own that turn into both. */
struct ThreadIndex {
  unsigned x, y, z;
  __device__ operator dim3() const { return {x, y, z}; }
  __device__ operator uint3() const { return {x, y, z}; }
};

#define threadIdx \
  (ThreadIndex{__builtin_amdgcn_workitem_id_x(), __builtin_amdgcn_workitem_id_y(), __builtin_amdgcn_workitem_id_z()})
#define blockIdx \
  (ThreadIndex{__builtin_amdgcn_workgroup_id_x(), __builtin_amdgcn_workgroup_id_y(), __builtin_amdgcn_workgroup_id_z()})
#define blockDim                                                                         \
  (ThreadIndex{__builtin_amdgcn_workgroup_size_x(), __builtin_amdgcn_workgroup_size_y(), \
               __builtin_amdgcn_workgroup_size_z()})
#define gridDim                                                                                          \
  (ThreadIndex{__builtin_amdgcn_grid_size_x() / blockDim.x, __builtin_amdgcn_grid_size_y() / blockDim.y, \
               __builtin_amdgcn_grid_size_z() / blockDim.z})
#define warpSize __AMDGCN_WAVEFRONT_SIZE
#define __launch_bounds__(threads) __attribute__((amdgpu_flat_work_group_size(1, threads)))

static __device__ inline void __syncthreads() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
  __builtin_amdgcn_s_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}

static __device__ inline float __uint_as_float(unsigned bits) { return __builtin_bit_cast(float, bits); }
static __device__ inline unsigned __float_as_uint(float value) { return __builtin_bit_cast(unsigned, value); }

static __device__ inline float __shfl_xor(float value, int mask, int = warpSize) {
  int self = (int)__builtin_amdgcn_mbcnt_hi(~0u, __builtin_amdgcn_mbcnt_lo(~0u, 0));
  int taken = __builtin_amdgcn_ds_bpermute((self ^ mask) << 2, (int)__float_as_uint(value));
  return __uint_as_float((unsigned)taken);
}

#define ATOMICS(type)                                                                                   \
  static __device__ inline type atomicCAS(type* pointer, type expected, type value) {                   \
    __hip_atomic_compare_exchange_strong(pointer, &expected, value, __ATOMIC_RELAXED, __ATOMIC_RELAXED, \
                                         __HIP_MEMORY_SCOPE_AGENT);                                     \
    return expected;                                                                                    \
  }                                                                                                     \
  static __device__ inline type atomicAdd(type* pointer, type value) {                                  \
    return __hip_atomic_fetch_add(pointer, value, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);          \
  }                                                                                                     \
  static __device__ inline type atomicMax(type* pointer, type value) {                                  \
    return __hip_atomic_fetch_max(pointer, value, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);          \
  }

ATOMICS(int)
ATOMICS(unsigned)
ATOMICS(unsigned long long)
