/* Kernels that choose and move elements: where, astype, assign, concat. */
#ifndef PERFX_KERNELS_COPY_HPP
#define PERFX_KERNELS_COPY_HPP

#include "perfx/kernels/broadcast.hpp"

namespace perfx {
namespace PERFX_VARIANT {

/* What is worth a thread's while, in elements. */
constexpr int64_t kCopyGrain = 1024;

/* ---- where */

template <class T>
inline void where_loop(const Block& block) {
  const uint8_t* __restrict condition = reinterpret_cast<const uint8_t*>(block.in[0]);
  const T* __restrict a = reinterpret_cast<const T*>(block.in[1]);
  const T* __restrict b = reinterpret_cast<const T*>(block.in[2]);
  T* __restrict y = reinterpret_cast<T*>(block.out);
  for (int64_t i = 0; i < block.count; ++i) y[i] = condition[i] != 0 ? a[i] : b[i];
}
inline Scheme where_scheme(const PxCall* call) {
  const int32_t dtype = call->operands[3].dtype;
  Loop loop = nullptr;
  with_item(kItemBytes[dtype], [&](auto element) { loop = where_loop<decltype(element)>; });
  return {loop, {PX_BOOL, dtype, dtype}, dtype, kElementGrain};
}
inline int32_t accepts_where(const PxCall* call) {
  return are_plain(call, 3) ? accepts_scheme(call, 3, where_scheme(call)) : int32_t(PX_UNSUPPORTED);
}
inline int32_t run_where(const PxCall* call, const PxThread* thread) {
  return run_scheme<3>(call, thread, where_scheme(call));
}

/* ---- copies */

/* A matrix whose rows lie in the columns of another: out[r][c] = in[c][r], strides in bytes; both are dense along the
 * axis that they do not share. In squares, so that every line of the cache is used while it is there. */
template <class T>
inline void transpose_part(const char* in, int64_t in_stride, char* out, int64_t out_stride, int64_t rows,
                           int64_t columns) {
  constexpr int64_t kSquare = 16;
  T square[kSquare][kSquare];
  for (int64_t c = 0; c < columns; c += kSquare) {
    const int64_t width = smaller(kSquare, columns - c);
    for (int64_t r = 0; r < rows; r += kSquare) {
      const int64_t height = smaller(kSquare, rows - r);
      for (int64_t i = 0; i < width; ++i) {
        memcpy(square[i], in + (c + i) * in_stride + r * int64_t(sizeof(T)), size_t(height) * sizeof(T));
      }
      for (int64_t j = 0; j < height; ++j) {
        T row[kSquare];
        for (int64_t i = 0; i < kSquare; ++i) row[i] = square[i][j];
        memcpy(out + (r + j) * out_stride + c * int64_t(sizeof(T)), row, size_t(width) * sizeof(T));
      }
    }
  }
}

/* A source broadcast to a target of the same item size: dimensions innermost first, those that one pair of strides
 * covers joined. */
struct CopyPlan {
  int64_t item;
  int ndim;
  int64_t shape[PERFX_MAX_NDIM], from[PERFX_MAX_NDIM], to[PERFX_MAX_NDIM];

