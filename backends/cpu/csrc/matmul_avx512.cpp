// Products of floating-point matrices, compiled for AVX-512 (F, BW, DQ, VL).
#define PERFX_VARIANT avx512
#include "simd_avx512.hpp"

#include "kernel_tables.hpp"
#include "perfx/matmul.hpp"

const perfx::KernelTable perfx::matmul_kernels_avx512 = {perfx::avx512::matmul::kKernels,
                                                         perfx::avx512::matmul::kNumKernels};
