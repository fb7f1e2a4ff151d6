/* take_rows: rows of a matrix by index. */
#ifndef PERFX_KERNELS_ROWS_HPP
#define PERFX_KERNELS_ROWS_HPP

#include <string.h>

#include "perfx/kernels/operands.hpp"

namespace perfx {
namespace PERFX_VARIANT {

/* Are all `count` numbers in 0 .. bound-1? */
inline bool all_below(const int32_t* values, int64_t count, int64_t bound) {
  bool ok = true;
  for (int64_t i = 0; i < count; ++i) ok &= values[i] >= 0 && values[i] < bound;
  return ok;
}

inline int32_t accepts_take_rows(const PxCall* call) {
  if (!has_signature(call, 2, 1, 0)) return PX_UNSUPPORTED;
  const PxTensor* t = call->operands;
  const bool ok = is_rows(t[0], PX_FLOAT32, 2) && is_dense(t[1], PX_INT32, 1) && is_rows(t[2], PX_FLOAT32, 2) &&
                  t[2].shape[0] == t[1].shape[0] && t[2].shape[1] == t[0].shape[1];
  return ok ? PX_OK : PX_UNSUPPORTED;
}

inline int32_t run_take_rows(const PxCall* call, const PxThread* thread) {
  const PxTensor &x = call->operands[0], &indices = call->operands[1], &y = call->operands[2];
  const int64_t count = indices.shape[0];
  if (!all_below(ints(indices), count, x.shape[0])) return PX_INVALID_ARGUMENT;
  const Range rows = share(count, 1, thread);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    memcpy(at<float>(y, r), at<float>(x, ints(indices)[r]), size_t(x.shape[1]) * sizeof(float));
  }
  return PX_OK;
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
