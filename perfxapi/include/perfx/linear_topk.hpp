/* vocab_topk: the k largest logits of each row, without the logits ever being stored, nor, for a few rows of a split
 * vocabulary, all computed.
 */
#ifndef PERFX_LINEAR_TOPK_HPP
#define PERFX_LINEAR_TOPK_HPP

#include "perfx/linear_best.hpp"
#include "perfx/linear_product.hpp"

namespace perfx {
namespace PERFX_VARIANT {
namespace linear {

/* Attributes: k, activation_format, softcap. Operands: hidden, head; values, indices. */
inline bool fits_vocab_topk(const PxCall* call) {
  if (call->num_inputs != 2 || call->num_operands != 4 || call->num_attrs != 3) return false;
  const PxTensor* operands = call->operands;
  if (!is_matrix_of_rows(operands[0], PX_FLOAT32)) return false;
  if (!is_weight(operands[1], operands[0].shape[1], call->attrs[1].i) || operands[1].shape[0] > INT32_MAX) return false;
  const int64_t k = call->attrs[0].i, rows = operands[0].shape[0];
  if (k < 1 || k > kMaxTopK || k > operands[1].shape[0] || !(call->attrs[2].f >= 0.0)) return false;
  return is_matrix_of_rows(operands[2], PX_FLOAT32) && is_matrix_of_rows(operands[3], PX_INT32) &&
         has_shape(operands[2], rows, k) && has_shape(operands[3], rows, k);
}

/* ---- all logits of the vocabulary */

template <class Target>
Workspace<Target> vocab_workspace(const PxCall* call, int32_t num_threads) {
  const int64_t rows = call->operands[0].shape[0];
  const ActivationFormat format = format_of(call, 1);
  Workspace<Target> workspace(format, call->operands[0], num_threads);
  workspace.add_scratch(Product<Target>(call->operands[1], format, rows).scratch_bytes());
  return workspace;
}

/* Offers the logits of a tile, results [size][16], to the heaps of the group's rows. */
template <class Target>
void offer_tile(const Heaps& heaps, int32_t thread, const Weight& head, int64_t tile, int64_t row, int size,
                const float* results, double cap) {
  const uint32_t valid = (1u << head.num_rows(tile)) - 1;
  for (int m = 0; m < size; ++m, results += kTileRows) {
    Best best = heaps.at(thread, row + m);
    uint32_t mask = best.is_full() ? Target::not_below(results, best.bound()) & valid : valid;
    for (; mask != 0; mask &= mask - 1) {
      const int i = __builtin_ctz(mask);
      best.offer({soft_cap(results[i], cap), results[i], int32_t(tile * kTileRows + i)});
    }
  }
}

template <class Target>
void offer_all(const PxCall* call, const PxThread* thread, const Heaps& heaps) {
  const ActivationFormat format = format_of(call, 1);
  const Workspace<Target> workspace = vocab_workspace<Target>(call, thread->count);
  const Activations<Target> x = prepare_activations(call, thread, workspace, format);
  const Product<Target> products[1] = {{call->operands[1], format, x.tokens()}};
  const Weight& head = products[0].weight();
  const int64_t total = head.num_tiles(), chunk = products[0].tiles_per_chunk(total, thread->count);
  for (int64_t first; (first = perfx_claim(thread, 0, chunk)) < total;) {
    multiply_tiles(products, x, workspace.scratch(call, thread->index), first, smaller(first + chunk, total),
                   [&](int64_t tile, int64_t row, int size, const auto& results) {
                     offer_tile<Target>(heaps, thread->index, head, tile, row, size, results[0], call->attrs[2].f);
                   });
  }
}

/* ---- those that the screen leaves (linear_screen.hpp) */

/* More rows at once are products that compute, not read: they get all logits. */
constexpr int64_t kMaxScreened = 4;
constexpr int64_t kTilesPerLook =
    4; /* after so many tiles the rows that passed the screen are looked at more closely */
constexpr int64_t kTilesPerScreening = 64; /* claimed at once */

inline bool is_screened(const PxCall* call) {
  return call->operands[1].layout == PX_SPLIT16 && call->attrs[1].i != kFloat32 &&
         call->operands[0].shape[0] <= kMaxScreened;
}

/* One thread's search for the k best of one row. */
template <class Target>
class Search {
 public:
  static int64_t bytes(const PxTensor& head, ActivationFormat format) {
    const int64_t columns = head.shape[1];
    return Activations<Target>::bytes(format, 1, columns) + ScreenedRow::bytes(columns);
  }

  void begin(const PxCall* call, int64_t row, Best best, Byte* memory) {
    format_ = format_of(call, 1);
    product_ = {call->operands[1], format_, 1};
    cap_ = call->attrs[2].f;
    best_ = best;
    const int64_t columns = product_.weight().columns;
    slack_ = screen_slack(columns);
    PxTensor x = call->operands[0];
    x.data = row_of<float>(x, row);
    x.shape[0] = 1;
    const Activations<Target> activations(format_, x, memory);
    activations.prepare(0, activations.num_units());
    codes_ = memory;
    memory += Activations<Target>::bytes(format_, 1, columns);
    row_ = ScreenedRow(memory, columns);
    row_.template prepare<typename Target::ActivationLayout>(format_, static_cast<const float*>(x.data), codes_,
                                                             columns);
  }

