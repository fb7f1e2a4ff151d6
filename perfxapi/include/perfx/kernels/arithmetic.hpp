/* Elementwise ops of two operands, in all real dtypes: perfxapi/ops/arithmetic.py says what they give. */
#ifndef PERFX_KERNELS_ARITHMETIC_HPP
#define PERFX_KERNELS_ARITHMETIC_HPP

#include <math.h>

#include "perfx/kernels/broadcast.hpp"
#include "perfx/kernels/elementwise.hpp"

namespace perfx {
namespace PERFX_VARIANT {

/* What is worth a thread's while where an element takes many times as long as its sum. */
constexpr int64_t kSlowGrain = 64;

template <class T, class R, class Op>
inline void pair_loop(const Block& block) {
  const T* __restrict a = reinterpret_cast<const T*>(block.in[0]);
  const T* __restrict b = reinterpret_cast<const T*>(block.in[1]);
  R* __restrict y = reinterpret_cast<R*>(block.out);
  for (int64_t i = 0; i < block.count; ++i) y[i] = Op::of(a[i], b[i]);
}

/* Whole numbers wrap around: computed without a sign, in 32 bits at least. */
template <class T>
using Unsigned = typename std::common_type<T, unsigned>::type;

struct Add {
  template <class T>
  static T of(T a, T b) {
    if constexpr (std::is_integral<T>::value) return T(Unsigned<T>(a) + Unsigned<T>(b));
    return T(a + b);
  }
};
struct Subtract {
  template <class T>
  static T of(T a, T b) {
    if constexpr (std::is_integral<T>::value) return T(Unsigned<T>(a) - Unsigned<T>(b));
    return T(a - b);
  }
};
struct Multiply {
  template <class T>
  static T of(T a, T b) {
    if constexpr (std::is_integral<T>::value) return T(Unsigned<T>(a) * Unsigned<T>(b));
    return T(a * b);
  }
};
struct Divide {
  template <class T>
  static T of(T a, T b) {
    return a / b;
  }
};
/* NaN where either is NaN. */
struct Maximum {
  template <class T>
  static T of(T a, T b) {
    const T larger = a > b ? a : b;
    return a == a ? larger : a;
  }
};
struct Minimum {
  template <class T>
  static T of(T a, T b) {
    const T smaller = a < b ? a : b;
    return a == a ? smaller : a;
  }
};

/* Rounded down; a whole number by 0 is 0, and the lowest one by -1 itself. */
struct FloorDivide {
  template <class T>
  static T of(T a, T b) {
    if constexpr (std::is_floating_point<T>::value) {
      return of_floats(a, b);
    } else {
      if (b == 0) return 0;
      if (std::is_signed<T>::value && b == T(-1)) return Subtract::of(T(0), a);
      const T quotient = T(a / b);
      return T(quotient - T(a % b != 0 && (a < 0) != (b < 0)));
    }
  }

