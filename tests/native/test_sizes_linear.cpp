// Products with packed weights at every number of rows and of tokens around tiles and groups, in every format, against
// a plain reference: bit for bit. Weights are packed from bytes that end where memory ends.
#include <algorithm>
#include <memory>

#include "sweep.hpp"
#include "weights.hpp"

using namespace perfx_test;

namespace {

constexpr int32_t kFloats[] = {PX_FLOAT32, PX_FLOAT16, PX_BFLOAT16};
constexpr int64_t kMostTokens = 38;

std::vector<int32_t> all_formats() {
  std::vector<int32_t> formats(std::begin(kFormats), std::end(kFormats));
  formats.insert(formats.end(), std::begin(kFloats), std::end(kFloats));
  return formats;
}

// Rows as stored, and their values one by one.
struct Stored {
  Stored(int32_t dtype_in, int64_t rows_in, int64_t columns_in, uint64_t seed)
      : dtype(dtype_in), rows(rows_in), columns(columns_in), block(perfx_block(dtype)) {
    row_bytes = columns / block.columns * block.row_bytes;
    bytes.resize(size_t(rows * row_bytes));
    Random random(seed);
    for (unsigned char& byte : bytes) byte = static_cast<unsigned char>(random.below(256));
    for (int64_t start = 0; start < rows * row_bytes; start += block.row_bytes) {
      for (const int byte : scale_bytes(dtype)) bytes[size_t(start + byte)] &= 0xbf;
    }
    for (int64_t i = 0; i < rows * columns; ++i) {
      const unsigned char* row = bytes.data() + i / columns * row_bytes;
      values.push_back(block.columns == 1 ? Value{0, value_of(dtype, row, i % columns), 0}
                                          : read(dtype, row, i % columns));
    }
  }
  const Value& at(int64_t row, int64_t column) const { return values[size_t(row * columns + column)]; }
  float number(int64_t row, int64_t column) const {
    const Value& value = at(row, column);
    return block.columns == 1 ? value.scale : std::fma(float(value.code), value.scale, -value.minimum);
  }

  // The product of a row with one token, in the numerics of an activation format.
  float product(int64_t row, const float* x, const Quantized& quantized, int64_t format) const {
    float sum = 0;
    for (int64_t k = 0; format == 0 && k < columns; ++k) sum = std::fma(number(row, k), x[k], sum);
    if (format == 0) return sum;
    const int64_t step = dtype == PX_Q6_K || dtype == PX_Q2_K || dtype == PX_Q3_K ? 16 : 32;
    for (int64_t start = 0; start < columns; start += step) {
      int64_t total = 0, codes = 0;
      for (int64_t k = start; k < start + step; ++k) {
        total += int64_t(at(row, k).code) * quantized.codes[size_t(k)];
        codes += quantized.codes[size_t(k)];
      }
      const float scale = quantized.scales[size_t(start / 32)];
      sum = std::fma(float(total), at(row, start).scale * scale, sum);
      if (has_minimum(dtype)) sum = std::fma(-at(row, start).minimum, scale * float(codes), sum);
    }
    return sum;
  }

