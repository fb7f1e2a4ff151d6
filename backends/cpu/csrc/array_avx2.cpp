// The kernels of array primitives, compiled for AVX2 with FMA and F16C.
#define PERFX_VARIANT avx2
#include "simd_avx2.hpp"

#include "kernel_tables.hpp"
#include "perfx/kernels/array.hpp"

const perfx::KernelTable perfx::array_kernels_avx2 = {perfx::avx2::kArrayKernels, perfx::avx2::kNumArrayKernels};
