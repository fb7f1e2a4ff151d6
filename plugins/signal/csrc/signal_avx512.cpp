// The plugin's kernels, compiled for the instruction set "avx512".
#define PERFX_VARIANT avx512
#include "kernels.hpp"

const perfx::KernelTable perfx::signal_kernels_avx512 = perfx::avx512::kSignalKernels;
