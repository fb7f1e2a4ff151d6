/* The loops of sum, prod, max and min over dense elements.
 *
 * Floating-point sums add at most 16 numbers in each of 64 lanes, the lanes in pairs, and what comes out of a block in
 * float64: the error is that of pairwise summation (Higham, "The accuracy of floating point summation", 1993).
 */
#ifndef PERFX_KERNELS_REDUCE_LOOPS_HPP
#define PERFX_KERNELS_REDUCE_LOOPS_HPP

#include <limits>

#include "perfx/kernels/arithmetic.hpp"

namespace perfx {
namespace PERFX_VARIANT {

/* Bytes of an accumulator, whatever it accumulates. */
constexpr int64_t kAccumulatorBytes = 8;
/* Rows that are added to each other before their sum goes into the accumulators. */
constexpr int64_t kRowsAtOnce = 32;

/* Each op: the type that it accumulates T in, what it begins with, and how two results are one. */
struct SumOf {
  template <class T>
  using Accumulator = typename std::conditional<std::is_floating_point<T>::value, double, T>::type;
  template <class T>
  static constexpr T first() {
    return 0;
  }
  template <class T>
  static T of(T a, T b) {
    return Add::of(a, b);
  }
};
struct ProductOf {
  template <class T>
  using Accumulator = typename std::conditional<std::is_floating_point<T>::value, double, T>::type;
  template <class T>
  static constexpr T first() {
    return 1;
  }
  template <class T>
  static T of(T a, T b) {
    return Multiply::of(a, b);
  }
};
template <class Op, bool kLargest>
struct ExtremeOf {
  template <class T>
  using Accumulator = T;
  template <class T>
  static constexpr T first() {
    using Limits = std::numeric_limits<T>;
    if constexpr (std::is_floating_point<T>::value) return kLargest ? -Limits::infinity() : Limits::infinity();
    return kLargest ? Limits::min() : Limits::max();
  }
  template <class T>
  static T of(T a, T b) {
    return Op::of(a, b);
  }
};
using LargestOf = ExtremeOf<Maximum, true>;
using SmallestOf = ExtremeOf<Minimum, false>;

/* What a block of at most kBlock elements comes to, in lanes and then in pairs of lanes. A product is one of float64,
 * so that what its parts overflow to is not in its way. */
template <class Op, class T>
inline typename Op::template Accumulator<T> reduce_block(const T* x, int64_t count) {
  using Lane =
      typename std::conditional<std::is_same<Op, ProductOf>::value, typename Op::template Accumulator<T>, T>::type;
  constexpr int64_t kWidth = 64;
  Lane lanes[kWidth];
  for (int64_t j = 0; j < kWidth; ++j) lanes[j] = Op::template first<Lane>();
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) {
    for (int64_t j = 0; j < kWidth; ++j) lanes[j] = Op::of(lanes[j], Lane(x[i + j]));
  }
  for (int64_t j = 0; i + j < count; ++j) lanes[j] = Op::of(lanes[j], Lane(x[i + j]));
  for (int64_t half = kWidth / 2; half > 0; half /= 2) {
    for (int64_t j = 0; j < half; ++j) lanes[j] = Op::of(lanes[j], lanes[j + half]);
  }
  return lanes[0];
}

/* ---- what the walks over operands call, by pointer */

template <class Op, class T>
inline void clear_accumulators(char* accumulators, int64_t count) {
  using Total = typename Op::template Accumulator<T>;
  for (int64_t j = 0; j < count; ++j) reinterpret_cast<Total*>(accumulators)[j] = Op::template first<Total>();
}
/* A block into one accumulator. */
template <class Op, class T>
inline void add_block(const char* x, int64_t count, char* accumulator) {
  using Total = typename Op::template Accumulator<T>;
  Total* total = reinterpret_cast<Total*>(accumulator);
  *total = Op::of(*total, reduce_block<Op, T>(reinterpret_cast<const T*>(x), count));
}
/* Some rows, `stride` bytes apart, of at most kBlock columns, each into its column's accumulator. */
template <class Op, class T>
inline void add_rows(const char* x, int64_t stride, int64_t rows, int64_t columns, char* accumulators) {
  using Total = typename Op::template Accumulator<T>;
  using Lane = typename std::conditional<std::is_same<Op, ProductOf>::value, Total, T>::type;
  Total* __restrict totals = reinterpret_cast<Total*>(accumulators);
  Lane lanes[kBlock];
  for (int64_t first = 0; first < rows; first += kRowsAtOnce) {
    const int64_t end = smaller(rows, first + kRowsAtOnce);
    for (int64_t j = 0; j < columns; ++j) lanes[j] = Op::template first<Lane>();
    for (int64_t row = first; row < end; ++row) {
      const T* __restrict values = reinterpret_cast<const T*>(x + row * stride);
      for (int64_t j = 0; j < columns; ++j) lanes[j] = Op::of(lanes[j], Lane(values[j]));
    }
    for (int64_t j = 0; j < columns; ++j) totals[j] = Op::of(totals[j], Total(lanes[j]));
  }
}
template <class Op, class T>
inline void merge_accumulators(const char* others, int64_t count, char* accumulators) {
  using Total = typename Op::template Accumulator<T>;
  Total* __restrict totals = reinterpret_cast<Total*>(accumulators);
  for (int64_t j = 0; j < count; ++j) totals[j] = Op::of(totals[j], reinterpret_cast<const Total*>(others)[j]);
}
template <class Op, class T>
inline void finish_accumulators(const char* accumulators, int64_t count, char* y) {
  using Total = typename Op::template Accumulator<T>;
  for (int64_t j = 0; j < count; ++j) reinterpret_cast<T*>(y)[j] = T(reinterpret_cast<const Total*>(accumulators)[j]);
}

struct ReduceLoops {
  int64_t accumulator_bytes;
  void (*clear)(char* accumulators, int64_t count);
  void (*add_block)(const char* x, int64_t count, char* accumulator);
  void (*add_rows)(const char* x, int64_t stride, int64_t rows, int64_t columns, char* accumulators);
  void (*merge)(const char* others, int64_t count, char* accumulators);
  void (*finish)(const char* accumulators, int64_t count, char* y);
};
template <class Op, class T>
constexpr ReduceLoops kReduceLoops = {int64_t(sizeof(typename Op::template Accumulator<T>)),
                                      clear_accumulators<Op, T>,
                                      add_block<Op, T>,
                                      add_rows<Op, T>,
                                      merge_accumulators<Op, T>,
                                      finish_accumulators<Op, T>};

/* By the dtype that elements are reduced in; null where an op has none. */
struct ReduceTable {
  const ReduceLoops* of[kNumReal];
};
template <class Op>
constexpr ReduceTable kWrappingReduction = {
    {nullptr, &kReduceLoops<Op, uint8_t>, &kReduceLoops<Op, uint16_t>, &kReduceLoops<Op, uint32_t>,
     &kReduceLoops<Op, uint64_t>, &kReduceLoops<Op, uint8_t>, &kReduceLoops<Op, uint16_t>, &kReduceLoops<Op, uint32_t>,
     &kReduceLoops<Op, uint64_t>, nullptr, nullptr, &kReduceLoops<Op, float>, &kReduceLoops<Op, double>}};
template <class Op>
constexpr ReduceTable kOrderReduction = {
    {&kReduceLoops<Op, uint8_t>, &kReduceLoops<Op, int8_t>, &kReduceLoops<Op, int16_t>, &kReduceLoops<Op, int32_t>,
     &kReduceLoops<Op, int64_t>, &kReduceLoops<Op, uint8_t>, &kReduceLoops<Op, uint16_t>, &kReduceLoops<Op, uint32_t>,
     &kReduceLoops<Op, uint64_t>, nullptr, nullptr, &kReduceLoops<Op, float>, &kReduceLoops<Op, double>}};

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
