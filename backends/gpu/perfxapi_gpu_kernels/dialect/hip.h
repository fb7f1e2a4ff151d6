/* The dialect in HIP, as hiprtc and hipcc compile it. `cxx.h` follows. */

#define PERFX_HIP 1

#define SHUFFLE_XOR(value, mask) __shfl_xor(value, mask)
#define SUBGROUP_SIZE warpSize

#if HAS_DOT4
#if __has_builtin(__builtin_amdgcn_sudot4) && defined(__GFX11__)
#define DOT4(a, b, c) __builtin_amdgcn_sudot4(true, (int)(a), true, (int)(b), c, false)
#else
#define DOT4(a, b, c) __builtin_amdgcn_sdot4((int)(a), (int)(b), c, false)
#endif
#endif
