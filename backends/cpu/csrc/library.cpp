// perfx_library: the kernels of every instruction set this library was built for, best first.
#pragma GCC visibility push(default)
#include "perfx/host.h"
#pragma GCC visibility pop

#include "kernel_tables.hpp"

#if defined(__x86_64__)
#include "perfx/x86_processor.hpp"
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace perfx {
namespace {

int32_t supports_scalar() { return 1; }

#if defined(__x86_64__)
int32_t supports_avx2() { return x86::has_avx2(); }

int32_t supports_avx512() { return x86::has_avx512(); }

int32_t supports_avx512vnni() { return x86::has_avx512_vnni(); }
#elif defined(__aarch64__)
int32_t supports_neon() { return (getauxval(AT_HWCAP) & HWCAP_ASIMD) != 0; }

int32_t supports_dotprod() { return supports_neon() && (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; }

int32_t supports_i8mm() { return supports_dotprod() && (getauxval(AT_HWCAP2) & HWCAP2_I8MM) != 0; }
#endif

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
#elif defined(__aarch64__)
  static const Joined i8mm(
      "i8mm", supports_i8mm,
      {linear_kernels_i8mm, general_kernels_neon, array_kernels_neon, matmul_kernels_neon, neural_kernels_neon});
  static const Joined dotprod(
      "dotprod", supports_dotprod,
      {linear_kernels_dotprod, general_kernels_neon, array_kernels_neon, matmul_kernels_neon, neural_kernels_neon});
  static const Joined neon(
      "neon", supports_neon,
      {linear_kernels_neon, general_kernels_neon, array_kernels_neon, matmul_kernels_neon, neural_kernels_neon});
#endif
  static const Joined scalar("scalar", supports_scalar,
                             {linear_kernels_scalar, general_kernels_scalar, array_kernels_scalar,
                              matmul_kernels_scalar, neural_kernels_scalar});
  static const PxVariant variants[] = {
#if defined(__x86_64__)
      vnni.variant(),
      avx512.variant(),
      avx2.variant(),
#elif defined(__aarch64__)
      i8mm.variant(),
      dotprod.variant(),
      neon.variant(),
#endif
      scalar.variant(),
  };
  return library_of("cpu", variants);
}

}  // namespace
}  // namespace perfx

const PxLibrary* perfx_library(void) {
  static const PxLibrary library = perfx::make_library();
  return &library;
}
