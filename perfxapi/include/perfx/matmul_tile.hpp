/* The parts of a matrix product that know vectors: packing of panels, and the micro-kernel. Included after a SIMD
 * layer.
 *
 * Method: packed panels and an outer-product micro-kernel, as in Goto and van de Geijn, "Anatomy of High-Performance
 * Matrix Multiplication" (2008), and Van Zee and van de Geijn, "BLIS" (2015).
 *
 * One operand is laid across vector lanes (`wide`), the other is broadcast (`narrow`). Which is which changes no bit of
 * the result: an element is, for each block of kDepthBlock positions of the inner dimension, one chain of fused
 * multiply-adds in ascending order from zero; the blocks' sums are added in ascending order.
 */
#ifndef PERFX_MATMUL_TILE_HPP
#define PERFX_MATMUL_TILE_HPP

#include <string.h>

#include "perfx/kernels/operands.hpp"

namespace perfx {
namespace PERFX_VARIANT {
namespace matmul {

/* Positions of the inner dimension that are summed before the result is added. It defines the order of accumulation. */
constexpr int64_t kDepthBlock = 384;
constexpr int64_t kCacheLine = 64;
/* Rows of the narrow operand for which the wide one is transposed in registers instead of being packed. */
constexpr int kFewRows = kProductRows < 8 ? kProductRows : 8;
/* Inner positions between the wide panel's use and its fetch into the first cache. */
constexpr int kFetchAhead = 8;

/* The vectors of an element type. */
template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  using Type = F;
  static constexpr int kCount = kLanes;
};
template <>
struct VectorOf<double> {
  using Type = D;
  static constexpr int kCount = kDoubleLanes;
};
template <class T>
constexpr int lanes_of() {
  return VectorOf<T>::kCount;
}
/* Lanes of a full panel of the wide operand. */
template <class T>
constexpr int64_t panel_lanes() {
  return lanes_of<T>() * kProductVectors;
}

/* One operand: item (i, k) stands at data[i * outer + k * depth]; k runs along the inner dimension. */
template <class T>
struct Side {
  const T* data;
  int64_t size;
  int64_t outer, depth;
  const T* at(int64_t i, int64_t k) const { return data + i * outer + k * depth; }
};

/* Writes items (0 .. kept-1, 0 .. depth-1) of one vector's width, k by k: target[k * step + i]. Lanes from `available`
 * on are zero and not read. */
template <class T>
inline void pack_vector(const Side<T>& from, int64_t depth, int available, int kept, T* target, int64_t step) {
  using V = typename VectorOf<T>::Type;
  constexpr int kCount = lanes_of<T>();
  if (from.outer == 1) {
    for (int64_t k = 0; k < depth; ++k) {
      const T* source = from.at(0, k);
      const V x = available == kCount ? load(source) : load_first(source, available);
      kept == kCount ? store(target + k * step, x) : store_first(target + k * step, kept, x);
    }
    return;
  }
  if (from.depth == 1) {
    for (int64_t k = 0; k < depth; k += kCount) {
      const int columns = int(smaller(kCount, depth - k));
      V tile[kCount];
      for (int i = 0; i < kCount; ++i) {
        const T* source = from.at(i, k);
        tile[i] = i >= available ? V{} : columns == kCount ? load(source) : load_first(source, columns);
      }
      transpose(tile);
      for (int j = 0; j < columns; ++j) {
        T* row = target + (k + j) * step;
        kept == kCount ? store(row, tile[j]) : store_first(row, kept, tile[j]);
      }
    }
    return;
  }
  for (int64_t k = 0; k < depth; ++k) {
    for (int i = 0; i < kept; ++i) target[k * step + i] = i < available ? *from.at(i, k) : T(0);
  }
}

/* A panel of the wide operand: `vectors` vectors for each k, lanes beyond `size` zero. */
template <class T>
inline void pack_wide(const Side<T>& from, int64_t first, int64_t size, int64_t k, int64_t depth, int vectors,
                      T* target) {
  constexpr int kCount = lanes_of<T>();
  for (int v = 0; v < vectors; ++v) {
    const Side<T> part = {from.at(first + v * kCount, k), 0, from.outer, from.depth};
    const int available = int(smaller(kCount, size - v * kCount));
    pack_vector(part, depth, available, kCount, target + v * kCount, vectors * kCount);
  }
}

/* A panel of the narrow operand: `rows` items for each k, without gaps. */
template <class T>
inline void pack_narrow(const Side<T>& from, int64_t first, int rows, int64_t k, int64_t depth, T* target) {
  constexpr int kCount = lanes_of<T>();
  for (int i = 0; i < rows; i += kCount) {
    const Side<T> part = {from.at(first + i, k), 0, from.outer, from.depth};
    const int count = int(smaller(kCount, rows - i));
    pack_vector(part, depth, count, count, target + i, rows);
  }
}

/* Where a tile's sums go: rows of the narrow side, `step` apart, `lanes` of each; added to what is there, or stored. */
template <class T>
struct Target {
  T* data;
  int64_t step;
  int lanes;
  bool add;
};

/* Adds one block of the inner dimension to `Rows` x `Vectors` sums, which are zero. */
template <class T, int Rows, int Vectors>
inline void add_block(int64_t depth, const T* wide, const T* narrow,
                      typename VectorOf<T>::Type (&sums)[Rows][Vectors]) {
  using V = typename VectorOf<T>::Type;
  constexpr int kCount = lanes_of<T>();
#ifdef PERFX_WIDE_PRODUCTS /* the layer's processor multiplies vectors side by side as one */
  if constexpr ((Vectors & (Vectors - 1)) == 0) {
    typedef T Side __attribute__((vector_size(Vectors * sizeof(V))));
    Side together[Rows] = {};
    for (int64_t k = 0; k < depth; ++k, wide += Vectors * kCount, narrow += Rows) {
      Side lanes;
      memcpy(&lanes, __builtin_assume_aligned(wide, sizeof(T)), sizeof(lanes));
#pragma GCC unroll 16
      for (int r = 0; r < Rows; ++r) /* less zeros: the item in all lanes, which are an operand of the instruction */
        together[r] = __builtin_elementwise_fma(narrow[r] - Side{}, lanes, together[r]);
    }
    memcpy(sums, together, sizeof(sums));
    return;
  }
#endif
  for (int64_t k = 0; k < depth; ++k) {
    V lanes[Vectors];
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      lanes[v] = load(wide + v * kCount);
      __builtin_prefetch(wide + (v + kFetchAhead * Vectors) * kCount, 0, 3);
    }
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r) {
      const V x = broadcast(narrow + r);
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) sums[r][v] = fma(x, lanes[v], sums[r][v]);
    }
    wide += Vectors * kCount;
    narrow += Rows;
  }
}

