/* argmax and argmin: where the first extreme is along an axis, the first NaN if there is one. */
#ifndef PERFX_KERNELS_POSITIONS_HPP
#define PERFX_KERNELS_POSITIONS_HPP

#include "perfx/kernels/reduce.hpp"

namespace perfx {
namespace PERFX_VARIANT {

/* The best element so far, and where it is. */
template <class T>
struct Best {
  T value;
  int64_t at;
};

/* Does an element take the place of the best one before it? A NaN takes that of any number. */
template <bool kLargest, class T>
inline bool beats(T value, T best) {
  const bool beyond = kLargest ? value > best : value < best;
  return beyond || (value != value && best == best);
}

/* The first extreme of a block; looked for only where the block's extreme is better than what came before. */
template <bool kLargest, class T>
inline void improve(Best<T>* best, const T* x, int64_t count, int64_t first) {
  using Op = typename std::conditional<kLargest, LargestOf, SmallestOf>::type;
  const T extreme = reduce_block<Op, T>(x, count);
  if (best->at >= 0 && !beats<kLargest>(extreme, best->value)) return;
  int64_t i = 0;
  while (!(x[i] == extreme || (extreme != extreme && x[i] != x[i]))) ++i;
  *best = {extreme, first + i};
}

/* The parts of one result's elements that threads look through by themselves. */
inline int64_t position_segments(const Reduction& r) {
  return r.by_columns() ? 1 : larger(1, divide_up(r.elements, kReduceSegment));
}

template <bool kLargest, class T>
inline void positions_of_elements(const Reduction& r, Convert convert, int64_t* y, Best<T>* partial,
                                  const PxThread* thread) {
  const int64_t segments = position_segments(r), size = smaller(r.elements, kReduceSegment);
  const Range tasks = share(r.results * segments, larger(1, 2048 / size), thread);
  Reader reader;
  for (int64_t task = tasks.begin; task < tasks.end; ++task) {
    const int64_t first = task % segments * kReduceSegment, end = smaller(r.elements, first + kReduceSegment);
    Walk elements = r.reduced;
    elements.data = Cursor(r.kept, task / segments).at();
    reader.start(elements, convert, first);
    reader.repeat_number(int64_t(sizeof(T)), kBlock);
    Best<T> best{T(), -1};
    for (int64_t i = first, count; i < end; i += count) {
      count = reader.at_once(smaller(kBlock, end - i));
      improve<kLargest>(&best, reinterpret_cast<const T*>(reader.read(count)), count, i);
    }
    if (partial == nullptr) {
      y[task] = best.at;
    } else {
      partial[task] = best;
    }
  }
}

/* Row by row: for each column the best so far. */
template <bool kLargest, class T>
inline void positions_of_columns(const Reduction& r, int64_t* y, const PxThread* thread) {
  const int64_t columns = r.kept.shape[0], blocks = divide_up(columns, kBlock);
  const Range tasks = share(r.results / columns * blocks, 1, thread);
  T best[kBlock];
  for (int64_t task = tasks.begin; task < tasks.end; ++task) {
    const int64_t column = task % blocks * kBlock, count = smaller(kBlock, columns - column);
    const int64_t result = task / blocks * columns + column;
    Walk elements = r.reduced;
    elements.data = Cursor(r.kept, result).at();
    Cursor at(elements, 0);
    memcpy(best, at.at(), size_t(count) * sizeof(T));
    int64_t* __restrict places = y + result;
    for (int64_t j = 0; j < count; ++j) places[j] = 0;
    for (int64_t row = 1; row < r.elements; ++row) {
      at.advance(1);
      const T* __restrict values = reinterpret_cast<const T*>(at.at());
      for (int64_t j = 0; j < count; ++j) {
        const bool better = beats<kLargest>(values[j], best[j]);
        best[j] = better ? values[j] : best[j];
        places[j] = better ? row : places[j];
      }
    }
  }
}

template <bool kLargest, class T>
inline int32_t run_positions_of(const PxCall* call, const PxThread* thread, Convert convert) {
  const Reduction r(call->operands[0], int64_t(1) << call->attrs[0].i);
  int64_t* y = static_cast<int64_t*>(call->operands[1].data);
  if (r.results == 0) return PX_OK;
  if (r.elements == 0) return PX_INVALID_ARGUMENT; /* of nothing none is the largest */
  if (r.by_columns() && convert == nullptr) {
    positions_of_columns<kLargest, T>(r, y, thread);
    return PX_OK;
  }
  const int64_t segments = position_segments(r);
  Best<T>* partial = nullptr;
  if (segments > 1) {
    if (call->workspace_bytes < r.results * segments * int64_t(sizeof(Best<T>))) return PX_OUT_OF_MEMORY;
    partial = static_cast<Best<T>*>(call->workspace);
  }
  positions_of_elements<kLargest, T>(r, convert, y, partial, thread);
  if (partial == nullptr) return PX_OK;
  thread->barrier(thread);
  const Range part = share(r.results, kElementGrain, thread);
  for (int64_t result = part.begin; result < part.end; ++result) {
    const Best<T>* best = partial + result * segments;
    for (int64_t s = 1; s < segments; ++s) {
      const Best<T>* other = partial + result * segments + s;
      if (beats<kLargest>(other->value, best->value)) best = other;
    }
    y[result] = best->at;
  }
  return PX_OK;
}

/* Calls body(T{}) with the type that real elements are computed in. */
template <class Body>
inline void with_real(int32_t dtype, Body body) {
  switch (dtype) {
    case PX_INT8:
      return body(int8_t());
    case PX_INT16:
      return body(int16_t());
    case PX_INT32:
      return body(int32_t());
    case PX_INT64:
      return body(int64_t());
    case PX_BOOL:
    case PX_UINT8:
      return body(uint8_t());
    case PX_UINT16:
      return body(uint16_t());
    case PX_UINT32:
      return body(uint32_t());
    case PX_UINT64:
      return body(uint64_t());
    case PX_FLOAT64:
      return body(double());
    default:
      return body(float());
  }
}

inline int32_t accepts_positions(const PxCall* call) {
  if (!has_signature(call, 1, 1, 2)) return PX_UNSUPPORTED;
  const PxTensor &x = call->operands[0], &y = call->operands[1];
  const int64_t axis = call->attrs[0].i;
  const bool ok = is_plain(x) && x.dtype != PX_BOOL && x.dtype < kNumReal && axis >= 0 && axis < x.ndim &&
                  y.dtype == PX_INT64 && is_plain_dense(y);
  return ok ? PX_OK : PX_UNSUPPORTED;
}
inline int64_t positions_workspace(const PxCall* call, int32_t) {
  const Reduction r(call->operands[0], int64_t(1) << call->attrs[0].i);
  return r.elements > kReduceSegment ? divide_up(r.elements, kReduceSegment) * r.results * 2 * kAccumulatorBytes : 0;
}
template <bool kLargest>
inline int32_t run_positions(const PxCall* call, const PxThread* thread) {
  const int32_t dtype = call->operands[0].dtype;
  int32_t status = PX_OK;
  with_real(dtype, [&](auto element) {
    const Convert convert = conversion(dtype, computed_in(dtype));
    status = run_positions_of<kLargest, decltype(element)>(call, thread, convert);
  });
  return status;
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
