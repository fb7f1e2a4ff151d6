/* erf, gelu: the error function, and what is made of it. Polynomials were found by Lawson's algorithm for the relative
 * error; errors are measured against float64 in tests/cpu/test_neural.py. */
#ifndef PERFX_KERNELS_ERROR_FUNCTION_HPP
#define PERFX_KERNELS_ERROR_FUNCTION_HPP

#include "perfx/kernels/elementwise.hpp"

namespace perfx {
namespace PERFX_VARIANT {

/* 1 - erf(t) for t >= 0, within 1e-6 of its own magnitude: u e^(-t^2 + p(u)) with u = 1 / (1 + t / 2) (the form is
 * that of Press et al., Numerical Recipes, 6.2). */
inline F complementary_error(F t) {
  t = min(set(11.0f), t);
  const F u = set(1.0f) / fma(t, set(0.5f), set(1.0f));
  F p = fma(u, set(0x1.26401ap-3f), set(-0x1.593080p-1f));
  p = fma(p, u, set(0x1.244666p+0f));
  p = fma(p, u, set(-0x1.5ab446p-1f));
  p = fma(p, u, set(-0x1.85c6b2p-4f));
  p = fma(p, u, set(0x1.198fd4p-7f));
  p = fma(p, u, set(0x1.08f6e6p-5f));
  p = fma(p, u, set(0x1.8c5890p-2f));
  p = fma(p, u, set(0x1.ff476ap-1f));
  p = fma(p, u, set(-0x1.43f44cp+0f));
  /* the square in two parts, for its rounding would be multiplied by t^2 */
  const F square = t * t, rest = fma(t, t, negate(square));
  return u * exp(p) * (exp(negate(square)) * (set(1.0f) - rest));
}

/* Within 2 ulp. */
inline F erf(F x) {
  const F magnitude = absolute(x), z = x * x;
  F p = fma(set(-0x1.4b1834p-11f), z, set(0x1.4b074ep-8f));
  p = fma(p, z, set(-0x1.b72208p-6f));
  p = fma(p, z, set(0x1.ce23dep-4f));
  p = fma(p, z, set(-0x1.81271ap-2f));
  p = fma(p, z, set(0x1.20dd74p+0f));
  const F far = with_sign(set(1.0f) - complementary_error(magnitude), x);
  return select(less(magnitude, set(0.85f)), x * p, far);
}

/* x / 2 (1 + erf(x / sqrt(2))) (Hendrycks and Gimpel, 2016); negative x do not cancel. */
inline F gelu(F x) {
  const F half = set(0.5f) * min(x, set(1e30f)); /* infinity times 0 would be none */
  const F part = half * complementary_error(absolute(x) * set(0x1.6a09e6p-1f));
  return select(less(x, set(0.0f)), part, x - part);
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
