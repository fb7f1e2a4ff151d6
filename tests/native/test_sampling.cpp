// topk, sample, adjust_logits against plain loops in double; rows alone or many, one thread or several: the same
// answer.
#include <algorithm>
#include <numeric>

#include "check.hpp"

using namespace perfx_test;

namespace {

std::vector<int32_t> sorted_ids(const float* x, int64_t size) {
  std::vector<int32_t> ids(size);
  std::iota(ids.begin(), ids.end(), 0);
  const auto key = [x](int32_t id) { return std::isnan(x[id]) ? -INFINITY : x[id]; };
  std::stable_sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) { return key(a) > key(b); });
  return ids;
}

void check_topk(PxPool* pool, int64_t rows, int64_t size, int64_t k, std::vector<float> x) {
  std::vector<float> values(rows * k);
  std::vector<int32_t> indices(rows * k);
  Call call(1, {tensor(x, {rows, size}), tensor(values, {rows, k}), tensor(indices, {rows, k})}, {attr(k)});
  for (const Candidate& candidate : kernels_of("topk")) {
    CHECK(run(*candidate.kernel, pool, call.call) == PX_OK);
    for (int64_t r = 0; r < rows; ++r) {
      const std::vector<int32_t> expected = sorted_ids(&x[r * size], size);
      for (int64_t i = 0; i < k; ++i) {
        CHECK(indices[r * k + i] == expected[i]);
        const float value = x[r * size + expected[i]];
        CHECK(values[r * k + i] == value || (std::isnan(value) && std::isnan(values[r * k + i])));
      }
    }
  }
}

struct Params {
  float temperature;
  int32_t top_k;
  float top_p, min_p;
};

// The probabilities that are left of a row, in double.
std::vector<double> kept_weights(const float* x, int64_t size, const Params& p) {
  std::vector<double> weights(size);
  const double largest = *std::max_element(x, x + size);
  for (int64_t i = 0; i < size; ++i) weights[i] = std::exp((x[i] - largest) / p.temperature);
  for (double& w : weights) w = w < p.min_p ? 0 : w;
  const std::vector<int32_t> order = sorted_ids(x, size);
  if (p.top_k > 0 && p.top_k < size) {
    const double kth = weights[order[p.top_k - 1]];
    for (double& w : weights) w = w < kth ? 0 : w;
  }
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  double running = 0;
  for (int32_t id : order) {
    if (p.top_p < 1 && running >= p.top_p * total) weights[id] = 0;
    running += weights[id];
  }
  return weights;
}

// The order of the running sum: with top_k the likeliest come first.
std::vector<int64_t> sampling_order(const float* x, int64_t size, const Params& p) {
  std::vector<int64_t> order(size);
  std::iota(order.begin(), order.end(), 0);
  if (p.top_k > 0 && p.top_k < size)
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return x[a] > x[b]; });
  return order;
}

// Is `id` where the running sum passes uniform * total, give or take rounding?
bool plausible(const std::vector<double>& weights, float uniform, int32_t id) {
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  const double before = std::accumulate(weights.begin(), weights.begin() + id, 0.0), slack = 3e-6 * total;
  return weights[id] > 0 && before <= uniform * total + slack && before + weights[id] >= uniform * total - slack;
}

std::vector<int32_t> sample(const PxKernel& kernel, PxPool* pool, std::vector<float>& x, int64_t rows, const Params& p,
                            std::vector<float> uniform) {
  const int64_t size = int64_t(x.size()) / rows;
  std::vector<float> temperature(rows, p.temperature), top_p(rows, p.top_p), min_p(rows, p.min_p);
  std::vector<int32_t> top_k(rows, p.top_k), ids(rows, -1);
  Call call(6, {tensor(x, {rows, size}), tensor(temperature, {rows}), tensor(top_k, {rows}), tensor(top_p, {rows}),
                tensor(min_p, {rows}), tensor(uniform, {rows}), tensor(ids, {rows})});
  CHECK(run(kernel, pool, call.call) == PX_OK);
  return ids;
}

void check_sample(int64_t rows, int64_t size, double spread, const Params& p) {
  Pool one(1), three(3);
  std::vector<float> x = random_floats(rows * size, uint64_t(size), -spread, spread);
  if (size > 1) x[size / 2] = -INFINITY;
  const std::vector<float> uniform = random_floats(rows, 5, 0, 0.999);
  std::vector<int32_t> expected;
  for (const Candidate& candidate : kernels_of("sample")) {
    for (PxPool* pool : {one.pool, three.pool}) {
      const std::vector<int32_t> ids = sample(*candidate.kernel, pool, x, rows, p, uniform);
      if (expected.empty()) {
        for (int64_t r = 0; r < rows; ++r) {
          const std::vector<int64_t> order = sampling_order(&x[r * size], size, p);
          const std::vector<double> weights = kept_weights(&x[r * size], size, p);
          std::vector<double> ordered;
          for (int64_t id : order) ordered.push_back(weights[id]);
          const auto place = std::find(order.begin(), order.end(), ids[r]) - order.begin();
          CHECK(plausible(ordered, uniform[r], int32_t(place)));
        }
        expected = ids;
      }
      CHECK(ids == expected);
      std::vector<float> last(x.end() - size, x.end());
      CHECK(sample(*candidate.kernel, pool, last, 1, p, {uniform.back()})[0] == expected.back());
    }
  }
}

