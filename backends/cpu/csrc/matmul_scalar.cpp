// Products of floating-point matrices, compiled for any processor.
#define PERFX_VARIANT scalar
#include "perfx/simd_portable.hpp"

#include "kernel_tables.hpp"
#include "perfx/matmul.hpp"

const perfx::KernelTable perfx::matmul_kernels_scalar = {perfx::scalar::matmul::kKernels,
                                                         perfx::scalar::matmul::kNumKernels};
