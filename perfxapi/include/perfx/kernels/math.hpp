/* exp, sigmoid, tanh, gelu, silu, sine and cosine of 16 lanes.
 *
 * Range reduction after Cody and Waite (1980); minimax polynomials found with Remez's exchange algorithm for the
 * relative error. Errors are measured against float64 in tests/native/test_elementwise.cpp.
 */
#ifndef PERFX_KERNELS_MATH_HPP
#define PERFX_KERNELS_MATH_HPP

#include <math.h>

#include "perfx/kernels/operands.hpp"

namespace perfx {
namespace PERFX_VARIANT {

/* Adding it rounds a float below 2^22 in magnitude to an integer, which then stands in the low bits. */
constexpr float kRound = 12582912.0f; /* 1.5 * 2^23 */

inline F absolute(F x) { return from_bits(bit_and(bits(x), set_int(0x7fffffff))); }
inline F negate(F x) { return from_bits(bit_xor(bits(x), set_int(INT32_MIN))); }
/* magnitude with the sign of `sign`; magnitude must not be negative. */
inline F with_sign(F magnitude, F sign) {
  return from_bits(bit_or(bits(magnitude), bit_and(bits(sign), set_int(INT32_MIN))));
}
/* 2^n as the bits of a float; -126 <= n <= 127. */
inline F power_of_two(I n) { return from_bits(shift_left(n + set_int(127), 23)); }

/* e^x within 1 ulp; subnormal results are rounded once, overflow is infinite, NaN stays NaN, exp(0) is exactly 1. */
inline F exp(F x) {
  x = max(set(-104.0f), min(set(89.0f), x));
  const F rounded = fma(x, set(0x1.715476p+0f), set(kRound));
  const F n = rounded - set(kRound);
  F r = fma(n, set(-0x1.62e42ep-1f), x);
  r = fma(n, set(-0x1.efa39ep-25f), r);
  F q = fma(set(0x1.6a2402p-10f), r, set(0x1.123a1ep-7f));
  q = fma(q, r, set(0x1.5558f2p-5f));
  q = fma(q, r, set(0x1.555492p-3f));
  q = fma(q, r, set(0x1.fffffcp-2f));
  const F e = set(1.0f) + fma(q, r * r, r);
  /* 2^n in two factors, for n from -150 to 128 */
  const I power = bits(rounded) - bits(set(kRound));
  const I half = shift_right(power, 1);
  return e * power_of_two(half) * power_of_two(power - half);
}

/* 1 / (1 + e^-x) within 2.5 ulp */
inline F sigmoid(F x) {
  const F e = exp(negate(absolute(x)));
  return select(less(x, set(0.0f)), e, set(1.0f)) / (set(1.0f) + e);
}

/* Within 1.5 ulp: an odd polynomial near 0, elsewhere 1 - 2 / (e^2|x| + 1). */
inline F tanh(F x) {
  const F magnitude = absolute(x);
  const F z = x * x;
  F p = fma(set(-0x1.9bba76p-8f), z, set(0x1.59568ap-6f));
  p = fma(p, z, set(-0x1.b92bbap-5f));
  p = fma(p, z, set(0x1.110d3cp-3f));
  p = fma(p, z, set(-0x1.55554cp-2f));
  const F near_zero = fma(p * z, magnitude, magnitude);
  const F far = set(1.0f) - set(2.0f) / (exp(magnitude + magnitude) + set(1.0f));
  return with_sign(select(less(magnitude, set(0.55f)), near_zero, far), x);
}

/* x * sigmoid(x) within 3 ulp (Elfwing et al., 2018) */
inline F silu(F x) { return x * sigmoid(x); }

/* x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))) = x * sigmoid(twice tanh's argument) (Hendrycks and Gimpel, 2016);
 * this form does not cancel for negative x. */
inline F gelu_tanh(F x) {
  const F argument = x * fma(x * x, set(0.0713548162726f), set(1.59576912161f));
  return x * sigmoid(argument);
}

/* Sine and cosine within 2 ulp for |x| < 2^22; further out lane by lane with the C library. */
inline void sine_cosine(F x, F* sine, F* cosine) {
  const F rounded = fma(x, set(0x1.45f306p-1f), set(kRound));
  const F n = rounded - set(kRound);
  F r = fma(n, set(-0x1.921fb4p+0f), x);
  r = fma(n, set(-0x1.4442d0p-24f), r);
  r = fma(n, set(-0x1.84698ap-48f), r);
  const F z = r * r;
  F p = fma(set(-0x1.994b40p-13f), z, set(0x1.110756p-7f));
  p = fma(p, z, set(-0x1.555546p-3f));
  const F s = fma(p * z, r, r);
  F q = fma(set(0x1.99ff40p-16f), z, set(-0x1.6c0c82p-10f));
  q = fma(q, z, set(0x1.55554ap-5f));
  const F c = fma(q * z, z, fma(set(-0.5f), z, set(1.0f)));
  const I quadrant = bits(rounded) - bits(set(kRound));
  const M swap = any_bit(quadrant, set_int(1));
  const I sine_sign = shift_left(bit_and(quadrant, set_int(2)), 30);
  const I cosine_sign = shift_left(bit_and(quadrant + set_int(1), set_int(2)), 30);
  *sine = from_bits(bit_xor(bits(select(swap, c, s)), sine_sign));
  *cosine = from_bits(bit_xor(bits(select(swap, s, c)), cosine_sign));
  const uint32_t near = mask_bits(less(absolute(x), set(4194304.0f)));
  if (near == 0xffff) return;
  float angles[kLanes], sines[kLanes], cosines[kLanes];
  store(angles, x);
  store(sines, *sine);
  store(cosines, *cosine);
  for (int i = 0; i < kLanes; ++i) {
    if (near >> i & 1) continue;
    sines[i] = float(::sin(double(angles[i])));
    cosines[i] = float(::cos(double(angles[i])));
  }
  *sine = load(sines);
  *cosine = load(cosines);
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
