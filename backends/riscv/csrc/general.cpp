// The general kernels of the variant at hand.
#include "simd.hpp"

#include "kernel_table.hpp"
#include "perfx/kernels/general.hpp"

const perfx::KernelTable perfx::PERFX_TABLE(general) = {perfx::PERFX_VARIANT::kGeneralKernels,
                                                        perfx::PERFX_VARIANT::kNumGeneralKernels};
