// The matrix products, compiled for NEON with dot products of bytes.
#define PERFX_VARIANT dotprod
#include "linear_simd_neon.hpp"
#include "simd_neon.hpp"

#include "kernel_tables.hpp"
#include "perfx/linear.hpp"

namespace perfx {

const KernelTable linear_kernels_dotprod = {
    dotprod::linear::kKernels<dotprod::linear::TileTarget<dotprod::linear::Simd>>, dotprod::linear::kNumKernels};

}  // namespace perfx
