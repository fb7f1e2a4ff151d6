/* The operations of a SIMD layer (simd_portable.hpp says what one is) on the vector types of GCC and Clang, 64 bytes
 * each: what any compiler turns into good instructions wherever vectors can be compared, shifted and multiplied.
 *
 * A layer includes it and adds the rest: tiles, parts of vectors, float16, transposition, sums of lanes. */
#ifndef PERFX_SIMD_VECTORS_HPP
#define PERFX_SIMD_VECTORS_HPP

#ifndef PERFX_VARIANT
#error "define PERFX_VARIANT before a SIMD layer is included"
#endif

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__has_builtin)
#if __has_builtin(__builtin_elementwise_fma)
#define PERFX_ELEMENTWISE_FMA
#endif
#endif

namespace perfx {
namespace PERFX_VARIANT {

constexpr int kLanes = 16;
constexpr int kDoubleLanes = 8;

typedef float FloatLanes __attribute__((vector_size(64)));
typedef int32_t IntLanes __attribute__((vector_size(64)));
typedef double DoubleLanes __attribute__((vector_size(64)));

struct F {
  FloatLanes v;
};
struct I {
  IntLanes v;
};
struct M {
  IntLanes v; /* -1 is true */
};
struct D {
  DoubleLanes v;
};

/* Written out: `FloatLanes{} + x` would be an addition, and make 0 of -0. */
inline F set(float x) { return {FloatLanes{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}}; }
inline I set_int(int32_t x) { return {IntLanes{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}}; }
inline F broadcast(const float* p) { return set(*p); }
inline D broadcast(const double* p) {
  const double x = *p;
  return {DoubleLanes{x, x, x, x, x, x, x, x}};
}

inline F operator+(F a, F b) { return {a.v + b.v}; }
inline F operator-(F a, F b) { return {a.v - b.v}; }
inline F operator*(F a, F b) { return {a.v * b.v}; }
inline F operator/(F a, F b) { return {a.v / b.v}; }
inline F fma(F a, F b, F c) {
#ifdef PERFX_ELEMENTWISE_FMA
  return {__builtin_elementwise_fma(a.v, b.v, c.v)};
#else
  F x;
  for (int i = 0; i < kLanes; ++i) x.v[i] = __builtin_fmaf(a.v[i], b.v[i], c.v[i]);
  return x;
#endif
}

inline D operator+(D a, D b) { return {a.v + b.v}; }
inline D fma(D a, D b, D c) {
#ifdef PERFX_ELEMENTWISE_FMA
  return {__builtin_elementwise_fma(a.v, b.v, c.v)};
#else
  D x;
  for (int i = 0; i < kDoubleLanes; ++i) x.v[i] = __builtin_fma(a.v[i], b.v[i], c.v[i]);
  return x;
#endif
}

inline F select(M m, F a, F b) { return {m.v ? a.v : b.v}; }
inline F min(F a, F b) { return {a.v < b.v ? a.v : b.v}; }
inline F max(F a, F b) { return {a.v > b.v ? a.v : b.v}; }

inline I bits(F x) {
  I y;
  memcpy(&y, &x, sizeof(y));
  return y;
}
inline F from_bits(I x) {
  F y;
  memcpy(&y, &x, sizeof(y));
  return y;
}
inline I operator+(I a, I b) { return {a.v + b.v}; }
inline I operator-(I a, I b) { return {a.v - b.v}; }
inline I shift_left(I x, int n) { return {x.v << n}; }
inline I shift_right(I x, int n) { return {x.v >> n}; }
inline I bit_and(I a, I b) { return {a.v & b.v}; }
inline I bit_or(I a, I b) { return {a.v | b.v}; }
inline I bit_xor(I a, I b) { return {a.v ^ b.v}; }

inline M less(F a, F b) { return {a.v < b.v}; }
inline M less_equal(F a, F b) { return {a.v <= b.v}; }
inline M any_bit(I a, I b) { return {(a.v & b.v) != 0}; }
inline M both(M a, M b) { return {a.v & b.v}; }
inline M first(int n) {
  const IntLanes lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return {lane < n};
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
