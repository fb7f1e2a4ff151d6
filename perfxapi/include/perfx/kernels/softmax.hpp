/* softmax, log_softmax, logsumexp over the last axis.
 *
 * A row is cut into segments of 8192 items, the same whatever the number of threads. Each segment gives its maximum and
 * the sum of exp(x - maximum); those of a row are joined in ascending order (Milakov and Gimelshein, 2018).
 */
#ifndef PERFX_KERNELS_SOFTMAX_HPP
#define PERFX_KERNELS_SOFTMAX_HPP

#include "perfx/kernels/math.hpp"

namespace perfx {
namespace PERFX_VARIANT {

constexpr int64_t kSoftmaxSegment = 8192;

/* sum of exp(x - shift(maximum)) */
struct ExponentSum {
  float maximum;
  float sum;
};

/* Where everything is -inf, nothing is subtracted, so that exp gives 0 and not NaN. */
inline float shift(float maximum) { return maximum == -INFINITY ? 0.0f : maximum; }

inline ExponentSum exponent_sum(const float* x, int64_t size) {
  F maximum = set(-INFINITY);
  for_each_vector(size, [&](int64_t i, int n) { maximum = max(select(first(n), load_n(x + i, n), maximum), maximum); });
  ExponentSum result{reduce_max(maximum), 0};
  F sum = set(0.0f);
  const F offset = set(shift(result.maximum));
  for_each_vector(size, [&](int64_t i, int n) {
    const F e = exp(load_n(x + i, n) - offset);
    sum = sum + select(first(n), e, set(0.0f));
  });
  result.sum = reduce_add(sum);
  return result;
}

inline ExponentSum join(const ExponentSum* parts, int64_t count) {
  ExponentSum total = parts[0];
  for (int64_t i = 1; i < count; ++i) {
    if (parts[i].maximum > total.maximum) total.maximum = parts[i].maximum;
  }
  total.sum = 0;
  for (int64_t i = 0; i < count; i += kLanes) {
    float weights[kLanes];
    const int n = int(smaller(kLanes, count - i));
    for (int j = 0; j < n; ++j) weights[j] = shift(parts[i + j].maximum) - shift(total.maximum);
    for (int j = n; j < kLanes; ++j) weights[j] = 0;
    store(weights, exp(load(weights)));
    for (int j = 0; j < n; ++j) {
      if (parts[i + j].maximum != -INFINITY || parts[i + j].sum != 0) total.sum += parts[i + j].sum * weights[j];
    }
  }
  return total;
}

inline float log_of_sum(float sum) { return float(::log(double(sum))); }

inline int32_t accepts_softmax(const PxCall* call) {
  if (!has_signature(call, 1, 1, 0)) return PX_UNSUPPORTED;
  const PxTensor* t = call->operands;
  const bool ok =
      is_rows(t[0], PX_FLOAT32, t[0].ndim) && is_rows(t[1], PX_FLOAT32, t[0].ndim) && same_shape(t[0], t[1]);
  return ok ? PX_OK : PX_UNSUPPORTED;
}

inline int32_t accepts_logsumexp(const PxCall* call) {
  if (!has_signature(call, 1, 1, 0)) return PX_UNSUPPORTED;
  const PxTensor &x = call->operands[0], &y = call->operands[1];
  if (!is_rows(x, PX_FLOAT32, x.ndim) || last_dimension(x) == 0 || !is_dense(y, PX_FLOAT32, x.ndim - 1)) {
    return PX_UNSUPPORTED;
  }
  for (int axis = 0; axis < y.ndim; ++axis) {
    if (y.shape[axis] != x.shape[axis]) return PX_UNSUPPORTED;
  }
  return PX_OK;
}

inline int64_t softmax_workspace(const PxCall* call, int32_t) {
  const Rows x(call->operands[0]);
  return x.count * divide_up(x.size, kSoftmaxSegment) * int64_t(sizeof(ExponentSum));
}

/* Fills parts[row * segments + segment] for all rows, together; returns the number of segments of a row. */
inline int64_t sum_segments(const Rows& x, ExponentSum* parts, const PxThread* thread) {
  const int64_t segments = divide_up(x.size, kSoftmaxSegment);
  const Range range = share(x.count * segments, 1, thread);
  for (int64_t item = range.begin; item < range.end; ++item) {
    const int64_t begin = item % segments * kSoftmaxSegment;
    parts[item] = exponent_sum(x[item / segments] + begin, smaller(kSoftmaxSegment, x.size - begin));
  }
  if (segments > 1) thread->barrier(thread);
  return segments;
}

template <bool Log>
inline int32_t run_softmax(const PxCall* call, const PxThread* thread) {
  const Rows x(call->operands[0]), y(call->operands[1]);
  if (call->workspace_bytes < softmax_workspace(call, thread->count)) return PX_OUT_OF_MEMORY;
  ExponentSum* parts = static_cast<ExponentSum*>(call->workspace);
  const int64_t segments = sum_segments(x, parts, thread);
  const Range range = share(x.count * segments, 1, thread);
  for (int64_t item = range.begin; item < range.end; ++item) {
    const int64_t row = item / segments, begin = item % segments * kSoftmaxSegment;
    const ExponentSum total = join(parts + row * segments, segments);
    const F offset = set(shift(total.maximum)), sum = set(Log ? log_of_sum(total.sum) : total.sum);
    const float* in = x[row] + begin;
    float* out = y[row] + begin;
    for_each_vector(smaller(kSoftmaxSegment, x.size - begin), [&](int64_t i, int n) {
      const F shifted = load_n(in + i, n) - offset;
      store_n(out + i, n, Log ? shifted - sum : exp(shifted) / sum);
    });
  }
  return PX_OK;
}

inline int32_t run_logsumexp(const PxCall* call, const PxThread* thread) {
  const Rows x(call->operands[0]);
  if (call->workspace_bytes < softmax_workspace(call, thread->count)) return PX_OUT_OF_MEMORY;
  ExponentSum* parts = static_cast<ExponentSum*>(call->workspace);
  const int64_t segments = sum_segments(x, parts, thread);
  float* y = static_cast<float*>(call->operands[1].data);
  const Range rows = share(x.count, 1, thread);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const ExponentSum total = join(parts + r * segments, segments);
    y[r] = shift(total.maximum) + log_of_sum(total.sum);
  }
  return PX_OK;
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
