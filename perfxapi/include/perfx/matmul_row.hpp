/* One row, times a matrix whose rows are contiguous: the matrix is read once, in place, as it lies in memory.
 *
 * Threads share the columns. Sums of a part of them stay in the first cache while rows are multiplied by their items
 * and added, several rows side by side. The order of accumulation is that of matmul_tile.hpp.
 */
#ifndef PERFX_MATMUL_ROW_HPP
#define PERFX_MATMUL_ROW_HPP

#include <string.h>

#include "perfx/matmul_vector.hpp"

namespace perfx {
namespace PERFX_VARIANT {
namespace matmul {

/* Adds `Rows` rows of the matrix, each times its item, to the sums of `size` columns. What is fetched ahead goes on
 * with the next rows at the end. */
template <class T, int Rows>
inline void add_rows(const T* items, int64_t step, const T* matrix, int64_t stride, int64_t size, T* sums) {
  using V = typename VectorOf<T>::Type;
  constexpr int64_t kCount = lanes_of<T>(), kAhead = kVectorAhead / int64_t(sizeof(T));
  const int64_t whole = size / kCount * kCount, turn = larger(whole - kAhead, 0);
  V x[Rows];
  for (int r = 0; r < Rows; ++r) x[r] = broadcast(items + r * step);
  int64_t column = 0;
  for (int part = 0; part < 2; ++part) {
    const int64_t end = part == 0 ? turn : whole, ahead = part == 0 ? kAhead : Rows * stride - turn;
    for (; column < end; column += kCount) {
      V sum = load(sums + column);
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) {
        const T* at = matrix + r * stride + column;
        __builtin_prefetch(at + ahead, 0, 3);
        sum = fma(x[r], load(at), sum);
      }
      store(sums + column, sum);
    }
  }
  if (const int rest = int(size - whole)) {
    V sum = load(sums + whole);
    for (int r = 0; r < Rows; ++r) sum = fma(x[r], load_first(matrix + r * stride + whole, rest), sum);
    store(sums + whole, sum);
  }
}

/* Any number of rows. */
template <class T, int Rows = kVectorRows>
inline void add_all_rows(const T* items, int64_t step, const T* matrix, int64_t stride, int64_t rows, int64_t size,
                         T* sums) {
  int64_t row = 0;
  for (; row + Rows <= rows; row += Rows) {
    add_rows<T, Rows>(items + row * step, step, matrix + row * stride, stride, size, sums);
  }
  if constexpr (Rows > 1) {
    if (row < rows) {
      add_all_rows<T, Rows / 2>(items + row * step, step, matrix + row * stride, stride, rows - row, size, sums);
    }
  }
}

/* The columns of a range. `sums` has room for kRowColumns of them. */
template <class T>
inline void multiply_row(const Problem<T>& problem, const Range& columns, T* sums) {
  for (int64_t first = columns.begin; first < columns.end; first += kRowColumns) {
    const int64_t size = smaller(kRowColumns, columns.end - first);
    T* result = problem.result + first;
    for (int64_t k = 0; k < problem.k; k += kDepthBlock) {
      memset(sums, 0, size_t(round_up(size, lanes_of<T>())) * sizeof(T));
      add_all_rows<T>(problem.few.at(0, k), problem.few.depth, problem.tall.at(first, k), problem.tall.depth,
                      smaller(kDepthBlock, problem.k - k), size, sums);
      for (int64_t i = 0; i < size; ++i) result[i] = k > 0 ? result[i] + sums[i] : sums[i];
    }
  }
}

}  // namespace matmul
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
