// The kernels of array primitives of the variant at hand.
#include "simd.hpp"

#include "kernel_table.hpp"
#include "perfx/kernels/array.hpp"

const perfx::KernelTable perfx::PERFX_TABLE(array) = {perfx::PERFX_VARIANT::kArrayKernels,
                                                      perfx::PERFX_VARIANT::kNumArrayKernels};
