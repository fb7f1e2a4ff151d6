// The general kernels, compiled for NEON.
#define PERFX_VARIANT neon
#include "simd_neon.hpp"

#include "kernel_tables.hpp"
#include "perfx/kernels/general.hpp"

const perfx::KernelTable perfx::general_kernels_neon = {perfx::neon::kGeneralKernels, perfx::neon::kNumGeneralKernels};
