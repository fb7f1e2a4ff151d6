// The matrix products, compiled for AVX2, FMA and F16C.
#define PERFX_VARIANT avx2
#include "linear_simd_avx2.hpp"
#include "simd_avx2.hpp"

#include "kernel_tables.hpp"
#include "perfx/linear.hpp"

namespace perfx {

const KernelTable linear_kernels_avx2 = {avx2::linear::kKernels<avx2::linear::TileTarget<avx2::linear::Simd>>,
                                         avx2::linear::kNumKernels};

}  // namespace perfx
