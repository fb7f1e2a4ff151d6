// Convolutions and the other kernels of vision and speech networks, compiled for NEON with FMA.
#define PERFX_VARIANT neon
#include "simd_neon.hpp"

#include "kernel_tables.hpp"
#include "perfx/kernels/neural.hpp"

const perfx::KernelTable perfx::neural_kernels_neon = {perfx::neon::kNeuralKernels, perfx::neon::kNumNeuralKernels};
