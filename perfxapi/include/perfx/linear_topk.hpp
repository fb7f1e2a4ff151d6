/* vocab_topk: the k largest logits of each row, without the logits ever being stored, nor, for one row of a split
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

/* Offers the logits [16] that a tile gave for one row. */
template <class Target>
void offer_tile(Best& best, const Weight& head, int64_t tile, const float* logits, double cap) {
  const uint32_t valid = (1u << head.num_rows(tile)) - 1;
  uint32_t mask = best.is_full() ? Target::not_below(logits, best.bound()) & valid : valid;
  for (; mask != 0; mask &= mask - 1) {
    const int i = __builtin_ctz(mask);
    best.offer({soft_cap(logits[i], cap), logits[i], int32_t(tile * kTileRows + i)});
  }
}

template <class Target>
void offer_all(const PxCall* call, const PxThread* thread, const Heaps& heaps) {
  const ActivationFormat format = format_of(call, 1);
  const Workspace<Target> workspace = vocab_workspace<Target>(call, thread->count);
  const Activations<Target> x = prepare_activations(call, thread, workspace, format);
  const Product<Target> products[1] = {{call->operands[1], format, x.tokens()}};
  const Weight& head = products[0].weight();
  const Chunks chunks = chunks_of(products, 1, head.num_tiles(), thread->count);
  for (int64_t first, end; chunks.claim(thread, first, end);) {
    multiply_tiles(products, x, workspace.scratch(call, thread->index), first, end,
                   [&](int64_t tile, int64_t row, int size, const auto& results) {
                     for (int m = 0; m < size; ++m) {
                       Best best = heaps.at(thread->index, row + m);
                       offer_tile<Target>(best, head, tile, results[0] + m * kTileRows, call->attrs[2].f);
                     }
                   });
  }
}

/* ---- those that the screen leaves (linear_screen.hpp) */

constexpr int64_t kTilesPerLook = 4;       /* then the rows that passed the screen are looked at more closely */
constexpr int64_t kTilesPerScreening = 64; /* claimed at once */

/* Of one row only: for more, a product reads the vocabulary once, and the screen would compute for each. */
inline bool is_screened(const PxCall* call) {
  return call->operands[1].layout == PX_SPLIT16 && call->attrs[1].i != kFloat32 && call->operands[0].shape[0] == 1;
}

/* Does the screen pay? Where logits lie close together most rows pass it, and then it costs more than it saves: all
 * logits of the next tiles are computed, and of twice as many each time that it is tried in vain. Nothing is known
 * before the first logits are. */
class Trial {
 public:
  bool screens() const { return left_ == 0; }
  void skipped() { --left_; }
  /* `looks`: rows whose low halves were read; `products`: tiles that were computed in the end. */
  void screened(int64_t tiles, int64_t looks, int64_t products) {
    const bool pays = looks + kLooksPerProduct * products < kTileRows * tiles / kRowsPerLook;
    skips_ = pays ? kFewest : 2 * skips_;
    left_ = pays ? 0 : skips_;
  }

 private:
  static constexpr int64_t kFewest = 2;
  static constexpr int64_t kLooksPerProduct = 8; /* what a product costs */
  static constexpr int64_t kRowsPerLook = 4;     /* of so many rows one may be looked at */
  int64_t left_ = 1;
  int64_t skips_ = kFewest;
};

/* One thread's search for the k best of one row. */
template <class Target>
class Search {
 public:
  static int64_t bytes(const PxTensor& head, ActivationFormat format) {
    const int64_t columns = head.shape[1];
    return Activations<Target>::bytes(format, 1, columns) + ScreenedRow::bytes(columns);
  }

  Search(const PxCall* call, Best best, Byte* memory)
      : product_(call->operands[1], format_of(call, 1), 1),
        format_(format_of(call, 1)),
        cap_(call->attrs[2].f),
        best_(best),
        codes_(memory),
        slack_(screen_slack(product_.weight().columns)) {
    const PxTensor& x = call->operands[0];
    const int64_t columns = product_.weight().columns;
    const Activations<Target> activations(format_, x, memory);
    activations.prepare(0, activations.num_units());
    row_ = ScreenedRow(memory + Activations<Target>::bytes(format_, 1, columns), columns);
    row_.template prepare<typename Target::ActivationLayout>(format_, row_of<float>(x, 0), codes_, columns);
  }

