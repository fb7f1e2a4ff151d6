/* The product of a tall operand, whose rows are contiguous, with one of few rows: the tall one is read once, in place.
 *
 * The operand of few rows is packed as a whole, shared by all threads: its rows lie across lanes, in panels that stay
 * in the second cache. A tile of the tall operand is multiplied with every panel while the next one is fetched, so
 * reading and arithmetic overlap. The order of accumulation is that of matmul_tile.hpp.
 */
#ifndef PERFX_MATMUL_SKINNY_HPP
#define PERFX_MATMUL_SKINNY_HPP

#include "perfx/matmul_problem.hpp"

namespace perfx {
namespace PERFX_VARIANT {
namespace matmul {

/* Rows of the tall operand that will be wanted after a tile: those from `begin` to `end`. */
template <class T>
struct Fetch {
  const T* data;
  int begin, end;
};

/* Adds one inner position to the sums: an item of each row, `step` apart, times the vectors at `panel`. */
template <class T, int Rows, int Vectors>
inline void add_products(const T* items, int64_t step, const T* panel,
                         typename VectorOf<T>::Type (&sums)[Rows][Vectors]) {
  using V = typename VectorOf<T>::Type;
  constexpr int kCount = lanes_of<T>();
  V lanes[Vectors];
#pragma GCC unroll 4
  for (int v = 0; v < Vectors; ++v) lanes[v] = load(panel + v * kCount);
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
    const V x = broadcast(items + r * step);
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) sums[r][v] = fma(x, lanes[v], sums[r][v]);
  }
}

/* The micro-kernel: `Rows` rows of the tall operand with `Vectors` vectors of a panel. A square of the rows is copied
 * at a time: rows whose distance is a power of two would drive each other out of the first cache. */
template <class T, int Rows, int Vectors>
inline void multiply_in_place(int64_t depth, const T* tall, int64_t stride, const T* panel, const Fetch<T>& fetch,
                              const Target<T>& target) {
  using V = typename VectorOf<T>::Type;
  constexpr int kCount = lanes_of<T>();
  alignas(64) T square[Rows * kCount];
  V sums[Rows][Vectors] = {};
  int64_t first = 0;
  for (; first + kCount <= depth; first += kCount) {
    for (int r = fetch.begin; r < fetch.end; ++r) __builtin_prefetch(fetch.data + r * stride + first, 0, 2);
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r) store(square + r * kCount, load(tall + r * stride + first));
#pragma GCC unroll 4
    for (int k = 0; k < kCount; ++k)
      add_products<T, Rows, Vectors>(square + k, kCount, panel + (first + k) * Vectors * kCount, sums);
  }
  for (; first < depth; ++first)
    add_products<T, Rows, Vectors>(tall + first, stride, panel + first * Vectors * kCount, sums);
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      T* part = target.data + r * target.step + v * kCount;
      store(part, target.add ? load(part) + sums[r][v] : sums[r][v]);
    }
  }
}

template <class T>
using InPlaceFn = void (*)(int64_t, const T*, int64_t, const T*, const Fetch<T>&, const Target<T>&);

/* The micro-kernel for a number of rows (1 .. kProductRows) and of vectors (1 .. kProductVectors). */
template <class T, int Rows = kProductRows, int Vectors = kProductVectors>
inline InPlaceFn<T> in_place_for(int rows, int vectors) {
  if constexpr (Vectors > 1) {
    if (vectors < Vectors) return in_place_for<T, Rows, Vectors - 1>(rows, vectors);
  }
  if constexpr (Rows > 1) {
    if (rows < Rows) return in_place_for<T, Rows - 1, Vectors>(rows, vectors);
  }
  return multiply_in_place<T, Rows, Vectors>;
}

/* Inner positions from `k` on of a skinny product. `packed` holds the operand of few rows. */
template <class T>
class SkinnyRound {
 public:
  SkinnyRound(const Problem<T>& problem, int64_t k, int64_t depth, T* packed)
      : problem_(problem), k_(k), depth_(depth), width_(round_up(problem.few.size, lanes_of<T>())), packed_(packed) {}

