// The matrix products, compiled for AVX-512 (F, BW, DQ, VL).
#define PERFX_VARIANT avx512
#include "linear_simd_avx512.hpp"
#include "simd_avx512.hpp"

#include "kernel_tables.hpp"
#include "perfx/linear.hpp"

namespace perfx {

const KernelTable linear_kernels_avx512 = {avx512::linear::kKernels<avx512::linear::TileTarget<avx512::linear::Simd>>,
                                           avx512::linear::kNumKernels};

}  // namespace perfx
