// kv_write and paged_attention against plain loops in double; the same bits for every split of the work.
#include <cmath>

#include "check.hpp"

using namespace perfx_test;

namespace {

float half_to_float(uint16_t h) {
  const int exponent = h >> 10 & 31, mantissa = h & 1023;
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return float(h & 0x8000 ? -magnitude : magnitude);
}

struct Shape {
  int64_t heads, kv_heads, head_size, block_size, window;
  float softcap;
  int32_t cache_dtype;
};

// Requests with all of their tokens' keys and values; the cache holds them in shuffled blocks, the rest of it is NaN.
struct World {
  World(const Shape& s, std::vector<int64_t> lengths_in) : shape(s), lengths(std::move(lengths_in)) {
    for (int64_t length : lengths) max_blocks = std::max(max_blocks, (length + s.block_size - 1) / s.block_size);
    num_blocks = max_blocks * int64_t(lengths.size()) + 1;
    for (size_t r = 0; r < lengths.size(); ++r) {
      const size_t size = lengths[r] * s.kv_heads * s.head_size;
      keys.push_back(random_floats(size, 10 + r));
      values.push_back(random_floats(size, 20 + r));
      queries.push_back(random_floats(lengths[r] * s.heads * s.head_size, 30 + r));
      for (int64_t b = 0; b < max_blocks; ++b) {
        block_table.push_back(int32_t((b * int64_t(lengths.size()) + int64_t(r)) * 7 % (num_blocks - 1) + 1));
      }
    }
    if ((num_blocks - 1) % 7 == 0) {
      for (size_t i = 0; i < block_table.size(); ++i) block_table[i] = int32_t(block_table.size() - i);
    }
    const size_t bytes = num_blocks * s.kv_heads * s.head_size * s.block_size * perfx::item_bytes(s.cache_dtype);
    k_cache.assign(bytes, char(0xff));
    v_cache.assign(bytes, char(0xff));
  }
  PxTensor k_tensor() {
    return tensor(k_cache.data(), shape.cache_dtype, {num_blocks, shape.kv_heads, shape.head_size, shape.block_size});
  }
  PxTensor v_tensor() {
    return tensor(v_cache.data(), shape.cache_dtype, {num_blocks, shape.kv_heads, shape.block_size, shape.head_size});
  }
  PxTensor table(int64_t requests) { return tensor(block_table, {requests, max_blocks}); }
  int32_t slot(int64_t request, int64_t position) const {
    return int32_t(block_table[request * max_blocks + position / shape.block_size] * shape.block_size +
                   position % shape.block_size);
  }

