/* resample: one axis by a table of positions and weights.
 *
 * A result is one chain of fused multiply-adds over its taps, in ascending order. Where the axis is the last one, rows
 * are gathered from; else whole rows of what lies behind the axis are added up.
 */
#ifndef PERFX_KERNELS_RESAMPLING_HPP
#define PERFX_KERNELS_RESAMPLING_HPP

#include "perfx/kernels/windows.hpp"

namespace perfx {
namespace PERFX_VARIANT {
namespace resampling {

/* Results of one piece of work. */
constexpr int64_t kPiece = 1024;

/* x as [outer, size, inner], the result as [outer, places, inner]. */
struct Problem {
  explicit Problem(const PxCall* call)
      : x(floats(call->operands[0])),
        weights(floats(call->operands[2])),
        indices(ints(call->operands[1])),
        y(static_cast<float*>(call->operands[3].data)),
        places(call->operands[1].shape[0]),
        taps(call->operands[1].shape[1]) {
    const PxTensor& operand = call->operands[0];
    const int axis = int(call->attrs[0].i);
    size = operand.shape[axis];
    for (int i = 0; i < axis; ++i) outer *= operand.shape[i];
    for (int i = axis + 1; i < operand.ndim; ++i) inner *= operand.shape[i];
  }
  bool are_indices_valid() const {
    for (int64_t i = 0; i < places * taps; ++i) {
      if (indices[i] < 0 || indices[i] >= size) return false;
    }
    return true;
  }

  const float *x, *weights;
  const int32_t* indices;
  float* y;
  int64_t places, taps, size, outer = 1, inner = 1;
};

/* Places [begin, end) of one row, which lies along the axis. */
inline void gather(const Problem& p, const float* row, Range part, float* y) {
  for (int64_t i = part.begin; i < part.end; ++i) {
    const int32_t* index = p.indices + i * p.taps;
    const float* weight = p.weights + i * p.taps;
    float sum = 0.0f;
    for (int64_t t = 0; t < p.taps; ++t) sum = __builtin_fmaf(weight[t], row[index[t]], sum);
    y[i] = sum;
  }
}

/* One place, for numbers [begin, end) of what lies behind the axis. */
inline void add_rows(const Problem& p, const float* x, int64_t place, Range part, float* y) {
  const int32_t* index = p.indices + place * p.taps;
  const float* weight = p.weights + place * p.taps;
  for_each_vector(part.end - part.begin, [&](int64_t i, int n) {
    F sum = set(0.0f);
    for (int64_t t = 0; t < p.taps; ++t) {
      sum = fma(broadcast(weight + t), load_n(x + index[t] * p.inner + part.begin + i, n), sum);
    }
    store_n(y + part.begin + i, n, sum);
  });
}

inline int32_t accepts(const PxCall* call) {
  if (!has_signature(call, 3, 1, 1)) return PX_UNSUPPORTED;
  const PxTensor* t = call->operands;
  const bool ok = is_dense(t[0], PX_FLOAT32, t[0].ndim) && is_dense(t[1], PX_INT32, 2) &&
                  is_dense(t[2], PX_FLOAT32, 2) && is_dense(t[3], PX_FLOAT32, t[0].ndim);
  return ok ? PX_OK : PX_UNSUPPORTED;
}

inline int32_t run(const PxCall* call, const PxThread* thread) {
  const Problem p(call);
  if (!p.are_indices_valid()) return PX_INVALID_ARGUMENT;
  const int64_t length = p.inner == 1 ? p.places : p.inner, pieces = divide_up(length, kPiece);
  const int64_t rows = p.inner == 1 ? p.outer : p.outer * p.places;
  if (length == 0 || rows == 0) return PX_OK;
  const Range mine = share(rows * pieces, divide_up(kLanes * kLanes, length), thread);
  for (int64_t item = mine.begin; item < mine.end; ++item) {
    const int64_t row = item / pieces, begin = item % pieces * kPiece;
    const Range part = {begin, smaller(begin + kPiece, length)};
    if (p.inner == 1) {
      gather(p, p.x + row * p.size, part, p.y + row * p.places);
    } else {
      add_rows(p, p.x + row / p.places * p.size * p.inner, row % p.places, part, p.y + row * p.inner);
    }
  }
  return PX_OK;
}

}  // namespace resampling
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
