// The kernels of array primitives, compiled for any processor.
#define PERFX_VARIANT scalar
#include "perfx/simd_portable.hpp"

#include "kernel_tables.hpp"
#include "perfx/kernels/array.hpp"

const perfx::KernelTable perfx::array_kernels_scalar = {perfx::scalar::kArrayKernels, perfx::scalar::kNumArrayKernels};
