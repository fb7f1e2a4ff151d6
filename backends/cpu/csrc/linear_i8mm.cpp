// The matrix products, compiled for NEON with dot products and matrix products of bytes.
#define PERFX_VARIANT i8mm
#include "linear_simd_neon.hpp"
#include "simd_neon.hpp"

#include "kernel_tables.hpp"
#include "perfx/linear.hpp"

namespace perfx {

const KernelTable linear_kernels_i8mm = {i8mm::linear::kKernels<i8mm::linear::TileTarget<i8mm::linear::Simd>>,
                                         i8mm::linear::kNumKernels};

}  // namespace perfx
