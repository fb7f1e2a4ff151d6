/* The SIMD layer for NEON (Advanced SIMD of Armv8.0): four registers hold the 16 lanes. See perfx/simd_portable.hpp. */
#ifndef PERFX_CPU_SIMD_NEON_HPP
#define PERFX_CPU_SIMD_NEON_HPP

#ifndef PERFX_VARIANT
#error "define PERFX_VARIANT before a SIMD layer is included"
#endif

#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

namespace perfx {
namespace PERFX_VARIANT {

constexpr int kLanes = 16;
constexpr int kDoubleLanes = 8;
/* 6 x 4 accumulators, four registers of the other operand, and four to spare. */
constexpr int kTileRows = 6;
constexpr int kTileVectors = 6;
constexpr int kProductRows = 6;
constexpr int kProductVectors = 1;

struct F {
  float32x4_t q[4];
};
struct I {
  int32x4_t q[4];
};
struct M {
  uint32x4_t q[4]; /* all bits set is true */
};
struct D {
  float64x2_t q[4];
};

/* What `operation` makes of each of the four registers. */
template <class To, class Operation>
inline To each(Operation operation) {
  return {{operation(0), operation(1), operation(2), operation(3)}};
}

inline F set(float x) {
  const float32x4_t four = vdupq_n_f32(x);
  return {{four, four, four, four}};
}
inline I set_int(int32_t x) {
  const int32x4_t four = vdupq_n_s32(x);
  return {{four, four, four, four}};
}

/* The first n of four floats, where n may be anything; the others are 0, or stay. */
inline float32x4_t load_quad(const float* p, int n) {
  const float32x4_t zero = vdupq_n_f32(0.0f);
  if (n >= 4) return vld1q_f32(p);
  if (n <= 0) return zero;
  if (n == 1) return vld1q_lane_f32(p, zero, 0);
  const float32x4_t two = vcombine_f32(vld1_f32(p), vdup_n_f32(0.0f));
  return n == 2 ? two : vld1q_lane_f32(p + 2, two, 2);
}
inline void store_quad(float* p, int n, float32x4_t x) {
  if (n >= 4) return vst1q_f32(p, x);
  if (n >= 2) vst1_f32(p, vget_low_f32(x));
  if (n == 3) vst1q_lane_f32(p + 2, x, 2);
  if (n == 1) vst1q_lane_f32(p, x, 0);
}

inline F load(const float* p) {
  return each<F>([&](int i) { return vld1q_f32(p + 4 * i); });
}
inline void store(float* p, F x) {
  vst1q_f32(p, x.q[0]);
  vst1q_f32(p + 4, x.q[1]);
  vst1q_f32(p + 8, x.q[2]);
  vst1q_f32(p + 12, x.q[3]);
}
/* Functions of their own: their branches would be repeated for each row of a tile. Vectors are passed in registers. */
#define PERFX_NOT_INLINED inline __attribute__((noinline))
PERFX_NOT_INLINED F load_first(const float* p, int n) {
  return each<F>([&](int i) { return load_quad(p + 4 * i, n - 4 * i); });
}
PERFX_NOT_INLINED void store_first(float* p, int n, F x) {
  for (int i = 0; i < 4; ++i) store_quad(p + 4 * i, n - 4 * i, x.q[i]);
}

inline float64x2_t load_pair(const double* p, int n) {
  return n >= 2 ? vld1q_f64(p) : n == 1 ? vld1q_lane_f64(p, vdupq_n_f64(0.0), 0) : vdupq_n_f64(0.0);
}
inline void store_pair(double* p, int n, float64x2_t x) {
  if (n >= 2) return vst1q_f64(p, x);
  if (n == 1) vst1q_lane_f64(p, x, 0);
}
inline D load(const double* p) {
  return each<D>([&](int i) { return vld1q_f64(p + 2 * i); });
}
inline void store(double* p, D x) {
  vst1q_f64(p, x.q[0]);
  vst1q_f64(p + 2, x.q[1]);
  vst1q_f64(p + 4, x.q[2]);
  vst1q_f64(p + 6, x.q[3]);
}
PERFX_NOT_INLINED D load_first(const double* p, int n) {
  return each<D>([&](int i) { return load_pair(p + 2 * i, n - 2 * i); });
}
PERFX_NOT_INLINED void store_first(double* p, int n, D x) {
  for (int i = 0; i < 4; ++i) store_pair(p + 2 * i, n - 2 * i, x.q[i]);
}
#undef PERFX_NOT_INLINED
inline F broadcast(const float* p) { return set(*p); }
inline D broadcast(const double* p) {
  const float64x2_t two = vdupq_n_f64(*p);
  return {{two, two, two, two}};
}

inline F load_half(const uint16_t* p) {
  return each<F>([&](int i) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i))); });
}
inline void store_half(uint16_t* p, F x) {
  vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(x.q[0])));
  vst1_u16(p + 4, vreinterpret_u16_f16(vcvt_f16_f32(x.q[1])));
  vst1_u16(p + 8, vreinterpret_u16_f16(vcvt_f16_f32(x.q[2])));
  vst1_u16(p + 12, vreinterpret_u16_f16(vcvt_f16_f32(x.q[3])));
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

inline F operator+(F a, F b) {
  return each<F>([&](int i) { return vaddq_f32(a.q[i], b.q[i]); });
}
inline F operator-(F a, F b) {
  return each<F>([&](int i) { return vsubq_f32(a.q[i], b.q[i]); });
}
inline F operator*(F a, F b) {
  return each<F>([&](int i) { return vmulq_f32(a.q[i], b.q[i]); });
}
inline F operator/(F a, F b) {
  return each<F>([&](int i) { return vdivq_f32(a.q[i], b.q[i]); });
}
inline F fma(F a, F b, F c) {
  return each<F>([&](int i) { return vfmaq_f32(c.q[i], a.q[i], b.q[i]); });
}
inline D operator+(D a, D b) {
  return each<D>([&](int i) { return vaddq_f64(a.q[i], b.q[i]); });
}
inline D fma(D a, D b, D c) {
  return each<D>([&](int i) { return vfmaq_f64(c.q[i], a.q[i], b.q[i]); });
}

