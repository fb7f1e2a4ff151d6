/* rms_norm, add_rms_norm, norm_add_rms_norm: root mean square layer normalization (Zhang and Sennrich, 2019).
 *
 * A row's squares are summed in four vectors of 16 lanes (vector j into sum j % 4), then across sums and lanes, so the
 * result depends on the row alone. One thread takes whole rows.
 */
#ifndef PERFX_KERNELS_NORM_HPP
#define PERFX_KERNELS_NORM_HPP

#include <math.h>

#include "perfx/kernels/operands.hpp"

namespace perfx {
namespace PERFX_VARIANT {

/* 1 / sqrt(mean(x^2) + eps) */
inline float inverse_rms(const float* x, int64_t size, float eps) {
  F sums[4] = {set(0.0f), set(0.0f), set(0.0f), set(0.0f)};
  int64_t i = 0;
  for (; i + 4 * kLanes <= size; i += 4 * kLanes) {
    for (int j = 0; j < 4; ++j) {
      const F v = load(x + i + j * kLanes);
      sums[j] = fma(v, v, sums[j]);
    }
  }
  for (int j = 0; i < size; i += kLanes, ++j) {
    const F v = load_first(x + i, int(smaller(kLanes, size - i)));
    sums[j] = fma(v, v, sums[j]);
  }
  const float mean = reduce_add((sums[0] + sums[1]) + (sums[2] + sums[3])) / float(size);
  return 1.0f / sqrtf(mean + eps);
}

/* y = x * factor * weight */
inline void scale_row(const float* x, const float* weight, float factor, int64_t size, float* y) {
  const F f = set(factor);
  for_each_vector(size, [&](int64_t i, int n) { store_n(y + i, n, load_n(x + i, n) * f * load_n(weight + i, n)); });
}

inline int32_t accepts_rms_norm(const PxCall* call) {
  if (!has_signature(call, 2, 1, 1)) return PX_UNSUPPORTED;
  const PxTensor* t = call->operands;
  const bool ok = is_rows(t[0], PX_FLOAT32, t[0].ndim) && is_vector(t[1], last_dimension(t[0])) &&
                  is_rows(t[2], PX_FLOAT32, t[0].ndim) && same_shape(t[0], t[2]);
  return ok ? PX_OK : PX_UNSUPPORTED;
}

inline int32_t run_rms_norm(const PxCall* call, const PxThread* thread) {
  const Rows x(call->operands[0]), y(call->operands[2]);
  const float* weight = floats(call->operands[1]);
  const float eps = float(call->attrs[0].f);
  const Range rows = share(x.count, 1, thread);
  for (int64_t r = rows.begin; r < rows.end; ++r) scale_row(x[r], weight, inverse_rms(x[r], x.size, eps), x.size, y[r]);
  return PX_OK;
}

/* Are the operands [T, D] rows but for those whose index is in `weights` (a bit set), which are [D]? */
inline int32_t accepts_residual_norm(const PxCall* call, int num_inputs, unsigned weights) {
  if (!has_signature(call, num_inputs, 2, 1)) return PX_UNSUPPORTED;
  const PxTensor* t = call->operands;
  for (int i = 0; i < call->num_operands; ++i) {
    const bool ok = weights >> i & 1 ? t[0].ndim == 2 && is_vector(t[i], t[0].shape[1])
                                     : is_rows(t[i], PX_FLOAT32, 2) && same_shape(t[i], t[0]);
    if (!ok) return PX_UNSUPPORTED;
  }
  return PX_OK;
}

inline int32_t accepts_add_rms_norm(const PxCall* call) { return accepts_residual_norm(call, 3, 1u << 2); }

inline int32_t run_add_rms_norm(const PxCall* call, const PxThread* thread) {
  const Rows x(call->operands[0]), y(call->operands[1]), sum(call->operands[3]), normed(call->operands[4]);
  const float* weight = floats(call->operands[2]);
  const float eps = float(call->attrs[0].f);
  const Range rows = share(x.count, 1, thread);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const float *a = x[r], *b = y[r];
    float* s = sum[r];
    for_each_vector(x.size, [&](int64_t i, int n) { store_n(s + i, n, load_n(a + i, n) + load_n(b + i, n)); });
    scale_row(s, weight, inverse_rms(s, x.size, eps), x.size, normed[r]);
  }
  return PX_OK;
}

inline int32_t accepts_norm_add_rms_norm(const PxCall* call) {
  return accepts_residual_norm(call, 4, 1u << 1 | 1u << 3);
}

inline int32_t run_norm_add_rms_norm(const PxCall* call, const PxThread* thread) {
  const Rows y(call->operands[0]), x(call->operands[2]), sum(call->operands[4]), normed(call->operands[5]);
  const float *post = floats(call->operands[1]), *pre = floats(call->operands[3]);
  const float eps = float(call->attrs[0].f);
  const Range rows = share(x.count, 1, thread);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const float *a = x[r], *b = y[r];
    float* s = sum[r];
    const F factor = set(inverse_rms(b, y.size, eps));
    for_each_vector(x.size, [&](int64_t i, int n) {
      store_n(s + i, n, load_n(a + i, n) + load_n(b + i, n) * factor * load_n(post + i, n));
    });
    scale_row(s, pre, inverse_rms(s, x.size, eps), x.size, normed[r]);
  }
  return PX_OK;
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
