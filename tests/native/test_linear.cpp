// The matrix products against a plain reference that reads GGUF rows one value at a time: bit for bit, in every
// variant.
#include "check.hpp"
#include "perfx/packing.h"

using namespace perfx_test;

namespace {

constexpr int64_t kColumns = 512;
constexpr int32_t kFormats[] = {PX_Q4_0, PX_Q5_0, PX_Q8_0, PX_Q4_K, PX_Q6_K,   PX_INT4_G128, PX_Q4_1, PX_Q5_1,
                                PX_Q2_K, PX_Q3_K, PX_Q5_K, PX_Q8_K, PX_IQ4_NL, PX_IQ4_XS,    PX_MXFP4};

// ---- GGUF, one value at a time (block layouts of ggml-common.h in the ggml project)

float half_to_float(const unsigned char* bytes) {
  const int bits = bytes[0] | bytes[1] << 8, exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return float(bits & 0x8000 ? -magnitude : magnitude);
}

// A weight: (code) * scale - minimum, the code with its offset subtracted.
struct Value {
  int code;
  float scale, minimum;
};

Value read_q4_k(const unsigned char* block, int column) {
  const int sub = column / 32, byte = block[16 + 32 * (sub / 2) + column % 32];
  const unsigned char* six = block + 4;
  const int scale = sub < 4 ? six[sub] & 63 : (six[sub + 4] & 15) | six[sub - 4] >> 6 << 4;
  const int minimum = sub < 4 ? six[sub + 4] & 63 : six[sub + 4] >> 4 | six[sub] >> 6 << 4;
  return {sub % 2 ? byte >> 4 : byte & 15, half_to_float(block) * float(scale),
          half_to_float(block + 2) * float(minimum)};
}

Value read_q6_k(const unsigned char* block, int column) {
  const int half = column / 128, quarter = column % 128 / 32, lane = column % 32;
  const int low = block[64 * half + 32 * (quarter % 2) + lane] >> 4 * (quarter / 2) & 15;
  const int high = block[128 + 32 * half + lane] >> 2 * quarter & 3;
  const float scale = half_to_float(block + 208) * float(int8_t(block[192 + column / 16]));
  return {(low | high << 4) - 32, scale, 0};
}

Value read_q5_k(const unsigned char* block, int column) {
  unsigned char low[144];  // a Q4_K block with the same scales and low bits
  std::memcpy(low, block, 16);
  std::memcpy(low + 16, block + 48, 128);
  Value value = read_q4_k(low, column);
  value.code |= (block[16 + column % 32] >> column / 32 & 1) << 4;
  return value;
}

int pair(const unsigned char* pairs, int column) {
  return pairs[32 * (column / 128) + column % 32] >> 2 * (column % 128 / 32) & 3;
}

Value read_q2_k(const unsigned char* block, int column) {
  const int both = block[column / 16];
  return {pair(block + 16, column), half_to_float(block + 80) * float(both & 15),
          half_to_float(block + 82) * float(both >> 4)};
}

Value read_q3_k(const unsigned char* block, int column) {
  const int s = column / 16, high = block[column % 32] >> column / 32 & 1;
  const int scale = (block[96 + s % 8] >> 4 * (s / 8) & 15) | (block[104 + s % 4] >> 2 * (s / 4) & 3) << 4;
  return {pair(block + 32, column) + 4 * high - 4, half_to_float(block + 108) * float(scale - 32), 0};
}

constexpr int kIq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
constexpr int kFp4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

int nibble_of(const unsigned char* nibbles, int i) { return i < 16 ? nibbles[i] & 15 : nibbles[i - 16] >> 4; }

Value read_iq4_xs(const unsigned char* block, int column) {
  const int s = column / 32, high = block[2] | block[3] << 8;
  const int scale = (block[4 + s / 2] >> 4 * (s % 2) & 15) | (high >> 2 * s & 3) << 4;
  return {kIq4[nibble_of(block + 8 + 16 * s, column % 32)], half_to_float(block) * float(scale - 32), 0};
}

Value read_q8_k(const unsigned char* block, int column) {
  float scale;
  std::memcpy(&scale, block, 4);
  return {int8_t(block[4 + column]), scale, 0};
}

Value read_int4_g128(const unsigned char* block, int column) {
  const int byte = block[3 + 16 * (column / 32) + column % 16];
  const float scale = half_to_float(block);
  return {column % 32 < 16 ? byte & 15 : byte >> 4, scale, scale * float(block[2])};
}

Value read(int32_t dtype, const unsigned char* row, int64_t column) {
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

Quantized quantize(const float* x, float level) {
  Quantized result;
  for (int64_t block = 0; block < kColumns; block += 32) {
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

bool has_minimum(int32_t dtype) {
  return dtype == PX_Q4_1 || dtype == PX_Q5_1 || dtype == PX_Q2_K || dtype == PX_Q4_K || dtype == PX_Q5_K ||
         dtype == PX_INT4_G128;
}

float dot(int32_t dtype, const unsigned char* row, const Quantized& x) {
  const int step = dtype == PX_Q6_K || dtype == PX_Q2_K || dtype == PX_Q3_K ? 16 : 32;
  float sum = 0;
  for (int64_t start = 0; start < kColumns; start += step) {
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

// ---- weights

// The bytes of a block whose second highest bit, cleared, keeps its scales finite.
std::vector<int> scale_bytes(int32_t dtype) {
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

struct Weight {
  int32_t dtype;
  int64_t rows, row_bytes;
  std::vector<unsigned char> raw;
  std::vector<char> memory;
  PxTensor tensor;

  Weight(int32_t dtype_in, int64_t rows_in, PxPool* pool, uint64_t seed, int32_t layout = PX_TILE16)
      : dtype(dtype_in), rows(rows_in) {
    const PxBlock block = perfx_block(dtype);
    row_bytes = kColumns / block.columns * block.row_bytes;
    raw.resize(size_t(rows * row_bytes));
    Random random(seed);
    for (unsigned char& byte : raw) byte = static_cast<unsigned char>(random.below(256));
    for (int64_t start = 0; start < rows * row_bytes; start += block.row_bytes) {
      for (const int byte : scale_bytes(dtype)) raw[size_t(start + byte)] &= 0xbf;
    }
    memory.resize(size_t(perfx_packed_bytes(dtype, layout, rows, kColumns)) + 64);
    void* packed = reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(memory.data()) + 63) & ~uintptr_t(63));
    CHECK(perfx_pack(pool, dtype, layout, rows, kColumns, 0, rows, raw.data(), packed) == PX_OK);
    tensor = PxTensor{packed, dtype, layout, 2, PX_CONTIGUOUS, {rows, kColumns}, {}};
    check_unpacking(pool);
  }
  const unsigned char* row(int64_t index) const { return raw.data() + index * row_bytes; }

  void check_unpacking(PxPool* pool) const {
    std::vector<unsigned char> back(raw.size());
    CHECK(perfx_unpack(pool, dtype, tensor.layout, rows, kColumns, tensor.data, back.data()) == PX_OK);
    CHECK(back == raw);
  }
};

std::vector<float> reference(const Weight& weight, const std::vector<float>& x, int64_t tokens, int64_t format) {
  std::vector<float> y;
  for (int64_t token = 0; token < tokens; ++token) {
    const Quantized quantized = quantize(x.data() + token * kColumns, format == 1 ? 127.0f : 32512.0f);
    for (int64_t row = 0; row < weight.rows; ++row) y.push_back(dot(weight.dtype, weight.row(row), quantized));
  }
  return y;
}

// ---- tests

void test_linear(int32_t dtype, PxPool* pool, int32_t layout = PX_TILE16) {
  constexpr int64_t kRows = 37, kTokens = 14;
  const Weight weight(dtype, kRows, pool, uint64_t(dtype), layout);
  std::vector<float> x = random_floats(kTokens * kColumns, 7);
  for (int64_t format = 1; format <= 2; ++format) {
    const std::vector<float> expected = reference(weight, x, kTokens, format);
    for (const Candidate& candidate : kernels_of("linear")) {
      for (int64_t tokens : {1, 2, 3, 4, 5, 8, 12, 14}) {
        std::vector<float> y(size_t(tokens * kRows));
        const Call call(2, {tensor(x, {tokens, kColumns}), weight.tensor, tensor(y, {tokens, kRows})}, {attr(format)});
        CHECK(run(*candidate.kernel, pool, call.call) == PX_OK);
        CHECK(same_bits(y, {expected.begin(), expected.begin() + tokens * kRows}));
      }
    }
  }
}

// A weight's value: what products with float32 activations multiply.
float value_of(int32_t dtype, const unsigned char* row, int64_t column) {
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

// Rows and tokens around the sizes of tiles and of groups. Activations and results lie one float beside any alignment,
// rows of activations further apart than they are long; what is around the results must stay.
void test_linear_of_any_size(int32_t dtype, int64_t format, PxPool* pool) {
  constexpr int64_t kStride = kColumns + 3;
  for (const int64_t rows : {1, 17}) {
    const Weight weight(dtype, rows, pool, uint64_t(dtype + rows));
    for (const int64_t tokens : {0, 1, 2, 3, 5, 6, 7, 9, 16, 25, 27, 31}) {
      std::vector<float> x = random_floats(size_t(tokens * kStride + 1), 21), expected;
      for (int64_t token = 0; token < tokens; ++token) {
        const float* from = x.data() + 1 + token * kStride;
        const Quantized quantized = quantize(from, format == 1 ? 127.0f : 32512.0f);
        for (int64_t row = 0; row < rows; ++row) {
          float sum = format == 0 ? 0 : dot(dtype, weight.row(row), quantized);
          for (int64_t k = 0; format == 0 && k < kColumns; ++k)
            sum = std::fma(value_of(dtype, weight.row(row), k), from[k], sum);
          expected.push_back(sum);
        }
      }
      PxTensor activations = tensor(x.data() + 1, PX_FLOAT32, {tokens, kColumns});
      activations.flags = 0;
      activations.strides[0] = kStride * 4;
      for (const Candidate& candidate : kernels_of("linear")) {
        std::vector<float> y(size_t(tokens * rows + 2), -77.0f);
        const Call call(2, {activations, weight.tensor, tensor(y.data() + 1, PX_FLOAT32, {tokens, rows})},
                        {attr(format)});
        CHECK(run(*candidate.kernel, pool, call.call) == PX_OK);
        CHECK(same_bits({y.begin() + 1, y.end() - 1}, expected));
        CHECK(y.front() == -77.0f && y.back() == -77.0f);
      }
    }
  }
}

void test_gated_linear_is_the_gate_of_two_products(PxPool* pool) {
  constexpr int64_t kRows = 50, kTokens = 13;
  const Weight gate(PX_Q5_0, kRows, pool, 3), up(PX_Q4_K, kRows, pool, 4);
  std::vector<float> x = random_floats(kTokens * kColumns, 9, -0.01, 0.01);
  const std::vector<float> a = reference(gate, x, kTokens, 2), b = reference(up, x, kTokens, 2);
  for (const Candidate& candidate : kernels_of("gated_linear")) {
    for (int64_t activation = 0; activation <= 1; ++activation) {
      std::vector<float> y(size_t(kTokens * kRows));
      const Call call(3, {tensor(x, {kTokens, kColumns}), gate.tensor, up.tensor, tensor(y, {kTokens, kRows})},
                      {attr(int64_t(2)), attr(activation)});
      CHECK(run(*candidate.kernel, pool, call.call) == PX_OK);
      for (size_t i = 0; i < y.size(); ++i) {
        const double g = a[i], argument = std::sqrt(2 / M_PI) * (g + 0.044715 * g * g * g);
        const double active = activation == 1 ? g / (1 + std::exp(-g)) : g / (1 + std::exp(-2 * argument));
        CHECK(close(y[i], active * double(b[i]), 1e-6, 1e-30));
      }
    }
  }
}

void test_vocab_topk_takes_the_largest(PxPool* pool, int32_t layout) {
  constexpr int64_t kRows = 1700, kTokens = 3, kTop = 20;
  const Weight head(PX_Q8_0, kRows, pool, 5, layout);
  std::vector<float> x = random_floats(kTokens * kColumns, 11);
  const std::vector<float> logits = reference(head, x, kTokens, 2);
  for (const Candidate& candidate : kernels_of("vocab_topk")) {
    std::vector<float> values(kTokens * kTop);
    std::vector<int32_t> ids(kTokens * kTop);
    const Call call(
        2, {tensor(x, {kTokens, kColumns}), head.tensor, tensor(values, {kTokens, kTop}), tensor(ids, {kTokens, kTop})},
        {attr(kTop), attr(int64_t(2)), attr(0.0)});
    CHECK(run(*candidate.kernel, pool, call.call) == PX_OK);
    for (int64_t token = 0; token < kTokens; ++token) {
      std::vector<float> row(logits.begin() + token * kRows, logits.begin() + (token + 1) * kRows);
      for (int64_t i = 0; i < kTop; ++i) {
        size_t best = 0;  // the first of the largest
        for (size_t j = 1; j < row.size(); ++j) best = row[j] > row[best] ? j : best;
        CHECK(ids[size_t(token * kTop + i)] == int32_t(best) && values[size_t(token * kTop + i)] == row[best]);
        row[best] = -INFINITY;
      }
    }
  }
}

void test_embedding_decodes_rows(int32_t dtype, PxPool* pool) {
  constexpr int64_t kRows = 21;
  const Weight table(dtype, kRows, pool, 6);
  PxTensor stored = tensor(const_cast<unsigned char*>(table.raw.data()), dtype, {kRows, kColumns});
  stored.strides[0] = table.row_bytes;
  std::vector<int32_t> tokens = {0, 20, 7, 7, 16};
  for (const PxTensor& operand : {table.tensor, stored}) {
    for (const Candidate& candidate : kernels_of("embedding")) {
      std::vector<float> y(tokens.size() * kColumns);
      const Call call(2, {tensor(tokens, {5}), operand, tensor(y, {5, kColumns})}, {attr(3.0)});
      CHECK(run(*candidate.kernel, pool, call.call) == PX_OK);
      for (size_t i = 0; i < y.size(); ++i) {
        const Value value = read(dtype, table.row(tokens[i / kColumns]), int64_t(i % kColumns));
        CHECK(y[i] == (float(value.code) * value.scale - value.minimum) * 3.0f);
      }
      tokens[4] = 21;
      CHECK(run(*candidate.kernel, pool, call.call) == PX_INVALID_ARGUMENT);
      tokens[4] = 16;
    }
  }
}

}  // namespace

int main() {
  {
    const Pool pool(2);
    for (int32_t dtype : {PX_FLOAT32, PX_FLOAT16, PX_BFLOAT16}) test_linear_of_any_size(dtype, 0, pool.pool);
    for (int32_t dtype : kFormats) {
      test_linear_of_any_size(dtype, 0, pool.pool);
      test_linear_of_any_size(dtype, 1 + dtype % 2, pool.pool);
    }
  }
  for (int32_t num_threads : {1, 3}) {
    const Pool pool(num_threads);
    for (int32_t dtype : kFormats) test_linear(dtype, pool.pool);
    for (int32_t dtype : kFormats) test_embedding_decodes_rows(dtype, pool.pool);
    test_gated_linear_is_the_gate_of_two_products(pool.pool);
    test_linear(PX_Q8_0, pool.pool, PX_SPLIT16);
    for (int32_t layout : {PX_TILE16, PX_SPLIT16}) test_vocab_topk_takes_the_largest(pool.pool, layout);
  }
  std::puts("ok");
  return 0;
}
