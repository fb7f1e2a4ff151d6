/* The SIMD layer for AVX-512 (F, BW, DQ, VL): one register holds the 16 lanes. See perfx/simd_portable.hpp. */
#ifndef PERFX_CPU_SIMD_AVX512_HPP
#define PERFX_CPU_SIMD_AVX512_HPP

#ifndef PERFX_VARIANT
#error "define PERFX_VARIANT before a SIMD layer is included"
#endif

#include <immintrin.h>
#include <stdint.h>

namespace perfx {
namespace PERFX_VARIANT {

constexpr int kLanes = 16;
constexpr int kTileRows = 12;
constexpr int kTileVectors = 24;
constexpr int kDoubleLanes = 8;
constexpr int kProductRows = 12;
constexpr int kProductVectors = 2;

struct F {
  __m512 v;
};
struct I {
  __m512i v;
};
struct M {
  __mmask16 v;
};
struct D {
  __m512d v;
};

inline F set(float x) { return {_mm512_set1_ps(x)}; }
inline I set_int(int32_t x) { return {_mm512_set1_epi32(x)}; }
inline M first(int n) { return {__mmask16((1u << n) - 1)}; }

inline F load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline F load_first(const float* p, int n) { return {_mm512_maskz_loadu_ps(first(n).v, p)}; }
inline void store(float* p, F x) { _mm512_storeu_ps(p, x.v); }
inline void store_first(float* p, int n, F x) { _mm512_mask_storeu_ps(p, first(n).v, x.v); }

inline __mmask8 first_doubles(int n) { return __mmask8((1u << n) - 1); }
inline D load(const double* p) { return {_mm512_loadu_pd(p)}; }
inline D load_first(const double* p, int n) { return {_mm512_maskz_loadu_pd(first_doubles(n), p)}; }
inline void store(double* p, D x) { _mm512_storeu_pd(p, x.v); }
inline void store_first(double* p, int n, D x) { _mm512_mask_storeu_pd(p, first_doubles(n), x.v); }
inline F broadcast(const float* p) { return {_mm512_set1_ps(*p)}; }
inline D broadcast(const double* p) { return {_mm512_set1_pd(*p)}; }

inline F load_half(const uint16_t* p) { return {_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p))}; }
inline F load_half_first(const uint16_t* p, int n) {
  return {_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(n).v, p))};
}
inline __m256i narrow_half(F x) { return _mm512_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline void store_half(uint16_t* p, F x) { _mm256_storeu_si256((__m256i*)p, narrow_half(x)); }
inline void store_half_first(uint16_t* p, int n, F x) { _mm256_mask_storeu_epi16(p, first(n).v, narrow_half(x)); }

inline F operator+(F a, F b) { return {_mm512_add_ps(a.v, b.v)}; }
inline F operator-(F a, F b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline F operator*(F a, F b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline F operator/(F a, F b) { return {_mm512_div_ps(a.v, b.v)}; }
inline F fma(F a, F b, F c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline D operator+(D a, D b) { return {_mm512_add_pd(a.v, b.v)}; }
inline D fma(D a, D b, D c) { return {_mm512_fmadd_pd(a.v, b.v, c.v)}; }
inline F min(F a, F b) { return {_mm512_min_ps(a.v, b.v)}; }
inline F max(F a, F b) { return {_mm512_max_ps(a.v, b.v)}; }

inline I bits(F x) { return {_mm512_castps_si512(x.v)}; }
inline F from_bits(I x) { return {_mm512_castsi512_ps(x.v)}; }

/* Squares of 2, then 4 lanes within the 128-bit quarters, then the quarters. */
inline void transpose(F (&x)[kLanes]) {
  __m512 y[kLanes];
  for (int i = 0; i < kLanes; i += 4) {
    const __m512 low01 = _mm512_unpacklo_ps(x[i].v, x[i + 1].v), high01 = _mm512_unpackhi_ps(x[i].v, x[i + 1].v);
    const __m512 low23 = _mm512_unpacklo_ps(x[i + 2].v, x[i + 3].v),
                 high23 = _mm512_unpackhi_ps(x[i + 2].v, x[i + 3].v);
    y[i] = _mm512_shuffle_ps(low01, low23, 0x44);
    y[i + 1] = _mm512_shuffle_ps(low01, low23, 0xee);
    y[i + 2] = _mm512_shuffle_ps(high01, high23, 0x44);
    y[i + 3] = _mm512_shuffle_ps(high01, high23, 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    const __m512 even01 = _mm512_shuffle_f32x4(y[i], y[i + 4], 0x88),
                 odd01 = _mm512_shuffle_f32x4(y[i], y[i + 4], 0xdd);
    const __m512 even23 = _mm512_shuffle_f32x4(y[i + 8], y[i + 12], 0x88);
    const __m512 odd23 = _mm512_shuffle_f32x4(y[i + 8], y[i + 12], 0xdd);
    x[i].v = _mm512_shuffle_f32x4(even01, even23, 0x88);
    x[i + 4].v = _mm512_shuffle_f32x4(odd01, odd23, 0x88);
    x[i + 8].v = _mm512_shuffle_f32x4(even01, even23, 0xdd);
    x[i + 12].v = _mm512_shuffle_f32x4(odd01, odd23, 0xdd);
  }
}
inline void transpose(D (&x)[kDoubleLanes]) {
  __m512d y[kDoubleLanes];
  for (int i = 0; i < kDoubleLanes; i += 2) {
    y[i] = _mm512_unpacklo_pd(x[i].v, x[i + 1].v);
    y[i + 1] = _mm512_unpackhi_pd(x[i].v, x[i + 1].v);
  }
  for (int i = 0; i < 2; ++i) {
    const __m512d even01 = _mm512_shuffle_f64x2(y[i], y[i + 2], 0x88),
                  odd01 = _mm512_shuffle_f64x2(y[i], y[i + 2], 0xdd);
    const __m512d even23 = _mm512_shuffle_f64x2(y[i + 4], y[i + 6], 0x88);
    const __m512d odd23 = _mm512_shuffle_f64x2(y[i + 4], y[i + 6], 0xdd);
    x[i].v = _mm512_shuffle_f64x2(even01, even23, 0x88);
    x[i + 2].v = _mm512_shuffle_f64x2(odd01, odd23, 0x88);
    x[i + 4].v = _mm512_shuffle_f64x2(even01, even23, 0xdd);
    x[i + 6].v = _mm512_shuffle_f64x2(odd01, odd23, 0xdd);
  }
}
inline I operator+(I a, I b) { return {_mm512_add_epi32(a.v, b.v)}; }
inline I operator-(I a, I b) { return {_mm512_sub_epi32(a.v, b.v)}; }
inline I shift_left(I x, int n) { return {_mm512_slli_epi32(x.v, n)}; }
inline I shift_right(I x, int n) { return {_mm512_srai_epi32(x.v, n)}; }
inline I bit_and(I a, I b) { return {_mm512_and_si512(a.v, b.v)}; }
inline I bit_or(I a, I b) { return {_mm512_or_si512(a.v, b.v)}; }
inline I bit_xor(I a, I b) { return {_mm512_xor_si512(a.v, b.v)}; }

inline M less(F a, F b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
inline M less_equal(F a, F b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ)}; }
inline M any_bit(I a, I b) { return {_mm512_test_epi32_mask(a.v, b.v)}; }
inline M both(M a, M b) { return {__mmask16(a.v & b.v)}; }
inline F select(M m, F a, F b) { return {_mm512_mask_blend_ps(m.v, b.v, a.v)}; }
inline uint32_t mask_bits(M m) { return m.v; }

inline float reduce_add(F x) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x.v), _mm512_extractf32x8_ps(x.v, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float reduce_max(F x) {
  const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(x.v), _mm512_extractf32x8_ps(x.v, 1));
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
