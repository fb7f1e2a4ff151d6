// The general kernels, compiled for AVX-512 (F, BW, DQ, VL).
#define PERFX_VARIANT avx512
#include "simd_avx512.hpp"

#include "kernel_tables.hpp"
#include "perfx/kernels/general.hpp"

const perfx::KernelTable perfx::general_kernels_avx512 = {perfx::avx512::kGeneralKernels,
                                                          perfx::avx512::kNumGeneralKernels};
