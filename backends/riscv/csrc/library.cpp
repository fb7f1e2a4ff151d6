// perfx_library: the kernels for vectors of each least length, best first, and those for RV64GC; how long vectors are.
#pragma GCC visibility push(default)
#include "perfx/host.h"
extern "C" int32_t perfx_riscv_vector_bits(void);
#pragma GCC visibility pop

#include <algorithm>
#include <iterator>

#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel_table.hpp"

namespace perfx {
namespace {

// Of the kernel's interface (linux/prctl.h, asm/hwprobe.h), which the headers of older systems lack.
constexpr int kGetVectorControl = 70;               // PR_RISCV_V_GET_CONTROL
constexpr int kVectorsOff = 1;                      // PR_RISCV_V_VSTATE_CTRL_OFF, in the lowest two bits
constexpr long kHwprobe = 258;                      // __NR_riscv_hwprobe
constexpr int64_t kExtensions = 4;                  // RISCV_HWPROBE_KEY_IMA_EXT_0
constexpr uint64_t kHasVectors = uint64_t(1) << 2;  // RISCV_HWPROBE_IMA_V
constexpr uint64_t kHasHalves = uint64_t(3) << 30;  // RISCV_HWPROBE_EXT_ZVFH, RISCV_HWPROBE_EXT_ZVFHMIN
struct Probe {
  int64_t key;
  uint64_t value;
};

// The extensions that hwprobe tells of, since Linux 6.4; none where there is no hwprobe.
uint64_t probed_extensions(bool* is_known) {
  Probe probe = {kExtensions, 0};
  *is_known = syscall(kHwprobe, &probe, 1, 0, nullptr, 0) == 0 && probe.key == kExtensions;
  return *is_known ? probe.value : 0;
}

// Does the system say that the processor has the vector extension 1.0? hwprobe means version 1.0 by
// V. Before it the bit V of AT_HWCAP is all there is, which the kernels of vendors also set for version 0.7.1.
bool has_vector_bit() {
  const int control = prctl(kGetVectorControl);
  if (control >= 0 && (control & 3) == kVectorsOff) return false;
  bool is_known;
  const uint64_t extensions = probed_extensions(&is_known);
  if (is_known) return extensions & kHasVectors;
  return getauxval(AT_HWCAP) >> ('V' - 'A') & 1;
}

// The bytes of a register, as the number of 8-bit elements in it. The type in this instruction is one that version
// 0.7.1 does not know: it then sets none, and the number is 0.
int64_t vector_bytes() {
  int64_t bytes;
  asm volatile(".option push\n\t.option arch, +v\n\tvsetvli %0, zero, e8, m1, ta, ma\n\t.option pop" : "=r"(bytes));
  return bytes;
}

int32_t vector_bits() {
  static const int32_t bits = has_vector_bit() ? int32_t(8 * vector_bytes()) : 0;
  return bits;
}

// Zvfhmin: vectors of float16 become float32 and back by an instruction. Zvfh has it too.
bool has_halves() {
  bool is_known;
  return probed_extensions(&is_known) & kHasHalves;
}

template <int32_t bits, bool with_halves>
int32_t supports() {
  return vector_bits() >= bits && (!with_halves || has_halves());
}

#define PERFX_JOINED(variant, bits, with_halves)                                                             \
  Joined(#variant, supports<bits, with_halves>,                                                              \
         {PERFX_TABLE_OF(linear, variant), PERFX_TABLE_OF(general, variant), PERFX_TABLE_OF(array, variant), \
          PERFX_TABLE_OF(matmul, variant), PERFX_TABLE_OF(neural, variant)})
#ifdef PERFX_ZVFHMIN
#define PERFX_JOINED_OF_LENGTH(bits) PERFX_JOINED(rvv##bits##_zvfhmin, bits, true), PERFX_JOINED(rvv##bits, bits, false)
#else
#define PERFX_JOINED_OF_LENGTH(bits) PERFX_JOINED(rvv##bits, bits, false)
#endif

PxLibrary make_library() {
  static const Joined joined[] = {
#if PERFX_MOST_VECTOR_BITS >= 1024
      PERFX_JOINED_OF_LENGTH(1024),
#endif
#if PERFX_MOST_VECTOR_BITS >= 512
      PERFX_JOINED_OF_LENGTH(512),
#endif
#if PERFX_MOST_VECTOR_BITS >= 256
      PERFX_JOINED_OF_LENGTH(256),
#endif
      PERFX_JOINED_OF_LENGTH(128), PERFX_JOINED(scalar, 0, false)};
  static PxVariant variants[std::size(joined)];
  std::transform(std::begin(joined), std::end(joined), variants, [](const Joined& one) { return one.variant(); });
  return library_of("riscv", variants);
}

}  // namespace
}  // namespace perfx

int32_t perfx_riscv_vector_bits(void) { return perfx::vector_bits(); }

const PxLibrary* perfx_library(void) {
  static const PxLibrary library = perfx::make_library();
  return &library;
}
