/* The parts of a convolution that know vectors: the micro-kernel over windows in place, and the copy of a block of the
 * input that makes windows readable in place. Included after a SIMD layer.
 *
 * Places of the result lie across lanes. For every position of the inner dimension (a channel and a tap) a tile reads
 * vectors at an offset of its own from one pointer, so windows are never laid out as the columns of a matrix: what is
 * read stands in a padded copy of the block, sorted by the phase of the stride, in which neighboring places are
 * neighbors in memory, across the ends of rows too. What is computed between the rows is thrown away.
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
    const float* at = x + offsets[k];
    F lanes[Vectors];
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) lanes[v] = load(at + v * kLanes);
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

/* How the taps of an axis find their input in a copy that is sorted by phases: tap k of place o reads item o + shift(k)
 * of slot(k), which holds every `stride`-th input position from phase(slot) on. */
struct Phases {
  explicit Phases(const Axis& axis) : axis_(axis) {
    int64_t a = axis.stride, b = axis.dilation;
    while (b > 0) {
      const int64_t rest = a % b;
      a = b;
      b = rest;
    }
    period_ = axis.stride / a;
    count = smaller(axis.taps, period_);
    reach = shift(axis.taps - 1);
  }
  int64_t slot(int64_t tap) const { return tap % period_; }
  int64_t shift(int64_t tap) const { return tap * axis_.dilation / axis_.stride; }
  /* The input position of an item of a slot. */
  int64_t position(int64_t slot, int64_t item) const {
    return item * axis_.stride + slot * axis_.dilation % axis_.stride - axis_.begin;
  }
  /* Items [begin, end) of the `items` of a slot, from item `first` on, that lie within the input, numbered from 0. */
  Range inside(int64_t slot, int64_t first, int64_t items) const {
    const int64_t at = position(slot, first);
    const int64_t begin = at < 0 ? smaller(divide_up(-at, axis_.stride), items) : 0;
    const int64_t end = at < axis_.size ? smaller(divide_up(axis_.size - at, axis_.stride), items) : 0;
    return {begin, larger(end, begin)};
  }
  int64_t count, reach;

 private:
  const Axis& axis_;
  int64_t period_;
};

inline void clear(float* target, int64_t count) {
  for_each_vector(count, [&](int64_t i, int n) { store_n(target + i, n, set(0.0f)); });
}

/* How a row of a block's copy is made of a row of the input: the same for all rows. */
struct RowCopy {
  RowCopy(const Axis& axis, const Phases& phases, int64_t slot, int64_t first, int64_t items)
      : items(items),
        inside(phases.inside(slot, first, items)),
        offset(phases.position(slot, first + inside.begin) * axis.bytes),
        step(axis.bytes * axis.stride) {}
  /* Zeros where there is no input. */
  void run(const char* row, float* target) const {
    clear(target, inside.begin);
    clear(target + inside.end, items - inside.end);
    const int64_t count = inside.end - inside.begin;
    float* to = target + inside.begin;
    const char* from = row + offset;
    if (step == int64_t(sizeof(float))) {
      const float* source = reinterpret_cast<const float*>(from);
      for_each_vector(count, [&](int64_t i, int n) { store_n(to + i, n, load_n(source + i, n)); });
    } else if (step == 2 * int64_t(sizeof(float))) {
      const float* source = reinterpret_cast<const float*>(from);
      for (int64_t i = 0; i < count; ++i) to[i] = source[2 * i]; /* compilers know how to take every second one */
    } else {
      for (int64_t i = 0; i < count; ++i, from += step) to[i] = *reinterpret_cast<const float*>(from);
    }
  }
  const int64_t items;
  const Range inside;
  const int64_t offset, step;
};

}  // namespace convolution
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
