// Kernels on rows: norms, rotary embedding, take_rows, softmax and its kin, against plain loops in double.
#include "check.hpp"

using namespace perfx_test;

namespace {

constexpr double kEps = 1e-5;

std::vector<double> normed(const float* x, const std::vector<float>& weight) {
  double squares = 0;
  for (size_t i = 0; i < weight.size(); ++i) squares += double(x[i]) * x[i];
  std::vector<double> y(weight.size());
  for (size_t i = 0; i < y.size(); ++i) y[i] = x[i] / std::sqrt(squares / double(y.size()) + kEps) * weight[i];
  return y;
}

// All variants must give these values, and all the same bits.
void check_all(const char* op, PxPool* pool, const Call& call, std::vector<float>& y,
               const std::vector<double>& expected, double relative = 2e-6, double absolute = 1e-6) {
  std::vector<float> first;
  for (const Candidate& candidate : kernels_of(op)) {
    std::fill(y.begin(), y.end(), -77.0f);
    CHECK(run(*candidate.kernel, pool, call.call) == PX_OK);
    for (size_t i = 0; i < expected.size(); ++i) CHECK(close(y[i], expected[i], relative, absolute));
    if (first.empty()) first = y;
    CHECK(same_bits(first, y));
  }
}

void check_norms(PxPool* pool, int64_t rows, int64_t size) {
  std::vector<float> x = random_floats(rows * size, 1), other = random_floats(rows * size, 2),
                     post = random_floats(size, 3), pre = random_floats(size, 4), sum(rows * size), y(rows * size);
  std::vector<double> plain, added, sandwiched;
  for (int64_t r = 0; r < rows; ++r) {
    std::vector<float> s(size), t(size);
    const std::vector<double> inner = normed(&other[r * size], post);
    for (int64_t i = 0; i < size; ++i) {
      s[i] = x[r * size + i] + other[r * size + i];
      t[i] = float(x[r * size + i] + inner[i]);
    }
    for (double v : normed(&x[r * size], pre)) plain.push_back(v);
    for (double v : normed(s.data(), pre)) added.push_back(v);
    for (double v : normed(t.data(), pre)) sandwiched.push_back(v);
  }
  Call norm(2, {tensor(x, {rows, size}), tensor(pre, {size}), tensor(y, {rows, size})}, {attr(kEps)});
  check_all("rms_norm", pool, norm, y, plain);
  Call add(3,
           {tensor(x, {rows, size}), tensor(other, {rows, size}), tensor(pre, {size}), tensor(sum, {rows, size}),
            tensor(y, {rows, size})},
           {attr(kEps)});
  check_all("add_rms_norm", pool, add, y, added);
  for (int64_t i = 0; i < rows * size; ++i) CHECK(sum[i] == x[i] + other[i]);
  Call sandwich(4,
                {tensor(other, {rows, size}), tensor(post, {size}), tensor(x, {rows, size}), tensor(pre, {size}),
                 tensor(sum, {rows, size}), tensor(y, {rows, size})},
                {attr(kEps)});
  check_all("norm_add_rms_norm", pool, sandwich, y, sandwiched, 5e-6, 5e-6);
}

// A row's bits do not depend on the rows beside it, nor on the number of threads.
void check_invariance() {
  Pool one(1), three(3);
  std::vector<float> x = random_floats(7 * 333, 1), weight = random_floats(333, 2), y(7 * 333), single(333);
  Call all(2, {tensor(x, {7, 333}), tensor(weight, {333}), tensor(y, {7, 333})}, {attr(kEps)});
  Call last(2, {tensor(&x[6 * 333], PX_FLOAT32, {1, 333}), tensor(weight, {333}), tensor(single, {1, 333})},
            {attr(kEps)});
  for (const Candidate& candidate : kernels_of("rms_norm")) {
    CHECK(run(*candidate.kernel, three.pool, all.call) == PX_OK &&
          run(*candidate.kernel, one.pool, last.call) == PX_OK);
    CHECK(same_bits(single, std::vector<float>(y.begin() + 6 * 333, y.end())));
  }
}

void check_rope(PxPool* pool, int64_t heads, int64_t size, int64_t rotated) {
  std::vector<int32_t> positions = {0, 1, 77, 4095, 131071};
  const int64_t tokens = int64_t(positions.size()), half = rotated / 2;
  std::vector<float> frequencies(half), table(tokens * rotated), x = random_floats(tokens * heads * size, 1),
                                                                 weight = random_floats(size, 2), y(x.size());
  for (int64_t i = 0; i < half; ++i) frequencies[i] = float(std::pow(10000.0, -double(i) / half));
  std::vector<double> expected_table(tokens * rotated);
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t i = 0; i < half; ++i) {
      const double angle = float(positions[t]) * frequencies[i];
      expected_table[t * rotated + i] = 1.5 * std::cos(angle);
      expected_table[t * rotated + half + i] = 1.5 * std::sin(angle);
    }
  }
  Call make(2, {tensor(positions, {tokens}), tensor(frequencies, {half}), tensor(table, {tokens, rotated})},
            {attr(1.5)});
  check_all("rope_table", pool, make, table, expected_table, 3e-7, 1e-9);
  for (int64_t interleaved : {0, 1}) {
    const auto rotate = [&](std::vector<double> row, int64_t t) {
      for (int64_t i = 0; i < half; ++i) {
        const int64_t first = interleaved ? 2 * i : i, second = interleaved ? 2 * i + 1 : i + half;
        const double a = row[first], b = row[second], c = table[t * rotated + i], s = table[t * rotated + half + i];
        row[first] = a * c - b * s;
        row[second] = b * c + a * s;
      }
      return row;
    };
    std::vector<double> plain, with_norm;
    for (int64_t r = 0; r < tokens * heads; ++r) {
      const float* row = &x[r * size];
      for (double v : rotate(std::vector<double>(row, row + size), r / heads)) plain.push_back(v);
      for (double v : rotate(normed(row, weight), r / heads)) with_norm.push_back(v);
    }
    Call rope(2, {tensor(x, {tokens, heads, size}), tensor(table, {tokens, rotated}), tensor(y, {tokens, heads, size})},
              {attr(interleaved)});
    check_all("rope", pool, rope, y, plain);
    if (rotated != size) continue;
    Call norm_rope(3,
                   {tensor(x, {tokens, heads, size}), tensor(weight, {size}), tensor(table, {tokens, rotated}),
                    tensor(y, {tokens, heads, size})},
                   {attr(kEps), attr(interleaved)});
    check_all("norm_rope", pool, norm_rope, y, with_norm, 3e-6, 3e-6);
  }
}

