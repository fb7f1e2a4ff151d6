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

/* Inner positions between the tall operand's use and its fetch into the second cache. */
constexpr int64_t kSkinnyAhead = 1024;

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

/* One vector of each row, copied row by row as a square. `ahead` is fetched meanwhile. */
template <class T, int Rows>
class Square {
 public:
  void begin(const T* source) { source_ = source; }
  /* Copies the rows that are due at step `k` of a vector's lanes. */
  void copy(int k, int64_t stride, int64_t ahead) {
    constexpr int kCount = lanes_of<T>();
#pragma GCC unroll 4
    for (int r = k * Rows / kCount; r < (k + 1) * Rows / kCount; ++r) {
      store(items_ + r * kCount, load(source_));
      __builtin_prefetch(source_ + ahead, 0, 2);
      source_ += stride;
      /* Each address is made from the one before: there are no registers to keep all of them, as compilers would. */
      asm volatile("" : "+r"(source_));
    }
  }
  const T* items() const { return items_; }

 private:
  alignas(64) T items_[Rows * lanes_of<T>()];
  const T* source_;
};

/* The micro-kernel: `Rows` rows of the tall operand with `Vectors` vectors of a panel. Rows whose distance is a power
 * of two would drive each other out of the first cache, so squares of them are copied: the next one while this one is
 * multiplied, for what was just stored is slow to load. `ahead` is the distance in items to what is wanted later. */
template <class T, int Rows, int Vectors>
inline void multiply_in_place(int64_t depth, const T* tall, int64_t stride, const T* panel, int64_t ahead,
                              const Target<T>& target) {
  using V = typename VectorOf<T>::Type;
  constexpr int kCount = lanes_of<T>();
  const int64_t whole = depth / kCount * kCount;
  Square<T, Rows> squares[2];
  V sums[Rows][Vectors] = {};
  squares[0].begin(tall);
  for (int k = 0; k < kCount && whole > 0; ++k) squares[0].copy(k, stride, ahead);
  for (int64_t first = 0; first < whole; first += kCount) {
    const Square<T, Rows>& now = squares[first / kCount % 2];
    Square<T, Rows>& next = squares[(first / kCount + 1) % 2];
    next.begin(tall + smaller(first + kCount, whole - kCount));
#pragma GCC unroll 16
    for (int k = 0; k < kCount; ++k) {
      add_products<T, Rows, Vectors>(now.items() + k, kCount, panel + (first + k) * Vectors * kCount, sums);
      next.copy(k, stride, ahead);
    }
  }
  for (int64_t k = whole; k < depth; ++k)
    add_products<T, Rows, Vectors>(tall + k, stride, panel + k * Vectors * kCount, sums);
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
using InPlaceFn = void (*)(int64_t, const T*, int64_t, const T*, int64_t, const Target<T>&);

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
        multiply_tile(first + row, int(smaller(kProductRows, size - row)), k, ahead(row, size, k), sums + row * width_);
      }
    }
    write(first, size, sums);
  }

 private:
  int64_t depth_at(int64_t k) const { return smaller(kDepthBlock, depth_ - k); }
  const T* panel_at(int64_t k, int64_t lane) const { return packed_ + k * width_ + lane * depth_at(k); }
  int vectors_at(int64_t lane) const { return int(smaller(kProductVectors, (width_ - lane) / lanes_of<T>())); }

  /* From a tile at an inner position to what is fetched for later: further on in its rows, then the next tile's. Where
   * tiles take turns, the next of them. */
  int64_t ahead(int64_t row, int64_t size, int64_t k) const {
    const int64_t stride = problem_.tall.outer, step = smaller(kSkinnyAhead, depth_);
    if (size <= kProductRows) return k + step < depth_ ? step : step - depth_ + kProductRows * stride;
    return row + kProductRows < size || k + kDepthBlock >= depth_ ? kProductRows * stride : kDepthBlock - row * stride;
  }

  /* One tile with every panel; the first of them fetches. */
  void multiply_tile(int64_t row, int rows, int64_t k, int64_t ahead, T* sums) const {
    const T* tall = problem_.tall.at(row, k_ + k);
    for (int64_t lane = 0; lane < width_; lane += panel_lanes<T>()) {
      in_place_for<T>(rows, vectors_at(lane))(depth_at(k), tall, problem_.tall.outer, panel_at(k, lane),
                                              lane == 0 ? ahead : 0, {sums + lane, width_, 0, k_ + k > 0});
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
