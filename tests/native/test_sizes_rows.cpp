// Kernels on rows at every size around vectors: norms, rotary embedding, softmax and its kin, top k, the KV cache,
// against plain loops in double.
#include <algorithm>
#include <numeric>

#include "numbers.hpp"

using namespace perfx_test;

namespace {

constexpr double kEps = 1e-5;

// Rows that lie some elements further apart than they are long.
struct Matrix {
  Matrix(int64_t rows_in, int64_t size_in, uint64_t seed, double low = -2, double high = 2)
      : rows(rows_in), size(size_in), pitch(size + 3), data(random_floats(count(), seed, low, high)) {}
  size_t count() const { return rows * size == 0 ? 0 : size_t((rows - 1) * pitch + size); }
  float at(int64_t row, int64_t i) const { return data[size_t(row * pitch + i)]; }
  void add_to(Trial& trial) const {
    trial.in_strided(data.data(), data.size() * 4, PX_FLOAT32, {rows, size}, {pitch * 4, 4});
  }
  int64_t rows, size, pitch;
  std::vector<float> data;
};

// ---- norms

std::vector<double> normed(const std::vector<double>& x, const std::vector<float>& weight) {
  double squares = 0;
  for (double v : x) squares += v * v;
  std::vector<double> y(x.size());
  for (size_t i = 0; i < y.size(); ++i) y[i] = x[i] / std::sqrt(squares / double(y.size()) + kEps) * weight[i];
  return y;
}

void append(std::vector<double>& to, const std::vector<double>& values) {
  to.insert(to.end(), values.begin(), values.end());
}

void check_norms(int64_t rows, int64_t size) {
  const Matrix x(rows, size, 1), other(rows, size, 2);
  const std::vector<float> post = random_floats(size, 3), pre = random_floats(size, 4);
  std::vector<double> plain, sums, added, inner_sums, sandwiched;
  for (int64_t r = 0; r < rows; ++r) {
    std::vector<double> a, b, s, t;
    for (int64_t i = 0; i < size; ++i) a.push_back(x.at(r, i)), b.push_back(other.at(r, i));
    const std::vector<double> inner = normed(b, post);
    for (size_t i = 0; i < a.size(); ++i) s.push_back(a[i] + b[i]), t.push_back(a[i] + inner[i]);
    append(plain, normed(a, pre)), append(added, normed(s, pre)), append(sandwiched, normed(t, pre));
    append(sums, s), append(inner_sums, t);
  }
  std::vector<float> sum, y;
  PxPool* const pool = pool_for(size);
  Trial norm("rms_norm", {attr(kEps)}), add("add_rms_norm", {attr(kEps)}), sandwich("norm_add_rms_norm", {attr(kEps)});
  x.add_to(norm);
  norm.in(pre, {size}).out(y, {rows, size}).run(pool, [&] { return all_close(y, plain, 2e-6, 2e-6); });
  x.add_to(add), other.add_to(add);
  add.in(pre, {size}).out(sum, {rows, size}).out(y, {rows, size}).run(pool, [&] {
    return all_close(sum, sums, 1e-6, 1e-7) && all_close(y, added, 4e-6, 4e-6);
  });
  other.add_to(sandwich);
  sandwich.in(post, {size});
  x.add_to(sandwich);
  sandwich.in(pre, {size}).out(sum, {rows, size}).out(y, {rows, size}).run(pool, [&] {
    return all_close(sum, inner_sums, 2e-6, 2e-6) && all_close(y, sandwiched, 8e-6, 8e-6);
  });
}

void check_layer_norm(int64_t rows, int64_t size, bool has_bias) {
  const std::vector<float> x = random_floats(rows * size, 1, 1, 5), scale = random_floats(size, 2),
                           bias = random_floats(has_bias ? size : 0, 3);
  std::vector<double> expected;
  for (int64_t r = 0; r < rows; ++r) {
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < size; ++i) mean += x[r * size + i] / double(size);
    for (int64_t i = 0; i < size; ++i) variance += std::pow(x[r * size + i] - mean, 2) / double(size);
    for (int64_t i = 0; i < size; ++i) {
      const double value = (x[r * size + i] - mean) / std::sqrt(variance + kEps) * scale[i];
      expected.push_back(has_bias ? value + bias[i] : value);
    }
  }
  std::vector<float> y;
  Trial("layer_norm", {attr(kEps)})
      .in(x, {rows, size})
      .in(scale, {size})
      .in(bias, {has_bias ? size : 0})
      .out(y, {rows, size})
      .run(pool_for(size), [&] { return all_close(y, expected, 4e-6, 4e-6); });
}

