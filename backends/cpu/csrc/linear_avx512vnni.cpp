// The matrix products, compiled for AVX-512 with VNNI.
#define PERFX_VARIANT avx512vnni
#include "linear_simd_avx512.hpp"
#include "simd_avx512.hpp"

#include "kernel_tables.hpp"
#include "perfx/linear.hpp"

namespace perfx {

const KernelTable linear_kernels_avx512vnni = {
    avx512vnni::linear::kKernels<avx512vnni::linear::TileTarget<avx512vnni::linear::Simd>>,
    avx512vnni::linear::kNumKernels};

}  // namespace perfx
