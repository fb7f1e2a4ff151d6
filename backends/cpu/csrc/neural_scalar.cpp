// Convolutions and the other kernels of vision and speech networks, compiled for any processor.
#define PERFX_VARIANT scalar
#include "perfx/simd_portable.hpp"

#include "kernel_tables.hpp"
#include "perfx/kernels/neural.hpp"

const perfx::KernelTable perfx::neural_kernels_scalar = {perfx::scalar::kNeuralKernels,
                                                         perfx::scalar::kNumNeuralKernels};