// ---- rotary embedding

void check_rope(int64_t heads, int64_t size, int64_t half) {
  const std::vector<int32_t> positions = {0, 3, 4095};
  const int64_t tokens = int64_t(positions.size()), rotated = 2 * half;
  std::vector<float> frequencies, table;
  for (int64_t i = 0; i < half; ++i) frequencies.push_back(float(std::pow(10000.0, -double(i) / double(half))));
  std::vector<double> angles;
  for (int64_t i = 0; i < tokens * rotated; ++i) {
    const double angle = float(positions[i / rotated]) * frequencies[i % half];
    angles.push_back(1.5 * (i % rotated < half ? std::cos(angle) : std::sin(angle)));
  }
  Trial("rope_table", {attr(1.5)})
      .in(positions, {tokens})
      .in(frequencies, {half})
      .out(table, {tokens, rotated})
      .run(pool_for(half), [&] { return all_close(table, angles, 5e-7, 1e-9); });
  const std::vector<float> x = random_floats(tokens * heads * size, 1), weight = random_floats(size, 2);
  for (int64_t interleaved : {0, 1}) {
    std::vector<double> plain, with_norm;
    for (int64_t r = 0; r < tokens * heads; ++r) {
      const auto rotate = [&](std::vector<double> row) {
        for (int64_t i = 0; i < half; ++i) {
          const int64_t first = interleaved ? 2 * i : i, second = interleaved ? 2 * i + 1 : i + half;
          const double a = row[first], b = row[second], c = table[r / heads * rotated + i],
                       s = table[r / heads * rotated + half + i];
          row[first] = a * c - b * s, row[second] = b * c + a * s;
        }
        return row;
      };
      const std::vector<double> row(x.begin() + r * size, x.begin() + (r + 1) * size);
      append(plain, rotate(row)), append(with_norm, rotate(normed(row, weight)));
    }
    std::vector<float> y;
    Trial("rope", {attr(interleaved)})
        .in(x, {tokens, heads, size})
        .in(table, {tokens, rotated})
        .out(y, {tokens, heads, size})
        .run(pool_for(half), [&] { return all_close(y, plain, 2e-6, 2e-6); });
    if (rotated != size) continue;
    Trial("norm_rope", {attr(kEps), attr(interleaved)})
        .in(x, {tokens, heads, size})
        .in(weight, {size})
        .in(table, {tokens, rotated})
        .out(y, {tokens, heads, size})
        .run(pool_for(half), [&] { return all_close(y, with_norm, 4e-6, 4e-6); });
  }
}

// ---- softmax and its kin

void check_softmax(int64_t rows, int64_t size) {
  const Matrix x(rows, size, 9, -20, 20);
  std::vector<double> soft, log_soft, log_sums;
  for (int64_t r = 0; r < rows; ++r) {
    double largest = -INFINITY, sum = 0;
    for (int64_t i = 0; i < size; ++i) largest = std::max(largest, double(x.at(r, i)));
    for (int64_t i = 0; i < size; ++i) sum += std::exp(x.at(r, i) - largest);
    for (int64_t i = 0; i < size; ++i) {
      soft.push_back(std::exp(x.at(r, i) - largest) / sum);
      log_soft.push_back(x.at(r, i) - largest - std::log(sum));
    }
    log_sums.push_back(largest + std::log(sum));
  }
  std::vector<float> y;
  PxPool* const pool = pool_for(size);
  Trial softmax("softmax"), log_softmax("log_softmax"), logsumexp("logsumexp");
  for (Trial* trial : {&softmax, &log_softmax, &logsumexp}) x.add_to(*trial);
  softmax.out(y, {rows, size}).run(pool, [&] { return all_close(y, soft, 4e-6, 1e-30); });
  log_softmax.out(y, {rows, size}).run(pool, [&] { return all_close(y, log_soft, 1e-6, 2e-6); });
  if (size > 0) logsumexp.out(y, {rows}).run(pool, [&] { return all_close(y, log_sums, 1e-6, 1e-6); });
}

