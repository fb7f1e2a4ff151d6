/* A matrix whose rows are contiguous, times a vector: each row is read once, in place, as it lies in memory.
 *
 * Nothing is packed, so reading and arithmetic overlap, and memory is the limit. Lane i of a row's sum is a chain of
 * fused multiply-adds over positions i, i + L, i + 2 L, ... in ascending order from zero, where L is the number of
 * lanes (16 of float32, 8 of float64); the lanes are then added in halves: i and i + L/2, i and i + L/4, ...
 */
#ifndef PERFX_MATMUL_VECTOR_HPP
#define PERFX_MATMUL_VECTOR_HPP

#include "perfx/matmul_problem.hpp"

namespace perfx {
namespace PERFX_VARIANT {
namespace matmul {

/* Rows that are read side by side. */
constexpr int kVectorRows = kProductRows < 8 ? kProductRows : 8;
/* Bytes of a row between its use and its fetch into the first cache: prefetching in hardware stops at a page's end. */
constexpr int64_t kVectorAhead = 1024;
/* Bytes of the matrix that a thread takes at a time: a thread that is disturbed takes fewer of them. */
constexpr int64_t kVectorBytes = int64_t(1) << 18;

/* The sum of a vector's lanes, in halves. */
template <class T>
inline T sum_lanes(typename VectorOf<T>::Type x) {
  T lanes[lanes_of<T>()];
  store(lanes, x);
  for (int half = lanes_of<T>() / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

/* `Rows` rows, `stride` apart, of `size` items. What is fetched ahead goes on with the next rows at the end. */
template <class T, int Rows>
inline void multiply_rows_by_vector(const T* matrix, int64_t stride, int64_t size, const T* vector, T* result) {
  using V = typename VectorOf<T>::Type;
  constexpr int64_t kCount = lanes_of<T>(), kAhead = kVectorAhead / int64_t(sizeof(T));
  const int64_t whole = size / kCount * kCount, turn = larger(whole - kAhead, 0);
  V sums[Rows] = {};
  int64_t k = 0;
  for (int part = 0; part < 2; ++part) {
    const int64_t end = part == 0 ? turn : whole, ahead = part == 0 ? kAhead : Rows * stride - turn;
    for (; k < end; k += kCount) {
      const V x = load(vector + k);
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) {
        const T* at = matrix + r * stride + k;
        __builtin_prefetch(at + ahead, 0, 3);
        sums[r] = fma(load(at), x, sums[r]);
      }
    }
  }
  if (const int rest = int(size - whole)) {
    const V x = load_first(vector + whole, rest);
    for (int r = 0; r < Rows; ++r) sums[r] = fma(load_first(matrix + r * stride + whole, rest), x, sums[r]);
  }
  for (int r = 0; r < Rows; ++r) result[r] = sum_lanes<T>(sums[r]);
}

/* Any number of rows. */
template <class T, int Rows = kVectorRows>
inline void multiply_by_vector(const T* matrix, int64_t stride, int64_t size, int64_t rows, const T* vector,
                               T* result) {
  int64_t row = 0;
  for (; row + Rows <= rows; row += Rows) {
    multiply_rows_by_vector<T, Rows>(matrix + row * stride, stride, size, vector, result + row);
  }
  if constexpr (Rows > 1) {
    if (row < rows) {
      multiply_by_vector<T, Rows / 2>(matrix + row * stride, stride, size, rows - row, vector, result + row);
    }
  }
}

/* Rows that a thread takes at a time. */
template <class T>
inline int64_t vector_grain(int64_t rows, int64_t size, int64_t num_threads) {
  const int64_t fitting = kVectorBytes / (size * int64_t(sizeof(T)));
  return smaller(round_up(larger(fitting, 1), kVectorRows), divide_up(rows, num_threads));
}

/* Bytes of a thread's copy of the vector, for one that is not contiguous. */
template <class T>
inline int64_t vector_bytes(int64_t size) {
  return round_up(size * int64_t(sizeof(T)) + kSlack, kCacheLine);
}

}  // namespace matmul
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
