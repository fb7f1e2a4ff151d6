/* linear, multi_linear and gated_linear: the loops around the tile kernel.
 *
 * First the activations are prepared: by all threads and with one barrier, or, for one token, by each thread for
 * itself, which costs less than meeting. Then threads claim chunks of tiles; an output is computed by one thread, in an
 * order that does not depend on which. Within a chunk the tiles are expanded if there is more than one token (see
 * linear_tile.hpp), and each group of tokens passes over all of them: the group's activations stay in the first-level
 * cache or the second, the chunk's weights in the second.
 */
#ifndef PERFX_LINEAR_PRODUCT_HPP
#define PERFX_LINEAR_PRODUCT_HPP

#include "perfx/linear_tile.hpp"

namespace perfx {
namespace PERFX_VARIANT {
namespace linear {

constexpr int64_t kExpandedBytes = 256 << 10; /* expanded weights of one chunk */
constexpr int64_t kChunkBytes = 1 << 20;      /* weights that are claimed at once for one token, at most */
constexpr int64_t kLastChunkBytes = 32 << 10; /* and at the end, where threads wait for each other, at least */
constexpr int kMaxGroup = 12;

/* How one weight is multiplied in one call. */
template <class Target>
class Product {
 public:
  Product() = default;
  Product(const PxTensor& tensor, ActivationFormat format, int64_t tokens)
      : weight_(tensor),
        format_(format),
        many_(tokens > 1),
        expands_(is_quantized(tensor.dtype) && (format == kFloat32 || !Target::reads_packed(weight_, tokens))) {
    num_blocks_ = weight_.columns / (format == kFloat32 ? 1 : expands_ ? kBlock : weight_.block_columns());
    tile_bytes_ = expands_ ? Target::expanded_bytes(weight_.dtype, format, weight_.columns) : weight_.tile_bytes;
  }

  const Weight& weight() const { return weight_; }
  bool expands() const { return expands_; }
  /* As the tile kernel counts and reads them. */
  int64_t num_blocks() const { return num_blocks_; }
  int64_t tile_bytes() const { return tile_bytes_; }
  /* Bytes a thread needs for one chunk's expanded tiles. */
  int64_t scratch_bytes() const { return expands_ ? tiles_in(kExpandedBytes) * tile_bytes_ : 0; }

  /* Tiles that are claimed at once: enough to be worth it, not too many for the caches or to share them fairly. */
  int64_t tiles_per_chunk(int64_t total_tiles, int32_t num_threads) const {
    const int64_t fair = larger<int64_t>(1, total_tiles / (int64_t{many_ ? 4 : 8} * num_threads));
    return smaller(fair, tiles_in(streams() ? kChunkBytes : kExpandedBytes));
  }
  /* Those of the last chunks. For several tokens all are alike: the next one's activations have to be read again. */
  int64_t tiles_per_last_chunk(int64_t chunk) const {
    return streams() ? smaller(chunk, tiles_in(kLastChunkBytes)) : chunk;
  }

  /* Where tiles first .. last - 1 can be read from; puts them in `scratch` if they are to be expanded. */
  const Byte* tiles(int64_t first, int64_t last, Byte* scratch) const {
    if (!expands_) return weight_.tile(first);
    const ExpandFn expand = Target::expand(weight_, format_);
    for (int64_t tile = first; tile < last; ++tile) expand(weight_, tile, scratch + (tile - first) * tile_bytes_);
    return scratch;
  }
  /* The call of the tile kernel for one tile, whose weights are at `from`. */
  TileTask task(const Byte* from, int64_t tile, const Byte* activations, float* results) const {
    const Byte* low_halves = weight_.is_split ? weight_.low_halves(tile * kTileRows) : nullptr;
    return {from, low_halves, num_blocks_, activations, results, correction_of(weight_.dtype), from, 0};
  }
  /* To the next tile. */
  void advance(TileTask& task) const {
    task.weights += tile_bytes_;
    if (weight_.is_split) task.low_halves += kTileRows * perfx_split_row_bytes(weight_.columns);
  }
  TileFn tile_function(int tokens) const {
    if (format_ == kFloat32) return Target::float_product(expands_ ? int32_t{PX_FLOAT32} : weight_.dtype, tokens);
    return expands_ ? Target::expanded_product(weight_.dtype, format_, tokens)
                    : Target::packed_product(weight_, format_, tokens);
  }