// ---- rows by index, and what is chosen from rows

void check_take_rows(int64_t size) {
  const Matrix x(5, size, 1);
  const std::vector<int32_t> indices = {4, 0, 4, 2};
  std::vector<double> expected;
  for (int32_t index : indices) {
    for (int64_t i = 0; i < size; ++i) expected.push_back(x.at(index, i));
  }
  std::vector<float> y;
  Trial trial("take_rows");
  x.add_to(trial);
  trial.in(indices, {4}).out(y, {4, size}).run(pool_for(size), [&] { return all_close(y, expected, 0); });
}

std::vector<int32_t> sorted_ids(const Matrix& x, int64_t row) {
  std::vector<int32_t> ids(static_cast<size_t>(x.size));
  std::iota(ids.begin(), ids.end(), 0);
  std::stable_sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) { return x.at(row, a) > x.at(row, b); });
  return ids;
}

void check_topk(int64_t size, int64_t k) {
  const Matrix x(2, size, uint64_t(size + k));
  std::vector<double> expected;
  std::vector<int32_t> ids, expected_ids;
  for (int64_t r = 0; r < 2; ++r) {
    const std::vector<int32_t> order = sorted_ids(x, r);
    expected_ids.insert(expected_ids.end(), order.begin(), order.begin() + k);
    for (int64_t i = 0; i < k; ++i) expected.push_back(x.at(r, order[size_t(i)]));
  }
  std::vector<float> values;
  Trial trial("topk", {attr(k)});
  x.add_to(trial);
  trial.out(values, {2, k}).out(ids, {2, k}).run(pool_for(size), [&] {
    return ids == expected_ids && all_close(values, expected, 0);
  });
}

// With one item allowed, and with all of them: where the running sum of weights passes the uniform number.
void check_sample(int64_t size) {
  const Matrix x(3, size, uint64_t(size), -3, 3);
  const std::vector<float> temperature = {0, 1, 0.5f}, top_p = {1, 1, 1}, min_p = {0, 0, 0},
                           uniform = {0.5f, 0.3f, 0.9f};
  const std::vector<int32_t> top_k = {0, 0, 0};
  std::vector<int32_t> ids;
  const auto are_right = [&] {
    if (ids[0] != sorted_ids(x, 0)[0]) return false;
    for (int64_t r : {1, 2}) {
      double total = 0, before = 0;
      for (int64_t i = 0; i < size; ++i) total += std::exp(x.at(r, i) / temperature[size_t(r)]);
      for (int64_t i = 0; i < ids[size_t(r)]; ++i) before += std::exp(x.at(r, i) / temperature[size_t(r)]);
      const double own = std::exp(x.at(r, ids[size_t(r)]) / temperature[size_t(r)]), at = uniform[size_t(r)] * total;
      if (before > at + 1e-5 * total || before + own < at - 1e-5 * total) return false;
    }
    return true;
  };
  Trial trial("sample");
  x.add_to(trial);
  trial.in(temperature, {3})
      .in(top_k, {3})
      .in(top_p, {3})
      .in(min_p, {3})
      .in(uniform, {3})
      .out(ids, {3})
      .run(pool_for(size), are_right);
}

