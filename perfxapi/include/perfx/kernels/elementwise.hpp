/* Elementwise operations on dense float32 operands of one shape (of a pair, one may be a single number), and
 * gated_activation on rows. */
#ifndef PERFX_KERNELS_ELEMENTWISE_HPP
#define PERFX_KERNELS_ELEMENTWISE_HPP

#include "perfx/kernels/math.hpp"

namespace perfx {
namespace PERFX_VARIANT {

/* A thread's least share, so that small operands are not cut into cache lines that threads fight for. */
constexpr int64_t kElementGrain = 256;

inline int32_t accepts_elementwise(const PxCall* call, int num_inputs, int num_attrs = 0) {
  if (!has_signature(call, num_inputs, 1, num_attrs)) return PX_UNSUPPORTED;
  const PxTensor* t = call->operands;
  for (int i = 0; i <= num_inputs; ++i) {
    if (!is_dense(t[i], PX_FLOAT32, t[0].ndim) || !same_shape(t[i], t[0])) return PX_UNSUPPORTED;
  }
  return PX_OK;
}
inline int32_t accepts_unary(const PxCall* call) { return accepts_elementwise(call, 1); }
inline int32_t accepts_binary(const PxCall* call) {
  if (!has_signature(call, 2, 1, 0)) return PX_UNSUPPORTED;
  const PxTensor* t = call->operands;
  for (int i = 0; i < 3; ++i) {
    if (!is_dense(t[i], PX_FLOAT32, t[i].ndim)) return PX_UNSUPPORTED;
    // as many elements as the result, and dense: in the same order, whatever dimensions of size 1 there are
    if (num_elements(t[i]) != num_elements(t[2]) && num_elements(t[i]) != 1) return PX_UNSUPPORTED;
  }
  return PX_OK;
}
inline int32_t accepts_softcap(const PxCall* call) {
  const int32_t status = accepts_elementwise(call, 1, 1);
  return status == PX_OK && !(call->attrs[0].f > 0) ? int32_t(PX_UNSUPPORTED) : status;
}

template <class Function>
inline int32_t map(const PxCall* call, const PxThread* thread, Function function) {
  const Range range = share(num_elements(call->operands[0]), kElementGrain, thread);
  const float* x = floats(call->operands[0]) + range.begin;
  float* y = static_cast<float*>(call->operands[1].data) + range.begin;
  for_each_vector(range.end - range.begin, [&](int64_t i, int n) { store_n(y + i, n, function(load_n(x + i, n))); });
  return PX_OK;
}

template <F (*Function)(F)>
inline int32_t run_unary(const PxCall* call, const PxThread* thread) {
  return map(call, thread, [](F x) { return Function(x); });
}

/* cap * tanh(x / cap) */
inline int32_t run_softcap(const PxCall* call, const PxThread* thread) {
  const F cap = set(float(call->attrs[0].f));
  return map(call, thread, [cap](F x) { return cap * tanh(x / cap); });
}

template <F (*Function)(F, F)>
inline int32_t run_binary(const PxCall* call, const PxThread* thread) {
  const PxTensor &first = call->operands[0], &second = call->operands[1], &result = call->operands[2];
  const int64_t count = num_elements(result);
  const Range range = share(count, kElementGrain, thread);
  float* y = static_cast<float*>(result.data) + range.begin;
  const auto each = [&](auto a, auto b) {
    for_each_vector(range.end - range.begin, [&](int64_t i, int n) { store_n(y + i, n, Function(a(i, n), b(i, n))); });
    return int32_t(PX_OK);
  };
  const auto elements = [&](const PxTensor& x) {
    return [x = floats(x) + range.begin](int64_t i, int n) { return load_n(x + i, n); };
  };
  const auto number = [](const PxTensor& x) { return [x = set(*floats(x))](int64_t, int) { return x; }; };
  if (count > 1 && num_elements(first) == 1) return each(number(first), elements(second));
  if (count > 1 && num_elements(second) == 1) return each(elements(first), number(second));
  return each(elements(first), elements(second));
}

inline F add(F a, F b) { return a + b; }
inline F subtract(F a, F b) { return a - b; }
inline F multiply(F a, F b) { return a * b; }
inline F divide(F a, F b) { return a / b; }
/* NaN where either is NaN, as NumPy: max() returns b then, which leaves a NaN in a. */
inline F maximum(F a, F b) { return select(less_equal(a, a), max(a, b), a); }
inline F minimum(F a, F b) { return select(less_equal(a, a), min(a, b), a); }

inline int32_t accepts_gated_activation(const PxCall* call) {
  if (!has_signature(call, 2, 1, 1)) return PX_UNSUPPORTED;
  const PxTensor* t = call->operands;
  for (int i = 0; i < 3; ++i) {
    if (!is_rows(t[i], PX_FLOAT32, 2) || !same_shape(t[i], t[0])) return PX_UNSUPPORTED;
  }
  return call->attrs[0].i == 0 || call->attrs[0].i == 1 ? PX_OK : PX_UNSUPPORTED;
}

template <F (*Activation)(F)>
inline void gate_rows(const PxCall* call, const PxThread* thread) {
  const Rows gate(call->operands[0]), up(call->operands[1]), y(call->operands[2]);
  /* Each row is cut into pieces, so that one row alone is shared too. */
  constexpr int64_t kPiece = 512;
  const int64_t pieces = divide_up(gate.size, kPiece);
  const Range range = share(gate.count * pieces, 1, thread);
  for (int64_t item = range.begin; item < range.end; ++item) {
    const int64_t row = item / pieces, begin = item % pieces * kPiece;
    const float *g = gate[row] + begin, *u = up[row] + begin;
    float* out = y[row] + begin;
    for_each_vector(smaller(kPiece, gate.size - begin),
                    [&](int64_t i, int n) { store_n(out + i, n, Activation(load_n(g + i, n)) * load_n(u + i, n)); });
  }
}

inline int32_t run_gated_activation(const PxCall* call, const PxThread* thread) {
  if (call->attrs[0].i == 0) {
    gate_rows<gelu_tanh>(call, thread);
  } else {
    gate_rows<silu>(call, thread);
  }
  return PX_OK;
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