  Shape shape;
  std::vector<int64_t> lengths;
  int64_t max_blocks = 0, num_blocks = 0;
  std::vector<std::vector<float>> keys, values, queries;
  std::vector<int32_t> block_table;
  std::vector<char> k_cache, v_cache;
};

void write_cache(World& world, const PxKernel& kernel, PxPool* pool) {
  const Shape& s = world.shape;
  for (size_t r = 0; r < world.lengths.size(); ++r) {
    std::vector<int32_t> slots;
    for (int64_t p = 0; p < world.lengths[r]; ++p) slots.push_back(world.slot(r, p));
    Call call(5, {tensor(world.keys[r], {world.lengths[r], s.kv_heads, s.head_size}),
                  tensor(world.values[r], {world.lengths[r], s.kv_heads, s.head_size}),
                  tensor(slots, {world.lengths[r]}), world.k_tensor(), world.v_tensor()});
    CHECK(run(kernel, pool, call.call) == PX_OK);
  }
}

float cached(const World& world, bool key, int64_t request, int64_t position, int64_t head, int64_t d) {
  const Shape& s = world.shape;
  const int64_t slot = world.slot(request, position), block = slot / s.block_size, place = slot % s.block_size;
  const int64_t base = (block * s.kv_heads + head) * s.head_size * s.block_size;
  const int64_t index = base + (key ? d * s.block_size + place : place * s.head_size + d);
  const char* data = (key ? world.k_cache : world.v_cache).data();
  if (s.cache_dtype == PX_FLOAT32) return reinterpret_cast<const float*>(data)[index];
  return half_to_float(reinterpret_cast<const uint16_t*>(data)[index]);
}

void check_cache(const World& world) {
  const Shape& s = world.shape;
  const double tolerance = s.cache_dtype == PX_FLOAT32 ? 0 : 1.0 / 2048;
  for (size_t r = 0; r < world.lengths.size(); ++r) {
    for (int64_t i = 0; i < int64_t(world.keys[r].size()); ++i) {
      const int64_t d = i % s.head_size, head = i / s.head_size % s.kv_heads, p = i / s.head_size / s.kv_heads;
      CHECK(close(cached(world, true, r, p, head, d), world.keys[r][i], tolerance, tolerance * 1e-4));
      CHECK(close(cached(world, false, r, p, head, d), world.values[r][i], tolerance, tolerance * 1e-4));
    }
  }
}

// One row in double precision, from what is in the cache.
std::vector<double> reference_row(const World& world, int64_t request, int64_t position, int64_t head, double scale) {
  const Shape& s = world.shape;
  const int64_t kv_head = head / (s.heads / s.kv_heads);
  const int64_t begin = s.window > 0 ? std::max<int64_t>(0, position - s.window + 1) : 0;
  const float* q = world.queries[request].data() + (position * s.heads + head) * s.head_size;
  std::vector<double> scores, out(s.head_size, 0.0);
  double largest = -INFINITY, sum = 0;
  for (int64_t p = begin; p <= position; ++p) {
    double score = 0;
    for (int64_t d = 0; d < s.head_size; ++d) score += double(q[d]) * cached(world, true, request, p, kv_head, d);
    score *= scale;
    if (s.softcap > 0) score = s.softcap * std::tanh(score / s.softcap);
    scores.push_back(score);
    largest = std::max(largest, score);
  }
  for (int64_t p = begin; p <= position; ++p) {
    const double weight = std::exp(scores[p - begin] - largest);
    sum += weight;
    for (int64_t d = 0; d < s.head_size; ++d) out[d] += weight * cached(world, false, request, p, kv_head, d);
  }
  for (double& x : out) x /= sum;
  return out;
}

constexpr double kScale = 0.11;

// Runs the tokens [from[r], to[r]) of each request, with two rows of padding; returns the outputs of each request.
std::vector<std::vector<float>> attend(World& world, const PxKernel& kernel, PxPool* pool,
                                       const std::vector<int64_t>& from, const std::vector<int64_t>& to) {
  const Shape& s = world.shape;
  const int64_t row = s.heads * s.head_size;
  std::vector<float> q;
  std::vector<int32_t> query_start = {0}, kv_len;
  for (size_t r = 0; r < from.size(); ++r) {
    q.insert(q.end(), world.queries[r].begin() + from[r] * row, world.queries[r].begin() + to[r] * row);
    query_start.push_back(query_start.back() + int32_t(to[r] - from[r]));
    kv_len.push_back(int32_t(to[r]));
  }
  const int64_t tokens = query_start.back() + 2;
  q.resize(tokens * row, NAN);
  std::vector<float> y(tokens * row, -77.0f);
  const int64_t requests = int64_t(from.size());
  Call call(6,
            {tensor(q, {tokens, s.heads, s.head_size}), world.k_tensor(), world.v_tensor(),
             tensor(query_start, {requests + 1}), tensor(kv_len, {requests}), world.table(requests),
             tensor(y, {tokens, s.heads, s.head_size})},
            {attr(kScale), attr(s.window), attr(double(s.softcap))});
  CHECK(run(kernel, pool, call.call) == PX_OK);
  for (int64_t i = (tokens - 2) * row; i < tokens * row; ++i) CHECK(y[i] == 0);
  std::vector<std::vector<float>> outputs;
  for (size_t r = 0; r < from.size(); ++r) {
    outputs.emplace_back(y.begin() + query_start[r] * row, y.begin() + query_start[r + 1] * row);
  }
  return outputs;
}

void check_values(const World& world, const std::vector<std::vector<float>>& outputs) {
  const Shape& s = world.shape;
  const double absolute = 2.5e-7 * std::sqrt(double(s.head_size)); /* a score is a sum of so many products */
  for (size_t r = 0; r < outputs.size(); ++r) {
    const int64_t step = std::max<int64_t>(1, world.lengths[r] / 20);
    for (int64_t p = 0; p < world.lengths[r]; p += p + step < world.lengths[r] ? step : 1) {
      for (int64_t h = 0; h < s.heads; ++h) {
        const std::vector<double> expected = reference_row(world, r, p, h, kScale);
        for (int64_t d = 0; d < s.head_size; ++d) {
          CHECK(close(outputs[r][(p * s.heads + h) * s.head_size + d], expected[d], 2e-5, absolute));
        }
      }
    }
  }
}

// The whole prompts at once, then every other way to come to the same tokens.
void check_shape(const Shape& shape, std::vector<int64_t> lengths) {
  Pool one(1), three(3);
  std::vector<std::vector<float>> expected;
  for (const Candidate& candidate : kernels_of("paged_attention")) {
    World world(shape, lengths);
    for (const Candidate& writer : kernels_of("kv_write")) {
      if (writer.variant == candidate.variant) write_cache(world, *writer.kernel, three.pool);
    }
    check_cache(world);
    const std::vector<int64_t> zero(lengths.size(), 0);
    const auto whole = attend(world, *candidate.kernel, three.pool, zero, lengths);
    if (expected.empty()) check_values(world, whole);
    if (expected.empty()) expected = whole;
    for (size_t r = 0; r < lengths.size(); ++r) CHECK(same_bits(whole[r], expected[r]));
    for (PxPool* pool : {one.pool, three.pool}) {
      std::vector<int64_t> from(lengths), to(lengths);
      for (size_t r = 0; r < lengths.size(); ++r) from[r] = lengths[r] * (r + 1) / 3;  // chunks of several sizes
      const auto chunks = attend(world, *candidate.kernel, pool, from, to);
      for (size_t r = 0; r < lengths.size(); ++r) from[r] = lengths[r] - 1;  // decode: the last token of each
      const auto last = attend(world, *candidate.kernel, pool, from, to);
      const auto alone = attend(world, *candidate.kernel, pool, {from[0]}, {to[0]});
      for (size_t r = 0; r < lengths.size(); ++r) {
        const auto tail = [&](size_t size) { return std::vector<float>(expected[r].end() - size, expected[r].end()); };
        CHECK(same_bits(chunks[r], tail(chunks[r].size())));
        CHECK(same_bits(last[r], tail(last[r].size())));
        if (r == 0) CHECK(same_bits(alone[0], tail(last[0].size())));
      }
    }
  }
}

void check_invalid() {
  const Shape shape{2, 1, 16, 16, 0, 0, PX_FLOAT32};
  World world(shape, {40});
  Pool pool(2);
  std::vector<float> q(2 * 32), y(2 * 32, -7.0f);
  for (const Candidate& candidate : kernels_of("paged_attention")) {
    const auto status = [&](std::vector<int32_t> query_start, std::vector<int32_t> kv_len,
                            std::vector<int32_t> blocks) {
      Call call(6,
                {tensor(q, {2, 2, 16}), world.k_tensor(), world.v_tensor(), tensor(query_start, {2}),
                 tensor(kv_len, {1}), tensor(blocks, {1, 3}), tensor(y, {2, 2, 16})},
                {attr(1.0), attr(int64_t(0)), attr(0.0)});
      return run(*candidate.kernel, pool.pool, call.call);
    };
    CHECK(status({0, 3}, {40}, {1, 2, 3}) == PX_INVALID_ARGUMENT);
    CHECK(status({1, 2}, {40}, {1, 2, 3}) == PX_INVALID_ARGUMENT);
    CHECK(status({0, 2}, {49}, {1, 2, 3}) == PX_INVALID_ARGUMENT);
    CHECK(status({0, 2}, {1}, {1, 2, 3}) == PX_INVALID_ARGUMENT);
    CHECK(status({0, 2}, {40}, {1, 2, 4}) == PX_INVALID_ARGUMENT);
    CHECK(status({0, 2}, {40}, {1, -1, 3}) == PX_INVALID_ARGUMENT);
    for (float value : y) CHECK(value == -7.0f);
  }
  std::vector<float> k(32);
  for (const Candidate& candidate : kernels_of("kv_write")) {
    for (int32_t bad : {-2, 64}) {
      std::vector<int32_t> slots = {0, bad};
      const std::vector<char> before = world.k_cache;
      Call call(5,
                {tensor(k, {2, 1, 16}), tensor(k, {2, 1, 16}), tensor(slots, {2}), world.k_tensor(), world.v_tensor()});
      CHECK(run(*candidate.kernel, pool.pool, call.call) == PX_INVALID_ARGUMENT && before == world.k_cache);
    }
    std::vector<int32_t> none = {-1, -1};
    const std::vector<char> before = world.k_cache;
    Call call(5, {tensor(k, {2, 1, 16}), tensor(k, {2, 1, 16}), tensor(none, {2}), world.k_tensor(), world.v_tensor()});
    CHECK(run(*candidate.kernel, pool.pool, call.call) == PX_OK && before == world.k_cache);
  }
}

}  // namespace

int main() {
  check_shape({4, 1, 64, 16, 0, 0, PX_FLOAT32}, {200, 1, 64});
  check_shape({4, 1, 64, 16, 50, 0, PX_FLOAT32}, {300, 17});
  check_shape({6, 2, 48, 32, 0, 5, PX_FLOAT16}, {130, 65, 3});
  check_shape({3, 3, 16, 128, 7, 0, PX_FLOAT16}, {90, 33});
  check_shape({40, 1, 32, 16, 0, 0, PX_FLOAT32}, {70});
  check_shape({4, 1, 256, 16, 100, 0, PX_FLOAT16}, {330, 80});
  check_shape({8, 1, 80, 32, 0, 0, PX_FLOAT16}, {150});
  check_invalid();
  return 0;
}
