/* The micro-kernels of attention: a few query rows against one partition of keys.
 *
 * Positions are cut into partitions of 64, the same for every row at all times. A row's result in a partition is its
 * own largest score, the sum of exp(score - largest), and the sum of exp(score - largest) * value, each taken over
 * ascending positions; it is put onto the row's totals of the partitions before, rescaled to the larger maximum
 * (Milakov and Gimelshein, 2018). Rows are worked on together only to load keys and values once. So the bits of a row
 * do not depend on its company.
 */
#ifndef PERFX_KERNELS_ATTENTION_TILE_HPP
#define PERFX_KERNELS_ATTENTION_TILE_HPP

#include <float.h>

#include "perfx/kernels/kv_cache.hpp"
#include "perfx/kernels/math.hpp"

namespace perfx {
namespace PERFX_VARIANT {

constexpr int kPartition = 64;
constexpr int kChunks = kPartition / kLanes;
/* Below every score, and finite: the difference of two of them is 0. */
constexpr float kLowest = -FLT_MAX;
static_assert(kTileRows <= kLanes, "the numbers of a tile's rows fit in a vector");

/* A number as a type. */
template <int N>
struct Width {
  static constexpr int value = N;
};

/* Vectors of each of R rows that are summed at once: a power of two, no more than `most`. */
constexpr int tile_width(int rows, int most) {
  int width = 1;
  while (2 * width <= most && 2 * width * rows <= kTileVectors) width *= 2;
  return width;
}

/* Where the 4 chunks of 16 positions of a partition lie; null where no row sees anything of a chunk. */
template <class T>
struct PartitionView {
  const T* keys[kChunks];
  const T* values[kChunks];
  int64_t head_size;
  int64_t key_stride; /* from item d to item d + 1 of a key */
};

/* The visible positions of a row, counted from the partition's first; empty where begin >= end. */
struct Span {
  int begin, end;
};

/* What rows have seen so far: unnormalized outputs[rows][D], relative to the largest score, and the sum of the weights.
 */
struct Totals {
  float *outputs, *largest, *sum;
};

/* By how much the totals of rows are multiplied, and by how much what is added to them. */
struct Rescaling {
  float keep[kLanes], take[kLanes];
};

/* Up to kTileRows rows, and what they compute in one partition. */
struct Tile {
  int num_rows;
  const float* queries; /* [D][kTileRows] */
  Totals totals;
  Span spans[kTileRows];
  float scores[kTileRows][kPartition];
  float largest[kTileRows], sum[kTileRows];
  Rescaling rescaling;
};

/* Starts to bring a cache line in: blocks lie scattered, and the processor's own guesses end with a page. */
inline void fetch(const void* p) { __builtin_prefetch(p, 0, 2); }

/* Scores of R rows and C chunks: lanes of 16 keys, summed over ascending d. Fetches values of the same positions. */
template <int R, int C, class T>
inline void score_chunks(const PartitionView<T>& view, const T* const* ahead, Tile& tile, int chunk) {
  F sums[R][C];
  const T *keys[C], *fetched[C];
#pragma GCC unroll 16
  for (int c = 0; c < C; ++c) {
    keys[c] = view.keys[chunk + c];
    fetched[c] = ahead[chunk + c] != nullptr ? ahead[chunk + c] : keys[c];
#pragma GCC unroll 16
    for (int m = 0; m < R; ++m) sums[m][c] = set(0.0f);
  }
  const float* query = tile.queries;
  int64_t offset = 0;
  for (int64_t d = 0; d < view.head_size; ++d, query += kTileRows, offset += view.key_stride) {
    F key[C];
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) {
      key[c] = load_lanes(keys[c] + offset);
      fetch(fetched[c] + d * kLanes);
    }
#pragma GCC unroll 16
    for (int m = 0; m < R; ++m) {
      const F q = broadcast(query + m);
#pragma GCC unroll 16
      for (int c = 0; c < C; ++c) sums[m][c] = fma(key[c], q, sums[m][c]);
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < R; ++m) {
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) store(tile.scores[m] + (chunk + c) * kLanes, sums[m][c]);
  }
}

/* Scores of the chunks that hold positions of `seen`. */
template <int R, class T>
inline void score_rows(const PartitionView<T>& view, const T* const* ahead, Tile& tile, Span seen) {
  constexpr int kWide = tile_width(R, kChunks);
  const int end = (seen.end + kLanes - 1) / kLanes;
  int chunk = seen.begin / kLanes;
  for (; chunk + kWide <= end; chunk += kWide) score_chunks<R, kWide>(view, ahead, tile, chunk);
  for (; chunk < end; ++chunk) score_chunks<R, 1>(view, ahead, tile, chunk);
}

/* Scores of a tile to exp(score - largest); keeps the largest score and the sum of each row. kWhole: each row sees all
 * positions; else they become 0 outside of a row's span.
 */
template <bool kWhole>
inline void soften(Tile& tile, Span seen, float scale, float softcap) {
  const int first_chunk = seen.begin / kLanes, last_chunk = (seen.end + kLanes - 1) / kLanes;
  const auto visible = [&](int m, int chunk, F x, F other) {
    if (kWhole) return x;
    const auto lanes = [&](int n) { return first(n < 0 ? 0 : (n > kLanes ? kLanes : n)); };
    x = select(lanes(tile.spans[m].begin - chunk * kLanes), other, x);
    return select(lanes(tile.spans[m].end - chunk * kLanes), x, other);
  };
  for (int m = 0; m < tile.num_rows; ++m) {
    F largest = set(kLowest);
    for (int c = first_chunk; c < last_chunk; ++c) {
      F x = load(tile.scores[m] + c * kLanes) * set(scale);
      if (softcap != 0.0f) x = tanh(x / set(softcap)) * set(softcap);
      x = visible(m, c, x, set(kLowest));
      store(tile.scores[m] + c * kLanes, x);
      largest = max(x, largest);
    }
    tile.largest[m] = reduce_max(largest);
  }
  for (int m = 0; m < tile.num_rows; ++m) {
    F sum = set(0.0f);
    for (int c = first_chunk; c < last_chunk; ++c) {
      const F x = load(tile.scores[m] + c * kLanes) - set(tile.largest[m]);
      const F p = visible(m, c, exp(x), set(0.0f));
      store(tile.scores[m] + c * kLanes, p);
      sum = sum + p;
    }
    tile.sum[m] = reduce_add(sum);
  }
}

/* Adds a partition's largest score and sum of `num_rows` rows to their totals; says how their outputs are to be
 * rescaled. A row that saw nothing has kLowest and 0. */
inline void rescale(int num_rows, const Totals& totals, const float* largest, const float* sum, Rescaling* rescaling) {
  const F before = load_first(totals.largest, num_rows), here = load_first(largest, num_rows);
  const F now = max(before, here);
  const F keep = exp(before - now), take = exp(here - now);
  store(rescaling->keep, keep);
  store(rescaling->take, take);
  store_first(totals.largest, num_rows, now);
  store_first(totals.sum, num_rows, fma(load_first(totals.sum, num_rows), keep, load_first(sum, num_rows) * take));
}

/* x, one row's part in a partition, onto the total at `total`. */
inline void add_part(float* total, F x, const Rescaling& rescaling, int row) {
  store(total, fma(load(total), broadcast(rescaling.keep + row), x * broadcast(rescaling.take + row)));
}

/* Positions that some row sees, and those that all see. */
struct Extent {
  Span some, all;
};

/* Puts the sums of p * value of R rows, W vectors from column d on, onto the totals. Fetches the keys in `ahead`. */
template <int R, int W, class T>
inline void add_columns(const PartitionView<T>& view, const T* const* ahead, const Tile& tile, Extent extent,
                        int64_t d) {
  F sums[R][W];
#pragma GCC unroll 16
  for (int m = 0; m < R; ++m) {
#pragma GCC unroll 16
    for (int w = 0; w < W; ++w) sums[m][w] = set(0.0f);
  }
  /* seen(m, position): is it a position of row m? Always inlined, or the sums would be in memory. */
  const auto add = [&](int begin, int end, auto seen) __attribute__((always_inline)) {
    const int64_t size = view.head_size;
    for (int position = begin; position < end;) {
      const int chunk = position / kLanes, place = position % kLanes;
      const int stop = (chunk + 1) * kLanes < end ? (chunk + 1) * kLanes : end;
      const T *value = view.values[chunk] + place * size + d, *fetched = value;
      if (ahead[chunk] != nullptr) fetched = ahead[chunk] + (d + place * W) * view.key_stride;
      for (; position < stop; ++position, value += size, fetched += W * view.key_stride) {
        F values[W];
#pragma GCC unroll 16
        for (int w = 0; w < W; ++w) {
          values[w] = load_lanes(value + w * kLanes);
          fetch(fetched + w * view.key_stride);
        }
#pragma GCC unroll 16
        for (int m = 0; m < R; ++m) {
          if (!seen(m, position)) continue;
          const F p = broadcast(tile.scores[m] + position);
#pragma GCC unroll 16
          for (int w = 0; w < W; ++w) sums[m][w] = fma(p, values[w], sums[m][w]);
        }
      }
    }
  };
  const auto by_span = [&](int m, int position) {
    return tile.spans[m].begin <= position && position < tile.spans[m].end;
  };
  add(extent.some.begin, extent.all.begin, by_span);
  add(extent.all.begin, extent.all.end, [](int, int) { return true; });
  add(extent.all.end, extent.some.end, by_span);
#pragma GCC unroll 16
  for (int m = 0; m < R; ++m) {
    if (m >= tile.num_rows) break;
    float* total = tile.totals.outputs + m * view.head_size + d;
#pragma GCC unroll 16
    for (int w = 0; w < W; ++w) add_part(total + w * kLanes, sums[m][w], tile.rescaling, m);
  }
}

/* Positions of a tile's rows; where no position is seen by all, `all` is empty and stands at the end. */
inline Extent extent_of(const Tile& tile) {
  Extent extent = {{kPartition, 0}, {0, kPartition}};
  for (int m = 0; m < tile.num_rows; ++m) {
    const Span span = tile.spans[m];
    extent.all = {int(larger(extent.all.begin, span.begin)), int(smaller(extent.all.end, span.end))};
    if (span.begin >= span.end) continue;
    extent.some = {int(smaller(extent.some.begin, span.begin)), int(larger(extent.some.end, span.end))};
  }
  if (extent.all.begin >= extent.all.end) extent.all = {extent.some.end, extent.some.end};
  return extent;
}

/* Puts what a tile's rows see of one partition onto their totals; fetches the keys of the partition `next`. With
 * `next`, this tile is the first to come to the partition.
 */
template <int R = 1, class T>
inline void attend(const PartitionView<T>& view, const PartitionView<T>* next, Tile& tile, float scale, float softcap) {
  if constexpr (R < kTileRows) {
    if (tile.num_rows > R) return attend<(2 * R < kTileRows ? 2 * R : kTileRows)>(view, next, tile, scale, softcap);
  }
  const Extent extent = extent_of(tile);
  if (extent.some.begin >= extent.some.end) return;
  static constexpr const T* kNothing[kChunks] = {};
  score_rows<R>(view, next != nullptr ? view.values : kNothing, tile, extent.some);
  if (extent.all.begin == 0 && extent.all.end == kPartition) {
    soften<true>(tile, extent.some, scale, softcap);
  } else {
    soften<false>(tile, extent.some, scale, softcap);
  }
  rescale(tile.num_rows, tile.totals, tile.largest, tile.sum, &tile.rescaling);
  const T* const* keys = next != nullptr ? next->keys : kNothing;
  constexpr int kWide = tile_width(R, 8);
  int64_t d = 0;
  for (; d + kWide * kLanes <= view.head_size; d += kWide * kLanes) add_columns<R, kWide>(view, keys, tile, extent, d);
  for (; d < view.head_size; d += kLanes) add_columns<R, 1>(view, keys, tile, extent, d);
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
