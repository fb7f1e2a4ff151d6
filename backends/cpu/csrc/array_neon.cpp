// The kernels of array primitives, compiled for NEON.
#define PERFX_VARIANT neon
#include "simd_neon.hpp"

#include "kernel_tables.hpp"
#include "perfx/kernels/array.hpp"

const perfx::KernelTable perfx::array_kernels_neon = {perfx::neon::kArrayKernels, perfx::neon::kNumArrayKernels};