/* The micro-kernel: `Rows` x `Vectors` accumulators over one block of the inner dimension. */
template <class T, int Rows, int Vectors>
inline void multiply_tile(int64_t depth, const T* wide, const T* narrow, const Target<T>& target) {
  using V = typename VectorOf<T>::Type;
  constexpr int kCount = lanes_of<T>();
  V sums[Rows][Vectors] = {};
  if (target.add) { /* what is added to is fetched while the sums are made */
    for (int r = 0; r < Rows; ++r) {
      for (int v = 0; v < Vectors; ++v) __builtin_prefetch(target.data + r * target.step + v * kCount, 1, 2);
    }
  }
  add_block<T, Rows, Vectors>(depth, wide, narrow, sums);
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
    T* row = target.data + r * target.step;
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      const int n = target.lanes - v * kCount;
      T* part = row + v * kCount;
      if (n >= kCount) {
        store(part, target.add ? load(part) + sums[r][v] : sums[r][v]);
      } else {
        store_first(part, n, target.add ? load_first(part, n) + sums[r][v] : sums[r][v]);
      }
    }
  }
}

template <class T>
using TileFn = void (*)(int64_t, const T*, const T*, const Target<T>&);

/* The micro-kernel for a number of rows (1 .. kProductRows) and of vectors (1 .. kProductVectors). */
template <class T, int Rows = kProductRows, int Vectors = kProductVectors>
inline TileFn<T> tile_for(int rows, int vectors) {
  if constexpr (Vectors > 1) {
    if (vectors < Vectors) return tile_for<T, Rows, Vectors - 1>(rows, vectors);
  }
  if constexpr (Rows > 1) {
    if (rows < Rows) return tile_for<T, Rows - 1, Vectors>(rows, vectors);
  }
  return multiply_tile<T, Rows, Vectors>;
}

/* Adds inner positions to sums: vectors `lanes`, by items that stand in rows of `Rows`. */
template <class T, int Rows>
inline void add_columns(const typename VectorOf<T>::Type* lanes, int count, const T* narrow,
                        typename VectorOf<T>::Type (&sums)[Rows]) {
#pragma GCC unroll 16
  for (int j = 0; j < count; ++j) {
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) sums[r] = fma(broadcast(narrow + j * Rows + r), lanes[j], sums[r]);
  }
}

/* The micro-kernel for a wide operand whose inner dimension is contiguous, one vector of its rows, in place: squares
 * are transposed in registers. `ahead` is the distance in items to what is wanted after this block. */
template <class T, int Rows>
inline void multiply_turned(const Side<T>& wide, int64_t depth, int64_t ahead, const T* narrow,
                            const Target<T>& target) {
  using V = typename VectorOf<T>::Type;
  constexpr int kCount = lanes_of<T>();
  const T* lines[kCount]; /* lanes that are not wanted repeat the first row */
  for (int i = 0; i < kCount; ++i) lines[i] = wide.at(i < target.lanes ? i : 0, 0);
  V sums[Rows] = {}, square[kCount];
  int64_t k = 0;
  for (; k + kCount <= depth; k += kCount) {
#pragma GCC unroll 16
    for (int i = 0; i < kCount; ++i) {
      square[i] = load(lines[i] + k);
      __builtin_prefetch(lines[i] + k + ahead, 0, 3);
    }
    transpose(square);
    add_columns<T, Rows>(square, kCount, narrow + k * Rows, sums);
  }
  if (k < depth) {
    for (int i = 0; i < kCount; ++i) square[i] = load_first(lines[i] + k, int(depth - k));
    transpose(square);
    add_columns<T, Rows>(square, int(depth - k), narrow + k * Rows, sums);
  }
  for (int r = 0; r < Rows; ++r) {
    T* row = target.data + r * target.step;
    if (target.lanes == kCount) {
      store(row, target.add ? load(row) + sums[r] : sums[r]);
    } else {
      store_first(row, target.lanes, target.add ? load_first(row, target.lanes) + sums[r] : sums[r]);
    }
  }
}

template <class T>
using TurnedFn = void (*)(const Side<T>&, int64_t, int64_t, const T*, const Target<T>&);

/* The micro-kernel for a number of rows of the narrow operand (1 .. kFewRows). */
template <class T, int Rows = kFewRows>
inline TurnedFn<T> turned_for(int rows) {
  if constexpr (Rows > 1) {
    if (rows < Rows) return turned_for<T, Rows - 1>(rows);
  }
  return multiply_turned<T, Rows>;
}

}  // namespace matmul
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
