/* elementwise_chain: a program of elementwise steps, run on one block of elements after another. What lies between the
 * steps stays in the first cache; each step is the function of its own kernel, so the results are the same bits. */
#ifndef PERFX_KERNELS_CHAIN_HPP
#define PERFX_KERNELS_CHAIN_HPP

#include "perfx/kernels/elementwise.hpp"
#include "perfx/kernels/strided.hpp"

namespace perfx {
namespace PERFX_VARIANT {

constexpr int64_t kChainBlock = 256;
constexpr int kMaxSteps = 32, kMaxChained = 8;

using ChainStep = void (*)(const float* a, const float* b, float* out, int64_t count);

template <F (*Function)(F, F)>
inline void chain_pair(const float* a, const float* b, float* out, int64_t count) {
  for_each_vector(count, [&](int64_t i, int n) { store_n(out + i, n, Function(load_n(a + i, n), load_n(b + i, n))); });
}
template <F (*Function)(F)>
inline void chain_one(const float* a, const float*, float* out, int64_t count) {
  for_each_vector(count, [&](int64_t i, int n) { store_n(out + i, n, Function(load_n(a + i, n))); });
}

/* In the order of perfxapi.ops.chain.STEPS. */
static const ChainStep kChainSteps[] = {chain_pair<add>,    chain_pair<subtract>, chain_pair<multiply>,
                                        chain_pair<divide>, chain_pair<maximum>,  chain_pair<minimum>,
                                        chain_one<exp>,     chain_one<tanh>,      chain_one<sigmoid>,
                                        chain_one<silu>,    chain_one<gelu_tanh>};
constexpr int32_t kNumChainSteps = int32_t(sizeof(kChainSteps) / sizeof(kChainSteps[0]));

inline int32_t accepts_elementwise_chain(const PxCall* call) {
  const int num_inputs = call->num_inputs;
  if (num_inputs < 2 || num_inputs > 1 + kMaxChained || !has_signature(call, num_inputs, 1, 0)) return PX_UNSUPPORTED;
  const PxTensor &program = call->operands[0], &result = call->operands[num_inputs];
  if (!is_dense(program, PX_INT32, 2) || program.shape[0] > kMaxSteps || program.shape[0] < 1) return PX_UNSUPPORTED;
  if (result.dtype != PX_FLOAT32 || !is_plain_dense(result)) return PX_UNSUPPORTED;
  for (int i = 1; i < num_inputs; ++i) {
    const PxTensor& operand = call->operands[i];
    if (!is_plain(operand) || operand.dtype != PX_FLOAT32 || !broadcasts_to(operand, result)) return PX_UNSUPPORTED;
  }
  return PX_OK;
}

/* Does each step exist, and read only what there is before it? */
inline bool is_chain(const int32_t* rows, int64_t num_rows, int num_operands) {
  for (int64_t row = 0; row < num_rows; ++row) {
    const int32_t *step = rows + 3 * row, limit = num_operands + int32_t(row);
    if (step[0] < 0 || step[0] >= kNumChainSteps) return false;
    for (int place = 1; place < 3; ++place) {
      if (step[place] < 0 || step[place] >= limit) return false;
    }
  }
  return true;
}

inline int32_t run_elementwise_chain(const PxCall* call, const PxThread* thread) {
  const int num_operands = call->num_inputs - 1;
  const PxTensor &program = call->operands[0], &result = call->operands[call->num_inputs];
  const int32_t* rows = static_cast<const int32_t*>(program.data);
  const int64_t num_rows = program.shape[0];
  if (!is_chain(rows, num_rows, num_operands)) return PX_INVALID_ARGUMENT;
  const Range part = share(num_elements(result), kElementGrain, thread);
  if (part.begin >= part.end) return PX_OK;
  Reader readers[kMaxChained];
  for (int i = 0; i < num_operands; ++i) {
    readers[i].start(call->operands[1 + i], result, nullptr, part);
    readers[i].repeat_number(int64_t(sizeof(float)), smaller(kChainBlock, part.end - part.begin));
  }
  alignas(64) float computed[kMaxSteps][kChainBlock];
  float* out = static_cast<float*>(result.data) + part.begin;
  const float* values[kMaxChained + kMaxSteps];
  for (int64_t left = part.end - part.begin; left > 0;) {
    int64_t count = smaller(left, kChainBlock);
    for (int i = 0; i < num_operands; ++i) count = readers[i].at_once(count);
    for (int i = 0; i < num_operands; ++i) values[i] = reinterpret_cast<const float*>(readers[i].read(count));
    for (int64_t row = 0; row < num_rows; ++row) {
      const int32_t* step = rows + 3 * row;
      float* to = row + 1 == num_rows ? out : computed[row];
      kChainSteps[step[0]](values[step[1]], values[step[2]], to, count);
      values[num_operands + row] = to;
    }
    out += count;
    left -= count;
  }
  return PX_OK;
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