  int32_t dtype;
  int64_t rows, columns, row_bytes;
  PxBlock block;
  std::vector<unsigned char> bytes;
  std::vector<Value> values;
};

// The first rows of a stored weight, packed; what unpacking gives must be what was packed.
struct Packed {
  Packed(const Stored& stored, int64_t rows, int32_t layout = PX_TILE16) {
    const size_t count = size_t(rows * stored.row_bytes),
                 size = size_t(perfx_packed_bytes(stored.dtype, layout, rows, stored.columns));
    static Region from(1 << 20), to(1 << 20), back(1 << 20);
    CHECK(count <= from.size() && size <= to.size());
    char *source = from.end() - count, *target = to.end() - (size + 63) / 64 * 64, *again = back.end() - count;
    if (count > 0) std::memcpy(source, stored.bytes.data(), count);
    PxPool* const pool = pool_for(rows);
    CHECK(perfx_pack(pool, stored.dtype, layout, rows, stored.columns, 0, rows, source, target) == PX_OK);
    CHECK(perfx_unpack(pool, stored.dtype, layout, rows, stored.columns, target, again) == PX_OK);
    CHECK(count == 0 || std::memcmp(again, source, count) == 0);
    bytes.assign(target, target + size);
    tensor = PxTensor{nullptr, stored.dtype, layout, 2, PX_CONTIGUOUS, {rows, stored.columns}, {}};
  }
  void add_to(Trial& trial) const { trial.in_bytes(tensor, bytes.data(), bytes.size(), 64); }
  std::vector<char> bytes;
  PxTensor tensor;
};

// Tokens whose activations lie three numbers further apart than they are long.
struct Tokens {
  Tokens(int64_t columns_in, double largest = 2)
      : columns(columns_in),
        pitch(columns + 3),
        data(random_floats(size_t(kMostTokens * pitch), 7, -largest, largest)) {}
  const float* at(int64_t token) const { return data.data() + token * pitch; }
  void add_to(Trial& trial, int64_t tokens) const {
    const size_t count = tokens * columns == 0 ? 0 : size_t((tokens - 1) * pitch + columns);
    trial.in_strided(data.data(), count * 4, PX_FLOAT32, {tokens, columns}, {pitch * 4, 4});
  }
  // All products of a weight: [token][row].
  std::vector<std::vector<float>> products(const Stored& weight, int64_t format, int64_t count = kMostTokens) const {
    std::vector<std::vector<float>> all;
    for (int64_t token = 0; token < count; ++token) {
      const Quantized quantized = format == 0 ? Quantized{} : quantize(at(token), columns, format);
      all.emplace_back();
      for (int64_t row = 0; row < weight.rows; ++row)
        all.back().push_back(weight.product(row, at(token), quantized, format));
    }
    return all;
  }
  int64_t columns, pitch;
  std::vector<float> data;
};

// What a result holds before it is written.
float untouched() {
  float value;
  std::memset(&value, 0xff, sizeof(value));
  return value;
}
bool same(float a, float b) { return std::memcmp(&a, &b, 4) == 0; }

// Are the first rows of the result those of the products? Behind each row lie two numbers that must not be written.
bool has_products(const std::vector<float>& y, int64_t tokens, int64_t rows,
                  const std::vector<std::vector<float>>& all) {
  for (int64_t i = 0; i < int64_t(y.size()); ++i) {
    const int64_t token = i / (rows + 2), row = i % (rows + 2);
    const float expected = row < rows ? all[size_t(token)][size_t(row)] : untouched();
    if (same(y[size_t(i)], expected)) continue;
    std::fprintf(stderr, "token %d of %d, row %d: %.9g and not %.9g\n", int(token), int(tokens), int(row),
                 double(y[size_t(i)]), double(expected));
    return false;
  }
  return true;
}
void add_result(Trial& trial, std::vector<float>& y, int64_t tokens, int64_t rows) {
  const size_t count = tokens == 0 ? 0 : size_t((tokens - 1) * (rows + 2) + rows);
  trial.out_strided(y, count, {tokens, rows}, {(rows + 2) * 4, 4});
}

// ---- linear

class Linear {
 public:
  Linear(int32_t dtype, int64_t rows, int64_t columns)
      : stored_(dtype, rows, columns, uint64_t(dtype)), tokens_(columns) {
    for (int64_t format = 0; format <= 2; ++format) {
      if (format == 0 || stored_.block.columns > 1) products_.push_back(tokens_.products(stored_, format));
    }
  }
  void check(int64_t rows, int64_t tokens, int64_t format) {
    if (format >= int64_t(products_.size())) return;
    std::unique_ptr<Packed>& packed = packed_[rows];
    if (packed == nullptr) packed.reset(new Packed(stored_, rows));
    std::vector<float> y;
    Trial trial("linear", {attr(format)});
    tokens_.add_to(trial, tokens);
    packed->add_to(trial);
    add_result(trial, y, tokens, rows);
    trial.run(pool_for(rows + tokens), [&] { return has_products(y, tokens, rows, products_[size_t(format)]); });
  }

