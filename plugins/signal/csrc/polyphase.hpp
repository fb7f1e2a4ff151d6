/* upfirdn: rows of a signal, between whose samples zeros are put, filtered, and of the result every so many kept.
 *
 * Outputs that are `up` apart read the filter at the same places and samples that are `down` apart. So a block of the
 * signal is dealt out to `down` planes, and vectors of such outputs are computed from contiguous memory: zeros are
 * neither stored nor multiplied, and what is not kept is not computed. With up = down = 1 it is a convolution.
 * Each output sums its products in the order of the filter, wherever it stands.
 */
#ifndef PERFX_SIGNAL_POLYPHASE_HPP
#define PERFX_SIGNAL_POLYPHASE_HPP

#include "rows.hpp"

namespace perfx {
namespace PERFX_VARIANT {

inline int64_t divisor(int64_t a, int64_t b) { return b == 0 ? a : divisor(b, a % b); }

/* What a call is about, and how its signal is cut into blocks. */
struct Polyphase {
  explicit Polyphase(const PxCall* call) {
    const PxTensor *x = call->operands, *result = call->operands + 2;
    up = call->attrs[0].i;
    down = call->attrs[1].i;
    samples = x->shape[x->ndim - 1];
    taps = call->operands[1].shape[0];
    outputs = result->shape[result->ndim - 1];
    const int64_t common = divisor(up, down);
    residues = up / common;
    stride = down / common;
    reach = ((taps - 1) / up + stride) / stride; /* columns that the filter looks back */
    const int64_t columns = (outputs + residues - 1) / residues;
    block = smaller(larger(kBlockSamples / stride / kGranule, 1) * kGranule,
                    (columns + kGranule - 1) / kGranule * kGranule);
    blocks = (columns + block - 1) / block;
    plane = reach + block;
  }
  /* Items of a thread's memory: the planes, and a row of results. */
  int64_t memory_items() const { return stride * plane + block; }

  static constexpr int64_t kBlockSamples = 4096, kGranule = 64;
  int64_t up, down, samples, taps, outputs;
  int64_t residues; /* outputs that follow each other before the places of the filter repeat */
  int64_t stride;   /* samples that the signal goes on meanwhile, and planes */
  int64_t reach, block, blocks, plane;
};

/* Deals samples out to planes: plane p holds samples `origin` + p, + stride, ...; beyond the row stand zeros. */
template <class T>
void deal_out(const Polyphase& shape, const char* row, int64_t step, int64_t origin, T* planes) {
  for (int64_t p = 0; p < shape.stride; ++p) {
    T* plane = planes + p * shape.plane;
    for (int64_t c = 0; c < shape.plane; ++c) {
      const int64_t index = origin + p + c * shape.stride;
      plane[c] = index < 0 || index >= shape.samples ? T(0) : *reinterpret_cast<const T*>(row + index * step);
    }
  }
}

/* kVectors vectors of outputs. `column` and `p` say where the sample of the first tap lies. */
template <class T, int kVectors>
void sum_products(const Polyphase& shape, const T* planes, const T* h, int64_t num_taps, int64_t p, int64_t column,
                  T* result) {
  typedef typename VectorOf<T>::Type Vector;
  constexpr int kCount = kLanes<T>;
  Vector sums[kVectors] = {};
  const T* from = planes + p * shape.plane + column;
  for (int64_t q = 0; q < num_taps; ++q) {
    const Vector tap = spread(h[q * shape.up]);
    PERFX_UNROLLED for (int v = 0; v < kVectors; ++v) sums[v] = fused(tap, load(from + v * kCount), sums[v]);
    from -= shape.plane;
    if (--p < 0) {
      p = shape.stride - 1;
      from += shape.stride * shape.plane - 1;
    }
  }
  PERFX_UNROLLED for (int v = 0; v < kVectors; ++v) store(result + v * kCount, sums[v]);
}

/* A block of one row: for each residue its outputs, from the planes. */
template <class T>
void filter_planes(const Polyphase& shape, const T* planes, const T* h, int64_t first, T* scratch, T* y) {
  constexpr int kCount = kLanes<T>;
  for (int64_t residue = 0; residue < shape.residues; ++residue) {
    const int64_t begin = first * shape.residues + residue;
    if (begin >= shape.outputs) return;
    const int64_t count = smaller(shape.block, (shape.outputs - begin + shape.residues - 1) / shape.residues);
    const int64_t phase = residue * shape.down % shape.up, ahead = residue * shape.down / shape.up;
    const int64_t num_taps = phase < shape.taps ? (shape.taps - phase + shape.up - 1) / shape.up : 0;
    const int64_t p = ahead % shape.stride, column = shape.reach + ahead / shape.stride;
    const bool direct = shape.residues == 1;
    for (int64_t i = 0; i < count;) {
      const int64_t left = count - i;
      T* to = direct && left >= 8 * kCount ? y + begin + i : scratch;
      const int64_t done = left > kCount ? 8 * kCount : kCount;
      if (done > kCount) {
        sum_products<T, 8>(shape, planes, h + phase, num_taps, p, column + i, to);
      } else {
        sum_products<T, 1>(shape, planes, h + phase, num_taps, p, column + i, to);
      }
      for (int64_t j = 0; to == scratch && j < smaller(done, left); ++j)
        y[begin + (i + j) * shape.residues] = scratch[j];
      i += done;
    }
  }
}

inline int32_t accepts_upfirdn(const PxCall* call) {
  if (call->num_inputs != 2 || call->num_operands != 3 || call->num_attrs != 2) return PX_UNSUPPORTED;
  const PxTensor* t = call->operands;
  const bool dense = perfx_is_dense(&t[1], t[0].dtype) && perfx_is_dense(&t[2], t[0].dtype);
  return is_real(t[0].dtype) && dense && has_items(t[0]) ? PX_OK : PX_UNSUPPORTED;
}

/* Vectors are read whole, so planes are followed by room for as many as are computed at once. */
template <class T>
int64_t items_of_thread(const Polyphase& shape) {
  return shape.memory_items() + 16 * kLanes<T>;
}
inline int64_t workspace_upfirdn(const PxCall* call, int32_t num_threads) {
  const Polyphase shape(call);
  if (call->operands[0].dtype == PX_FLOAT32)
    return num_threads * items_of_thread<float>(shape) * int64_t(sizeof(float));
  return num_threads * items_of_thread<double>(shape) * int64_t(sizeof(double));
}

template <class T>
void run_upfirdn_of(const PxCall* call, const PxThread* thread) {
  const Polyphase shape(call);
  const Rows x = last_axis(call->operands[0]), y = dense_rows(call->operands[2], x.count, shape.outputs);
  const T* h = static_cast<const T*>(call->operands[1].data);
  T* scratch = static_cast<T*>(call->workspace) + thread->index * items_of_thread<T>(shape);
  T* planes = scratch + 8 * kLanes<T>;
  const PxRange part = perfx_share(x.count * shape.blocks, 1, thread);
  for (int64_t item = part.begin; item < part.end; ++item) {
    const int64_t row = item / shape.blocks, first = item % shape.blocks * shape.block;
    deal_out(shape, x.begin(row), x.step, (first - shape.reach) * shape.stride, planes);
    filter_planes(shape, planes, h, first, scratch, reinterpret_cast<T*>(y.begin(row)));
  }
}

inline int32_t run_upfirdn(const PxCall* call, const PxThread* thread) {
  if (call->operands[0].dtype == PX_FLOAT32) {
    run_upfirdn_of<float>(call, thread);
  } else {
    run_upfirdn_of<double>(call, thread);
  }
  return PX_OK;
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
