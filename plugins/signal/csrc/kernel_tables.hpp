// The kernels of this library, an array for each instruction set: signal_<variant>.cpp.
#ifndef PERFX_SIGNAL_KERNEL_TABLES_HPP
#define PERFX_SIGNAL_KERNEL_TABLES_HPP

#include "perfx/abi.h"

namespace perfx {

struct KernelTable {
  const PxKernel* kernels;
  int32_t count;
};

extern const KernelTable signal_kernels_scalar;
extern const KernelTable signal_kernels_avx2;
extern const KernelTable signal_kernels_avx512;

}  // namespace perfx
#endif
