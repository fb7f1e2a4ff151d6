// Products of floating-point matrices, compiled for NEON.
#define PERFX_VARIANT neon
#include "simd_neon.hpp"

#include "kernel_tables.hpp"
#include "perfx/matmul.hpp"

const perfx::KernelTable perfx::matmul_kernels_neon = {perfx::neon::matmul::kKernels, perfx::neon::matmul::kNumKernels};
