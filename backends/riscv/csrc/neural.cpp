// Convolutions and the other kernels of vision and speech networks in the variant at hand.
#include "simd.hpp"

#include "kernel_table.hpp"
#include "perfx/kernels/neural.hpp"

const perfx::KernelTable perfx::PERFX_TABLE(neural) = {perfx::PERFX_VARIANT::kNeuralKernels,
                                                       perfx::PERFX_VARIANT::kNumNeuralKernels};
