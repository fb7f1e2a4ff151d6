/* The dialect in CUDA C++, as NVRTC and nvcc compile it. `cxx.h` follows. */

#define PERFX_CUDA 1

#define SHUFFLE_XOR(value, mask) __shfl_xor_sync(0xffffffffu, value, mask)
#define SUBGROUP_SIZE 32

#if HAS_DOT4
#define DOT4(a, b, c) __dp4a((int)(a), (int)(b), c)
#endif
