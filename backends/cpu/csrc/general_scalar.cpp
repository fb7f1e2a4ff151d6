// The general kernels, compiled for any processor.
#define PERFX_VARIANT scalar
#include "perfx/simd_portable.hpp"

#include "kernel_tables.hpp"
#include "perfx/kernels/general.hpp"

const perfx::KernelTable perfx::general_kernels_scalar = {perfx::scalar::kGeneralKernels,
                                                          perfx::scalar::kNumGeneralKernels};
