/* The SIMD layer for AVX2 with FMA and F16C: two registers hold the 16 lanes. See perfx/simd_portable.hpp. */
#ifndef PERFX_CPU_SIMD_AVX2_HPP
#define PERFX_CPU_SIMD_AVX2_HPP

#ifndef PERFX_VARIANT
#error "define PERFX_VARIANT before a SIMD layer is included"
#endif

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

namespace perfx {
namespace PERFX_VARIANT {

constexpr int kLanes = 16;
constexpr int kTileRows = 6;
constexpr int kTileVectors = 6;
constexpr int kDoubleLanes = 8;
constexpr int kProductRows = 6;
constexpr int kProductVectors = 1;

struct F {
  __m256 lo, hi;
};
struct I {
  __m256i lo, hi;
};
struct M {
  __m256 lo, hi; /* all bits set is true */
};
struct D {
  __m256d lo, hi;
};

inline F set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline I set_int(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline M first(int n) {
  const __m256i count = _mm256_set1_epi32(n);
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i lane8 = _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15);
  return {_mm256_castsi256_ps(_mm256_cmpgt_epi32(count, lane)), _mm256_castsi256_ps(_mm256_cmpgt_epi32(count, lane8))};
}

inline F load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void store(float* p, F x) {
  _mm256_storeu_ps(p, x.lo);
  _mm256_storeu_ps(p + 8, x.hi);
}
inline F load_first(const float* p, int n) {
  const M m = first(n);
  return {_mm256_maskload_ps(p, _mm256_castps_si256(m.lo)), _mm256_maskload_ps(p + 8, _mm256_castps_si256(m.hi))};
}
inline void store_first(float* p, int n, F x) {
  const M m = first(n);
  _mm256_maskstore_ps(p, _mm256_castps_si256(m.lo), x.lo);
  _mm256_maskstore_ps(p + 8, _mm256_castps_si256(m.hi), x.hi);
}

inline D load(const double* p) { return {_mm256_loadu_pd(p), _mm256_loadu_pd(p + 4)}; }
inline void store(double* p, D x) {
  _mm256_storeu_pd(p, x.lo);
  _mm256_storeu_pd(p + 4, x.hi);
}
struct FirstDoubles {
  __m256i lo, hi;
};
inline FirstDoubles first_doubles(int n) {
  const __m256i count = _mm256_set1_epi64x(n);
  return {_mm256_cmpgt_epi64(count, _mm256_setr_epi64x(0, 1, 2, 3)),
          _mm256_cmpgt_epi64(count, _mm256_setr_epi64x(4, 5, 6, 7))};
}
inline D load_first(const double* p, int n) {
  const FirstDoubles m = first_doubles(n);
  return {_mm256_maskload_pd(p, m.lo), _mm256_maskload_pd(p + 4, m.hi)};
}
inline void store_first(double* p, int n, D x) {
  const FirstDoubles m = first_doubles(n);
  _mm256_maskstore_pd(p, m.lo, x.lo);
  _mm256_maskstore_pd(p + 4, m.hi, x.hi);
}
inline F broadcast(const float* p) {
  const __m256 x = _mm256_broadcast_ss(p);
  return {x, x};
}
inline D broadcast(const double* p) {
  const __m256d x = _mm256_broadcast_sd(p);
  return {x, x};
}

inline F load_half(const uint16_t* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)),
          _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(p + 8)))};
}
inline void store_half(uint16_t* p, F x) {
  _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph(x.lo, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128((__m128i*)(p + 8), _mm256_cvtps_ph(x.hi, _MM_FROUND_TO_NEAREST_INT));
}
inline F load_half_first(const uint16_t* p, int n) {
  uint16_t copy[kLanes] = {};
  memcpy(copy, p, size_t(n) * sizeof(uint16_t));
  return load_half(copy);
}
inline void store_half_first(uint16_t* p, int n, F x) {
  uint16_t copy[kLanes];
  store_half(copy, x);
  memcpy(p, copy, size_t(n) * sizeof(uint16_t));
}

inline F operator+(F a, F b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
inline F operator-(F a, F b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
inline F operator*(F a, F b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
inline F operator/(F a, F b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
inline F fma(F a, F b, F c) { return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)}; }
inline D operator+(D a, D b) { return {_mm256_add_pd(a.lo, b.lo), _mm256_add_pd(a.hi, b.hi)}; }
inline D fma(D a, D b, D c) { return {_mm256_fmadd_pd(a.lo, b.lo, c.lo), _mm256_fmadd_pd(a.hi, b.hi, c.hi)}; }
inline F min(F a, F b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
inline F max(F a, F b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }

inline I bits(F x) { return {_mm256_castps_si256(x.lo), _mm256_castps_si256(x.hi)}; }
inline F from_bits(I x) { return {_mm256_castsi256_ps(x.lo), _mm256_castsi256_ps(x.hi)}; }
inline I operator+(I a, I b) { return {_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)}; }
inline I operator-(I a, I b) { return {_mm256_sub_epi32(a.lo, b.lo), _mm256_sub_epi32(a.hi, b.hi)}; }
inline I shift_left(I x, int n) { return {_mm256_slli_epi32(x.lo, n), _mm256_slli_epi32(x.hi, n)}; }
inline I shift_right(I x, int n) { return {_mm256_srai_epi32(x.lo, n), _mm256_srai_epi32(x.hi, n)}; }
inline I bit_and(I a, I b) { return {_mm256_and_si256(a.lo, b.lo), _mm256_and_si256(a.hi, b.hi)}; }
inline I bit_or(I a, I b) { return {_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)}; }
inline I bit_xor(I a, I b) { return {_mm256_xor_si256(a.lo, b.lo), _mm256_xor_si256(a.hi, b.hi)}; }

/* 8 x 8: squares of 2, then 4 lanes within the halves, then the halves. */
inline void transpose8(__m256 (&x)[8]) {
  __m256 y[8];
  for (int i = 0; i < 8; i += 4) {
    const __m256 low01 = _mm256_unpacklo_ps(x[i], x[i + 1]), high01 = _mm256_unpackhi_ps(x[i], x[i + 1]);
    const __m256 low23 = _mm256_unpacklo_ps(x[i + 2], x[i + 3]), high23 = _mm256_unpackhi_ps(x[i + 2], x[i + 3]);
    y[i] = _mm256_shuffle_ps(low01, low23, 0x44);
    y[i + 1] = _mm256_shuffle_ps(low01, low23, 0xee);
    y[i + 2] = _mm256_shuffle_ps(high01, high23, 0x44);
    y[i + 3] = _mm256_shuffle_ps(high01, high23, 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    x[i] = _mm256_permute2f128_ps(y[i], y[i + 4], 0x20);
    x[i + 4] = _mm256_permute2f128_ps(y[i], y[i + 4], 0x31);
  }
}
inline void transpose(F (&x)[kLanes]) {
  for (int top = 0; top < 16; top += 8) {
    __m256 left[8], right[8];
    for (int i = 0; i < 8; ++i) left[i] = x[top + i].lo, right[i] = x[top + i].hi;
    transpose8(left);
    transpose8(right);
    for (int i = 0; i < 8; ++i) x[top + i] = {left[i], right[i]};
  }
  for (int i = 0; i < 8; ++i) { /* the two squares off the diagonal change places */
    const __m256 swapped = x[i].hi;
    x[i].hi = x[8 + i].lo;
    x[8 + i].lo = swapped;
  }
}
inline void transpose4(__m256d (&x)[4]) {
  const __m256d low01 = _mm256_unpacklo_pd(x[0], x[1]), high01 = _mm256_unpackhi_pd(x[0], x[1]);
  const __m256d low23 = _mm256_unpacklo_pd(x[2], x[3]), high23 = _mm256_unpackhi_pd(x[2], x[3]);
  x[0] = _mm256_permute2f128_pd(low01, low23, 0x20);
  x[1] = _mm256_permute2f128_pd(high01, high23, 0x20);
  x[2] = _mm256_permute2f128_pd(low01, low23, 0x31);
  x[3] = _mm256_permute2f128_pd(high01, high23, 0x31);
}
inline void transpose(D (&x)[kDoubleLanes]) {
  for (int top = 0; top < 8; top += 4) {
    __m256d left[4], right[4];
    for (int i = 0; i < 4; ++i) left[i] = x[top + i].lo, right[i] = x[top + i].hi;
    transpose4(left);
    transpose4(right);
    for (int i = 0; i < 4; ++i) x[top + i] = {left[i], right[i]};
  }
  for (int i = 0; i < 4; ++i) {
    const __m256d swapped = x[i].hi;
    x[i].hi = x[4 + i].lo;
    x[4 + i].lo = swapped;
  }
}

inline M less(F a, F b) { return {_mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ)}; }
inline M less_equal(F a, F b) { return {_mm256_cmp_ps(a.lo, b.lo, _CMP_LE_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_LE_OQ)}; }
inline __m256 not_zero(__m256i x) {
  const __m256i zero = _mm256_cmpeq_epi32(x, _mm256_setzero_si256());
  return _mm256_castsi256_ps(_mm256_xor_si256(zero, _mm256_set1_epi32(-1)));
}
inline M any_bit(I a, I b) { return {not_zero(bit_and(a, b).lo), not_zero(bit_and(a, b).hi)}; }
inline M both(M a, M b) { return {_mm256_and_ps(a.lo, b.lo), _mm256_and_ps(a.hi, b.hi)}; }
inline F select(M m, F a, F b) { return {_mm256_blendv_ps(b.lo, a.lo, m.lo), _mm256_blendv_ps(b.hi, a.hi, m.hi)}; }
inline uint32_t mask_bits(M m) { return uint32_t(_mm256_movemask_ps(m.lo)) | uint32_t(_mm256_movemask_ps(m.hi)) << 8; }

inline float reduce_add(F x) {
  const __m256 eight = _mm256_add_ps(x.lo, x.hi);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float reduce_max(F x) {
  const __m256 eight = _mm256_max_ps(x.lo, x.hi);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
