// Products of floating-point matrices, compiled for AVX2 with FMA.
#define PERFX_VARIANT avx2
#include "simd_avx2.hpp"

#include "kernel_tables.hpp"
#include "perfx/matmul.hpp"

const perfx::KernelTable perfx::matmul_kernels_avx2 = {perfx::avx2::matmul::kKernels, perfx::avx2::matmul::kNumKernels};
