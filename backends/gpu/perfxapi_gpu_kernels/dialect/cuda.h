/* The dialect in CUDA C++, as NVRTC and nvcc compile it. `cxx.h` follows. */

#define PERFX_CUDA 1

#define SHUFFLE_XOR(value, mask) __shfl_xor_sync(0xffffffffu, value, mask)
#define SUBGROUP_SIZE 32

#if HAS_DOT4
#define DOT4(a, b, c) __dp4a((int)(a), (int)(b), c)
#endif

#if HAS_HALF
static __device__ inline float perfx_load_half(const unsigned short* pointer) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(*pointer));
  return value;
}

static __device__ inline void perfx_store_half(float value, unsigned short* pointer) {
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(*pointer) : "f"(value));
}

#define LOAD_HALF(pointer, index) perfx_load_half((pointer) + (index))
#define STORE_HALF(value, pointer, index) perfx_store_half(value, (pointer) + (index))
#endif
