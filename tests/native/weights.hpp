// Weights as GGUF stores them, read one value at a time, and the numerics of products with them: what the kernels of
// matrix products must give bit for bit.
#ifndef PERFX_TESTS_WEIGHTS_HPP
#define PERFX_TESTS_WEIGHTS_HPP

#include "check.hpp"
#include "perfx/packing.h"

namespace perfx_test {

constexpr int32_t kFormats[] = {PX_Q4_0, PX_Q5_0, PX_Q8_0, PX_Q4_K, PX_Q6_K,   PX_INT4_G128, PX_Q4_1, PX_Q5_1,
                                PX_Q2_K, PX_Q3_K, PX_Q5_K, PX_Q8_K, PX_IQ4_NL, PX_IQ4_XS,    PX_MXFP4};

// ---- GGUF, one value at a time (block layouts of ggml-common.h in the ggml project)

inline float half_to_float(const unsigned char* bytes) {
  const int bits = bytes[0] | bytes[1] << 8, exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return float(bits & 0x8000 ? -magnitude : magnitude);
}

// A weight: (code) * scale - minimum, the code with its offset subtracted.
struct Value {
  int code;
  float scale, minimum;
};

inline Value read_q4_k(const unsigned char* block, int column) {
  const int sub = column / 32, byte = block[16 + 32 * (sub / 2) + column % 32];
  const unsigned char* six = block + 4;
  const int scale = sub < 4 ? six[sub] & 63 : (six[sub + 4] & 15) | six[sub - 4] >> 6 << 4;
  const int minimum = sub < 4 ? six[sub + 4] & 63 : six[sub + 4] >> 4 | six[sub] >> 6 << 4;
  return {sub % 2 ? byte >> 4 : byte & 15, half_to_float(block) * float(scale),
          half_to_float(block + 2) * float(minimum)};
}

inline Value read_q6_k(const unsigned char* block, int column) {
  const int half = column / 128, quarter = column % 128 / 32, lane = column % 32;
  const int low = block[64 * half + 32 * (quarter % 2) + lane] >> 4 * (quarter / 2) & 15;
  const int high = block[128 + 32 * half + lane] >> 2 * quarter & 3;
  const float scale = half_to_float(block + 208) * float(int8_t(block[192 + column / 16]));
  return {(low | high << 4) - 32, scale, 0};
}

inline Value read_q5_k(const unsigned char* block, int column) {
  unsigned char low[144];  // a Q4_K block with the same scales and low bits
  std::memcpy(low, block, 16);
  std::memcpy(low + 16, block + 48, 128);
  Value value = read_q4_k(low, column);
  value.code |= (block[16 + column % 32] >> column / 32 & 1) << 4;
  return value;
}

inline int pair(const unsigned char* pairs, int column) {
  return pairs[32 * (column / 128) + column % 32] >> 2 * (column % 128 / 32) & 3;
}

inline Value read_q2_k(const unsigned char* block, int column) {
  const int both = block[column / 16];
  return {pair(block + 16, column), half_to_float(block + 80) * float(both & 15),
          half_to_float(block + 82) * float(both >> 4)};
}

inline Value read_q3_k(const unsigned char* block, int column) {
  const int s = column / 16, high = block[column % 32] >> column / 32 & 1;
  const int scale = (block[96 + s % 8] >> 4 * (s / 8) & 15) | (block[104 + s % 4] >> 2 * (s / 4) & 3) << 4;
  return {pair(block + 32, column) + 4 * high - 4, half_to_float(block + 108) * float(scale - 32), 0};
}

constexpr int kIq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
constexpr int kFp4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

inline int nibble_of(const unsigned char* nibbles, int i) { return i < 16 ? nibbles[i] & 15 : nibbles[i - 16] >> 4; }

inline Value read_iq4_xs(const unsigned char* block, int column) {
  const int s = column / 32, high = block[2] | block[3] << 8;
  const int scale = (block[4 + s / 2] >> 4 * (s % 2) & 15) | (high >> 2 * s & 3) << 4;
  return {kIq4[nibble_of(block + 8 + 16 * s, column % 32)], half_to_float(block) * float(scale - 32), 0};
}

inline Value read_q8_k(const unsigned char* block, int column) {
  float scale;
  std::memcpy(&scale, block, 4);
  return {int8_t(block[4 + column]), scale, 0};
}

inline Value read_int4_g128(const unsigned char* block, int column) {
  const int byte = block[3 + 16 * (column / 32) + column % 16];
  const float scale = half_to_float(block);
  return {column % 32 < 16 ? byte & 15 : byte >> 4, scale, scale * float(block[2])};
}

inline Value read(int32_t dtype, const unsigned char* row, int64_t column) {
  const PxBlock block = perfx_block(dtype);
  const unsigned char* from = row + column / block.columns * block.row_bytes;
  const int i = int(column % block.columns);
  if (dtype == PX_Q4_K) return read_q4_k(from, i);
  if (dtype == PX_Q6_K) return read_q6_k(from, i);
  if (dtype == PX_Q2_K) return read_q2_k(from, i);
  if (dtype == PX_Q3_K) return read_q3_k(from, i);
  if (dtype == PX_Q5_K) return read_q5_k(from, i);
  if (dtype == PX_Q8_K) return read_q8_k(from, i);
  if (dtype == PX_IQ4_XS) return read_iq4_xs(from, i);
  if (dtype == PX_IQ4_NL) return {kIq4[nibble_of(from + 2, i)], half_to_float(from), 0};
  if (dtype == PX_MXFP4) return {kFp4[nibble_of(from + 1, i)], std::ldexp(1.0f, from[0] - 128), 0};
  if (dtype == PX_INT4_G128) return read_int4_g128(from, i);
  if (dtype == PX_Q8_0) return {int8_t(from[2 + i]), half_to_float(from), 0};
  const bool has_minimum = dtype == PX_Q4_1 || dtype == PX_Q5_1, has_fifth = dtype == PX_Q5_0 || dtype == PX_Q5_1;
  const unsigned char* bits = from + (has_minimum ? 4 : 2);
  int code = nibble_of(bits + (has_fifth ? 4 : 0), i);
  if (has_fifth) code |= (bits[i / 8] >> i % 8 & 1) << 4;
  if (has_minimum) return {code, half_to_float(from), -half_to_float(from + 2)};
  return {code - (has_fifth ? 16 : 8), half_to_float(from), 0};
}

// ---- the numerics of quantized products

struct Quantized {
  std::vector<int> codes;
  std::vector<float> scales;
};

inline Quantized quantize(const float* x, int64_t columns, int64_t format) {
  const float level = format == 1 ? 127.0f : 32512.0f;
  Quantized result;
  for (int64_t block = 0; block < columns; block += 32) {
    float amax = 0;
    for (int i = 0; i < 32; ++i) amax = std::fmax(amax, std::fabs(x[block + i]));
    const float inverse = amax > 0 ? level / amax : 0;
    result.scales.push_back(amax / level);
    for (int i = 0; i < 32; ++i) {
      const float code = std::nearbyint(x[block + i] * inverse);
      result.codes.push_back(int(std::fmax(-level, std::fmin(level, code))));
    }
  }
  return result;
}

inline bool has_minimum(int32_t dtype) {
  return dtype == PX_Q4_1 || dtype == PX_Q5_1 || dtype == PX_Q2_K || dtype == PX_Q4_K || dtype == PX_Q5_K ||
         dtype == PX_INT4_G128;
}

inline float dot(int32_t dtype, const unsigned char* row, const Quantized& x) {
  const int step = dtype == PX_Q6_K || dtype == PX_Q2_K || dtype == PX_Q3_K ? 16 : 32;
  float sum = 0;
  for (int64_t start = 0; start < int64_t(x.codes.size()); start += step) {
    int64_t product = 0, code_sum = 0;
    for (int64_t i = start; i < start + step; ++i) {
      product += int64_t(read(dtype, row, i).code) * x.codes[size_t(i)];
      code_sum += x.codes[size_t(i)];
    }
    const Value value = read(dtype, row, start);
    const float scale = x.scales[size_t(start / 32)];
    sum = std::fma(float(product), value.scale * scale, sum);
    if (has_minimum(dtype)) sum = std::fma(-value.minimum, scale * float(code_sum), sum);
  }
  return sum;
}

// The bytes of a block whose second highest bit, cleared, keeps its scales finite.
inline std::vector<int> scale_bytes(int32_t dtype) {
  switch (dtype) {
    case PX_FLOAT32:
      return {3};
    case PX_FLOAT16:
    case PX_BFLOAT16:
      return {1};
    case PX_Q2_K:
      return {81, 83};
    case PX_Q3_K:
      return {109};
    case PX_Q6_K:
      return {209};
    case PX_Q8_K:
      return {3};
    case PX_MXFP4:
      return {0};
    default:
      return has_minimum(dtype) && dtype != PX_INT4_G128 ? std::vector<int>{1, 3} : std::vector<int>{1};
  }
}

// A weight's value: what products with float32 activations multiply.
inline float value_of(int32_t dtype, const unsigned char* row, int64_t column) {
  const int word = row[2 * column] | row[2 * column + 1] << 8;
  if (dtype == PX_FLOAT16) return half_to_float(row + 2 * column);
  if (dtype == PX_FLOAT32 || dtype == PX_BFLOAT16) {
    const uint32_t bits = uint32_t(word) << 16;
    float value;
    std::memcpy(&value, dtype == PX_FLOAT32 ? static_cast<const void*>(row + 4 * column) : &bits, 4);
    return value;
  }
  const Value value = read(dtype, row, column);
  return std::fma(float(value.code), value.scale, -value.minimum);
}

}  // namespace perfx_test
#endif
