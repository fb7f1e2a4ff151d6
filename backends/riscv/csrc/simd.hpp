// The SIMD layer of the variant at hand: the compiler's flags decide.
#ifdef __riscv_vector
#include "simd_rvv.hpp"
#else
#include "perfx/simd_portable.hpp"
#endif