void check_adjust(int64_t size) {
  const std::vector<float> logits = random_floats(2 * size, 1), repetition = {2, 1}, frequency = {0.5f, 0},
                           presence = {0.25f, 1};
  const int32_t last = int32_t(size - 1);
  const std::vector<int32_t> ids = {last, 0}, starts = {0, 1, 2}, counts = {2, 0}, bias_rows = {1}, bias_ids = {last};
  const std::vector<float> bias = {0.5f};
  std::vector<double> expected(logits.begin(), logits.end());
  double& first = expected[size_t(last)];
  first = (first > 0 ? first / 2 : first * 2) - 1 - 0.25;
  expected.back() += 0.5;
  std::vector<float> after;
  Trial("adjust_logits")
      .changed(logits, after, Shape{2, size})
      .in(ids, {2})
      .in(starts, {3})
      .in(counts, {2})
      .in(repetition, {2})
      .in(frequency, {2})
      .in(presence, {2})
      .in(bias_rows, {1})
      .in(bias_ids, {1})
      .in(bias, {1})
      .run(pool_for(size), [&] { return all_close(after, expected, 1e-6, 1e-6); });
}

// ---- the KV cache: keys lie transposed in a block

void check_kv_write(int32_t dtype, int64_t size, int64_t block_size) {
  const int64_t blocks = 2, heads = 2, tokens = 4, item = Trial::item_of(dtype);
  const Numbers quarters = numbers_of(PX_BFLOAT16, size_t(2 * tokens * heads * size), 5, -9, 9);
  const std::vector<float> both(quarters.values.begin(), quarters.values.end());
  const std::vector<float> k(both.begin(), both.begin() + tokens * heads * size),
      v(both.begin() + k.size(), both.end());
  const int32_t slots_of_blocks = int32_t(blocks * block_size);
  const std::vector<int32_t> slots = {0, -1, slots_of_blocks - 1, slots_of_blocks - int32_t(block_size)};
  const std::vector<char> before(static_cast<size_t>(blocks * heads * size * block_size * item), char(0x11));
  std::vector<char> keys = before, values = before, k_after, v_after;
  for (int64_t i = 0; i < tokens * heads * size; ++i) {
    const int64_t slot = slots[size_t(i / size / heads)], head = i / size % heads, d = i % size;
    if (slot < 0) continue;
    const int64_t block = (slot / block_size * heads + head) * size * block_size, place = slot % block_size;
    put(dtype, k[size_t(i)], keys.data() + (block + d * block_size + place) * item);
    put(dtype, v[size_t(i)], values.data() + (block + place * size + d) * item);
  }
  Trial("kv_write")
      .in(k, {tokens, heads, size})
      .in(v, {tokens, heads, size})
      .in(slots, {tokens})
      .changed(before, k_after, Trial::dense(dtype, {blocks, heads, size, block_size}))
      .changed(before, v_after, Trial::dense(dtype, {blocks, heads, block_size, size}))
      .run(pool_for(size), [&] { return k_after == keys && v_after == values; });
}

}  // namespace

int main() {
  for (int64_t size : sizes_around(130, 512)) {
    if (size == 0) continue;
    check_norms(size % 3, size);
    check_layer_norm(1 + size % 3, size, size % 2 == 0);
    check_adjust(size);
  }
  for (int64_t half = 1; half <= 40; ++half) {
    check_rope(1 + half % 2, 2 * half, half);
    check_rope(2, 2 * half + half % 5, half);
  }
  for (int64_t half : {63, 64, 65, 128}) check_rope(1, 2 * half, half);
  for (int64_t size : sizes_around(130, 2048)) {
    check_softmax(1 + size % 3, size);
    check_take_rows(size);
  }
  for (int64_t size : {8191, 8192, 8193, 16400}) check_softmax(2, size);
  for (int64_t size : sizes_around(66, 2048)) {
    if (size == 0) continue;
    for (int64_t k : {int64_t(1), std::min<int64_t>(size, 17), size}) check_topk(size, k);
    check_sample(size);
  }
  for (int32_t dtype : {PX_FLOAT32, PX_FLOAT16}) {
    for (int64_t size : sizes_around(66, 256)) {
      if (size > 0) check_kv_write(dtype, size, size % 2 == 0 ? 16 : 48);
    }
  }
  return 0;
}
