/* take, take_along_axis, put_rows, flat_nonzero, searchsorted: elements chosen by index, and where elements are. */
#ifndef PERFX_KERNELS_GATHER_HPP
#define PERFX_KERNELS_GATHER_HPP

#include "perfx/kernels/scan.hpp"

namespace perfx {
namespace PERFX_VARIANT {

/* A shared counter that threads note a wrong index in. */
constexpr int kWrong = 3;

inline bool is_index(const PxTensor& tensor) {
  return is_plain(tensor) && tensor.dtype > PX_BOOL && tensor.dtype <= PX_UINT64;
}

/* Indices as int64, block by block. */
class Indices {
 public:
  Indices(const PxTensor& tensor, const PxTensor& like, int64_t begin, int64_t end) {
    reader_.start(tensor, like, conversion(tensor.dtype, PX_INT64), {begin, end});
    reader_.repeat_number(int64_t(sizeof(int64_t)), smaller(kBlock, end - begin));
  }
  const int64_t* read(int64_t* count) {
    *count = reader_.at_once(smaller(*count, kBlock));
    return reinterpret_cast<const int64_t*>(reader_.read(*count));
  }

 private:
  Reader reader_;
};

/* Calls body(position, indices, count) for the blocks of a part. */
template <class Body>
inline void for_indices(const PxTensor& tensor, const PxTensor& like, Range part, Body body) {
  if (part.begin >= part.end) return;
  Indices indices(tensor, like, part.begin, part.end);
  for (int64_t i = part.begin, count; i < part.end; i += count) {
    count = part.end - i;
    const int64_t* block = indices.read(&count);
    body(i, block, count);
  }
}

/* Do all indices lie in -size .. size-1? All threads look, and get the same answer. */
inline bool all_within(const PxTensor& indices, int64_t size, const PxThread* thread) {
  bool ok = true;
  const int64_t low = indices.dtype == PX_UINT64 ? 0 : -size; /* a negative one is past what int64 holds */
  for_indices(indices, indices, share(num_elements(indices), kCopyGrain, thread),
              [&](int64_t, const int64_t* block, int64_t count) {
                for (int64_t i = 0; i < count; ++i) ok &= block[i] >= low && block[i] < size;
              });
  if (!ok) perfx_claim(thread, kWrong, 1);
  thread->barrier(thread);
  return __atomic_load_n(thread->counters + 8 * kWrong, __ATOMIC_RELAXED) == 0;
}
inline int64_t from_front(int64_t index, int64_t size) { return index < 0 ? index + size : index; }

/* ---- take */

inline int32_t accepts_take(const PxCall* call) {
  if (!has_signature(call, 2, 1, 1)) return PX_UNSUPPORTED;
  const PxTensor &x = call->operands[0], &indices = call->operands[1], &y = call->operands[2];
  const int64_t axis = call->attrs[0].i;
  const bool ok = is_plain_dense(x) && is_index(indices) && is_plain_dense(y) && x.dtype == y.dtype && axis >= 0 &&
                  axis < x.ndim && y.ndim == x.ndim - 1 + indices.ndim;
  return ok ? PX_OK : PX_UNSUPPORTED;
}

/* The slices of dense operands: out[i] = in[indices[i]], each of `bytes` bytes. */
template <class T>
inline void take_slices(const char* in, char* out, const int64_t* indices, int64_t count, int64_t size, int64_t bytes) {
  if (bytes == int64_t(sizeof(T))) {
    const T* from = reinterpret_cast<const T*>(in);
    for (int64_t i = 0; i < count; ++i) reinterpret_cast<T*>(out)[i] = from[from_front(indices[i], size)];
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    memcpy(out + i * bytes, in + from_front(indices[i], size) * bytes, size_t(bytes));
  }
}

inline int32_t run_take(const PxCall* call, const PxThread* thread) {
  const PxTensor &x = call->operands[0], &indices = call->operands[1], &y = call->operands[2];
  const int64_t axis = call->attrs[0].i, size = x.shape[axis], chosen = num_elements(indices);
  if (!all_within(indices, size, thread)) return PX_INVALID_ARGUMENT;
  if (num_elements(y) == 0) return PX_OK;
  int64_t bytes = kItemBytes[x.dtype];
  for (int a = int(axis) + 1; a < x.ndim; ++a) bytes *= x.shape[a];
  const int64_t matrices = num_elements(y) * kItemBytes[y.dtype] / bytes / chosen;
  const Range part = share(matrices * chosen, larger(1, kCopyGrain * 4 / bytes), thread);
  with_item(kItemBytes[x.dtype], [&](auto element) {
    for (int64_t first = part.begin, end; first < part.end; first = end) {
      const int64_t matrix = first / chosen, begin = first % chosen;
      end = smaller(part.end, (matrix + 1) * chosen);
      const char* in = static_cast<const char*>(x.data) + matrix * size * bytes;
      char* out = static_cast<char*>(y.data) + matrix * chosen * bytes;
      for_indices(indices, indices, {begin, begin + end - first}, [&](int64_t i, const int64_t* block, int64_t count) {
        take_slices<decltype(element)>(in, out + i * bytes, block, count, size, bytes);
      });
    }
  });
  return PX_OK;
}

/* ---- take_along_axis */

inline int32_t accepts_take_along(const PxCall* call) {
  if (!has_signature(call, 2, 1, 1)) return PX_UNSUPPORTED;
  const PxTensor &x = call->operands[0], &indices = call->operands[1], &y = call->operands[2];
  const int64_t axis = call->attrs[0].i;
  const bool ok = is_plain(x) && is_index(indices) && is_plain_dense(y) && x.dtype == y.dtype && x.ndim == y.ndim &&
                  axis >= 0 && axis < x.ndim && broadcasts_to(indices, y);
  return ok ? PX_OK : PX_UNSUPPORTED;
}

/* x without its axis, broadcast to the result: where each element's line begins. */
inline Walk lines_of(const PxTensor& x, const PxTensor& y, int64_t axis) {
  PxTensor lines = x;
  lines.shape[axis] = 1;
  return walk_over(lines, y);
}

inline int32_t run_take_along(const PxCall* call, const PxThread* thread) {
  const PxTensor &x = call->operands[0], &indices = call->operands[1], &y = call->operands[2];
  const int64_t axis = call->attrs[0].i, size = x.shape[axis], stride = x.strides[axis];
  if (!all_within(indices, size, thread)) return PX_INVALID_ARGUMENT;
  const Range part = share(num_elements(y), kCopyGrain, thread);
  if (part.begin >= part.end) return PX_OK;
  Walk lines = lines_of(x, y, axis);
  if (lines.ndim == 0) lines.shape[0] = num_elements(y), lines.strides[0] = 0, lines.ndim = 1;
  Cursor line(lines, part.begin);
  with_item(kItemBytes[x.dtype], [&](auto element) {
    using T = decltype(element);
    for_indices(indices, y, part, [&](int64_t first, const int64_t* block, int64_t count) {
      T* out = static_cast<T*>(y.data) + first;
      for (int64_t i = 0, run; i < count; i += run) {
        run = smaller(count - i, line.left());
        const char* in = line.at();
        for (int64_t j = 0; j < run; ++j) {
          out[i + j] = *reinterpret_cast<const T*>(in + j * line.stride() + from_front(block[i + j], size) * stride);
        }
        line.advance(run);
      }
    });
  });
  return PX_OK;
}

/* ---- put_rows */

inline int32_t accepts_put_rows(const PxCall* call) {
  if (!has_signature(call, 3, 0, 0)) return PX_UNSUPPORTED;
  const PxTensor &target = call->operands[0], &indices = call->operands[1], &values = call->operands[2];
  const bool ok = is_plain(target) && is_index(indices) && is_plain_dense(values) && target.ndim == 2 &&
                  indices.ndim == 1 && values.ndim == 2 && target.dtype == values.dtype &&
                  values.shape[0] == indices.shape[0] && values.shape[1] == target.shape[1];
  return ok ? PX_OK : PX_UNSUPPORTED;
}

/* Threads share the columns, so that of equal indices the last one is what stays. */
inline int32_t run_put_rows(const PxCall* call, const PxThread* thread) {
  const PxTensor &target = call->operands[0], &indices = call->operands[1], &values = call->operands[2];
  const int64_t size = target.shape[0], columns = target.shape[1], item = kItemBytes[target.dtype];
  if (!all_within(indices, size, thread)) return PX_INVALID_ARGUMENT;
  const Range part = share(columns, kElementGrain, thread);
  if (part.begin >= part.end) return PX_OK;
  with_item(item, [&](auto element) {
    for_indices(indices, indices, {0, num_elements(indices)}, [&](int64_t first, const int64_t* block, int64_t count) {
      for (int64_t i = 0; i < count; ++i) {
        char* to = static_cast<char*>(target.data) + from_front(block[i], size) * target.strides[0];
        const char* from = static_cast<const char*>(values.data) + ((first + i) * columns + part.begin) * item;
        scatter_run<decltype(element)>(from, to + part.begin * target.strides[1], target.strides[1],
                                       part.end - part.begin);
      }
    });
  });
  return PX_OK;
}

/* ---- flat_nonzero */

inline int32_t accepts_flat_nonzero(const PxCall* call) {
  if (!has_signature(call, 1, 1, 1)) return PX_UNSUPPORTED;
  const PxTensor &x = call->operands[0], &y = call->operands[1];
  const bool ok = is_plain_dense(x) && x.dtype == PX_BOOL && x.ndim == 1 && is_plain_dense(y) && y.dtype == PX_INT64;
  return ok ? PX_OK : PX_UNSUPPORTED;
}
inline int64_t count_true(const uint8_t* x, Range part) {
  int64_t count = 0;
  for (int64_t i = part.begin; i < part.end; ++i) count += x[i] != 0;
  return count;
}
/* Each thread counts what is true before its part, and all of it: the bytes are few beside what is written. */
inline int32_t run_flat_nonzero(const PxCall* call, const PxThread* thread) {
  const PxTensor &x = call->operands[0], &y = call->operands[1];
  const uint8_t* truths = static_cast<const uint8_t*>(x.data);
  const int64_t size = x.shape[0];
  const Range part = share(size, kCopyGrain, thread);
  int64_t before = count_true(truths, {0, smaller(part.begin, size)});
  if (before + count_true(truths, {smaller(part.begin, size), size}) != y.shape[0]) return PX_INVALID_ARGUMENT;
  int64_t* out = static_cast<int64_t*>(y.data);
  for (int64_t i = part.begin; i < part.end; ++i) {
    if (truths[i] != 0) out[before++] = i;
  }
  return PX_OK;
}

/* ---- searchsorted */

inline int32_t accepts_searchsorted(const PxCall* call) {
  if (!has_signature(call, 2, 1, 1)) return PX_UNSUPPORTED;
  const PxTensor &edges = call->operands[0], &values = call->operands[1], &y = call->operands[2];
  const bool ok = is_plain_dense(edges) && edges.dtype == values.dtype && edges.dtype != PX_BOOL &&
                  edges.dtype < kNumReal && computed_in(edges.dtype) == edges.dtype && is_plain_dense(values) &&
                  edges.ndim == 1 && is_plain_dense(y) && y.dtype == PX_INT64;
  return ok ? PX_OK : PX_UNSUPPORTED;
}

/* As sorting orders numbers: NaN after all others. */
template <class T>
inline bool before(T a, T b) {
  return a < b || (b != b && a == a);
}

/* Without branches on what is compared: the size of the part that is left depends on the number of edges alone. */
template <class T>
inline int64_t place_among(const T* edges, int64_t count, T value, bool right) {
  const T* from = edges;
  while (count > 0) {
    const int64_t half = count / 2;
    const bool after = right ? !before(value, from[half]) : before(from[half], value);
    from += after ? half + 1 : 0;
    count = after ? count - half - 1 : half;
  }
  return from - edges;
}
inline int32_t run_searchsorted(const PxCall* call, const PxThread* thread) {
  const PxTensor &edges = call->operands[0], &values = call->operands[1], &y = call->operands[2];
  const Range part = share(num_elements(values), kSlowGrain, thread);
  int64_t* out = static_cast<int64_t*>(y.data);
  const bool right = call->attrs[0].i == 1;
  with_real(edges.dtype, [&](auto element) {
    using T = decltype(element);
    const T* all = static_cast<const T*>(edges.data);
    for (int64_t i = part.begin; i < part.end; ++i) {
      out[i] = place_among(all, edges.shape[0], static_cast<const T*>(values.data)[i], right);
    }
  });
  return PX_OK;
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
