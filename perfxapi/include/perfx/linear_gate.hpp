/* The activation functions of gated_linear, over the same vector layer as the tile kernels.
 *
 * Both are x / (1 + exp(-z)): silu with z = x; gelu_tanh (Hendrycks and Gimpel 2016) with z = 2 sqrt(2 / pi) (x + 0.044715
 * x^3), because (1 + tanh(u)) / 2 = 1 / (1 + exp(-2 u)), a form that loses nothing for negative x.
 */
#ifndef PERFX_LINEAR_GATE_HPP
#define PERFX_LINEAR_GATE_HPP

#include "perfx/linear_common.hpp"

namespace perfx {
namespace PERFX_VARIANT {
namespace linear {

/* The op attribute `activation`. */
enum Activation : int { kGeluTanh = 0, kSilu = 1 };

/* exp(x), x limited to [-87, 88]: 2^n exp(r), |r| <= ln(2) / 2, with the polynomial of Cephes' expf (error below 2 ulp). */
template <class Simd>
inline typename Simd::F32 exponential(typename Simd::F32 x) {
  const auto number = [](float value) { return Simd::broadcast_float(value); };
  x = Simd::minimum(Simd::maximum(x, number(-87.0f)), number(88.0f));
  const auto n = Simd::round(Simd::multiply(x, number(1.44269504f)));
  auto r = Simd::fused(n, number(-0.693359375f), x);
  r = Simd::fused(n, number(2.12194440e-4f), r);
  auto p = Simd::fused(number(1.9875691500e-4f), r, number(1.3981999507e-3f));
  p = Simd::fused(p, r, number(8.3334519073e-3f));
  p = Simd::fused(p, r, number(4.1665795894e-2f));
  p = Simd::fused(p, r, number(1.6666665459e-1f));
  p = Simd::fused(p, r, number(5.0000001201e-1f));
  p = Simd::fused(p, Simd::multiply(r, r), Simd::add(r, number(1.0f)));
  return Simd::multiply(p, Simd::power_of_two(n));
}

template <class Simd>
inline typename Simd::F32 times_sigmoid(typename Simd::F32 x, typename Simd::F32 z) {
  const auto one = Simd::broadcast_float(1.0f);
  return Simd::divide(x, Simd::add(one, exponential<Simd>(Simd::negate(z))));
}

template <class Simd>
inline typename Simd::F32 silu(typename Simd::F32 x) {
  return times_sigmoid<Simd>(x, x);
}

template <class Simd>
inline typename Simd::F32 gelu_tanh(typename Simd::F32 x) {
  const auto cubic = Simd::fused(Simd::multiply(x, x), Simd::broadcast_float(0.044715f), Simd::broadcast_float(1.0f));
  return times_sigmoid<Simd>(x, Simd::multiply(Simd::multiply(x, Simd::broadcast_float(1.5957691216f)), cubic));
}

}  // namespace linear
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
