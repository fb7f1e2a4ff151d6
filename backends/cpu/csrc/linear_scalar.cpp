// The matrix products, compiled for portable C++.
#define PERFX_VARIANT scalar
#include "perfx/simd_portable.hpp"

#include "kernel_tables.hpp"
#include "perfx/linear.hpp"
#include "perfx/linear_simd_portable.hpp"

namespace perfx {

const KernelTable linear_kernels_scalar = {scalar::linear::kKernels<scalar::linear::TileTarget<scalar::linear::Simd>>,
                                           scalar::linear::kNumKernels};

}  // namespace perfx