 private:
  /* Is each weight read once, straight from memory? Else a chunk's weights stay in the cache, expanded or not. */
  bool streams() const { return !many_ && !expands_; }
  int64_t tiles_in(int64_t bytes) const { return larger<int64_t>(1, bytes / larger<int64_t>(1, tile_bytes_)); }

  Weight weight_;
  ActivationFormat format_;
  bool many_, expands_;
  int64_t num_blocks_, tile_bytes_;
};

/* Tiles as threads claim them: in large chunks, since what is read in one go is prefetched, and the last in small ones,
 * so that threads end together though some are slower. */
class Chunks {
 public:
  Chunks(int64_t total, int64_t large, int64_t small, int32_t num_threads)
      : total_(total), large_(large), small_(small), num_large_(larger<int64_t>(0, total / large - num_threads)) {}

  /* The next chunk, tiles first .. end - 1; false where none is left. */
  bool claim(const PxThread* thread, int64_t& first, int64_t& end) const {
    const int64_t index = perfx_claim(thread, 0, 1), late = index - num_large_;
    first = late < 0 ? index * large_ : num_large_ * large_ + late * small_;
    end = smaller(first + (late < 0 ? large_ : small_), total_);
    return first < total_;
  }

 private:
  int64_t total_, large_, small_, num_large_;
};

/* For `count` products whose tiles, of one or of all, are numbered through. */
template <class Target>
Chunks chunks_of(const Product<Target>* products, int count, int64_t total_tiles, int32_t num_threads) {
  int64_t large = larger<int64_t>(1, total_tiles);
  for (int i = 0; i < count; ++i) large = smaller(large, products[i].tiles_per_chunk(total_tiles, num_threads));
  int64_t small = large;
  for (int i = 0; i < count; ++i) small = smaller(small, products[i].tiles_per_last_chunk(large));
  return {total_tiles, large, small, num_threads};
}

/* The workspace of a call: prepared activations, then a scratch area for each thread's expanded tiles. */
template <class Target>
class Workspace {
 public:
  Workspace(ActivationFormat format, const PxTensor& x, int32_t num_threads)
      : num_threads_(num_threads), own_(x.shape[0] == 1) {
    activations_ = Activations<Target>::bytes(format, x.shape[0], x.shape[1]);
    /* A call with fewer tokens than planned may be one where every thread prepares its own copy. */
    all_activations_ = larger(activations_, num_threads * Activations<Target>::bytes(format, 1, x.shape[1]));
  }
  void add_scratch(int64_t bytes) { scratch_ += round_to_line(bytes); }

  int64_t bytes() const { return all_activations_ + num_threads_ * scratch_; }
  bool each_thread_prepares() const { return own_; }
  Byte* activations(const PxCall* call, int32_t thread) const {
    return static_cast<Byte*>(call->workspace) + (own_ ? thread * activations_ : 0);
  }
  Byte* scratch(const PxCall* call, int32_t thread) const {
    return static_cast<Byte*>(call->workspace) + all_activations_ + thread * scratch_;
  }

