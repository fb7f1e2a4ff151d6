// Which instruction sets this x86-64 processor has and the operating system keeps registers for: Intel's manual, volume
// 1, 13.5 and 14.3 (AVX), 15.2 (AVX-512). __builtin_cpu_supports would tell too, but with zig's runtime it denies all
// of them.
#pragma once

#include <cpuid.h>

#include <cstdint>

namespace perfx::x86 {

struct Leaf {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

// What CPUID says; zeros where the processor does not know the leaf.
inline Leaf cpuid(uint32_t leaf, uint32_t subleaf = 0) {
  Leaf found;
  if (!__get_cpuid_count(leaf, subleaf, &found.eax, &found.ebx, &found.ecx, &found.edx)) return {};
  return found;
}

// The registers that the operating system saves, of XCR0's bits: 1 and 2 are AVX's, 5 to 7 AVX-512's.
inline uint32_t saved_registers() {
  constexpr uint32_t kHasXgetbv = 1u << 27;
  if (!(cpuid(1).ecx & kHasXgetbv)) return 0;
  uint32_t low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

inline bool all_of(uint32_t bits, uint32_t wanted) { return (bits & wanted) == wanted; }

// AVX2 with fused multiply-add and conversions of float16.
inline bool has_avx2() {
  constexpr uint32_t kFma = 1u << 12, kF16c = 1u << 29, kAvx2 = 1u << 5;
  return all_of(saved_registers(), 0x06) && all_of(cpuid(1).ecx, kFma | kF16c) && all_of(cpuid(7).ebx, kAvx2);
}

// AVX-512 F, DQ, BW and VL.
inline bool has_avx512() {
  constexpr uint32_t kF = 1u << 16, kDq = 1u << 17, kBw = 1u << 30, kVl = 1u << 31;
  return has_avx2() && all_of(saved_registers(), 0xe6) && all_of(cpuid(7).ebx, kF | kDq | kBw | kVl);
}

// AVX-512 with dot products of bytes.
inline bool has_avx512_vnni() {
  constexpr uint32_t kVnni = 1u << 11;
  return has_avx512() && all_of(cpuid(7).ecx, kVnni);
}

}  // namespace perfx::x86
