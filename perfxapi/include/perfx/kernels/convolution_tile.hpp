/* The micro-kernel of convolutions. Included after a SIMD layer.
 *
 * Places of the result lie across lanes. For every position of the inner dimension (a channel and a tap) a tile reads
 * vectors at an offset of its own from one pointer, so windows are never laid out as the columns of a matrix: what is
 * read stands in a padded copy of the block (windows.hpp), in which neighboring places are neighbors in memory, across
 * the ends of rows too. What is computed between the rows is thrown away.
 */
#ifndef PERFX_KERNELS_CONVOLUTION_TILE_HPP
#define PERFX_KERNELS_CONVOLUTION_TILE_HPP

#include "perfx/kernels/windows.hpp"
#include "perfx/matmul_tile.hpp"

namespace perfx {
namespace PERFX_VARIANT {
namespace convolution {

/* Vectors of a tile of so many rows: what accumulators there are, but no more than eight. */
constexpr int tile_vectors(int rows) {
  return kProductRows * kProductVectors / rows < 8 ? kProductRows * kProductVectors / rows : 8;
}
/* Rows of the weight that a panel has at most: with more vectors in a tile, fewer numbers are loaded for each product.
 */
constexpr int kPanelRows = kProductVectors > 1 ? 8 : kProductRows;
constexpr int64_t kMaxTileLanes = 8 * kLanes;
/* Inner positions between the windows' use and their fetch into the first cache. */
constexpr int64_t kAhead = 8;

/* Packs `rows` filters of `stride` numbers as [depth][rows]. Eight of them, which are half of a vector, are transposed
 * two positions at a time. */
inline void pack_panel(const float* filters, int64_t stride, int rows, int64_t depth, float* target) {
  constexpr int kHalf = kLanes / 2;
  int64_t k = 0;
  for (; rows == kHalf && k + 2 * kLanes <= depth; k += 2 * kLanes) {
    F square[kLanes];
    for (int r = 0; r < kHalf; ++r) {
      square[r] = load_even(filters + r * stride + k, kLanes);
      square[kHalf + r] = load_even(filters + r * stride + k + 1, kLanes);
    }
    transpose(square);
    for (int j = 0; j < kLanes; ++j) store(target + (k + 2 * j) * kHalf, square[j]);
  }
  matmul::pack_narrow(matmul::Side<float>{filters, rows, stride, 1}, 0, rows, k, depth - k, target + k * rows);
}

/* Where a tile's sums begin and go: rows `step` apart. Without `start` they are added to what is there. */
struct Sums {
  const float* start;
  float* data;
  int64_t step;
  int64_t lanes;
};

/* Fills a tile from where its sums begin, or from what they are added to. */
template <int Rows, int Vectors>
inline void begin_sums(const Sums& sums, F (&total)[Rows][Vectors]) {
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
    const float* row = sums.data + r * sums.step;
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) {
      if (sums.start != nullptr) {
        total[r][v] = broadcast(sums.start + r);
      } else {
        total[r][v] = load_n(row + v * kLanes, int(smaller(sums.lanes - v * kLanes, kLanes)));
      }
    }
  }
}

template <int Rows, int Vectors>
inline void end_sums(const Sums& sums, const F (&total)[Rows][Vectors]) {
  const bool is_full = sums.lanes == Vectors * kLanes;
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
    float* row = sums.data + r * sums.step;
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) {
      if (is_full || v + 1 < Vectors) {
        store(row + v * kLanes, total[r][v]);
      } else {
        store_first(row + v * kLanes, int(sums.lanes - v * kLanes), total[r][v]);
      }
    }
  }
}

/* The micro-kernel: rows of the weight, packed as [depth][Rows], times vectors at x + offsets[k]. All vectors are full,
 * but for the last one. */
template <int Rows, int Vectors>
inline void multiply_windows(int64_t depth, const float* x, const int64_t* offsets, const float* weight,
                             const Sums& sums) {
  F total[Rows][Vectors];
  begin_sums(sums, total);
  for (int64_t k = 0; k < depth; ++k) {
    const float *at = x + offsets[k], *next = x + offsets[smaller(k + kAhead, depth - 1)];
    F lanes[Vectors];
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) {
      lanes[v] = load(at + v * kLanes);
      __builtin_prefetch(next + v * kLanes, 0, 3);
    }
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r) {
      const F w = broadcast(weight + r);
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) total[r][v] = fma(w, lanes[v], total[r][v]);
    }
    weight += Rows;
  }
  end_sums(sums, total);
}

using TileFn = void (*)(int64_t, const float*, const int64_t*, const float*, const Sums&);

/* The micro-kernel for a number of rows (1 .. kPanelRows) and of vectors (1 .. tile_vectors(rows)). */
template <int Rows = kPanelRows, int Vectors = tile_vectors(Rows)>
inline TileFn tile_for(int rows, int vectors) {
  if constexpr (Rows > 1) {
    if (rows < Rows) return tile_for<Rows - 1>(rows, vectors);
  }
  if constexpr (Vectors > 1) {
    if (vectors < Vectors) return tile_for<Rows, Vectors - 1>(rows, vectors);
  }
  return multiply_windows<Rows, Vectors>;
}

}  // namespace convolution
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