 private:
  Stored stored_;
  Tokens tokens_;
  std::vector<std::vector<std::vector<float>>> products_;
  std::map<int64_t, std::unique_ptr<Packed>> packed_;
};

void check_linear(int32_t dtype) {
  const int64_t block = perfx_block(dtype).columns;
  Linear linear(dtype, 49, block == 1 ? 19 : block);
  for (int64_t rows : sizes_around(34, 48)) {
    const bool is_chosen = rows > 0 && (rows < 18 || (rows + dtype) % 4 == 0);
    if (is_chosen) linear.check(rows, 1 + rows % 3, block == 1 ? 0 : rows % 3);
    if (rows == 15 || rows == 33) linear.check(rows, 27, 0), linear.check(rows, 27, 1);
  }
  // Groups of up to 12 tokens, after 24 of them other ones. With float32 activations all weights are float32 by then.
  for (int64_t tokens = 0; tokens <= kMostTokens; ++tokens) {
    for (int64_t format : {0, 1, 2}) {
      const bool is_chosen = format == 0 ? block == 1 || tokens % 8 == dtype % 8 : tokens <= 12 || tokens % 3 == format;
      if (is_chosen) linear.check(tokens % 4 == 0 ? 17 : 5, tokens, format);
    }
  }
  for (int64_t blocks : {2, 3, 4, 5, 16, 33, 500}) {  // columns
    if (blocks > (block == 1 ? 500 : block == 32 ? 5 : 3)) continue;
    Linear longer(dtype, 17, blocks * block);
    for (int64_t tokens : {1, 3, blocks == 2 ? 26 : 5}) longer.check(17, tokens, block == 1 ? 0 : 1 + blocks % 2);
    longer.check(17, 3, 0);
  }
}

// ---- several weights at once

void check_multi_linear() {
  constexpr int64_t kColumns = 256;
  const Tokens x(kColumns);
  const int32_t dtypes[] = {PX_Q4_K, PX_Q8_0, PX_Q6_K};
  std::vector<Stored> stored;
  std::vector<std::vector<std::vector<float>>> products;
  for (int32_t dtype : dtypes) {
    stored.emplace_back(dtype, 40, kColumns, uint64_t(dtype));
    products.push_back(x.products(stored.back(), 2, 27));
  }
  for (int64_t rows = 1; rows <= 33; ++rows) {
    std::vector<Packed> packed;
    for (int64_t i = 0; i < 3; ++i) packed.emplace_back(stored[size_t(i)], rows + i * 3);
    for (int64_t tokens : {int64_t(1), 2 + rows % 7, int64_t(26)}) {
      if (tokens == 26 && rows % 8 > 1) continue;
      std::vector<float> y[3];
      Trial trial("multi_linear", {attr(int64_t(2))});
      x.add_to(trial, tokens);
      for (const Packed& weight : packed) weight.add_to(trial);
      for (int64_t i = 0; i < 3; ++i) add_result(trial, y[i], tokens, rows + i * 3);
      trial.run(pool_for(rows), [&] {
        for (int64_t i = 0; i < 3; ++i) {
          if (!has_products(y[i], tokens, rows + i * 3, products[size_t(i)])) return false;
        }
        return true;
      });
    }
  }
}

double gelu_tanh(double x) { return x / (1 + std::exp(-2 * std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }

void check_gated_linear() {
  constexpr int64_t kColumns = 256;
  const Tokens x(kColumns, 0.01);
  const Stored gate(PX_Q5_0, 40, kColumns, 3), up(PX_Q4_K, 40, kColumns, 4);
  for (int64_t format : {1, 2}) {
    const auto gates = x.products(gate, format, 27), ups = x.products(up, format, 27);
    for (int64_t rows = 1; rows <= 34; ++rows) {
      const Packed first(gate, rows), second(up, rows);
      for (int64_t tokens : {int64_t(1), 2 + rows % 7, int64_t(26)}) {
        if (tokens == 26 && rows % 8 > 1) continue;
        const int64_t activation = rows % 2;
        std::vector<double> expected;
        for (int64_t i = 0; i < tokens * rows; ++i) {
          const double g = gates[size_t(i / rows)][size_t(i % rows)], u = ups[size_t(i / rows)][size_t(i % rows)];
          expected.push_back((activation == 1 ? g / (1 + std::exp(-g)) : gelu_tanh(g)) * u);
        }
        std::vector<float> y;
        Trial trial("gated_linear", {attr(format), attr(activation)});
        x.add_to(trial, tokens);
        first.add_to(trial), second.add_to(trial);
        trial.out(y, {tokens, rows}).run(pool_for(rows), [&] { return all_close(y, expected, 1e-6, 1e-30); });
      }
    }
  }
}

// ---- vocabularies

void check_vocabulary(int32_t layout, int64_t columns, int64_t rows, int64_t format) {
  constexpr int64_t kTokens = 2;
  const int64_t top = std::min<int64_t>(rows, 1 + rows % 20);
  const Tokens x(columns);
  const Stored head(PX_Q8_0, rows, columns, uint64_t(rows));
  std::vector<float> expected, values;
  std::vector<int32_t> expected_ids, ids;
  for (const std::vector<float>& logits : x.products(head, format, kTokens)) {
    std::vector<int32_t> order;
    for (int32_t id = 0; id < rows; ++id) order.push_back(id);
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t a, int32_t b) { return logits[size_t(a)] > logits[size_t(b)]; });
    expected_ids.insert(expected_ids.end(), order.begin(), order.begin() + top);
    for (int64_t i = 0; i < top; ++i) expected.push_back(logits[size_t(order[size_t(i)])]);
  }
  const Packed packed(head, rows, layout);
  Trial trial("vocab_topk", {attr(top), attr(format), attr(0.0)});
  x.add_to(trial, kTokens);
  packed.add_to(trial);
  trial.out(values, {kTokens, top}).out(ids, {kTokens, top}).run(pool_for(rows), [&] {
    return same_bits(values, expected) && ids == expected_ids;
  });
}

void check_embedding(int32_t dtype, int64_t columns) {
  const Stored table(dtype, 33, columns, 6);
  const Packed packed(table, 33);
  PxTensor stored{nullptr, dtype, PX_STRIDED, 2, PX_CONTIGUOUS, {33, columns}, {table.row_bytes, 0}};
  if (table.block.columns == 1) stored.strides[1] = table.block.row_bytes;
  const std::vector<int32_t> all = {32, 0, 15, 16, 31, 32, 7, 1, 17};
  for (int64_t count : {0, 1, 2, 5, 9}) { /* four are claimed at once */
    std::vector<float> expected, y;
    for (int64_t i = 0; i < count * columns; ++i) {
      const Value& value = table.at(all[size_t(i / columns)], i % columns);
      const bool is_number = table.block.columns == 1;
      expected.push_back((is_number ? value.scale : float(value.code) * value.scale - value.minimum) * 3.0f);
    }
    for (bool is_packed : {true, false}) {
      Trial trial("embedding", {attr(3.0)});
      trial.in(all, {count});
      if (is_packed) packed.add_to(trial);
      const size_t alignment = table.block.columns == 1 ? size_t(table.block.row_bytes) : 1;
      if (!is_packed) trial.in_bytes(stored, table.bytes.data(), table.bytes.size(), alignment);
      trial.out(y, {count, columns}).run(pool_for(count), [&] { return same_bits(y, expected); });
    }
  }
}

}  // namespace

int main() {
  for (int32_t dtype : all_formats()) check_linear(dtype);
  check_multi_linear();
  check_gated_linear();
  for (int64_t rows : sizes_around(50, 128)) {
    if (rows == 0) continue;
    check_vocabulary(PX_TILE16, 32 * (1 + rows % 3), rows, 1 + rows % 2);
    check_vocabulary(PX_SPLIT16, 128 * (1 + rows % 3), rows, 1 + rows % 2);
  }
  for (int32_t dtype : all_formats()) {
    const int64_t block = perfx_block(dtype).columns;
    for (int64_t blocks : {1, 3, block == 1 ? 17 : 2}) check_embedding(dtype, blocks * block);
  }
  return 0;
}
