// perfx_library: the plugin's kernels for every instruction set this library was built for, best first.
#include "kernel_tables.hpp"
#include "perfx/kernel.h"

#if defined(__x86_64__)
#include "perfx/x86_processor.hpp"
#endif

namespace perfx {
namespace {

int32_t supports_scalar() { return 1; }

#if defined(__x86_64__)
int32_t supports_avx2() { return x86::has_avx2(); }
int32_t supports_avx512() { return x86::has_avx512(); }
#endif

PxVariant variant(const char* name, int32_t (*supported)(), const KernelTable& table) {
  return {name, supported, table.count, 0, table.kernels};
}

}  // namespace
}  // namespace perfx

PERFX_EXPORT const PxLibrary* perfx_library(void) {
  using namespace perfx;
  static const PxVariant variants[] = {
#if defined(__x86_64__)
      variant("avx512", supports_avx512, signal_kernels_avx512),
      variant("avx2", supports_avx2, signal_kernels_avx2),
#endif
      variant("scalar", supports_scalar, signal_kernels_scalar),
  };
  static const PxLibrary library = {PERFX_ABI_VERSION,
                                    sizeof(PxTensor),
                                    sizeof(PxCall),
                                    sizeof(PxThread),
                                    sizeof(PxKernel),
                                    sizeof(PxVariant),
                                    "signal",
                                    int32_t(sizeof(variants) / sizeof(variants[0])),
                                    0,
                                    variants};
  return &library;
}
