/* layer_norm: mean and variance of the last axes (Ba et al., 2016).
 *
 * A row's sums are made in four vectors of 16 lanes, so they depend on the row alone. One thread takes whole rows.
 */
#ifndef PERFX_KERNELS_LAYER_NORM_HPP
#define PERFX_KERNELS_LAYER_NORM_HPP

#include <math.h>

#include "perfx/kernels/windows.hpp"

namespace perfx {
namespace PERFX_VARIANT {

/* The sums of x - shift and of its squares over a row. */
inline void sum_moments(const float* x, int64_t size, float shift, float* sum, float* squares) {
  F sums[4] = {set(0.0f), set(0.0f), set(0.0f), set(0.0f)}, products[4] = {set(0.0f), set(0.0f), set(0.0f), set(0.0f)};
  const F offset = set(shift);
  for (int64_t i = 0; i < size; i += 4 * kLanes) {
    for (int j = 0; j < 4 && i + j * kLanes < size; ++j) {
      const int n = int(smaller(kLanes, size - i - j * kLanes));
      const F v = select(first(n), load_n(x + i + j * kLanes, n) - offset, set(0.0f));
      sums[j] = sums[j] + v;
      products[j] = fma(v, v, products[j]);
    }
  }
  *sum = reduce_add((sums[0] + sums[1]) + (sums[2] + sums[3]));
  *squares = reduce_add((products[0] + products[1]) + (products[2] + products[3]));
}

/* y = (x - mean) / sqrt(variance + eps) * scale + bias; the mean in two parts, for a large one is rounded. */
inline void normalize_row(const float* x, int64_t size, float eps, const float* scale, const float* bias, float* y) {
  float sum, squares, rest;
  sum_moments(x, size, 0.0f, &sum, &squares);
  const float mean = sum / float(size);
  sum_moments(x, size, mean, &rest, &squares);
  rest /= float(size);
  const float apart = squares / float(size) - rest * rest, variance = apart < 0 ? 0.0f : apart;
  const F factor = set(1.0f / sqrtf(variance + eps)), offset = set(mean), correction = set(rest);
  for_each_vector(size, [&](int64_t i, int n) {
    const F normed = (load_n(x + i, n) - offset - correction) * factor * load_n(scale + i, n);
    store_n(y + i, n, bias != nullptr ? normed + load_n(bias + i, n) : normed);
  });
}

inline int32_t accepts_layer_norm(const PxCall* call) {
  if (!has_signature(call, 3, 1, 1)) return PX_UNSUPPORTED;
  const PxTensor *t = call->operands, &scale = t[1];
  const bool ok = is_dense(t[0], PX_FLOAT32, t[0].ndim) && is_dense(scale, PX_FLOAT32, scale.ndim) &&
                  (is_absent(t[2]) || is_dense(t[2], PX_FLOAT32, scale.ndim)) && is_dense(t[3], PX_FLOAT32, t[0].ndim);
  return ok ? PX_OK : PX_UNSUPPORTED;
}

inline int32_t run_layer_norm(const PxCall* call, const PxThread* thread) {
  const PxTensor* t = call->operands;
  const int64_t size = num_elements(t[1]);
  if (size == 0) return PX_OK;
  const float *x = floats(t[0]), *bias = is_absent(t[2]) ? nullptr : floats(t[2]);
  const float eps = float(call->attrs[0].f);
  float* y = static_cast<float*>(t[3].data);
  const Range rows = share(num_elements(t[0]) / size, 1, thread);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    normalize_row(x + r * size, size, eps, floats(t[1]), bias, y + r * size);
  }
  return PX_OK;
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
