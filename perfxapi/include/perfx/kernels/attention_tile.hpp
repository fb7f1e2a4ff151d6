/* The micro-kernels of attention: a few query rows against one partition of keys.
 *
 * Positions are cut into partitions of 64, the same for every row at all times. A row's result in a partition is its
 * own largest score, the sum of exp(score - largest), and the sum of exp(score - largest) * value, each taken over
 * ascending positions; rows are worked on together only to load keys and values once. So the bits of a row do not
 * depend on its company.
 */
#ifndef PERFX_KERNELS_ATTENTION_TILE_HPP
#define PERFX_KERNELS_ATTENTION_TILE_HPP

#include "perfx/kernels/kv_cache.hpp"
#include "perfx/kernels/math.hpp"

namespace perfx {
namespace PERFX_VARIANT {

constexpr int kPartition = 64;
constexpr int kChunks = kPartition / kLanes;

/* A number as a type. */
template <int N>
struct Width {
  static constexpr int value = N;
};

/* What a tile knows of one partition: where its chunks of 16 positions lie. */
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

/* Up to kTileRows rows, and what they compute in one partition. */
struct Tile {
  int num_rows;
  const float* queries; /* [D][kTileRows] */
  Span spans[kTileRows];
  float scores[kTileRows][kPartition];
  float largest[kTileRows];
  float sum[kTileRows];
  float* outputs; /* [kTileRows][D] */
};

/* first(n) for any n. */
inline M first_lanes(int n) { return first(n < 0 ? 0 : (n > kLanes ? kLanes : n)); }

/* Scores of R rows and C chunks: lanes of 16 keys, summed over ascending d. */
template <int R, int C, class T>
inline void score_chunks(const PartitionView<T>& view, Tile& tile, int chunk) {
  F sums[R][C];
  for (int m = 0; m < R; ++m) {
    for (int c = 0; c < C; ++c) sums[m][c] = set(0.0f);
  }
  const float* query = tile.queries;
  int64_t offset = 0;
  for (int64_t d = 0; d < view.head_size; ++d, query += kTileRows, offset += view.key_stride) {
    F keys[C];
    for (int c = 0; c < C; ++c) keys[c] = load_lanes(view.keys[chunk + c] + offset);
    for (int m = 0; m < R; ++m) {
      const F q = set(query[m]);
      for (int c = 0; c < C; ++c) sums[m][c] = fma(keys[c], q, sums[m][c]);
    }
  }
  for (int m = 0; m < R; ++m) {
    for (int c = 0; c < C; ++c) store(tile.scores[m] + (chunk + c) * kLanes, sums[m][c]);
  }
}

template <int R, class T>
inline void score_rows(const PartitionView<T>& view, Tile& tile, int begin, int end) {
  constexpr int kWide = kTileVectors / R < kChunks ? kTileVectors / R : kChunks;
  int chunk = begin;
  for (; chunk + kWide <= end; chunk += kWide) score_chunks<R, kWide>(view, tile, chunk);
  for (; chunk < end; ++chunk) score_chunks<R, 1>(view, tile, chunk);
}

/* Adds p * value over positions begin..end-1 to R rows of outputs, from row `row` on. */
template <int R, class T>
inline void add_values(const PartitionView<T>& view, Tile& tile, int row, int begin, int end) {
  constexpr int kVectors = kTileVectors / R < 8 ? kTileVectors / R : 8;
  const int64_t size = view.head_size;
  int64_t d = 0;
  const auto columns = [&](auto width) {
    constexpr int W = decltype(width)::value;
    F sums[R][W];
    for (int m = 0; m < R; ++m) {
      for (int w = 0; w < W; ++w) sums[m][w] = load(tile.outputs + (row + m) * size + d + w * kLanes);
    }
    for (int position = begin; position < end;) {
      const int chunk = position / kLanes;
      const int stop = (chunk + 1) * kLanes < end ? (chunk + 1) * kLanes : end;
      const T* value = view.values[chunk] + position % kLanes * size + d;
      for (; position < stop; ++position, value += size) {
        F values[W];
        for (int w = 0; w < W; ++w) values[w] = load_lanes(value + w * kLanes);
        for (int m = 0; m < R; ++m) {
          const F p = set(tile.scores[row + m][position]);
          for (int w = 0; w < W; ++w) sums[m][w] = fma(p, values[w], sums[m][w]);
        }
      }
    }
    for (int m = 0; m < R; ++m) {
      for (int w = 0; w < W; ++w) store(tile.outputs + (row + m) * size + d + w * kLanes, sums[m][w]);
    }
  };
  for (; d + kVectors * kLanes <= size; d += kVectors * kLanes) columns(Width<kVectors>());
  for (; d < size; d += kLanes) columns(Width<1>());
}

/* Scores to exp(score - largest), 0 outside the row's span; keeps the largest score and the sum. */
inline void soften(Tile& tile, int row, float scale, float softcap) {
  const Span span = tile.spans[row];
  float* scores = tile.scores[row];
  const int first_chunk = span.begin / kLanes, last_chunk = (span.end + kLanes - 1) / kLanes;
  const F lowest = set(-INFINITY);
  F largest = lowest;
  for (int c = first_chunk; c < last_chunk; ++c) {
    F x = load(scores + c * kLanes) * set(scale);
    if (softcap != 0.0f) x = tanh(x / set(softcap)) * set(softcap);
    x = select(first_lanes(span.begin - c * kLanes), lowest, x);
    x = select(first_lanes(span.end - c * kLanes), x, lowest);
    store(scores + c * kLanes, x);
    largest = max(x, largest);
  }
  tile.largest[row] = reduce_max(largest);
  F sum = set(0.0f);
  for (int c = first_chunk; c < last_chunk; ++c) {
    F p = exp(load(scores + c * kLanes) - set(tile.largest[row]));
    p = select(first_lanes(span.begin - c * kLanes), set(0.0f), p);
    p = select(first_lanes(span.end - c * kLanes), p, set(0.0f));
    store(scores + c * kLanes, p);
    sum = sum + p;
  }
  tile.sum[row] = reduce_add(sum);
}

/* All R rows over the positions that all of them see, and each row alone over the rest of its own. */
template <int R, class T>
inline void add_all_values(const PartitionView<T>& view, Tile& tile) {
  int begin = 0, end = kPartition;
  for (int m = 0; m < tile.num_rows; ++m) {
    begin = int(larger(begin, tile.spans[m].begin));
    end = int(smaller(end, tile.spans[m].end));
  }
  for (int m = 0; m < tile.num_rows; ++m) {
    const Span span = tile.spans[m];
    add_values<1>(view, tile, m, span.begin, int(begin < end ? begin : span.end));
  }
  if (begin >= end) return;
  add_values<R>(view, tile, 0, begin, end);
  for (int m = 0; m < tile.num_rows; ++m) add_values<1>(view, tile, m, end, tile.spans[m].end);
}

template <int R, class T>
inline void attend_rows(const PartitionView<T>& view, Tile& tile, float scale, float softcap) {
  int begin = kPartition, end = 0;
  for (int m = 0; m < tile.num_rows; ++m) {
    if (tile.spans[m].begin >= tile.spans[m].end) continue;
    begin = int(smaller(begin, tile.spans[m].begin));
    end = int(larger(end, tile.spans[m].end));
  }
  score_rows<R>(view, tile, begin / kLanes, (end + kLanes - 1) / kLanes);
  for (int m = 0; m < tile.num_rows; ++m) soften(tile, m, scale, softcap);
  for (int64_t i = 0; i < R * view.head_size; i += kLanes) store(tile.outputs + i, set(0.0f));
  add_all_values<R>(view, tile);
}

/* Computes largest, sum and outputs of a tile's rows in one partition. At least one row sees something of it. */
template <class T>
inline void attend(const PartitionView<T>& view, Tile& tile, float scale, float softcap) {
  if (tile.num_rows == 1) {
    attend_rows<1>(view, tile, scale, softcap);
  } else if (tile.num_rows == 2) {
    attend_rows<2>(view, tile, scale, softcap);
  } else if (tile.num_rows <= 4) {
    attend_rows<4>(view, tile, scale, softcap);
  } else {
    attend_rows<kTileRows>(view, tile, scale, softcap);
  }
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
