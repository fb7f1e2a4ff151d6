/* cumulative_sum and cumulative_prod along an axis. Floating-point numbers are accumulated in float64. */
#ifndef PERFX_KERNELS_SCAN_HPP
#define PERFX_KERNELS_SCAN_HPP

#include "perfx/kernels/copy.hpp"
#include "perfx/kernels/positions.hpp"

namespace perfx {
namespace PERFX_VARIANT {

/* Columns that are scanned together; of a single column that is a loop of one. */
constexpr int64_t kScanColumns = 64;

/* Some neighboring columns of a matrix whose rows are `stride` elements apart; `x` may be `y`. */
template <class Op, class T>
inline void scan_columns(const T* x, T* y, int64_t rows, int64_t stride, int64_t columns) {
  using Total = typename Op::template Accumulator<T>;
  if (columns == 1) {
    Total total = Op::template first<Total>();
    for (int64_t row = 0; row < rows; ++row) {
      total = Op::of(total, Total(x[row * stride]));
      y[row * stride] = T(total);
    }
    return;
  }
  Total totals[kScanColumns];
  for (int64_t j = 0; j < columns; ++j) totals[j] = Op::template first<Total>();
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t j = 0; j < columns; ++j) {
      totals[j] = Op::of(totals[j], Total(x[row * stride + j]));
      y[row * stride + j] = T(totals[j]);
    }
  }
}

inline int32_t accepts_scan(const PxCall* call) {
  if (!has_signature(call, 1, 1, 1)) return PX_UNSUPPORTED;
  const PxTensor &x = call->operands[0], &y = call->operands[1];
  const int64_t axis = call->attrs[0].i;
  const bool computed = x.dtype < kNumReal && x.dtype != PX_BOOL && computed_in(x.dtype) == x.dtype;
  const bool ok = is_plain(x) && computed && is_plain_dense(y) && same_shape(x, y) && x.dtype == y.dtype && axis >= 0 &&
                  axis < x.ndim;
  return ok ? PX_OK : PX_UNSUPPORTED;
}
template <class Op>
inline int32_t run_scan(const PxCall* call, const PxThread* thread) {
  const PxTensor &x = call->operands[0], &y = call->operands[1];
  const int64_t axis = call->attrs[0].i, rows = y.shape[axis];
  if (num_elements(y) == 0) return PX_OK;
  const bool in_place = !is_plain_dense(x);
  if (in_place) {
    copy_operand(x, y, thread);
    thread->barrier(thread);
  }
  int64_t columns = 1;
  for (int a = int(axis) + 1; a < y.ndim; ++a) columns *= y.shape[a];
  const int64_t blocks = divide_up(columns, kScanColumns), matrices = num_elements(y) / rows / columns;
  const Range tasks = share(matrices * blocks, larger(1, 1024 / rows), thread);
  with_real(y.dtype, [&](auto element) {
    /* what wraps around does so with a sign as without */
    using Element = decltype(element);
    using T = typename std::conditional<std::is_floating_point<Element>::value, std::common_type<Element>,
                                        std::make_unsigned<Element>>::type::type;
    for (int64_t task = tasks.begin; task < tasks.end; ++task) {
      const int64_t column = task % blocks * kScanColumns, first = task / blocks * rows * columns + column;
      const T* from = static_cast<const T*>(in_place ? y.data : x.data) + first;
      const int64_t count = smaller(kScanColumns, columns - column);
      scan_columns<Op, T>(from, static_cast<T*>(y.data) + first, rows, columns, count);
    }
  });
  return PX_OK;
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
