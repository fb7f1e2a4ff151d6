/* A matrix product as the kernel sees it: sizes, the wide and the narrow operand, the blocks it is cut into. */
#ifndef PERFX_MATMUL_PROBLEM_HPP
#define PERFX_MATMUL_PROBLEM_HPP

#include "perfx/matmul_tile.hpp"

namespace perfx {
namespace PERFX_VARIANT {
namespace matmul {

/* Inner positions of the narrow operand that are packed at once. A multiple of kDepthBlock. */
constexpr int64_t kDepth = 32 * kDepthBlock;
/* Bytes of the narrow operand that are packed at once and stay in the last cache. */
constexpr int64_t kNarrowBytes = int64_t(16) << 20;
/* Matrices of a batch whose packed narrow operand is below this are divided among threads as wholes. */
constexpr int64_t kSmallBytes = int64_t(1) << 18;
/* At most so many columns of the result: then the rows may be what is laid across lanes. */
constexpr int64_t kSkinny = 192;
/* Tiles of the tall operand of a skinny product that share what the second cache holds of the other one, and the bytes
 * of the other one that stay there as a whole. */
constexpr int64_t kSkinnyTiles = 8;
constexpr int64_t kSkinnyBytes = int64_t(1) << 19;
/* At most so many rows of the other operand: beyond them the tall one is read often enough to pay for packing it. */
constexpr int64_t kInPlaceRows = 64;
/* Columns of the product of one row whose sums stay in the first cache. */
constexpr int64_t kRowColumns = 2048;
/* Slack behind each packed area: a vector may be stored where a part of it was meant. */
constexpr int64_t kSlack = 256;

constexpr int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

/* Strides of the last two axes, in items, with a vector as one row (on the left) or one column (on the right). */
struct Matrix {
  Matrix(const PxTensor& tensor, bool left, int64_t item) : data(static_cast<const char*>(tensor.data)) {
    const int last = tensor.ndim - 1;
    const bool is_vector = tensor.ndim == 1;
    rows = is_vector ? (left ? 1 : tensor.shape[0]) : tensor.shape[last - 1];
    columns = is_vector ? (left ? tensor.shape[0] : 1) : tensor.shape[last];
    const int64_t step = tensor.strides[last] / item;
    row_stride = is_vector ? (left ? 0 : step) : tensor.strides[last - 1] / item;
    column_stride = is_vector && !left ? 0 : step;
  }
  const char* data;
  int64_t rows, columns, row_stride, column_stride;
};

/* The product of one pair of matrices: result [m, n], contiguous. */
template <class T>
struct Problem {
  int64_t m, n, k;
  Side<T> wide, narrow;
  Side<T> tall, few; /* the operand of more rows (columns of the right one), and the other */
  T* result;
  bool tall_is_left;
  bool rows_are_wide; /* the left operand's rows lie across lanes: the result is written transposed */

  Problem(const Matrix& a, const Matrix& b, T* target) : m(a.rows), n(b.columns), k(a.columns), result(target) {
    const Side<T> left = {reinterpret_cast<const T*>(a.data), m, a.row_stride, a.column_stride};
    const Side<T> right = {reinterpret_cast<const T*>(b.data), n, b.column_stride, b.row_stride};
    tall_is_left = m >= n;
    tall = tall_is_left ? left : right;
    few = tall_is_left ? right : left;
    rows_are_wide = n < kSkinny && m > n;
    wide = rows_are_wide ? left : right;
    narrow = rows_are_wide ? right : left;
  }

  /* Is it one row by a matrix of contiguous rows, or that transposed? */
  bool is_row() const { return few.size == 1 && tall.outer == 1; }
  /* Is the wide operand transposed in registers? Worth it for very few rows of the other one. */
  bool is_turned() const { return narrow.size <= kFewRows && wide.depth == 1; }
  /* Is the tall operand read in place, and broadcast? */
  bool is_skinny() const { return !is_turned() && few.size <= kInPlaceRows && tall.depth == 1; }

  /* Lanes of a block of the wide operand: one block of kDepthBlock of them stays in the second cache. */
  int64_t wide_block() const {
    if (is_turned()) return lanes_of<T>();
    if (narrow.size > kSkinny) return panel_lanes<T>() * 15;
    return panel_lanes<T>() * (wide.outer == 1 ? 8 : narrow.size > 32 ? 4 : 2);
  }
};

/* Rows of the narrow operand packed at once. */
template <class T>
inline int64_t narrow_block(int64_t size, int64_t depth) {
  const int64_t fitting = kNarrowBytes / (int64_t(sizeof(T)) * larger(smaller(depth, kDepth), 1));
  return smaller(size, larger(fitting / kProductRows, 1) * kProductRows);
}

/* The narrow operand's rows are cut into panels of at most kProductRows that differ by one at most. */
struct Panels {
  explicit Panels(int64_t size) : count(divide_up(size, kProductRows)), base(size / count), longer(size % count) {}
  int64_t first(int64_t panel) const { return panel * base + smaller(panel, longer); }
  int rows(int64_t panel) const { return int(base + (panel < longer)); }
  int64_t count, base, longer;
};

/* Bytes of the parts of the workspace. They grow with every dimension, so that a bound serves all below it. */
template <class T>
struct Layout {
  Layout(int64_t m, int64_t n, int64_t k) {
    const int64_t depth = smaller(k, kDepth), rows = larger(narrow_block<T>(m, depth), narrow_block<T>(n, depth));
    const int64_t few = smaller(round_up(smaller(m, n), lanes_of<T>()), kInPlaceRows);
    narrow_bytes = round_up(depth * larger(rows, few) * int64_t(sizeof(T)) + kSlack, kCacheLine);
    wide_bytes = panel_lanes<T>() * 15 * smaller(round_up(depth, lanes_of<T>()), kDepthBlock) * int64_t(sizeof(T));
    wide_bytes += kSlack;
    const int64_t in_place = larger(kSkinnyTiles * kProductRows * few, kRowColumns);
    const int64_t sums = larger(panel_lanes<T>() * 8 * smaller(n, kSkinny), in_place);
    sums_bytes = round_up(sums * int64_t(sizeof(T)) + kSlack, kCacheLine);
  }
  int64_t thread_bytes() const { return wide_bytes + sums_bytes; }
  int64_t narrow_bytes, wide_bytes, sums_bytes;
};

}  // namespace matmul
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