void check_take_rows(PxPool* pool) {
  std::vector<float> x = random_floats(5 * 9, 1), y(4 * 7);
  std::vector<int32_t> indices = {4, 0, 4, 2};
  PxTensor rows = tensor(x, {5, 7});
  rows.flags = 0;
  rows.strides[0] = 9 * 4;
  Call call(2, {rows, tensor(indices, {4}), tensor(y, {4, 7})});
  std::vector<double> expected;
  for (int32_t index : indices) expected.insert(expected.end(), &x[index * 9], &x[index * 9 + 7]);
  check_all("take_rows", pool, call, y, expected, 0, 0);
  for (int32_t bad : {-1, 5}) {
    indices[3] = bad;
    std::fill(y.begin(), y.end(), -7.0f);
    CHECK(run(*kernels_of("take_rows")[0].kernel, pool, call.call) == PX_INVALID_ARGUMENT && y[0] == -7.0f);
  }
}

void check_softmax(PxPool* pool, int64_t rows, int64_t size) {
  std::vector<float> x = random_floats(rows * size, 9, -20, 20), y(x.size()), sums(rows);
  if (x.size() > 3) x[1] = -INFINITY;
  std::vector<double> soft, log_soft, log_sums;
  for (int64_t r = 0; r < rows; ++r) {
    double largest = -INFINITY, sum = 0;
    for (int64_t i = 0; i < size; ++i) largest = std::max(largest, double(x[r * size + i]));
    for (int64_t i = 0; i < size; ++i) sum += std::exp(x[r * size + i] - largest);
    for (int64_t i = 0; i < size; ++i) {
      soft.push_back(std::exp(x[r * size + i] - largest) / sum);
      log_soft.push_back(x[r * size + i] - largest - std::log(sum));
    }
    log_sums.push_back(largest + std::log(sum));
  }
  Call call(1, {tensor(x, {rows, size}), tensor(y, {rows, size})});
  check_all("softmax", pool, call, y, soft, 4e-6, 0);
  check_all("log_softmax", pool, call, y, log_soft, 1e-6, 2e-6);
  Call reduce(1, {tensor(x, {rows, size}), tensor(sums, {rows})});
  check_all("logsumexp", pool, reduce, sums, log_sums, 1e-6, 1e-6);
}

void check_softmax_extremes(PxPool* pool) {
  std::vector<float> x(20000, -INFINITY), y(1);
  Call call(1, {tensor(x, {1, 20000}), tensor(y, {1})});
  check_all("logsumexp", pool, call, y, {-INFINITY});
  x[12345] = 3;  // whole segments without a finite item add nothing
  check_all("logsumexp", pool, call, y, {3});
  x[7] = NAN;
  check_all("logsumexp", pool, call, y, {NAN});
}

}  // namespace

int main() {
  Pool pool(3);
  for (int64_t size = 1; size <= 34; ++size) check_norms(pool.pool, 2, size);
  for (int64_t size : {63, 64, 65, 127, 640, 1000}) check_norms(pool.pool, 5, size);
  check_norms(pool.pool, 0, 64);
  check_invariance();
  check_rope(pool.pool, 3, 256, 256);
  check_rope(pool.pool, 2, 40, 40);
  check_rope(pool.pool, 1, 70, 34);
  check_rope(pool.pool, 1, 6, 2);
  check_take_rows(pool.pool);
  for (int64_t size : {1, 2, 15, 16, 17, 33, 1000, 8192, 8193, 40000}) check_softmax(pool.pool, 3, size);
  check_softmax(pool.pool, 0, 5);
  check_softmax_extremes(pool.pool);
  return 0;
}
