// perfx_library: the kernels of every instruction set this library was built for, best first.
#pragma GCC visibility push(default)
#include "perfx/host.h"
#pragma GCC visibility pop

#include <initializer_list>

#include "kernel_tables.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace perfx {
namespace {

int32_t supports_scalar() { return 1; }

#if defined(__x86_64__)
// __builtin_cpu_supports also asks the operating system (xgetbv) whether it saves the registers.
int32_t supports_avx2() {
  unsigned eax, ebx, ecx, edx;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & bit_F16C)) return 0;
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

int32_t supports_avx512() {
  return supports_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

int32_t supports_avx512vnni() { return supports_avx512() && __builtin_cpu_supports("avx512vnni"); }
#endif

constexpr int32_t kMaxKernels = 256;

// The kernels of one instruction set: its families joined.
class Joined {
 public:
  Joined(const char* name, int32_t (*supported)(void), std::initializer_list<KernelTable> families)
      : variant_{name, supported, 0, 0, kernels_} {
    for (const KernelTable& family : families) {
      for (int32_t i = 0; i < family.count && variant_.num_kernels < kMaxKernels; ++i) {
        kernels_[variant_.num_kernels++] = family.kernels[i];
      }
    }
  }
  Joined(const Joined&) = delete;
  const PxVariant& variant() const { return variant_; }

 private:
  PxKernel kernels_[kMaxKernels];
  PxVariant variant_;
};

PxLibrary make_library() {
#if defined(__x86_64__)
  static const Joined vnni("avx512vnni", supports_avx512vnni,
                           {linear_kernels_avx512vnni, general_kernels_avx512, array_kernels_avx512,
                            matmul_kernels_avx512, neural_kernels_avx512});
  static const Joined avx512("avx512", supports_avx512,
                             {linear_kernels_avx512, general_kernels_avx512, array_kernels_avx512,
                              matmul_kernels_avx512, neural_kernels_avx512});
  static const Joined avx2(
      "avx2", supports_avx2,
      {linear_kernels_avx2, general_kernels_avx2, array_kernels_avx2, matmul_kernels_avx2, neural_kernels_avx2});
#endif
  static const Joined scalar("scalar", supports_scalar,
                             {linear_kernels_scalar, general_kernels_scalar, array_kernels_scalar,
                              matmul_kernels_scalar, neural_kernels_scalar});
  static const PxVariant variants[] = {
#if defined(__x86_64__)
      vnni.variant(),
      avx512.variant(),
      avx2.variant(),
#endif
      scalar.variant(),
  };
  return {PERFX_ABI_VERSION,
          sizeof(PxTensor),
          sizeof(PxCall),
          sizeof(PxThread),
          sizeof(PxKernel),
          sizeof(PxVariant),
          "cpu",
          int32_t(sizeof(variants) / sizeof(variants[0])),
          0,
          variants};
}

}  // namespace
}  // namespace perfx

const PxLibrary* perfx_library(void) {
  static const PxLibrary library = perfx::make_library();
  return &library;
}