  /* Offers what tiles first .. end - 1 have. */
  void run(int64_t first, int64_t end) {
    if (!trial_.screens()) {
      for (int64_t tile = first; tile < end; ++tile) offer_tile<Target>(best_, head(), tile, logits_of(tile), cap_);
      trial_.skipped();
      return;
    }
    num_looks_ = num_products_ = 0;
    for (int64_t tile = first; tile < end; look())
      for (const int64_t stop = smaller(tile + kTilesPerLook, end); tile < stop; ++tile) screen(tile);
    trial_.screened(end - first, num_looks_, num_products_);
  }

 private:
  struct Passed {
    int64_t id;
    float middle, reach;
  };

  const Weight& head() const { return product_.weight(); }

  /* The first gate, for one tile. Rows that pass are remembered, and their low halves asked for. */
  void screen(int64_t tile) {
    Screened screened;
    Target::screen(format_, head(), tile, codes_, row_.factors(), slack_, screened);
    const uint32_t valid = (1u << head().num_rows(tile)) - 1;
    uint32_t mask = best_.is_full() ? Target::not_below(screened.upper, best_.bound()) & valid : valid;
    for (; mask != 0; mask &= mask - 1) {
      const int i = __builtin_ctz(mask);
      passed_[num_passed_++] = {tile * kTileRows + i, screened.middle[i], screened.reach[i]};
      prefetch_row(head().low_halves(tile * kTileRows + i), perfx_split_row_bytes(head().columns));
    }
  }
  /* The other gates, for the rows remembered. */
  void look() {
    for (int i = 0; i < num_passed_; ++i) {
      const Passed& row = passed_[i];
      const float logit = row.middle + Target::low_part(head(), row.id, row_.values());
      if (!best_.is_full() || !(logit + slack_ * row.reach <= best_.bound())) offer(row.id);
    }
    num_looks_ += num_passed_;
    num_passed_ = 0;
  }

  static void prefetch_row(const Byte* low, int64_t bytes) {
    for (int64_t at = 0; at < bytes; at += kCacheLine) __builtin_prefetch(low + at);
  }
  /* The product decides; it is computed for a tile at once. */
  void offer(int64_t id) {
    const int64_t tile = id / kTileRows;
    if (tile != tile_) {
      logits_of(tile);
      ++num_products_;
    }
    const float logit = logits_[id % kTileRows];
    best_.offer({soft_cap(logit, cap_), logit, int32_t(id)});
  }
  const float* logits_of(int64_t tile) {
    const Byte* weights = product_.tiles(tile, tile + 1, nullptr);
    product_.tile_function(1)(product_.task(weights, tile, codes_, logits_));
    tile_ = tile;
    return logits_;
  }

  Product<Target> product_;
  ActivationFormat format_;
  double cap_;
  Best best_;
  Byte* codes_;
  float slack_;
  ScreenedRow row_;
  Trial trial_;
  int64_t num_looks_ = 0, num_products_ = 0;
  int64_t tile_ = -1;
  int num_passed_ = 0;
  alignas(kCacheLine) float logits_[kTileRows];
  Passed passed_[kTilesPerLook * kTileRows];
};

template <class Target>
void offer_screened(const PxCall* call, const PxThread* thread, const Heaps& heaps) {
  const int64_t total = Weight(call->operands[1]).num_tiles();
  const int64_t bytes = Search<Target>::bytes(call->operands[1], format_of(call, 1));
  Search<Target> search(call, heaps.at(thread->index, 0), static_cast<Byte*>(call->workspace) + thread->index * bytes);
  for (int64_t first; (first = perfx_claim(thread, 0, kTilesPerScreening)) < total;)
    search.run(first, smaller(first + kTilesPerScreening, total));
}

/* ---- the op */

template <class Target>
int64_t vocab_workspace_bytes(const PxCall* call, int32_t num_threads) {
  const int64_t heaps = num_threads * Heaps::bytes(call->operands[0].shape[0], call->attrs[0].i);
  const int64_t searches = num_threads * Search<Target>::bytes(call->operands[1], format_of(call, 1));
  return heaps + larger(vocab_workspace<Target>(call, num_threads).bytes(), searches);
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
