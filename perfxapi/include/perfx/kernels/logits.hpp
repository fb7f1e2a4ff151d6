/* adjust_logits: repetition, frequency and presence penalties and biases, in place. A row belongs to one thread. */
#ifndef PERFX_KERNELS_LOGITS_HPP
#define PERFX_KERNELS_LOGITS_HPP

#include <math.h>

#include "perfx/kernels/rows.hpp"

namespace perfx {
namespace PERFX_VARIANT {

inline int32_t accepts_adjust_logits(const PxCall* call) {
  if (!has_signature(call, 10, 0, 0)) return PX_UNSUPPORTED;
  const PxTensor* t = call->operands;
  if (!is_rows(t[0], PX_FLOAT32, 2)) return PX_UNSUPPORTED;
  const int64_t rows = t[0].shape[0];
  const int64_t sizes[10] = {0,    t[1].shape[0], rows + 1,      t[1].shape[0], rows,
                             rows, rows,          t[7].shape[0], t[7].shape[0], t[7].shape[0]};
  const bool integer[10] = {false, true, true, true, false, false, false, true, true, false};
  for (int i = 1; i < 10; ++i) {
    if (!is_dense(t[i], integer[i] ? PX_INT32 : PX_FLOAT32, 1) || t[i].shape[0] != sizes[i]) return PX_UNSUPPORTED;
  }
  return PX_OK;
}

inline bool valid_adjustment(const PxTensor* t) {
  const int64_t rows = t[0].shape[0], size = t[0].shape[1], num_ids = t[1].shape[0], num_biases = t[7].shape[0];
  const int32_t* starts = ints(t[2]);
  if (starts[0] != 0 || starts[rows] > num_ids) return false;
  for (int64_t r = 0; r < rows; ++r) {
    if (starts[r] > starts[r + 1]) return false;
  }
  return all_below(ints(t[1]), starts[rows], size) && all_below(ints(t[7]), num_biases, rows) &&
         all_below(ints(t[8]), num_biases, size);
}

struct Penalties {
  float repetition, frequency, presence;
  float apply(float logit, int32_t output_count) const {
    logit = logit > 0 ? logit / repetition : logit * repetition;
    logit -= frequency * float(output_count);
    return output_count > 0 ? logit - presence : logit;
  }
};

inline int32_t run_adjust_logits(const PxCall* call, const PxThread* thread) {
  const PxTensor* t = call->operands;
  if (!valid_adjustment(t)) return PX_INVALID_ARGUMENT;
  const int32_t *ids = ints(t[1]), *starts = ints(t[2]), *counts = ints(t[3]);
  const Range rows = share(t[0].shape[0], 1, thread);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    float* logits = at<float>(t[0], r);
    const Penalties penalties{floats(t[4])[r], floats(t[5])[r], floats(t[6])[r]};
    for (int32_t i = starts[r]; i < starts[r + 1]; ++i) logits[ids[i]] = penalties.apply(logits[ids[i]], counts[i]);
  }
  const int32_t *bias_rows = ints(t[7]), *bias_ids = ints(t[8]);
  const float* bias_values = floats(t[9]);
  for (int64_t i = 0; i < t[7].shape[0]; ++i) {
    if (bias_rows[i] < rows.begin || bias_rows[i] >= rows.end) continue;
    float& logit = at<float>(t[0], bias_rows[i])[bias_ids[i]];
    logit = bias_values[i] == -INFINITY ? -INFINITY : logit + bias_values[i]; /* forbids an infinite logit too */
  }
  return PX_OK;
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