  /* Rows of the tall operand that a thread takes at a time: one tile, or several where the second cache cannot hold all
   * of the other operand, so that they share the block of it that is there. */
  int64_t grain(int64_t num_threads) const {
    const bool stays = depth_ * width_ * int64_t(sizeof(T)) <= kSkinnyBytes;
    const int64_t fair = round_up(divide_up(problem_.tall.size, num_threads), kProductRows);
    return smaller(fair, (stays ? 1 : kSkinnyTiles) * kProductRows);
  }

  /* Packs panels `begin`, `begin + step`, ... of all blocks. */
  void pack(int64_t begin, int64_t step) const {
    const int64_t panels = divide_up(width_, panel_lanes<T>()), blocks = divide_up(depth_, kDepthBlock);
    for (int64_t item = begin; item < blocks * panels; item += step) {
      const int64_t k = item / panels * kDepthBlock, lane = item % panels * panel_lanes<T>();
      pack_wide(problem_.few, lane, problem_.few.size - lane, k_ + k, depth_at(k), vectors_at(lane),
                const_cast<T*>(panel_at(k, lane)));
    }
  }

  /* Multiplies rows from `first` on, at most grain() of them. `sums` is this thread's. */
  void multiply(int64_t first, int64_t size, T* sums) const {
    if (k_ > 0) read(first, size, sums);
    for (int64_t k = 0; k < depth_; k += kDepthBlock) {
      for (int64_t row = 0; row < size; row += kProductRows) {
        const T* next = row + kProductRows < size  ? problem_.tall.at(first + row + kProductRows, k_ + k)
                        : k + kDepthBlock < depth_ ? problem_.tall.at(first, k_ + k + kDepthBlock)
                                                   : problem_.tall.at(first + size, k_);
        multiply_tile(first + row, int(smaller(kProductRows, size - row)), k, next, sums + row * width_);
      }
    }
    write(first, size, sums);
  }

 private:
  int64_t depth_at(int64_t k) const { return smaller(kDepthBlock, depth_ - k); }
  const T* panel_at(int64_t k, int64_t lane) const { return packed_ + k * width_ + lane * depth_at(k); }
  int vectors_at(int64_t lane) const { return int(smaller(kProductVectors, (width_ - lane) / lanes_of<T>())); }

  /* One tile with every panel; each of them fetches its share of the next tile. */
  void multiply_tile(int64_t row, int rows, int64_t k, const T* next, T* sums) const {
    const int panels = int(divide_up(width_, panel_lanes<T>()));
    const T* tall = problem_.tall.at(row, k_ + k);
    for (int panel = 0; panel < panels; ++panel) {
      const int64_t lane = panel * panel_lanes<T>();
      const Fetch<T> fetch = {next, kProductRows * panel / panels, kProductRows * (panel + 1) / panels};
      in_place_for<T>(rows, vectors_at(lane))(depth_at(k), tall, problem_.tall.outer, panel_at(k, lane), fetch,
                                              {sums + lane, width_, 0, k_ + k > 0});
    }
  }

  /* Sums of earlier rounds, from the result. */
  void read(int64_t first, int64_t size, T* sums) const {
    const int64_t n = problem_.n, row = problem_.tall_is_left ? n : 1, column = problem_.tall_is_left ? 1 : n;
    for (int64_t lane = 0; lane < problem_.few.size; lane += lanes_of<T>()) {
      const Side<T> from = {problem_.result + first * row + lane * column, 0, column, row};
      pack_vector(from, size, int(smaller(lanes_of<T>(), problem_.few.size - lane)), lanes_of<T>(), sums + lane,
                  width_);
    }
  }

  /* Sums into the result, where they may stand transposed. */
  void write(int64_t first, int64_t size, const T* sums) const {
    const int64_t n = problem_.n, few = problem_.few.size;
    const int64_t end = problem_.tall_is_left ? few : size;
    for (int64_t i = 0; i < end; i += lanes_of<T>()) {
      const int count = int(smaller(lanes_of<T>(), end - i));
      if (problem_.tall_is_left) {
        pack_vector(Side<T>{sums + i, 0, 1, width_}, size, count, count, problem_.result + first * n + i, n);
      } else {
        pack_vector(Side<T>{sums + i * width_, 0, width_, 1}, few, count, count, problem_.result + first + i, n);
      }
    }
  }

  const Problem<T>& problem_;
  const int64_t k_, depth_, width_;
  T* packed_;
};

}  // namespace matmul
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
