// The general kernels, compiled for AVX2 with FMA and F16C.
#define PERFX_VARIANT avx2
#include "simd_avx2.hpp"

#include "kernel_tables.hpp"
#include "perfx/kernels/general.hpp"

const perfx::KernelTable perfx::general_kernels_avx2 = {perfx::avx2::kGeneralKernels, perfx::avx2::kNumGeneralKernels};
