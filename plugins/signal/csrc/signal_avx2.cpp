// The plugin's kernels, compiled for the instruction set "avx2".
#define PERFX_VARIANT avx2
#include "kernels.hpp"

const perfx::KernelTable perfx::signal_kernels_avx2 = perfx::avx2::kSignalKernels;