 private:
  int32_t num_threads_;
  bool own_;
  int64_t activations_;
  int64_t all_activations_;
  int64_t scratch_ = 0;
};

/* Prepares the activations of a call; on return all of them can be read. */
template <class Target>
Activations<Target> prepare_activations(const PxCall* call, const PxThread* thread, const Workspace<Target>& workspace,
                                        ActivationFormat format) {
  const PxTensor& x = call->operands[0];
  const Activations<Target> activations(format, x, workspace.activations(call, thread->index));
  const int64_t num_units = activations.num_units();
  if (workspace.each_thread_prepares()) {
    activations.prepare(0, num_units);
  } else {
    activations.prepare(num_units * thread->index / thread->count, num_units * (thread->index + 1) / thread->count);
    thread->barrier(thread);
  }
  return activations;
}

/* Multiplies tiles first .. last - 1 of `count` weights of one shape with all tokens. `sink` gets the results of a tile
 * and a group: sink(tile, first_token, num_tokens, results), results being [count][kMaxGroup][16]. */
template <class Target, int count, class Sink>
void multiply_tiles(const Product<Target> (&products)[count], const Activations<Target>& x, Byte* scratch,
                    int64_t first, int64_t last, Sink&& sink) {
  alignas(kCacheLine) float results[count][kMaxGroup * kTileRows];
  const Byte* tiles[count];
  for (int i = 0; i < count; ++i) {
    tiles[i] = products[i].tiles(first, last, scratch);
    scratch += products[i].scratch_bytes();
  }
  for (int64_t token = 0; token < x.tokens();) {
    const int64_t left = x.tokens() - token;
    const int size = group_size<Target>(left, x.tokens()), num_tokens = int(smaller<int64_t>(size, left));
    /* Where tiles come from the cache, memory is free to bring the next group's activations, a share with each block.
     */
    const Byte* ahead = x.group(size < left ? token + size : 0);
    TileTask tasks[count];
    TileFn functions[count];
    for (int i = 0; i < count; ++i) {
      const Product<Target>& product = products[i];
      const int64_t blocks = count * (last - first) * product.num_blocks();
      const int64_t share = product.expands() && blocks > 0 ? round_to_line(x.group_bytes(size) / blocks) : 0;
      functions[i] = product.tile_function(size);
      tasks[i] = product.task(tiles[i], first, x.group(token), results[i]);
      tasks[i].ahead_bytes = share;
    }
    for (int64_t tile = first; tile < last; ++tile) {
      for (int i = 0; i < count; ++i) {
        TileTask& task = tasks[i];
        task.ahead = ahead;
        functions[i](task);
        products[i].advance(task);
        ahead += task.ahead_bytes * task.num_blocks;
      }
      sink(tile, token, num_tokens, results);
    }
    token += size;
  }
}

/* Writes one tile's results of a group to the rows of y. */
inline void store_results(const PxTensor& y, const Weight& weight, int64_t tile, int64_t token, int size,
                          const float* results) {
  const int num_rows = weight.num_rows(tile);
  for (int m = 0; m < size; ++m, results += kTileRows) {
    float* to = row_of<float>(y, token + m) + tile * kTileRows;
    if (num_rows == kTileRows) {
      std::memcpy(to, results, kTileRows * 4); /* a size the compiler knows is a move or two, not a call */
    } else {
      std::memcpy(to, results, size_t(num_rows) * 4);
    }
  }
}

/* ---- linear, multi_linear: x, weights; then one output for each weight */

inline ActivationFormat format_of(const PxCall* call, int attr) { return ActivationFormat(call->attrs[attr].i); }

inline bool accepts_products(const PxCall* call, int num_weights, int num_outputs, int64_t format) {
  if (num_weights < 1 || call->num_inputs != 1 + num_weights) return false;
  if (call->num_operands != call->num_inputs + num_outputs) return false;
  const PxTensor& x = call->operands[0];
  if (!is_matrix_of_rows(x, PX_FLOAT32)) return false;
  for (int i = 0; i < num_weights; ++i)
    if (!is_weight(call->operands[1 + i], x.shape[1], format)) return false;
  for (int i = 0; i < num_outputs; ++i) {
    const PxTensor& y = call->operands[1 + num_weights + i];
    if (!is_matrix_of_rows(y, PX_FLOAT32) || !has_shape(y, x.shape[0], call->operands[1 + i].shape[0])) return false;
  }
  return true;
}

inline bool fits_linear(const PxCall* call) {
  const int num_weights = call->num_inputs - 1;
  return call->num_attrs == 1 && accepts_products(call, num_weights, num_weights, call->attrs[0].i);
}

template <class Target>
Workspace<Target> linear_workspace(const PxCall* call, int32_t num_threads) {
  const ActivationFormat format = format_of(call, 0);
  Workspace<Target> workspace(format, call->operands[0], num_threads);
  int64_t scratch = 0;
  for (int i = 1; i < call->num_inputs; ++i)
    scratch = larger(scratch, Product<Target>(call->operands[i], format, call->operands[0].shape[0]).scratch_bytes());
  workspace.add_scratch(scratch);
  return workspace;
}

template <class Target>
int64_t linear_workspace_bytes(const PxCall* call, int32_t num_threads) {
  return linear_workspace<Target>(call, num_threads).bytes();
}

/* All tiles of all weights are numbered through, so that one counter shares them out. */
template <class Target>
int32_t run_linear(const PxCall* call, const PxThread* thread) {
  const ActivationFormat format = format_of(call, 0);
  const int64_t tokens = call->operands[0].shape[0];
  if (tokens == 0) return PX_OK;
  const Workspace<Target> workspace = linear_workspace<Target>(call, thread->count);
  Byte* const scratch = workspace.scratch(call, thread->index);
  const Activations<Target> x = prepare_activations(call, thread, workspace, format);
  const int num_weights = call->num_inputs - 1;
  Product<Target> products[PERFX_MAX_OPERANDS][1];
  int64_t total = 0;
  for (int i = 0; i < num_weights; ++i) {
    products[i][0] = {call->operands[1 + i], format, tokens};
    total += products[i][0].weight().num_tiles();
  }
  const Chunks chunks = chunks_of(products[0], num_weights, total, thread->count);
  for (int64_t begin, end; chunks.claim(thread, begin, end);) {
    int64_t base = 0;
    for (int i = 0; i < num_weights; ++i) {
      const Weight& weight = products[i][0].weight();
      const PxTensor& y = call->operands[1 + num_weights + i];
      const int64_t first = larger<int64_t>(begin - base, 0), last = smaller(end - base, weight.num_tiles());
      base += weight.num_tiles();
      if (first >= last) continue;
      multiply_tiles(products[i], x, scratch, first, last,
                     [&](int64_t tile, int64_t token, int size, const auto& results) {
                       store_results(y, weight, tile, token, size, results[0]);
                     });
    }
  }
  return PX_OK;
}

/* ---- gated_linear: x, gate, up; y */

inline bool fits_gated_linear(const PxCall* call) {
  if (call->num_attrs != 2 || !accepts_products(call, 2, 1, call->attrs[0].i)) return false;
  if (call->attrs[1].i != kGeluTanh && call->attrs[1].i != kSilu) return false;
  return call->operands[1].shape[0] == call->operands[2].shape[0];
}

template <class Target>
Workspace<Target> gated_workspace(const PxCall* call, int32_t num_threads) {
  const ActivationFormat format = format_of(call, 0);
  Workspace<Target> workspace(format, call->operands[0], num_threads);
  for (int i = 1; i <= 2; ++i)
    workspace.add_scratch(Product<Target>(call->operands[i], format, call->operands[0].shape[0]).scratch_bytes());
  return workspace;
}

template <class Target>
int64_t gated_workspace_bytes(const PxCall* call, int32_t num_threads) {
  return gated_workspace<Target>(call, num_threads).bytes();
}

template <class Target>
int32_t run_gated_linear(const PxCall* call, const PxThread* thread) {
  const ActivationFormat format = format_of(call, 0);
  const Activation activation = Activation(call->attrs[1].i);
  const int64_t tokens = call->operands[0].shape[0];
  if (tokens == 0) return PX_OK;
  const Workspace<Target> workspace = gated_workspace<Target>(call, thread->count);
  const Activations<Target> x = prepare_activations(call, thread, workspace, format);
  const Product<Target> products[2] = {{call->operands[1], format, tokens}, {call->operands[2], format, tokens}};
  const Weight& gate = products[0].weight();
  const Chunks chunks = chunks_of(products, 2, gate.num_tiles(), thread->count);
  for (int64_t first, end; chunks.claim(thread, first, end);) {
    multiply_tiles(products, x, workspace.scratch(call, thread->index), first, end,
                   [&](int64_t tile, int64_t token, int size, auto& results) {
                     for (int i = 0; i < size * kTileRows; i += kTileRows)
                       Target::apply_gate(activation, results[0] + i, results[1] + i);
                     store_results(call->operands[3], gate, tile, token, size, results[0]);
                   });
  }
  return PX_OK;
}

}  // namespace linear
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
