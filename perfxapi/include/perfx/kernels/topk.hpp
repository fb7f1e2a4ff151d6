/* topk: the k largest items of each row, in descending order, lower ids first among equals. */
#ifndef PERFX_KERNELS_TOPK_HPP
#define PERFX_KERNELS_TOPK_HPP

#include "perfx/kernels/select.hpp"

namespace perfx {
namespace PERFX_VARIANT {

inline int32_t accepts_topk(const PxCall* call) {
  if (!has_signature(call, 1, 2, 1)) return PX_UNSUPPORTED;
  const PxTensor *t = call->operands, &x = t[0];
  const int64_t k = call->attrs[0].i;
  if (!is_rows(x, PX_FLOAT32, x.ndim) || k < 1 || k > last_dimension(x) || last_dimension(x) > INT32_MAX) {
    return PX_UNSUPPORTED;
  }
  if (!is_dense(t[1], PX_FLOAT32, x.ndim) || !is_dense(t[2], PX_INT32, x.ndim) || !same_shape(t[1], t[2])) {
    return PX_UNSUPPORTED;
  }
  for (int axis = 0; axis < x.ndim - 1; ++axis) {
    if (t[1].shape[axis] != x.shape[axis]) return PX_UNSUPPORTED;
  }
  return last_dimension(t[1]) == k ? PX_OK : PX_UNSUPPORTED;
}

inline int64_t topk_workspace(const PxCall* call, int32_t num_threads) {
  const Rows x(call->operands[0]);
  return select_workspace(x.count, x.size, num_threads);
}

/* Sorts the k largest of the candidates to the front. NaN takes part as -inf. */
inline void sort_largest(Candidate* candidates, int64_t count, int64_t k) {
  for (int64_t i = 0; i < count; ++i) {
    if (!(candidates[i].value > -INFINITY)) candidates[i].value = -INFINITY;
  }
  if (k < count) std::nth_element(candidates, candidates + k, candidates + count, Before());
  std::sort(candidates, candidates + k, Before());
}

inline int32_t run_topk(const PxCall* call, const PxThread* thread) {
  const Rows x(call->operands[0]);
  const int64_t k = call->attrs[0].i, size = x.size;
  float* values = static_cast<float*>(call->operands[1].data);
  int32_t* indices = static_cast<int32_t*>(call->operands[2].data);
  return for_each_row(x.count, size, call, thread, [&](int64_t row, const SelectSpace& space, const PxThread* crew) {
    const float* in = x[row];
    find_maxima(in, size, space, crew);
    crew->barrier(crew);
    if (crew->index == 0) space.masses[0] = double(lower_bound_of_kth(space, size, k));
    crew->barrier(crew);
    gather(in, size, float(space.masses[0]), true, space, crew);
    crew->barrier(crew);
    if (crew->index != 0) return;
    sort_largest(space.candidates, collect(in, size, space), k);
    for (int64_t i = 0; i < k; ++i) {
      indices[row * k + i] = space.candidates[i].id;
      values[row * k + i] = in[space.candidates[i].id];
    }
  });
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
