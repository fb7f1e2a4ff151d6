/* Elementwise ops of one operand, in all real dtypes: perfxapi/ops/arithmetic.py says what they give. */
#ifndef PERFX_KERNELS_UNARY_HPP
#define PERFX_KERNELS_UNARY_HPP

#include "perfx/kernels/arithmetic.hpp"
#include "perfx/kernels/wide_math.hpp"

namespace perfx {
namespace PERFX_VARIANT {

template <class T, class Op>
inline void single_loop(const Block& block) {
  const T* __restrict x = reinterpret_cast<const T*>(block.in[0]);
  T* __restrict y = reinterpret_cast<T*>(block.out);
  for (int64_t i = 0; i < block.count; ++i) y[i] = Op::of(x[i]);
}

struct Magnitude {
  static float of(float x) { return __builtin_fabsf(x); }
  static double of(double x) { return __builtin_fabs(x); }
  template <class T>
  static T of(T x) {
    return std::is_signed<T>::value && x < 0 ? Subtract::of(T(0), x) : x;
  }
};
struct Sign {
  template <class T>
  static T of(T x) {
    return x != x ? x : T((x > 0) - (x < 0));
  }
};
struct Ceil {
  static float of(float x) { return __builtin_ceilf(x); }
  static double of(double x) { return __builtin_ceil(x); }
};
struct Floor {
  static float of(float x) { return __builtin_floorf(x); }
  static double of(double x) { return __builtin_floor(x); }
};
struct Truncate {
  static float of(float x) { return __builtin_truncf(x); }
  static double of(double x) { return __builtin_trunc(x); }
};
/* Ties to the even number, as the processor rounds. */
struct Round {
  static float of(float x) { return __builtin_rintf(x); }
  static double of(double x) { return __builtin_rint(x); }
};
struct SquareRoot {
  static float of(float x) { return __builtin_sqrtf(x); }
  static double of(double x) { return __builtin_sqrt(x); }
};

/* ---- functions of vectors: the last one of a block is filled up with ones */

template <F (*kFunction)(F)>
inline void vector_loop(const Block& block) {
  const float* x = reinterpret_cast<const float*>(block.in[0]);
  float* y = reinterpret_cast<float*>(block.out);
  for_each_vector(block.count, [&](int64_t i, int n) { store_n(y + i, n, kFunction(load_n(x + i, n))); });
}

typedef float NarrowLanes __attribute__((vector_size(32)));

template <class T>
inline wide::W load_wide(const T* x) {
  if constexpr (std::is_same<T, float>::value) {
    NarrowLanes lanes;
    memcpy(&lanes, x, sizeof(lanes));
    return __builtin_convertvector(lanes, wide::W);
  } else {
    wide::W lanes;
    memcpy(&lanes, x, sizeof(lanes));
    return lanes;
  }
}
template <class T>
inline void store_wide(T* y, wide::W value) {
  if constexpr (std::is_same<T, float>::value) {
    const NarrowLanes lanes = __builtin_convertvector(value, NarrowLanes);
    memcpy(y, &lanes, sizeof(lanes));
  } else {
    memcpy(y, &value, sizeof(value));
  }
}
template <class T, wide::W (*kFunction)(wide::W)>
inline void wide_loop(const Block& block) {
  const T* x = reinterpret_cast<const T*>(block.in[0]);
  T* y = reinterpret_cast<T*>(block.out);
  int64_t i = 0;
  for (; i + wide::kWideLanes <= block.count; i += wide::kWideLanes) store_wide(y + i, kFunction(load_wide(x + i)));
  if (i == block.count) return;
  T rest[wide::kWideLanes] = {1, 1, 1, 1, 1, 1, 1, 1};
  memcpy(rest, x + i, size_t(block.count - i) * sizeof(T));
  store_wide(rest, kFunction(load_wide(rest)));
  memcpy(y + i, rest, size_t(block.count - i) * sizeof(T));
}
template <double (*kFunction)(double)>
inline void library_loop(const Block& block) {
  const double* x = reinterpret_cast<const double*>(block.in[0]);
  double* y = reinterpret_cast<double*>(block.out);
  for (int64_t i = 0; i < block.count; ++i) y[i] = kFunction(x[i]);
}

inline wide::W tangent(wide::W x) { return wide::sine_of<false, 0>(x) / wide::sine_of<false, 1>(x); }

/* ---- loops by dtype */

constexpr LoopTable float_loops(Loop float32, Loop float64) {
  return {{nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, float32,
           float64}};
}
template <class Op, class T>
constexpr Loop kSingle = single_loop<T, Op>;
template <class Op>
constexpr LoopTable kRoundLoops = float_loops(kSingle<Op, float>, kSingle<Op, double>);
template <class Op>
constexpr LoopTable kNumberLoops = {{nullptr, kSingle<Op, int8_t>, kSingle<Op, int16_t>, kSingle<Op, int32_t>,
                                     kSingle<Op, int64_t>, kSingle<Op, uint8_t>, kSingle<Op, uint16_t>,
                                     kSingle<Op, uint32_t>, kSingle<Op, uint64_t>, nullptr, nullptr, kSingle<Op, float>,
                                     kSingle<Op, double>}};
/* float32 by wide vectors; float64 by them too, or by the C library */
template <wide::W (*kFunction)(wide::W), wide::W (*kPrecise)(wide::W)>
constexpr LoopTable kWideLoops = float_loops(wide_loop<float, kFunction>, wide_loop<double, kPrecise>);
template <wide::W (*kFunction)(wide::W), double (*kLibrary)(double)>
constexpr LoopTable kMixedLoops = float_loops(wide_loop<float, kFunction>, library_loop<kLibrary>);
constexpr LoopTable kExpLoops = float_loops(vector_loop<exp>, wide_loop<double, wide::exp_of<true>>);
constexpr LoopTable kTanhLoops = float_loops(vector_loop<tanh>, library_loop<::tanh>);

/* ---- kernels */

inline Scheme single_scheme(const PxCall* call, const LoopTable& table, int64_t grain) {
  const int32_t dtype = computed_in(call->operands[0].dtype);
  return {dtype < kNumReal ? table.of[dtype] : nullptr, {dtype}, dtype, grain};
}
template <const LoopTable& kTable>
inline int32_t accepts_single(const PxCall* call) {
  if (!are_plain(call, 1)) return PX_UNSUPPORTED;
  return accepts_scheme(call, 1, single_scheme(call, kTable, kElementGrain));
}
template <const LoopTable& kTable, int64_t kGrain>
inline int32_t run_single(const PxCall* call, const PxThread* thread) {
  return run_scheme<1>(call, thread, single_scheme(call, kTable, kGrain));
}

/* Of dense float32 operands by the vectors of elementwise.hpp. */
template <const LoopTable& kTable, F (*kFunction)(F)>
inline int32_t run_single_or_vectors(const PxCall* call, const PxThread* thread) {
  if (accepts_unary(call) == PX_OK) return run_unary<kFunction>(call, thread);
  return run_single<kTable, kSlowGrain>(call, thread);
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
