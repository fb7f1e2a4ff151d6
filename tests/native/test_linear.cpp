// The matrix products against a plain reference that reads GGUF rows one value at a time: bit for bit, in every
// variant.
#include "weights.hpp"

using namespace perfx_test;

namespace {

constexpr int64_t kColumns = 512;

// ---- weights

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
    const Quantized quantized = quantize(x.data() + token * kColumns, kColumns, format);
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
