/* Elements of one dtype as another, as NumPy's astype: whole numbers wrap around, floating-point ones lose their
 * fraction or are rounded to the nearest, to bool what differs from 0 is true. bfloat16 is rounded from float32. */
#ifndef PERFX_KERNELS_CONVERT_HPP
#define PERFX_KERNELS_CONVERT_HPP

#include <string.h>

#include <type_traits>

#include "perfx/kernels/strided.hpp"

namespace perfx {
namespace PERFX_VARIANT {

/* Elements that C++ has no type for. */
struct Bool {
  uint8_t value;
};
struct Float16 {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};
template <class T>
constexpr bool kIsSmallFloat = std::is_same<T, Float16>::value || std::is_same<T, BFloat16>::value;

/* A float64 as a float32 whose further rounding to fewer digits is the float64's own: what is inexact is rounded
 * towards 0 and then made odd (Boldo and Melquiond, "When double rounding is odd", 2005). */
inline float rounded_to_odd(double x) {
  const float nearest = float(x);
  uint32_t bits;
  memcpy(&bits, &nearest, sizeof(bits));
  const double back = double(nearest);
  const bool inexact = back < x || back > x;
  bits -= uint32_t(inexact && (back > x) == (x > 0)); /* past x: one step towards 0 */
  bits |= uint32_t(inexact);
  float odd;
  memcpy(&odd, &bits, sizeof(odd));
  return odd;
}

inline float widen(BFloat16 x) {
  const uint32_t bits = uint32_t(x.bits) << 16;
  float y;
  memcpy(&y, &bits, sizeof(y));
  return y;
}
inline BFloat16 narrow_bfloat16(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof(bits));
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return {uint16_t(x == x ? rounded : 0x7fc0)};
}

/* A floating-point number outside of the range of a whole one has no meaning; those of 32 bits and less go through a
 * wider one, so that what is only negative wraps around. */
template <class To, class From>
inline To converted(From x) {
  if constexpr (std::is_same<From, Bool>::value) {
    return converted<To>(x.value);
  } else if constexpr (std::is_same<To, Bool>::value) {
    return {uint8_t(x != From(0))};
  } else if constexpr (std::is_floating_point<From>::value && std::is_integral<To>::value && sizeof(To) < 4) {
    return To(int32_t(x));
  } else if constexpr (std::is_floating_point<From>::value && std::is_same<To, uint32_t>::value) {
    return To(int64_t(x));
  } else if constexpr (std::is_floating_point<From>::value && std::is_same<To, uint64_t>::value) {
    return x < 0 ? To(int64_t(x)) : To(x);
  } else {
    return To(x);
  }
}

/* float32 of what a small float is rounded from. */
template <class To, class From>
inline float on_the_way(From x) {
  if constexpr (std::is_same<To, Float16>::value && std::is_same<From, double>::value) {
    return rounded_to_odd(x);
  } else {
    return converted<float>(x);
  }
}

/* Vectors of small floats from and to float32. */
template <class T>
inline void widen_vector(const T* from, float* to, int n) {
  if constexpr (std::is_same<T, Float16>::value) {
    store_n(to, n, n == kLanes ? load_half(&from->bits) : load_half_first(&from->bits, n));
  } else {
    for (int i = 0; i < n; ++i) to[i] = widen(from[i]);
  }
}
template <class T>
inline void narrow_vector(const float* from, T* to, int n) {
  if constexpr (std::is_same<T, Float16>::value) {
    n == kLanes ? store_half(&to->bits, load(from)) : store_half_first(&to->bits, n, load_first(from, n));
  } else {
    for (int i = 0; i < n; ++i) to[i] = narrow_bfloat16(from[i]);
  }
}

template <class From, class To>
inline void convert_elements(const char* source, char* target, int64_t count) {
  const From* __restrict from = reinterpret_cast<const From*>(source);
  To* __restrict to = reinterpret_cast<To*>(target);
  if constexpr (kIsSmallFloat<From> || kIsSmallFloat<To>) {
    for_each_vector(count, [&](int64_t first, int n) {
      float wide[kLanes];
      if constexpr (kIsSmallFloat<From>) {
        widen_vector(from + first, wide, n);
      } else {
        for (int i = 0; i < n; ++i) wide[i] = on_the_way<To>(from[first + i]);
      }
      if constexpr (kIsSmallFloat<To>) {
        narrow_vector(wide, to + first, n);
      } else {
        for (int i = 0; i < n; ++i) to[first + i] = converted<To>(wide[i]);
      }
    });
  } else {
    for (int64_t i = 0; i < count; ++i) to[i] = converted<To>(from[i]);
  }
}

/* Whole numbers of one size are made alike, with a sign or without. */
template <class From, class To>
constexpr Convert convert_to() {
  if constexpr (std::is_same<From, To>::value) {
    return nullptr;
  } else if constexpr (std::is_integral<From>::value && std::is_integral<To>::value && sizeof(From) >= sizeof(To)) {
    using Source = typename std::make_unsigned<From>::type;
    return convert_elements<Source, typename std::make_unsigned<To>::type>;
  } else if constexpr (std::is_integral<From>::value && std::is_integral<To>::value) {
    return convert_elements<From, typename std::make_unsigned<To>::type>;
  } else {
    return convert_elements<From, To>;
  }
}

constexpr int32_t kNumReal = PX_FLOAT64 + 1;

struct ConvertRow {
  Convert to[kNumReal];
};
template <class From>
constexpr ConvertRow kConvertFrom = {
    {convert_to<From, Bool>(), convert_to<From, int8_t>(), convert_to<From, int16_t>(), convert_to<From, int32_t>(),
     convert_to<From, int64_t>(), convert_to<From, uint8_t>(), convert_to<From, uint16_t>(),
     convert_to<From, uint32_t>(), convert_to<From, uint64_t>(), convert_to<From, Float16>(),
     convert_to<From, BFloat16>(), convert_to<From, float>(), convert_to<From, double>()}};

/* The conversion between real dtypes (bool included); null where they are the same. */
inline Convert conversion(int32_t from, int32_t to) {
  static constexpr const ConvertRow* kRows[kNumReal] = {
      &kConvertFrom<Bool>,     &kConvertFrom<int8_t>,  &kConvertFrom<int16_t>,  &kConvertFrom<int32_t>,
      &kConvertFrom<int64_t>,  &kConvertFrom<uint8_t>, &kConvertFrom<uint16_t>, &kConvertFrom<uint32_t>,
      &kConvertFrom<uint64_t>, &kConvertFrom<Float16>, &kConvertFrom<BFloat16>, &kConvertFrom<float>,
      &kConvertFrom<double>};
  return from == to ? nullptr : kRows[from]->to[to];
}
inline bool is_convertible(int32_t from, int32_t to) { return from == to || (from < kNumReal && to < kNumReal); }

/* The dtype that two dtypes of numbers are promoted to, of those that mix (perfxapi.dtypes.result_type). */
inline int32_t promoted(int32_t a, int32_t b) {
  if (a == b) return a;
  if ((a == PX_FLOAT16 && b == PX_BFLOAT16) || (a == PX_BFLOAT16 && b == PX_FLOAT16)) return PX_FLOAT32;
  const int32_t low = a < b ? a : b, high = a < b ? b : a;
  if (low > PX_INT64 || high <= PX_INT64 || high > PX_UINT64) return high;
  const int32_t wider = high - PX_UINT8 + PX_INT16; /* the signed dtype that holds the unsigned one */
  return low > wider ? low : wider;
}
/* The dtype that elements are computed in. */
inline int32_t computed_in(int32_t dtype) {
  return dtype == PX_FLOAT16 || dtype == PX_BFLOAT16 ? int32_t(PX_FLOAT32) : dtype;
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
