// The kernels of array primitives, compiled for AVX-512 (F, BW, DQ, VL).
#define PERFX_VARIANT avx512
#include "simd_avx512.hpp"

#include "kernel_tables.hpp"
#include "perfx/kernels/array.hpp"

const perfx::KernelTable perfx::array_kernels_avx512 = {perfx::avx512::kArrayKernels, perfx::avx512::kNumArrayKernels};
