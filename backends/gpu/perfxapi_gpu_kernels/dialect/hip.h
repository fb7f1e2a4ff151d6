/* The dialect in HIP, as hiprtc and hipcc compile it. `cxx.h` follows. */

#define PERFX_HIP 1

#define SHUFFLE_XOR(value, mask) __shfl_xor(value, mask)
#define SUBGROUP_SIZE warpSize

#if HAS_DOT4
#if defined(__GFX11__) || defined(__GFX12__)
#define DOT4(a, b, c) __builtin_amdgcn_sudot4(true, (int)(a), true, (int)(b), c, false)
#else
#define DOT4(a, b, c) __builtin_amdgcn_sdot4((int)(a), (int)(b), c, false)
#endif
#endif

#if HAS_HALF
#define LOAD_HALF(pointer, index) ((float)__builtin_bit_cast(_Float16, (pointer)[index]))
#define STORE_HALF(value, pointer, index) ((pointer)[index] = __builtin_bit_cast(unsigned short, (_Float16)(value)))
#endif

/* hiprtc has these for doubles alone, and would compute with doubles. */
static __device__ inline float perfx_rsqrt(float x) { return rsqrtf(x); }
static __device__ inline double perfx_rsqrt(double x) { return rsqrt(x); }
static __device__ inline float perfx_exp10(float x) { return exp10f(x); }
static __device__ inline double perfx_exp10(double x) { return exp10(x); }
#define rsqrt(x) perfx_rsqrt(x)
#define exp10(x) perfx_exp10(x)
