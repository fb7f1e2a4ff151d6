// Numbers of any real dtype, as bytes and as double.
#ifndef PERFX_TESTS_NUMBERS_HPP
#define PERFX_TESTS_NUMBERS_HPP

#include "sweep.hpp"

namespace perfx_test {

constexpr int32_t kReal[] = {PX_BOOL,   PX_INT8,   PX_INT16,   PX_INT32,    PX_INT64,   PX_UINT8,  PX_UINT16,
                             PX_UINT32, PX_UINT64, PX_FLOAT16, PX_BFLOAT16, PX_FLOAT32, PX_FLOAT64};

inline bool is_float(int32_t dtype) { return dtype >= PX_FLOAT16 && dtype <= PX_FLOAT64; }
inline bool is_signed(int32_t dtype) { return is_float(dtype) || (dtype >= PX_INT8 && dtype <= PX_INT64); }

template <class T>
inline T bits_as(const void* from) {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}
// Numbers that a float16 or a bfloat16 holds exactly, in their normal range.
inline uint16_t short_float(double value, int mantissa_bits, int bias) {
  if (value == 0) return std::signbit(value) ? 0x8000 : 0;
  int exponent;
  const double fraction = std::frexp(std::fabs(value), &exponent);
  const double mantissa = std::ldexp(2 * fraction - 1, mantissa_bits);
  CHECK(mantissa == std::floor(mantissa));
  return uint16_t((value < 0 ? 0x8000 : 0) | (exponent - 1 + bias) << mantissa_bits | int(mantissa));
}
inline double from_short_float(uint16_t bits, int mantissa_bits, int bias) {
  const int exponent = (bits & 0x7fff) >> mantissa_bits, mantissa = bits & ((1 << mantissa_bits) - 1);
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, 1 - bias - mantissa_bits)
                                         : std::ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
  return bits & 0x8000 ? -magnitude : magnitude;
}

template <class T>
inline void put_as(double value, char* to) {
  const T stored = T(value);
  std::memcpy(to, &stored, sizeof(stored));
}
// A number as an element; those of float32 are rounded, others must be exact.
inline void put(int32_t dtype, double value, char* to) {
  switch (dtype) {
    case PX_INT8:
      return put_as<int8_t>(value, to);
    case PX_INT16:
      return put_as<int16_t>(value, to);
    case PX_INT32:
      return put_as<int32_t>(value, to);
    case PX_INT64:
      return put_as<int64_t>(value, to);
    case PX_BOOL:
    case PX_UINT8:
      return put_as<uint8_t>(value, to);
    case PX_UINT16:
      return put_as<uint16_t>(value, to);
    case PX_UINT32:
      return put_as<uint32_t>(value, to);
    case PX_UINT64:
      return put_as<uint64_t>(value, to);
    case PX_FLOAT16:
      return put_as<uint16_t>(short_float(value, 10, 15), to);
    case PX_BFLOAT16:
      return put_as<uint16_t>(short_float(value, 7, 127), to);
    case PX_FLOAT32:
      return put_as<float>(value, to);
    default:
      return put_as<double>(value, to);
  }
}
inline double get(int32_t dtype, const char* from) {
  switch (dtype) {
    case PX_INT8:
      return bits_as<int8_t>(from);
    case PX_INT16:
      return bits_as<int16_t>(from);
    case PX_INT32:
      return bits_as<int32_t>(from);
    case PX_INT64:
      return double(bits_as<int64_t>(from));
    case PX_BOOL:
    case PX_UINT8:
      return bits_as<uint8_t>(from);
    case PX_UINT16:
      return bits_as<uint16_t>(from);
    case PX_UINT32:
      return bits_as<uint32_t>(from);
    case PX_UINT64:
      return double(bits_as<uint64_t>(from));
    case PX_FLOAT16:
      return from_short_float(bits_as<uint16_t>(from), 10, 15);
    case PX_BFLOAT16:
      return from_short_float(bits_as<uint16_t>(from), 7, 127);
    case PX_FLOAT32:
      return bits_as<float>(from);
    default:
      return bits_as<double>(from);
  }
}

// Elements of a dtype, and what they are.
struct Numbers {
  Numbers(int32_t dtype_in, const std::vector<double>& from)
      : dtype(dtype_in), item(Trial::item_of(dtype)), bytes(from.size() * size_t(item)) {
    for (size_t i = 0; i < from.size(); ++i) {
      put(dtype, from[i], bytes.data() + int64_t(i) * item);
      values.push_back(get(dtype, bytes.data() + int64_t(i) * item));
    }
  }
  int32_t dtype;
  int64_t item;
  std::vector<char> bytes;
  std::vector<double> values;
};

// Numbers between two bounds that the dtype has: whole ones, of float16 and bfloat16 quarters; of bool 0 and 1.
inline Numbers numbers_of(int32_t dtype, size_t count, uint64_t seed, double low, double high) {
  Random random(seed);
  if (!is_signed(dtype)) low = std::max(low, 0.0);
  if (dtype == PX_BOOL) low = 0, high = 1;
  std::vector<double> values(count);
  for (double& value : values) {
    value = low + (high - low) * random.uniform();
    if (!is_float(dtype)) value = std::floor(low + (std::floor(high) - low + 1) * random.uniform());
    if (dtype == PX_FLOAT16 || dtype == PX_BFLOAT16) value = std::floor(4 * value) / 4;
  }
  return Numbers(dtype, values);
}

// Is each element of a result close to what it should be? Whole numbers must be equal.
inline bool holds(int32_t dtype, const std::vector<char>& result, const std::vector<double>& expected, double relative,
                  double absolute) {
  const int64_t item = Trial::item_of(dtype);
  if (!is_float(dtype)) relative = absolute = 0;
  for (int64_t i = 0; i * item < int64_t(result.size()); ++i) {
    const double actual = get(dtype, result.data() + i * item);
    if (close(actual, expected[size_t(i)], relative, absolute)) continue;
    std::fprintf(stderr, "element %d is %.9g and not %.9g\n", int(i), actual, expected[size_t(i)]);
    return false;
  }
  return true;
}

}  // namespace perfx_test
#endif
