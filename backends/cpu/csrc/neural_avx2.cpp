// Convolutions and the other kernels of vision and speech networks, compiled for AVX2 with FMA.
#define PERFX_VARIANT avx2
#include "simd_avx2.hpp"

#include "kernel_tables.hpp"
#include "perfx/kernels/neural.hpp"

const perfx::KernelTable perfx::neural_kernels_avx2 = {perfx::avx2::kNeuralKernels, perfx::avx2::kNumNeuralKernels};
