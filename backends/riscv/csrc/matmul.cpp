// Products of floating-point matrices in the variant at hand.
#include "simd.hpp"

#include "kernel_table.hpp"
#include "perfx/matmul.hpp"

const perfx::KernelTable perfx::PERFX_TABLE(matmul) = {perfx::PERFX_VARIANT::matmul::kKernels,
                                                       perfx::PERFX_VARIANT::matmul::kNumKernels};
