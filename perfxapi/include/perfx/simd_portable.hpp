/* The SIMD layer for any processor, in the vector extensions of GCC and Clang; and the definition of what a layer is.
 *
 * The kernels in perfx/kernels/ are written once on 16 lanes of float32. A translation unit defines PERFX_VARIANT (the
 * name of a namespace), includes one layer, then the kernels, and is compiled with the flags of its instruction set:
 *
 *     #define PERFX_VARIANT avx512
 *     #include "simd_avx512.hpp"
 *     #include "perfx/kernels/general.hpp"
 *     namespace perfx { const KernelTable general_kernels_avx512 = {avx512::kGeneralKernels,
 * avx512::kNumGeneralKernels}; }
 *
 * Everything a layer or a kernel defines lies in namespace perfx::PERFX_VARIANT: a function of another namespace could
 * be merged by the linker with one that was compiled for another instruction set.
 *
 * A new architecture supplies, in perfx::PERFX_VARIANT (or starts from this file, which compilers turn into SSE2, NEON
 * or RVV, and replaces what they do badly):
 *
 *   F, I, M                16 float32, 16 int32, 16 truth values; trivially copyable
 *   set, set_int           all lanes the same
 *   load, load_first       16 floats from any address; the first n <= 16, the others 0 and not read
 *   store, store_first
 *   load_half, load_half_first, store_half, store_half_first    float16 in memory, rounded to nearest even
 *   + - * / of F; fma(a, b, c) = a * b + c, rounded once
 *   min(a, b), max(a, b)   b where either is NaN
 *   bits, from_bits        F as I and back; + - of I; shift_left(I, n), shift_right (keeps the
 *                          sign); bit_and, bit_or, bit_xor
 *   less, less_equal       of F, false where either is NaN;   any_bit(I a, I b): a & b is not 0
 *   first(n)               true in the first n lanes;   both(M, M)
 *   select(m, a, b)        a where m, else b;   mask_bits(M): bit i is lane i
 *   reduce_add             ((((l0+l8)+(l4+l12))+...): lanes i and i+8, then i+4, i+2, i+1
 *   reduce_max
 *   kTileRows              at most 16: query rows that attention works on at once (attention_tile.hpp); divides 48
 *   D                      kDoubleLanes float64, with load, load_first, store, store_first, +, fma as F
 *   broadcast(p)           all lanes the number at p: F from float*, D from double*
 *   transpose(x)           an array of kLanes F (of kDoubleLanes D) as the rows of a square matrix
 *   kProductRows, kProductVectors   the tile of a matrix product (matmul_tile.hpp): rows x vectors of accumulators that
 *                          stay in registers beside the vectors and one more
 *   kTileVectors           accumulators, each an F, that stay in registers beside two more F: kTileRows or a multiple
 *
 * Operations are IEEE 754 with round to nearest even and without flushing of subnormal numbers, so every layer computes
 * the same bits.
 */
#ifndef PERFX_SIMD_PORTABLE_HPP
#define PERFX_SIMD_PORTABLE_HPP

#include "perfx/simd_vectors.hpp"

