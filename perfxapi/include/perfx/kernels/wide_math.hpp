/* Functions of one number, 8 lanes of float64 at a time: what float32 operands are computed in, so that a formula may
 * cancel or round a few times and the result is still within 1 ulp of float32; and, with more terms, float64 itself
 * within a few ulp.
 *
 * Range reduction after Cody and Waite (1980); what is left is summed as Taylor's series. Nothing is fused, so all
 * variants give the same bits.
 */
#ifndef PERFX_KERNELS_WIDE_MATH_HPP
#define PERFX_KERNELS_WIDE_MATH_HPP

#include <math.h>

#include "perfx/kernels/operands.hpp"

namespace perfx {
namespace PERFX_VARIANT {
namespace wide {

constexpr int kWideLanes = 8;
typedef double W __attribute__((vector_size(64)));
typedef int64_t L __attribute__((vector_size(64)));

/* Adding it rounds what is below 2^51 in magnitude to a whole number, which then stands in the low bits. */
constexpr double kRounder = 6755399441055744.0; /* 1.5 * 2^52 */
constexpr double kLn2High = 0x1.62e42fee00000p-1, kLn2Low = 0x1.a39ef35793c76p-33;
constexpr double kLog2E = 0x1.71547652b82fep+0, kPi = 0x1.921fb54442d18p+1;

inline W splat(double x) { return W{} + x; }
inline L bits_of(W x) {
  L y;
  memcpy(&y, &x, sizeof(y));
  return y;
}
inline W from_bits_of(L x) {
  W y;
  memcpy(&y, &x, sizeof(y));
  return y;
}
inline W magnitude(W x) { return from_bits_of(bits_of(x) & INT64_MAX); }
inline W signed_as(W size, W sign) { return from_bits_of(bits_of(size) | (bits_of(sign) & INT64_MIN)); }
inline bool any(L mask) {
  int64_t lanes[kWideLanes], found = 0;
  memcpy(lanes, &mask, sizeof(mask));
  for (int i = 0; i < kWideLanes; ++i) found |= lanes[i];
  return found != 0;
}
template <class Function>
inline W each(W x, Function function) {
  double lanes[kWideLanes];
  memcpy(lanes, &x, sizeof(x));
  for (int i = 0; i < kWideLanes; ++i) lanes[i] = function(lanes[i]);
  memcpy(&x, lanes, sizeof(x));
  return x;
}
inline W root(W x) {
  return each(x, [](double lane) { return __builtin_sqrt(lane); });
}

/* c[0] + c[1] x + ... + c[last] x^last */
template <int kCount>
inline W series(const double (&c)[kCount], int last, W x) {
  W sum = splat(c[last]);
  for (int k = last - 1; k >= 0; --k) sum = sum * x + c[k];
  return sum;
}
constexpr double kOddParts[] = {1.0,      1.0 / 3,  1.0 / 5,  1.0 / 7,  1.0 / 9,  1.0 / 11,
                                1.0 / 13, 1.0 / 15, 1.0 / 17, 1.0 / 19, 1.0 / 21, 1.0 / 23};
constexpr double kAlternating[] = {1.0,       -1.0 / 3, 1.0 / 5,   -1.0 / 7, 1.0 / 9,   -1.0 / 11, 1.0 / 13,
                                   -1.0 / 15, 1.0 / 17, -1.0 / 19, 1.0 / 21, -1.0 / 23, 1.0 / 25,  -1.0 / 27};
constexpr double kFactorials[] = {
    1.0,        1.0,         1.0 / 2,      1.0 / 6,       1.0 / 24,       1.0 / 120,       1.0 / 720,
    1.0 / 5040, 1.0 / 40320, 1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800};
constexpr double kSines[] = {-1.0 / 6,        1.0 / 120,        -1.0 / 5040,          1.0 / 362880,
                             -1.0 / 39916800, 1.0 / 6227020800, -1.0 / 1307674368000, 1.0 / 355687428096000};
constexpr double kCosines[] = {1.0,
                               -1.0 / 2,
                               1.0 / 24,
                               -1.0 / 720,
                               1.0 / 40320,
                               -1.0 / 3628800,
                               1.0 / 479001600,
                               -1.0 / 87178291200,
                               1.0 / 20922789888000};

/* ---- exponentials */

/* e^x; kPrecise: for float64, whose exponents go further than what two halves of a power can hold at once. */
template <bool kPrecise>
inline W exp_of(W x) {
  constexpr double kFar = kPrecise ? 800.0 : 200.0;
  x = x > kFar ? splat(kFar) : x;
  x = x < -kFar ? splat(-kFar) : x;
  const W rounded = x * kLog2E + kRounder;
  const W n = rounded - kRounder;
  const W r = (x - n * kLn2High) - n * kLn2Low;
  const W e = series(kFactorials, kPrecise ? 13 : 9, r);
  const L power = bits_of(rounded) - bits_of(splat(kRounder));
  const L half = power >> 1;
  return e * from_bits_of((half + 1023) << 52) * from_bits_of((power - half + 1023) << 52);
}

/* ---- logarithms */

/* x = 2^exponent * m with m about 1: its logarithm, and the exponent. x is positive and finite. */
template <bool kPrecise>
inline W log_of_mantissa(W x, W* exponent) {
  const L tiny = x < 0x1p-1022;
  if (kPrecise) x = tiny ? x * 0x1p54 : x;
  const L raised = bits_of(x) - bits_of(splat(0x1.6a09e667f3bcdp-1)); /* above the root of 1/2 */
  const L e = raised >> 52;
  const W m = from_bits_of(bits_of(x) - (e << 52));
  W n = from_bits_of(e + bits_of(splat(kRounder))) - kRounder;
  if (kPrecise) n = tiny ? n - 54.0 : n;
  *exponent = n;
  const W s = (m - 1.0) / (m + 1.0);
  return 2.0 * s * series(kOddParts, kPrecise ? 11 : 7, s * s);
}
/* What the logarithm of any base is where x is not positive and finite. */
inline W log_beyond(W x, W result) {
  result = x == INFINITY ? x : result;
  result = x == 0.0 ? splat(-INFINITY) : result;
  return ~(x >= 0.0) ? splat(NAN) : result;
}
template <bool kPrecise>
inline W log_of(W x) {
  W n;
  const W m = log_of_mantissa<kPrecise>(x, &n);
  return log_beyond(x, n * kLn2High + (m + n * kLn2Low));
}
template <bool kPrecise>
inline W log2_of(W x) {
  W n;
  const W m = log_of_mantissa<kPrecise>(x, &n);
  return log_beyond(x, n + m * kLog2E);
}
template <bool kPrecise>
inline W log10_of(W x) {
  constexpr double kLog10Of2High = 0x1.34413509f8000p-2, kLog10Of2Low = -0x1.80433b83b532ap-44;
  W n;
  const W m = log_of_mantissa<kPrecise>(x, &n);
  return log_beyond(x, n * kLog10Of2High + (m * 0x1.bcb7b1526e50ep-2 + n * kLog10Of2Low));
}
/* What 1 + x is rounded by is put back to first order. */
template <bool kPrecise>
inline W log1p_of(W x) {
  const W u = x + 1.0;
  const W result = log_of<kPrecise>(u);
  const W mended = ((u > 0.0) & (u < INFINITY)) ? result - ((u - 1.0) - x) / u : result;
  return u == 1.0 ? x : mended;
}

/* ---- sines and cosines */

constexpr double kFarAngle = 1048576.0;

/* The sine (kShift 0) or the cosine (1); far out lane by lane with the C library. */
template <bool kPrecise, int kShift>
inline W sine_of(W x) {
  const W rounded = x * 0x1.45f306dc9c883p-1 + kRounder;
  const W n = rounded - kRounder;
  const W r = ((x - n * 0x1.921fb54400000p+0) - n * 0x1.0b4611a600000p-34) - n * 0x1.3198a2e037073p-69;
  const W z = r * r;
  const W s = r * (1.0 + z * series(kSines, kPrecise ? 7 : 4, z));
  const W c = series(kCosines, kPrecise ? 8 : 6, z);
  const L quadrant = bits_of(rounded) - bits_of(splat(kRounder)) + kShift;
  const W value = (quadrant & 1) != 0 ? c : s;
  const W result = from_bits_of(bits_of(value) ^ ((quadrant & 2) << 62));
  const L far = ~(magnitude(x) < kFarAngle);
  if (!any(far)) return result;
  const W exact = each(x, [](double angle) { return kShift == 0 ? ::sin(angle) : ::cos(angle); });
  return far ? exact : result;
}

/* ---- functions made of these, for float32 */

/* A series where a difference would cancel. */
inline W expm1_of(W x) { return magnitude(x) < 1e-5 ? x * (1.0 + 0.5 * x) : exp_of<false>(x) - 1.0; }
inline W sinh_of(W x) {
  const W e = exp_of<false>(x), z = x * x;
  return magnitude(x) < 0.01 ? x + x * z * (1.0 / 6 + z * (1.0 / 120)) : 0.5 * (e - 1.0 / e);
}
inline W cosh_of(W x) {
  const W e = exp_of<false>(x);
  return 0.5 * (e + 1.0 / e);
}
inline W asinh_of(W x) {
  const W size = magnitude(x), z = x * x;
  const W far = signed_as(log_of<false>(size + root(z + 1.0)), x);
  return size < 0.01 ? x * (1.0 - z * (1.0 / 6 - z * (3.0 / 40))) : far;
}
inline W acosh_of(W x) { return x < 1.0 ? splat(NAN) : log_of<false>(x + root(x * x - 1.0)); }
inline W atanh_of(W x) {
  const W z = x * x;
  const W far = 0.5 * log_of<false>((1.0 + x) / (1.0 - x));
  return magnitude(x) < 0.01 ? x + x * z * (1.0 / 3 + z * (1.0 / 5 + z * (1.0 / 7))) : far;
}
/* The angle of (x, y), for y that is not negative: turned by a right angle, or half of one, to where the series is
 * short. */
inline W angle_of(W y, W x) {
  constexpr double kEighth = 0.41421356237309503; /* the tangent of pi / 8 */
  const W size = magnitude(x);
  const L flat = y <= size * kEighth, steep = size < y * kEighth;
  const W above = flat ? y : steep ? -size : y - size, below = flat ? size : steep ? y : y + size;
  const W t = above / below, z = t * t;
  const W turned = flat ? splat(0.0) : steep ? splat(kPi / 2) : splat(kPi / 4);
  const W angle = turned + t * series(kAlternating, 12, z);
  return x < 0.0 ? kPi - angle : angle;
}
inline W atan_of(W x) {
  const W size = magnitude(x);
  return signed_as(angle_of(size, splat(1.0)), x);
}
inline W asin_of(W x) {
  const W across = root((1.0 - x) * (1.0 + x));
  return signed_as(angle_of(magnitude(x), across), x);
}
inline W acos_of(W x) { return angle_of(root((1.0 - x) * (1.0 + x)), x); }

}  // namespace wide
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