  /* The first gate, for one tile. Rows that pass are remembered, and their low halves asked for. */
  void screen(int64_t tile) {
    const Weight& head = product_.weight();
    Screened screened;
    Target::screen(format_, head, tile, codes_, row_.factors(), slack_, screened);
    const uint32_t valid = (1u << head.num_rows(tile)) - 1;
    uint32_t mask = best_.is_full() ? Target::not_below(screened.upper, best_.bound()) & valid : valid;
    for (; mask != 0; mask &= mask - 1) {
      const int i = __builtin_ctz(mask);
      passed_[num_passed_++] = {tile * kTileRows + i, screened.middle[i], screened.reach[i]};
      prefetch_row(head.low_halves(tile * kTileRows + i), perfx_split_row_bytes(head.columns));
    }
  }
  /* The other gates, for the rows remembered. */
  void look() {
    for (int i = 0; i < num_passed_; ++i) {
      const Passed& row = passed_[i];
      const float logit = row.middle + Target::low_part(product_.weight(), row.id, row_.values());
      if (!best_.is_full() || !(logit + slack_ * row.reach <= best_.bound())) offer(row.id);
    }
    num_passed_ = 0;
  }

 private:
  struct Passed {
    int64_t id;
    float middle, reach;
  };

  static void prefetch_row(const Byte* low, int64_t bytes) {
    for (int64_t at = 0; at < bytes; at += kCacheLine) __builtin_prefetch(low + at);
  }
  /* The product decides; it is computed for a tile at once. */
  void offer(int64_t id) {
    const int64_t tile = id / kTileRows;
    if (tile != tile_) {
      const Byte* weights = product_.tiles(tile, tile + 1, nullptr);
      product_.tile_function(1)(product_.task(weights, tile, codes_, logits_));
      tile_ = tile;
    }
    const float logit = logits_[id % kTileRows];
    best_.offer({soft_cap(logit, cap_), logit, int32_t(id)});
  }

  Product<Target> product_;
  double cap_;
  Best best_;
  Byte* codes_;
  ScreenedRow row_;
  float slack_;
  ActivationFormat format_;
  int64_t tile_ = -1;
  int num_passed_ = 0;
  alignas(kCacheLine) float logits_[kTileRows];
  Passed passed_[kTilesPerLook * kTileRows];
};

template <class Target>
int64_t search_bytes(const PxCall* call, int32_t num_threads) {
  const int64_t rows = smaller(call->operands[0].shape[0], kMaxScreened);
  return num_threads * rows * Search<Target>::bytes(call->operands[1], format_of(call, 1));
}

template <class Target>
void offer_screened(const PxCall* call, const PxThread* thread, const Heaps& heaps) {
  const int64_t rows = call->operands[0].shape[0], total = Weight(call->operands[1]).num_tiles();
  const int64_t bytes = Search<Target>::bytes(call->operands[1], format_of(call, 1));
  Byte* const memory = static_cast<Byte*>(call->workspace) + thread->index * rows * bytes;
  Search<Target> searches[kMaxScreened];
  for (int64_t row = 0; row < rows; ++row)
    searches[row].begin(call, row, heaps.at(thread->index, row), memory + row * bytes);
  for (int64_t first; (first = perfx_claim(thread, 0, kTilesPerScreening)) < total;) {
    const int64_t end = smaller(first + kTilesPerScreening, total);
    for (int64_t tile = first; tile < end;) {
      for (const int64_t stop = smaller(tile + kTilesPerLook, end); tile < stop; ++tile)
        for (int64_t row = 0; row < rows; ++row) searches[row].screen(tile);
      for (int64_t row = 0; row < rows; ++row) searches[row].look();
    }
  }
}

/* ---- the op */

template <class Target>
int64_t vocab_workspace_bytes(const PxCall* call, int32_t num_threads) {
  const int64_t heaps = num_threads * Heaps::bytes(call->operands[0].shape[0], call->attrs[0].i);
  return heaps + larger(vocab_workspace<Target>(call, num_threads).bytes(), search_bytes<Target>(call, num_threads));
}

/* The heaps come first in the workspace. */
template <class Target>
int32_t run_vocab_topk(const PxCall* call, const PxThread* thread) {
  const int64_t k = call->attrs[0].i, rows = call->operands[0].shape[0];
  if (rows == 0) return PX_OK;
  const Heaps heaps(static_cast<Byte*>(call->workspace), rows, k);
  heaps.clear(thread->index);
  PxCall rest = *call;
  rest.workspace = static_cast<Byte*>(call->workspace) + thread->count * Heaps::bytes(rows, k);
  is_screened(call) ? offer_screened<Target>(&rest, thread, heaps) : offer_all<Target>(&rest, thread, heaps);
  thread->barrier(thread);
  for (int64_t row = thread->index; row < rows; row += thread->count)
    merge_row(heaps, thread->count, row, row_of<float>(call->operands[2], row),
              row_of<int32_t>(call->operands[3], row));
  return PX_OK;
}

}  // namespace linear
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
