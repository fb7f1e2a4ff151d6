/* Elementwise kernels over operands that are broadcast: a loop for each dtype, and what brings it its blocks. */
#ifndef PERFX_KERNELS_BROADCAST_HPP
#define PERFX_KERNELS_BROADCAST_HPP

#include "perfx/kernels/convert.hpp"

namespace perfx {
namespace PERFX_VARIANT {

constexpr int kMaxInputs = 3;

/* Dense blocks of the operands in the dtypes that a loop takes. */
struct Block {
  const char* in[kMaxInputs];
  char* out;
  int64_t count;
};
using Loop = void (*)(const Block& block);

/* The loops of an op by the dtype that it computes in; null where it has none. */
struct LoopTable {
  Loop of[kNumReal];
};

/* How an elementwise call is computed. */
struct Scheme {
  Loop loop;
  int32_t takes[kMaxInputs]; /* the dtype that the loop takes each input in */
  int32_t gives;             /* and its result's */
  int64_t grain;             /* elements that are worth a thread's while */
};

/* Dtypes that each operand of a call can be had in. */
inline int32_t accepts_scheme(const PxCall* call, int num_inputs, const Scheme& scheme) {
  const PxTensor* t = call->operands;
  const PxTensor& result = t[num_inputs];
  if (scheme.loop == nullptr || !is_plain_dense(result)) return PX_UNSUPPORTED;
  if (!is_convertible(scheme.gives, result.dtype)) return PX_UNSUPPORTED;
  for (int i = 0; i < num_inputs; ++i) {
    const bool ok = broadcasts_to(t[i], result) && is_convertible(t[i].dtype, scheme.takes[i]);
    if (!ok) return PX_UNSUPPORTED;
  }
  return PX_OK;
}
/* Are the operands plain, and as many as an op without attributes has? */
inline bool are_plain(const PxCall* call, int num_inputs) {
  if (!has_signature(call, num_inputs, 1, 0)) return false;
  for (int i = 0; i <= num_inputs; ++i) {
    if (!is_plain(call->operands[i])) return false;
  }
  return true;
}

/* Brings a part of the call to its loop, block by block. */
template <int kInputs>
inline void run_part(const PxCall* call, const Scheme& scheme, Range part) {
  const PxTensor* t = call->operands;
  const PxTensor& result = t[kInputs];
  const Convert convert = conversion(scheme.gives, result.dtype);
  const int64_t item = kItemBytes[result.dtype];
  Reader readers[kInputs];
  for (int i = 0; i < kInputs; ++i) {
    readers[i].start(t[i], result, conversion(t[i].dtype, scheme.takes[i]), part);
    readers[i].repeat_number(kItemBytes[scheme.takes[i]], smaller(kBlock, part.end - part.begin));
  }
  alignas(64) char computed[kBlock * kMaxItem];
  char* out = static_cast<char*>(result.data) + part.begin * item;
  for (int64_t left = part.end - part.begin; left > 0;) {
    Block block{{}, convert == nullptr ? out : computed, convert == nullptr ? left : smaller(left, kBlock)};
    for (const Reader& reader : readers) block.count = reader.at_once(block.count);
    for (int i = 0; i < kInputs; ++i) block.in[i] = readers[i].read(block.count);
    scheme.loop(block);
    if (convert != nullptr) convert(computed, out, block.count);
    out += block.count * item;
    left -= block.count;
  }
}

template <int kInputs>
inline int32_t run_scheme(const PxCall* call, const PxThread* thread, const Scheme& scheme) {
  const Range part = share(num_elements(call->operands[kInputs]), scheme.grain, thread);
  if (part.begin < part.end) run_part<kInputs>(call, scheme, part);
  return PX_OK;
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
