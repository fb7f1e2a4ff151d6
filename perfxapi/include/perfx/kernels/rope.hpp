/* rope_table, rope, norm_rope: rotary position embedding (Su et al., 2021). */
#ifndef PERFX_KERNELS_ROPE_HPP
#define PERFX_KERNELS_ROPE_HPP

#include <string.h>

#include "perfx/kernels/math.hpp"
#include "perfx/kernels/norm.hpp"

namespace perfx {
namespace PERFX_VARIANT {

inline int32_t accepts_rope_table(const PxCall* call) {
  if (!has_signature(call, 2, 1, 1)) return PX_UNSUPPORTED;
  const PxTensor* t = call->operands;
  const bool ok = is_dense(t[0], PX_INT32, 1) && is_dense(t[1], PX_FLOAT32, 1) && is_rows(t[2], PX_FLOAT32, 2) &&
                  t[2].shape[0] == t[0].shape[0] && t[2].shape[1] == 2 * t[1].shape[0];
  return ok ? PX_OK : PX_UNSUPPORTED;
}

inline int32_t run_rope_table(const PxCall* call, const PxThread* thread) {
  const PxTensor &positions = call->operands[0], &frequencies = call->operands[1], &table = call->operands[2];
  const int64_t half = frequencies.shape[0];
  const F scale = set(float(call->attrs[0].f));
  const Range tokens = share(positions.shape[0], 1, thread);
  for (int64_t t = tokens.begin; t < tokens.end; ++t) {
    const F position = set(float(ints(positions)[t]));
    float* row = at<float>(table, t);
    for_each_vector(half, [&](int64_t i, int n) {
      F sine, cosine;
      sine_cosine(position * load_n(floats(frequencies) + i, n), &sine, &cosine);
      store_n(row + i, n, cosine * scale);
      store_n(row + half + i, n, sine * scale);
    });
  }
  return PX_OK;
}

/* Rotates the pairs (a, b) by the table's angles: a cos - b sin, b cos + a sin. */
inline void rotate(F a, F b, F cosine, F sine, F* first_out, F* second_out) {
  *first_out = fma(a, cosine, negate(b * sine));
  *second_out = fma(b, cosine, a * sine);
}

/* Pairs (i, i + half); item i of x is source(i, n), a vector of n items. */
template <class Source>
inline void rotate_halves(Source source, const float* table, int64_t half, float* y) {
  for_each_vector(half, [&](int64_t i, int n) {
    F a, b;
    rotate(source(i, n), source(half + i, n), load_n(table + i, n), load_n(table + half + i, n), &a, &b);
    store_n(y + i, n, a);
    store_n(y + half + i, n, b);
  });
}

/* Pairs (2 i, 2 i + 1). */
template <class Source>
inline void rotate_pairs(Source source, const float* table, int64_t half, float* y) {
  for_each_vector(half, [&](int64_t i, int n) {
    float x[2 * kLanes] = {}, a[kLanes], b[kLanes];
    const int n_first = int(smaller(2 * n, kLanes));
    store(x, source(2 * i, n_first));
    if (2 * n > kLanes) store(x + kLanes, source(2 * i + kLanes, 2 * n - kLanes));
    for (int j = 0; j < kLanes; ++j) {
      a[j] = x[2 * j];
      b[j] = x[2 * j + 1];
    }
    F first_out, second_out;
    rotate(load(a), load(b), load_n(table + i, n), load_n(table + half + i, n), &first_out, &second_out);
    store(a, first_out);
    store(b, second_out);
    for (int j = 0; j < n; ++j) {
      y[2 * (i + j)] = a[j];
      y[2 * (i + j) + 1] = b[j];
    }
  });
}

template <class Source>
inline void rotate_row(bool interleaved, Source source, const float* table, int64_t half, float* y) {
  if (interleaved) {
    rotate_pairs(source, table, half, y);
  } else {
    rotate_halves(source, table, half, y);
  }
}

/* x[T, H, Dx] and y alike, table[T, D] with an even D <= Dx. */
inline bool is_rotation(const PxTensor& x, const PxTensor& table, const PxTensor& y) {
  return is_rows(x, PX_FLOAT32, 3) && is_rows(y, PX_FLOAT32, 3) && same_shape(x, y) && is_rows(table, PX_FLOAT32, 2) &&
         table.shape[0] == x.shape[0] && table.shape[1] <= x.shape[2] && table.shape[1] % 2 == 0;
}

inline int32_t accepts_rope(const PxCall* call) {
  if (!has_signature(call, 2, 1, 1)) return PX_UNSUPPORTED;
  return is_rotation(call->operands[0], call->operands[1], call->operands[2]) ? PX_OK : PX_UNSUPPORTED;
}

inline int32_t run_rope(const PxCall* call, const PxThread* thread) {
  const Rows x(call->operands[0]), y(call->operands[2]);
  const PxTensor& table = call->operands[1];
  const int64_t heads = call->operands[0].shape[1], rotated = table.shape[1];
  const bool interleaved = call->attrs[0].i != 0;
  const Range rows = share(x.count, 1, thread);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const float* in = x[r];
    float* out = y[r];
    const auto source = [in](int64_t i, int n) { return load_n(in + i, n); };
    rotate_row(interleaved, source, at<float>(table, r / heads), rotated / 2, out);
    if (in != out) memcpy(out + rotated, in + rotated, size_t(x.size - rotated) * sizeof(float));
  }
  return PX_OK;
}

inline int32_t accepts_norm_rope(const PxCall* call) {
  if (!has_signature(call, 3, 1, 2)) return PX_UNSUPPORTED;
  const PxTensor* t = call->operands;
  const bool ok = is_rotation(t[0], t[2], t[3]) && is_vector(t[1], t[0].shape[2]) && t[2].shape[1] == t[0].shape[2];
  return ok ? PX_OK : PX_UNSUPPORTED;
}

inline int32_t run_norm_rope(const PxCall* call, const PxThread* thread) {
  const Rows x(call->operands[0]), y(call->operands[3]);
  const PxTensor& table = call->operands[2];
  const float* weight = floats(call->operands[1]);
  const int64_t heads = call->operands[0].shape[1];
  const float eps = float(call->attrs[0].f);
  const bool interleaved = call->attrs[1].i != 0;
  const Range rows = share(x.count, 1, thread);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const float* in = x[r];
    const F factor = set(inverse_rms(in, x.size, eps));
    const auto source = [=](int64_t i, int n) { return load_n(in + i, n) * factor * load_n(weight + i, n); };
    rotate_row(interleaved, source, at<float>(table, r / heads), x.size / 2, y[r]);
  }
  return PX_OK;
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
