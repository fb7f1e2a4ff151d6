// The matrix products, compiled for NEON.
#define PERFX_VARIANT neon
#include "linear_simd_neon.hpp"
#include "simd_neon.hpp"

#include "kernel_tables.hpp"
#include "perfx/linear.hpp"

namespace perfx {

const KernelTable linear_kernels_neon = {neon::linear::kKernels<neon::linear::TileTarget<neon::linear::Simd>>,
                                         neon::linear::kNumKernels};

}  // namespace perfx