namespace perfx {
namespace PERFX_VARIANT {

constexpr int kTileRows = 4;
constexpr int kTileVectors = 4;
constexpr int kProductRows = 4;
constexpr int kProductVectors = 1;

inline F load(const float* p) {
  F x;
  memcpy(&x, p, sizeof(x));
  return x;
}
inline F load_first(const float* p, int n) {
  F x = set(0.0f);
  memcpy(&x, p, size_t(n) * sizeof(float));
  return x;
}
inline void store(float* p, F x) { memcpy(p, &x, sizeof(x)); }
inline void store_first(float* p, int n, F x) { memcpy(p, &x, size_t(n) * sizeof(float)); }

inline D load(const double* p) {
  D x;
  memcpy(&x, p, sizeof(x));
  return x;
}
inline D load_first(const double* p, int n) {
  D x = {};
  memcpy(&x, p, size_t(n) * sizeof(double));
  return x;
}
inline void store(double* p, D x) { memcpy(p, &x, sizeof(x)); }
inline void store_first(double* p, int n, D x) { memcpy(p, &x, size_t(n) * sizeof(double)); }

/* float16 to float32: exact. The subnormal case rescales through a float32 subtraction. */
inline F widen_half(I half) {
  const IntLanes sign = (half.v & 0x8000) << 16;
  const IntLanes magnitude = (half.v & 0x7fff) << 13;
  const IntLanes exponent = magnitude & 0x0f800000;
  const IntLanes normal = magnitude + (112 << 23);
  const IntLanes special = normal + (112 << 23);
  const IntLanes shifted = magnitude + (113 << 23);
  FloatLanes subnormal;
  memcpy(&subnormal, &shifted, sizeof(subnormal));
  subnormal -= 6.103515625e-05f;
  IntLanes subnormal_bits;
  memcpy(&subnormal_bits, &subnormal, sizeof(subnormal_bits));
  IntLanes result = exponent == 0x0f800000 ? special : normal;
  result = exponent == 0 ? subnormal_bits : result;
  result |= sign;
  F x;
  memcpy(&x, &result, sizeof(x));
  return x;
}

/* float32 to float16, to nearest even; NaN stays a quiet NaN. */
inline uint16_t narrow_half(float value) {
  uint32_t x;
  memcpy(&x, &value, sizeof(x));
  const uint32_t sign = (x >> 16) & 0x8000;
  x &= 0x7fffffff;
  if (x > 0x7f800000) return uint16_t(sign | 0x7e00 | ((x >> 13) & 0x3ff));
  if (x >= 0x477ff000) return uint16_t(sign | 0x7c00);
  if (x < 0x38800000) { /* subnormal or zero: adding 0.5 puts the rounded mantissa in the low bits */
    float magnitude;
    memcpy(&magnitude, &x, sizeof(magnitude));
    magnitude += 0.5f;
    memcpy(&x, &magnitude, sizeof(x));
    return uint16_t(sign | (x - 0x3f000000));
  }
  return uint16_t(sign | ((x - (112u << 23) + 0xfff + ((x >> 13) & 1)) >> 13));
}

inline F load_half_first(const uint16_t* p, int n) {
  I x = set_int(0);
  for (int i = 0; i < n; ++i) x.v[i] = p[i];
  return widen_half(x);
}
inline F load_half(const uint16_t* p) { return load_half_first(p, kLanes); }
inline void store_half_first(uint16_t* p, int n, F x) {
  for (int i = 0; i < n; ++i) p[i] = narrow_half(x.v[i]);
}
inline void store_half(uint16_t* p, F x) { store_half_first(p, kLanes, x); }

/* Through memory: compilers know how to move lanes better than this file. */
inline void transpose(F (&x)[kLanes]) {
  F y[kLanes];
  for (int i = 0; i < kLanes; ++i) {
    for (int j = 0; j < kLanes; ++j) y[j].v[i] = x[i].v[j];
  }
  memcpy(x, y, sizeof(y));
}
inline void transpose(D (&x)[kDoubleLanes]) {
  D y[kDoubleLanes];
  for (int i = 0; i < kDoubleLanes; ++i) {
    for (int j = 0; j < kDoubleLanes; ++j) y[j].v[i] = x[i].v[j];
  }
  memcpy(x, y, sizeof(y));
}

inline uint32_t mask_bits(M m) {
  uint32_t result = 0;
  for (int i = 0; i < kLanes; ++i) result |= uint32_t(m.v[i] & 1) << i;
  return result;
}

inline float reduce_add(F x) {
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) x.v[i] = x.v[i] + x.v[i + half];
  }
  return x.v[0];
}
inline float reduce_max(F x) {
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) x.v[i] = x.v[i] > x.v[i + half] ? x.v[i] : x.v[i + half];
  }
  return x.v[0];
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