  void add(int64_t size, int64_t from_stride, int64_t to_stride) {
    if (size == 1) return;
    const int last = ndim - 1;
    if (ndim > 0 && from_stride == from[last] * shape[last] && to_stride == to[last] * shape[last]) {
      shape[last] *= size;
      return;
    }
    shape[ndim] = size;
    from[ndim] = from_stride;
    to[ndim++] = to_stride;
  }
  Walk walk(void* data, const int64_t* strides) const {
    Walk walk{static_cast<char*>(data), item, ndim, {}, {}};
    memcpy(walk.shape, shape, sizeof(shape));
    memcpy(walk.strides, strides, sizeof(walk.strides));
    return walk;
  }
  /* The dimension whose elements lie one after another in the source, where that is not the target's: else 0. */
  int transposed() const {
    if (ndim < 2 || to[0] != item || from[0] == item || from[0] == 0 || shape[0] < 8) return 0;
    for (int d = 1; d < ndim; ++d) {
      if (from[d] == item && shape[d] >= 8) return d;
    }
    return 0;
  }
};

inline CopyPlan plan_copy(const PxTensor& source, const PxTensor& target) {
  CopyPlan plan{kItemBytes[target.dtype], 0, {}, {}, {}};
  for (int axis = target.ndim - 1; axis >= 0; --axis) {
    plan.add(target.shape[axis], broadcast_stride(source, target, axis), target.strides[axis]);
  }
  if (plan.ndim == 0) plan.shape[0] = 1, plan.from[0] = plan.to[0] = plan.item, plan.ndim = 1;
  return plan;
}

template <class T>
inline void copy_run(const char* from, int64_t from_stride, char* to, int64_t to_stride, int64_t count) {
  if (to_stride == int64_t(sizeof(T))) return gather_run<T>(from, from_stride, to, count);
  for (int64_t i = 0; i < count; ++i) {
    *reinterpret_cast<T*>(to + i * to_stride) = *reinterpret_cast<const T*>(from + i * from_stride);
  }
}

/* Run by run of the innermost dimension. */
template <class T>
inline void copy_runs(const CopyPlan& plan, const PxTensor& source, const PxTensor& target, Range part) {
  Cursor from(plan.walk(source.data, plan.from), part.begin), to(plan.walk(target.data, plan.to), part.begin);
  for (int64_t left = part.end - part.begin; left > 0;) {
    const int64_t count = smaller(left, from.left());
    copy_run<T>(from.at(), from.stride(), to.at(), to.stride(), count);
    from.advance(count);
    to.advance(count);
    left -= count;
  }
}

/* Plane by plane of the innermost dimensions of the target and of the source, some rows of a plane at a time. */
template <class T>
inline void copy_planes(CopyPlan plan, int transposed, const PxTensor& source, const PxTensor& target,
                        const PxThread* thread) {
  constexpr int64_t kRows = 64;
  const int64_t rows = plan.shape[transposed], columns = plan.shape[0];
  const int64_t in_stride = plan.from[0], out_stride = plan.to[transposed], strips = divide_up(rows, kRows);
  /* what is left are the planes, and in each the strips of its rows */
  plan.shape[0] = strips;
  plan.from[0] = kRows * plan.from[transposed];
  plan.to[0] = kRows * out_stride;
  plan.shape[transposed] = 1;
  int64_t count = 1;
  for (int d = 0; d < plan.ndim; ++d) count *= plan.shape[d];
  const Range part = share(count, 1, thread);
  if (part.begin >= part.end) return;
  Cursor from(plan.walk(source.data, plan.from), part.begin), to(plan.walk(target.data, plan.to), part.begin);
  for (int64_t strip = part.begin; strip < part.end; ++strip) {
    const int64_t first = strip % strips * kRows;
    transpose_part<T>(from.at(), in_stride, to.at(), out_stride, smaller(kRows, rows - first), columns);
    from.advance(1);
    to.advance(1);
  }
}

/* Writes a source, broadcast, to a target of the same dtype; they do not overlap. */
inline void copy_operand(const PxTensor& source, const PxTensor& target, const PxThread* thread) {
  const int64_t count = num_elements(target);
  if (count == 0) return;
  const CopyPlan plan = plan_copy(source, target);
  const int transposed = plan.transposed();
  with_item(plan.item, [&](auto element) {
    using T = decltype(element);
    if (transposed != 0) return copy_planes<T>(plan, transposed, source, target, thread);
    const Range part = share(count, kCopyGrain, thread);
    if (part.begin < part.end) copy_runs<T>(plan, source, target, part);
  });
}

/* ---- astype */

inline int32_t accepts_astype(const PxCall* call) {
  if (!has_signature(call, 1, 1, 1)) return PX_UNSUPPORTED;
  const PxTensor &x = call->operands[0], &y = call->operands[1];
  const bool ok = is_plain(x) && is_plain_dense(y) && same_shape(x, y) && is_convertible(x.dtype, y.dtype);
  return ok ? PX_OK : PX_UNSUPPORTED;
}
inline int32_t run_astype(const PxCall* call, const PxThread* thread) {
  const PxTensor &x = call->operands[0], &y = call->operands[1];
  const Convert convert = conversion(x.dtype, y.dtype);
  if (convert == nullptr) {
    copy_operand(x, y, thread);
    return PX_OK;
  }
  const Range part = share(num_elements(y), kCopyGrain, thread);
  if (part.begin >= part.end) return PX_OK;
  Reader reader;
  reader.start(x, y, nullptr, part);
  reader.repeat_number(kItemBytes[x.dtype], smaller(kBlock, part.end - part.begin));
  const int64_t item = kItemBytes[y.dtype];
  char* out = static_cast<char*>(y.data) + part.begin * item;
  for (int64_t left = part.end - part.begin, count; left > 0; left -= count, out += count * item) {
    count = reader.at_once(left);
    convert(reader.read(count), out, count);
  }
  return PX_OK;
}

/* ---- assign, concat */

inline int32_t accepts_assign(const PxCall* call) {
  if (!has_signature(call, 2, 0, 0)) return PX_UNSUPPORTED;
  const PxTensor &target = call->operands[0], &values = call->operands[1];
  const bool ok = is_plain(target) && is_plain(values) && target.dtype == values.dtype && broadcasts_to(values, target);
  return ok ? PX_OK : PX_UNSUPPORTED;
}
inline int32_t run_assign(const PxCall* call, const PxThread* thread) {
  copy_operand(call->operands[1], call->operands[0], thread);
  return PX_OK;
}

inline int32_t accepts_concat(const PxCall* call) {
  if (call->num_operands != call->num_inputs + 1 || call->num_attrs != 1) return PX_UNSUPPORTED;
  const PxTensor& y = call->operands[call->num_inputs];
  for (int i = 0; i < call->num_inputs; ++i) {
    const PxTensor& x = call->operands[i];
    if (!is_plain(x) || x.dtype != y.dtype || x.ndim != y.ndim) return PX_UNSUPPORTED;
  }
  return is_plain_dense(y) && call->attrs[0].i >= 0 && call->attrs[0].i < y.ndim ? PX_OK : PX_UNSUPPORTED;
}
inline int32_t run_concat(const PxCall* call, const PxThread* thread) {
  PxTensor place = call->operands[call->num_inputs];
  const int64_t axis = call->attrs[0].i;
  char* data = static_cast<char*>(place.data);
  for (int i = 0; i < call->num_inputs; ++i) {
    place.shape[axis] = call->operands[i].shape[axis];
    place.data = data;
    copy_operand(call->operands[i], place, thread);
    data += place.shape[axis] * place.strides[axis];
  }
  return PX_OK;
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
