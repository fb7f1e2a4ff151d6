// What a processor can do at most: reading memory, and its fastest multiply-add.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace yardsticks {

// Reads a word of each of `lines` cache lines, and with it the lines.
inline uint64_t read_lines(const uint64_t* words, int64_t lines) {
  uint64_t sum = 0;
  for (int64_t i = 0; i < lines * 8; i += 8) sum += words[i];
  return sum;
}

constexpr int kChains = 16;
constexpr int64_t kMultiplications = 20000 * kChains;  // vector instructions in one call of Multiply::run

struct Multiply {
  void (*run)();      // null where the machine's best instruction is not known here
  double operations;  // of one run: a multiplication and an addition are two
};

#if defined(__x86_64__)
// Sixteen chains hide the instruction's latency. They begin alike: without the barriers a compiler would keep but one.
template <class Vector, Vector (*multiply)(Vector, Vector)>
__attribute__((target("avx512f,avx512vnni"))) void multiply_wide() {
  Vector sums[kChains] = {}, a = {};
#pragma GCC unroll 16
  for (int m = 0; m < kChains; ++m) asm volatile("" : "+v"(sums[m]));
  for (int64_t i = 0; i < kMultiplications; i += kChains) {
#pragma GCC unroll 16
    for (int m = 0; m < kChains; ++m) sums[m] = multiply(sums[m], a);
    asm volatile("" : "+v"(a));
  }
#pragma GCC unroll 16
  for (int m = 0; m < kChains; ++m) asm volatile("" : : "v"(sums[m]));
}
__attribute__((target("avx512f,avx512vnni"), always_inline)) inline __m512 multiply_floats(__m512 sum, __m512 a) {
  return _mm512_fmadd_ps(a, a, sum);
}
__attribute__((target("avx512f,avx512vnni"), always_inline)) inline __m512i multiply_bytes(__m512i sum, __m512i a) {
  return _mm512_dpbusd_epi32(sum, a, a);
}
#endif

inline Multiply float_multiply() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512vnni"))
    return {multiply_wide<__m512, multiply_floats>, double(kMultiplications) * 16 * 2};
#endif
  return {nullptr, 0};
}

// Bytes by bytes, summed in int32.
inline Multiply byte_multiply() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512vnni"))
    return {multiply_wide<__m512i, multiply_bytes>, double(kMultiplications) * 64 * 2};
#endif
  return {nullptr, 0};
}

}  // namespace yardsticks