void check_sample_edges() {
  Pool pool(2);
  for (const Candidate& candidate : kernels_of("sample")) {
    const auto draw = [&](std::vector<float> x, const Params& p, float uniform) {
      return sample(*candidate.kernel, pool.pool, x, 1, p, {uniform})[0];
    };
    const float inf = INFINITY;
    CHECK(draw({1, 3, 3, 2}, {0, 0, 1, 0}, 0.9f) == 1);  // greedy: the lower of two equals
    CHECK(draw({NAN, 1, 2}, {0, 0, 1, 0}, 0.5f) == 2);   // NaN is never the largest
    CHECK(draw({NAN, NAN}, {1, 0, 1, 0}, 0.5f) == 0);
    CHECK(draw({-inf, -inf}, {1, 0, 1, 0}, 0.5f) == 0);
    CHECK(draw({0, inf, inf}, {1, 0, 0.9f, 0}, 0.99f) == 1);
    CHECK(draw({-inf, 5, -inf, 5}, {1, 0, 1, 0}, 0) == 1);  // a weight of 0 is never drawn
    CHECK(draw({-inf, 5, -inf, 5}, {1, 0, 1, 0}, 0.999f) == 3);
    CHECK(draw({5, 5, 5, 5}, {1, 0, 0.5f, 0}, 0.999f) == 1);  // ties in top_p: lower ids
    CHECK(draw({5, 5, 5, 4}, {1, 2, 1, 0}, 0.999f) == 2);     // ties at the k-th: all kept
    CHECK(draw({5, 4, 3, 2}, {1, 0, 0, 0}, 0.999f) == 0);     // top_p 0: one is kept
    CHECK(draw({5, 4, 3, 2}, {1, 0, 1, 1}, 0.999f) == 0);     // min_p 1: the largest alone
    std::vector<float> flat(5000, 1.0f);
    CHECK(draw(flat, {1, 0, 0.5f, 0}, 0.9999f) == 2499);
    CHECK(draw(flat, {1, 3, 1, 0}, 0.9999f) == 4999);
    for (const Params& bad : {Params{-1, 0, 1, 0}, Params{NAN, 0, 1, 0}, Params{1, -1, 1, 0}, Params{1, 0, NAN, 0}}) {
      std::vector<float> x = {1, 2}, temperature = {bad.temperature}, p = {bad.top_p}, zero = {0};
      std::vector<int32_t> k = {bad.top_k}, id = {-7};
      Call call(6, {tensor(x, {1, 2}), tensor(temperature, {1}), tensor(k, {1}), tensor(p, {1}), tensor(zero, {1}),
                    tensor(zero, {1}), tensor(id, {1})});
      CHECK(run(*candidate.kernel, pool.pool, call.call) == PX_INVALID_ARGUMENT && id[0] == -7);
    }
  }
}

void check_adjust() {
  Pool pool(2);
  for (const Candidate& candidate : kernels_of("adjust_logits")) {
    std::vector<float> logits = {1, -2, 3, 4, 5, -6, 7, INFINITY};
    std::vector<int32_t> ids = {1, 2, 0}, starts = {0, 2, 3}, counts = {0, 2, 1}, bias_rows = {1, 0, 1},
                         bias_ids = {3, 0, 1};
    std::vector<float> repetition = {2, 1}, frequency = {0.5f, 0}, presence = {0.25f, 1}, bias = {-INFINITY, 10, 0.5f};
    Call call(10, {tensor(logits, {2, 4}), tensor(ids, {3}), tensor(starts, {3}), tensor(counts, {3}),
                   tensor(repetition, {2}), tensor(frequency, {2}), tensor(presence, {2}), tensor(bias_rows, {3}),
                   tensor(bias_ids, {3}), tensor(bias, {3})});
    CHECK(run(*candidate.kernel, pool.pool, call.call) == PX_OK);
    CHECK((logits == std::vector<float>{11, -4, 0.25f, 4, 4, -5.5f, 7, -INFINITY}));
    const std::vector<float> before = logits;
    const auto refused = [&](std::vector<int32_t>& values, int32_t bad) {
      const int32_t good = values[1];
      values[1] = bad;
      CHECK(run(*candidate.kernel, pool.pool, call.call) == PX_INVALID_ARGUMENT && logits == before);
      values[1] = good;
    };
    refused(ids, 4);
    refused(ids, -1);
    refused(starts, 4);
    refused(bias_rows, 2);
    refused(bias_ids, 4);
  }
}

}  // namespace

int main() {
  Pool pool(3);
  for (int64_t size : {1, 2, 15, 16, 17, 100, 1023, 1024, 1025, 5000}) {
    for (int64_t k : {int64_t(1), int64_t(5), int64_t(64), size}) {
      if (k <= size) check_topk(pool.pool, 2, size, k, random_floats(2 * size, uint64_t(k)));
      if (k <= size) check_topk(pool.pool, 5, size, k, random_floats(5 * size, uint64_t(k)));
    }
  }
  check_topk(pool.pool, 1, 4, 4, {NAN, 1, -INFINITY, NAN});
  check_topk(pool.pool, 1, 6, 4, {1, 3, 3, 2, 3, 3});
  for (int64_t size : {1, 7, 100, 3000, 50000}) {
    for (double spread : {0.1, 5.0, 30.0}) {
      for (const Params& p :
           {Params{1, 0, 1, 0}, Params{0.7f, 0, 1, 0.05f}, Params{1, 40, 1, 0}, Params{1.5f, 40, 0.8f, 0},
            Params{1, 0, 0.9f, 0}, Params{2, 0, 0.999f, 0.001f}, Params{0.3f, 2000, 0.95f, 0}}) {
        check_sample(4, size, spread, p);
        if (size < 50000) check_sample(1, size, spread, p);
      }
    }
  }
  check_sample_edges();
  check_adjust();
  return 0;
}
