// The plugin's kernels, compiled for the instruction set "scalar".
#define PERFX_VARIANT scalar
#include "kernels.hpp"

const perfx::KernelTable perfx::signal_kernels_scalar = perfx::scalar::kSignalKernels;