inline I bits(F x) {
  return each<I>([&](int i) { return vreinterpretq_s32_f32(x.q[i]); });
}
inline F from_bits(I x) {
  return each<F>([&](int i) { return vreinterpretq_f32_s32(x.q[i]); });
}
inline I operator+(I a, I b) {
  return each<I>([&](int i) { return vaddq_s32(a.q[i], b.q[i]); });
}
inline I operator-(I a, I b) {
  return each<I>([&](int i) { return vsubq_s32(a.q[i], b.q[i]); });
}
inline I shift_left(I x, int n) {
  return each<I>([&](int i) { return x.q[i] << n; });
}
inline I shift_right(I x, int n) {
  return each<I>([&](int i) { return x.q[i] >> n; });
}
inline I bit_and(I a, I b) {
  return each<I>([&](int i) { return vandq_s32(a.q[i], b.q[i]); });
}
inline I bit_or(I a, I b) {
  return each<I>([&](int i) { return vorrq_s32(a.q[i], b.q[i]); });
}
inline I bit_xor(I a, I b) {
  return each<I>([&](int i) { return veorq_s32(a.q[i], b.q[i]); });
}

inline M less(F a, F b) {
  return each<M>([&](int i) { return vcltq_f32(a.q[i], b.q[i]); });
}
inline M less_equal(F a, F b) {
  return each<M>([&](int i) { return vcleq_f32(a.q[i], b.q[i]); });
}
inline M any_bit(I a, I b) {
  return each<M>([&](int i) { return vtstq_s32(a.q[i], b.q[i]); });
}
inline M both(M a, M b) {
  return each<M>([&](int i) { return vandq_u32(a.q[i], b.q[i]); });
}
inline M first(int n) {
  static const int32_t lanes[4] = {0, 1, 2, 3};
  return each<M>([&](int i) { return vcltq_s32(vld1q_s32(lanes), vdupq_n_s32(n - 4 * i)); });
}
inline F select(M m, F a, F b) {
  return each<F>([&](int i) { return vbslq_f32(m.q[i], a.q[i], b.q[i]); });
}
/* Not the instructions of these names, which return NaN where either is NaN. */
inline F min(F a, F b) { return select(less(a, b), a, b); }
inline F max(F a, F b) { return select(less(b, a), a, b); }
inline uint32_t mask_bits(M m) {
  static const uint32_t weights[16] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768};
  const auto part = [&](int i) { return vandq_u32(m.q[i], vld1q_u32(weights + 4 * i)); };
  return vaddvq_u32(vorrq_u32(vorrq_u32(part(0), part(1)), vorrq_u32(part(2), part(3))));
}

/* 4 x 4: squares of 2, then pairs. */
inline void transpose4(float32x4_t& a, float32x4_t& b, float32x4_t& c, float32x4_t& d) {
  const float64x2_t even01 = vreinterpretq_f64_f32(vtrn1q_f32(a, b)), odd01 = vreinterpretq_f64_f32(vtrn2q_f32(a, b));
  const float64x2_t even23 = vreinterpretq_f64_f32(vtrn1q_f32(c, d)), odd23 = vreinterpretq_f64_f32(vtrn2q_f32(c, d));
  a = vreinterpretq_f32_f64(vzip1q_f64(even01, even23));
  b = vreinterpretq_f32_f64(vzip1q_f64(odd01, odd23));
  c = vreinterpretq_f32_f64(vzip2q_f64(even01, even23));
  d = vreinterpretq_f32_f64(vzip2q_f64(odd01, odd23));
}
inline void swap_quads(float32x4_t& a, float32x4_t& b) {
  const float32x4_t copy = a;
  a = b;
  b = copy;
}
/* Squares of 4 in their places, which then change places with those on the other side of the diagonal. */
inline void transpose(F (&x)[kLanes]) {
#pragma GCC unroll 4
  for (int top = 0; top < kLanes; top += 4) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) transpose4(x[top].q[i], x[top + 1].q[i], x[top + 2].q[i], x[top + 3].q[i]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < i; ++j) {
#pragma GCC unroll 4
      for (int row = 0; row < 4; ++row) swap_quads(x[4 * i + row].q[j], x[4 * j + row].q[i]);
    }
  }
}
inline void transpose(D (&x)[kDoubleLanes]) {
  D y[kDoubleLanes];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      y[2 * j].q[i] = vzip1q_f64(x[2 * i].q[j], x[2 * i + 1].q[j]);
      y[2 * j + 1].q[i] = vzip2q_f64(x[2 * i].q[j], x[2 * i + 1].q[j]);
    }
  }
  memcpy(x, y, sizeof(y));
}

inline float reduce_add(F x) {
  const float32x4_t four = vaddq_f32(vaddq_f32(x.q[0], x.q[2]), vaddq_f32(x.q[1], x.q[3]));
  const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
  return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}
inline float reduce_max(F x) {
  const auto larger_of = [](float32x4_t a, float32x4_t b) { return vbslq_f32(vcgtq_f32(a, b), a, b); };
  const float32x4_t four = larger_of(larger_of(x.q[0], x.q[2]), larger_of(x.q[1], x.q[3]));
  const float32x4_t two = larger_of(four, vextq_f32(four, four, 2));
  return vgetq_lane_f32(larger_of(two, vextq_f32(two, two, 1)), 0);
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
