// Convolutions and the other kernels of vision and speech networks, compiled for AVX-512 (F, BW, DQ, VL).
#define PERFX_VARIANT avx512
#include "simd_avx512.hpp"

#include "kernel_tables.hpp"
#include "perfx/kernels/neural.hpp"

const perfx::KernelTable perfx::neural_kernels_avx512 = {perfx::avx512::kNeuralKernels,
                                                         perfx::avx512::kNumNeuralKernels};