 private:
  /* As Python's: from the exact remainder. What is infinite divided, or divides, is as in IEEE 754. */
  template <class T>
  static T of_floats(T a, T b) {
    if (b == 0 || __builtin_isinf(a) != __builtin_isinf(b)) return a / b;
    const T rest = T(::fmod(double(a), double(b)));
    T quotient = (a - rest) / b;
    if (rest != 0 && (b < 0) != (rest < 0)) quotient -= 1;
    if (quotient == 0) return T(::copysign(0.0, double(a / b)));
    const T whole = T(::floor(double(quotient)));
    return quotient - whole > T(0.5) ? whole + 1 : whole;
  }
};
/* With the sign of the divisor; of a whole number by 0 it is 0. */
struct Remainder {
  template <class T>
  static T of(T a, T b) {
    if constexpr (std::is_floating_point<T>::value) {
      const T rest = T(::fmod(double(a), double(b)));
      if (rest == 0) return T(::copysign(0.0, double(b)));
      return (b < 0) != (rest < 0) ? rest + b : rest;
    } else {
      if (b == 0 || (std::is_signed<T>::value && b == T(-1))) return 0;
      const T rest = T(a % b);
      return rest != 0 && (rest < 0) != (b < 0) ? T(rest + b) : rest;
    }
  }
};
struct Power {
  template <class T>
  static T of(T a, T b) {
    if constexpr (std::is_floating_point<T>::value) {
      return T(::pow(double(a), double(b)));
    } else {
      T result = 1;
      for (; b != 0; b = T(b >> 1)) {
        if (b & 1) result = Multiply::of(result, a);
        a = Multiply::of(a, a);
      }
      return result;
    }
  }
};

struct And {
  template <class T>
  static T of(T a, T b) {
    return T(a & b);
  }
};
struct Or {
  template <class T>
  static T of(T a, T b) {
    return T(a | b);
  }
};
struct Xor {
  template <class T>
  static T of(T a, T b) {
    return T(a ^ b);
  }
};
/* By as many bits as there are, or a negative number of them, all are shifted out. */
struct LeftShift {
  template <class T>
  static T of(T a, T b) {
    return uint64_t(b) < 8 * sizeof(T) ? T(Unsigned<T>(a) << b) : T(0);
  }
};
struct RightShift {
  template <class T>
  static T of(T a, T b) {
    return uint64_t(b) < 8 * sizeof(T) ? T(a >> b) : T(a < 0 ? -1 : 0);
  }
};

struct Equal {
  template <class T>
  static uint8_t of(T a, T b) {
    return a == b;
  }
};
struct Less {
  template <class T>
  static uint8_t of(T a, T b) {
    return a < b;
  }
};
struct LessEqual {
  template <class T>
  static uint8_t of(T a, T b) {
    return a <= b;
  }
};

struct CopySign {
  template <class T>
  static T of(T a, T b) {
    return T(::copysign(double(a), double(b)));
  }
};
struct Atan2 {
  template <class T>
  static T of(T a, T b) {
    return T(::atan2(double(a), double(b)));
  }
};
/* The squares of float32 are exact in float64, and neither overflow nor vanish there. */
struct Hypot {
  static double of(double a, double b) { return ::hypot(a, b); }
  static float of(float a, float b) {
    const double x = a, y = b;
    const float root = float(::sqrt(x * x + y * y));
    return __builtin_isinf(a) || __builtin_isinf(b) ? INFINITY : root;
  }
};
struct LogAddExp {
  template <class T>
  static T of(T a, T b) {
    if (a == b) return a + T(M_LN2); /* infinities of one sign too */
    const T apart = a - b;
    if (apart > 0) return a + T(::log1p(::exp(double(-apart))));
    return apart <= 0 ? b + T(::log1p(::exp(double(apart)))) : apart;
  }
};
struct NextAfter {
  static float of(float a, float b) { return ::nextafterf(a, b); }
  static double of(double a, double b) { return ::nextafter(a, b); }
};

/* ---- loops by dtype: those of whole numbers that do not ask for the sign are made once for each size */

template <class Op, class T>
constexpr Loop kSame = pair_loop<T, T, Op>;
template <class Op, class T>
constexpr Loop kTruth = pair_loop<T, uint8_t, Op>;

template <class Op>
constexpr LoopTable kWrappingLoops = {{nullptr, kSame<Op, uint8_t>, kSame<Op, uint16_t>, kSame<Op, uint32_t>,
                                       kSame<Op, uint64_t>, kSame<Op, uint8_t>, kSame<Op, uint16_t>,
                                       kSame<Op, uint32_t>, kSame<Op, uint64_t>, nullptr, nullptr, kSame<Op, float>,
                                       kSame<Op, double>}};
template <class Op>
constexpr LoopTable kRealLoops = {{nullptr, kSame<Op, int8_t>, kSame<Op, int16_t>, kSame<Op, int32_t>,
                                   kSame<Op, int64_t>, kSame<Op, uint8_t>, kSame<Op, uint16_t>, kSame<Op, uint32_t>,
                                   kSame<Op, uint64_t>, nullptr, nullptr, kSame<Op, float>, kSame<Op, double>}};
template <class Op>
constexpr LoopTable kFloatLoops = {{nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
                                    nullptr, nullptr, kSame<Op, float>, kSame<Op, double>}};
template <class Op>
constexpr LoopTable kBitLoops = {{kSame<Op, uint8_t>, kSame<Op, uint8_t>, kSame<Op, uint16_t>, kSame<Op, uint32_t>,
                                  kSame<Op, uint64_t>, kSame<Op, uint8_t>, kSame<Op, uint16_t>, kSame<Op, uint32_t>,
                                  kSame<Op, uint64_t>, nullptr, nullptr, nullptr, nullptr}};
template <class Op>
constexpr LoopTable kShiftLoops = {{nullptr, kSame<Op, int8_t>, kSame<Op, int16_t>, kSame<Op, int32_t>,
                                    kSame<Op, int64_t>, kSame<Op, uint8_t>, kSame<Op, uint16_t>, kSame<Op, uint32_t>,
                                    kSame<Op, uint64_t>, nullptr, nullptr, nullptr, nullptr}};
template <class Op>
constexpr LoopTable kEqualLoops = {{kTruth<Op, uint8_t>, kTruth<Op, uint8_t>, kTruth<Op, uint16_t>,
                                    kTruth<Op, uint32_t>, kTruth<Op, uint64_t>, kTruth<Op, uint8_t>,
                                    kTruth<Op, uint16_t>, kTruth<Op, uint32_t>, kTruth<Op, uint64_t>, nullptr, nullptr,
                                    kTruth<Op, float>, kTruth<Op, double>}};
template <class Op>
constexpr LoopTable kOrderLoops = {{nullptr, kTruth<Op, int8_t>, kTruth<Op, int16_t>, kTruth<Op, int32_t>,
                                    kTruth<Op, int64_t>, kTruth<Op, uint8_t>, kTruth<Op, uint16_t>,
                                    kTruth<Op, uint32_t>, kTruth<Op, uint64_t>, nullptr, nullptr, kTruth<Op, float>,
                                    kTruth<Op, double>}};

/* ---- kernels */

/* How two operands are computed with: both in the dtype that they are promoted to. */
inline Scheme pair_scheme(const PxCall* call, const LoopTable& table, bool truth, int64_t grain) {
  const PxTensor* t = call->operands;
  const int32_t both = computed_in(promoted(t[0].dtype, t[1].dtype));
  return {both < kNumReal ? table.of[both] : nullptr, {both, both}, truth ? int32_t(PX_BOOL) : both, grain};
}

template <const LoopTable& kTable, bool kTruths>
inline int32_t accepts_pair(const PxCall* call) {
  if (!are_plain(call, 2)) return PX_UNSUPPORTED;
  return accepts_scheme(call, 2, pair_scheme(call, kTable, kTruths, kElementGrain));
}
template <const LoopTable& kTable, bool kTruths, int64_t kGrain>
inline int32_t run_pair(const PxCall* call, const PxThread* thread) {
  return run_scheme<2>(call, thread, pair_scheme(call, kTable, kTruths, kGrain));
}

/* Of dense float32 operands of one shape, or one of them a number, by the vectors of elementwise.hpp. */
template <const LoopTable& kTable, F (*Function)(F, F)>
inline int32_t run_pair_or_vectors(const PxCall* call, const PxThread* thread) {
  if (accepts_binary(call) == PX_OK) return run_binary<Function>(call, thread);
  return run_pair<kTable, false, kElementGrain>(call, thread);
}

/* float16 has neighbors of its own, which are not those of float32. */
inline int32_t accepts_nextafter(const PxCall* call) {
  for (int i = 0; i < call->num_operands; ++i) {
    if (computed_in(call->operands[i].dtype) != call->operands[i].dtype) return PX_UNSUPPORTED;
  }
  return accepts_pair<kFloatLoops<NextAfter>, false>(call);
}

/* A whole number to a negative power is none. */
inline bool any_negative(const PxTensor& tensor) {
  if (tensor.dtype > PX_INT64 || num_elements(tensor) == 0) return false;
  Reader reader;
  reader.start(tensor, tensor, conversion(tensor.dtype, PX_INT64), {0, num_elements(tensor)});
  reader.repeat_number(int64_t(sizeof(int64_t)), smaller(kBlock, num_elements(tensor)));
  for (int64_t left = num_elements(tensor); left > 0;) {
    const int64_t count = reader.at_once(left);
    const int64_t* values = reinterpret_cast<const int64_t*>(reader.read(count));
    int64_t signs = 0;
    for (int64_t i = 0; i < count; ++i) signs |= values[i];
    if (signs < 0) return true;
    left -= count;
  }
  return false;
}
inline int32_t run_power(const PxCall* call, const PxThread* thread) {
  if (any_negative(call->operands[1])) return PX_INVALID_ARGUMENT;
  return run_pair<kWrappingLoops<Power>, false, kSlowGrain>(call, thread);
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
