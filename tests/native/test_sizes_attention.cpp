// paged_attention at every length, group of heads, number of tokens and window around its tiles, against plain loops in
// double. What no token may see is NaN in the cache.
#include <algorithm>

#include "numbers.hpp"

using namespace perfx_test;

namespace {

// Requests whose last tokens are asked for.
struct Problem {
  int64_t kv_heads, group, head_size, block_size, window;
  double softcap;
  int32_t dtype;
  std::vector<int64_t> lengths, tokens;
};

// A cache in which block b of request r is block (b * requests + r) * step % count of all.
class World {
 public:
  explicit World(const Problem& shape) : s(shape), item(Trial::item_of(s.dtype)) {
    for (int64_t length : s.lengths) max_blocks = std::max(max_blocks, (length + s.block_size - 1) / s.block_size);
    const int64_t requests = int64_t(s.lengths.size());
    num_blocks = requests * max_blocks;
    for (int64_t i = 0; i < num_blocks; ++i) table.push_back(int32_t(num_blocks - 1 - i));
    const size_t count = size_t(num_blocks * s.kv_heads * s.head_size * s.block_size);
    keys.assign(count * size_t(item), char(0xff));
    values = keys;
    key_numbers.assign(count, 0), value_numbers.assign(count, 0);
    const std::vector<double> quarters = numbers_of(PX_BFLOAT16, 4096, 5, -2, 2).values;
    size_t next = 0;
    for (int64_t r = 0; r < requests; ++r) {
      for (int64_t p = 0; p < s.lengths[size_t(r)]; ++p) {
        for (int64_t i = 0; i < s.kv_heads * s.head_size; ++i) {
          write(keys, key_numbers, place(true, r, p, i / s.head_size, i % s.head_size), quarters[next++ % 4096]);
          write(values, value_numbers, place(false, r, p, i / s.head_size, i % s.head_size), quarters[next++ % 4096]);
        }
      }
    }
  }
  int64_t place(bool is_key, int64_t request, int64_t position, int64_t head, int64_t d) const {
    const int64_t block = table[size_t(request * max_blocks + position / s.block_size)];
    const int64_t at = position % s.block_size, base = (block * s.kv_heads + head) * s.head_size * s.block_size;
    return base + (is_key ? d * s.block_size + at : at * s.head_size + d);
  }
  const Problem& s;
  int64_t item, max_blocks = 1, num_blocks;
  std::vector<int32_t> table;
  std::vector<char> keys, values;
  std::vector<double> key_numbers, value_numbers;

 private:
  void write(std::vector<char>& to, std::vector<double>& numbers, int64_t place, double value) {
    put(s.dtype, value, to.data() + place * item);
    numbers[size_t(place)] = value;
  }
};

double scale_of(const Problem& s) { return 0.7 / std::sqrt(double(s.head_size)); }

void add_row(const World& w, int64_t request, int64_t position, int64_t head, const float* q, std::vector<double>& to) {
  const Problem& s = w.s;
  const int64_t kv_head = head / s.group, begin = s.window > 0 ? std::max<int64_t>(0, position - s.window + 1) : 0;
  std::vector<double> weights, out(size_t(s.head_size), 0.0);
  double largest = -INFINITY, sum = 0;
  for (int64_t p = begin; p <= position; ++p) {
    double score = 0;
    const int64_t first = w.place(true, request, p, kv_head, 0);
    for (int64_t d = 0; d < s.head_size; ++d) score += q[d] * w.key_numbers[size_t(first + d * s.block_size)];
    score *= scale_of(s);
    weights.push_back(s.softcap > 0 ? s.softcap * std::tanh(score / s.softcap) : score);
    largest = std::max(largest, weights.back());
  }
  for (int64_t p = begin; p <= position; ++p) {
    const double weight = std::exp(weights[size_t(p - begin)] - largest);
    const int64_t first = w.place(false, request, p, kv_head, 0);
    sum += weight;
    for (int64_t d = 0; d < s.head_size; ++d) out[size_t(d)] += weight * w.value_numbers[size_t(first + d)];
  }
  for (double x : out) to.push_back(x / sum);
}

void check(const Problem& s) {
  const World w(s);
  const int64_t heads = s.kv_heads * s.group, row = heads * s.head_size, requests = int64_t(s.lengths.size());
  std::vector<int32_t> query_start = {0}, kv_len;
  for (int64_t r = 0; r < requests; ++r) {
    query_start.push_back(query_start.back() + int32_t(s.tokens[size_t(r)]));
    kv_len.push_back(int32_t(s.lengths[size_t(r)]));
  }
  const int64_t tokens = query_start.back() + 1; /* the last one belongs to no request */
  std::vector<float> q = random_floats(size_t(tokens * row), 6), y;
  std::vector<double> expected;
  for (int64_t r = 0; r < requests; ++r) {
    for (int64_t t = query_start[size_t(r)]; t < query_start[size_t(r + 1)]; ++t) {
      const int64_t position = s.lengths[size_t(r)] - (query_start[size_t(r + 1)] - t);
      for (int64_t h = 0; h < heads; ++h) add_row(w, r, position, h, q.data() + t * row + h * s.head_size, expected);
    }
  }
  expected.resize(size_t(tokens * row), 0.0);
  Trial("paged_attention", {attr(scale_of(s)), attr(s.window), attr(s.softcap)})
      .in(q, {tokens, heads, s.head_size})
      .in_as(w.keys.data(), s.dtype, {w.num_blocks, s.kv_heads, s.head_size, s.block_size})
      .in_as(w.values.data(), s.dtype, {w.num_blocks, s.kv_heads, s.block_size, s.head_size})
      .in(query_start, {requests + 1})
      .in(kv_len, {requests})
      .in(w.table, {requests, w.max_blocks})
      .out(y, {tokens, heads, s.head_size})
      .run(pool_for(s.lengths[0] + s.group), [&] { return all_close(y, expected, 2e-5, 2e-6); });
}

}  // namespace

int main() {
  for (int64_t length = 1; length <= 130; ++length) {  // partitions are of 64 positions
    const int32_t dtype = length % 2 == 0 ? PX_FLOAT32 : PX_FLOAT16;
    check({1, 1 + length % 3, 16, 16, 0, 0, dtype, {length}, {1}});
    const bool near_edge = length % 16 < 2 || length % 16 == 15;
    if (!near_edge) continue;
    check({2, 1, 32, 32, length % 7 == 0 ? 5 : 0, 0, dtype, {length, 131 - length}, {std::min<int64_t>(length, 3), 1}});
  }
  for (int64_t group = 1; group <= 49; ++group) {  // tiles of up to 12 rows, tasks of 48
    check({1, group, 16, 16, 0, 0, PX_FLOAT32, {20}, {1}});
    if (group <= 26) check({1, group, 16, 48, 0, group % 2 * 5.0, PX_FLOAT16, {18, 5}, {2, 1}});
  }
  for (int64_t tokens = 1; tokens <= 52; ++tokens) check({1, 1 + tokens % 2, 16, 16, 0, 0, PX_FLOAT32, {52}, {tokens}});
  for (int64_t window = 1; window <= 70; ++window) check({1, 2, 16, 16, window, 0, PX_FLOAT16, {75}, {3}});
  for (int64_t head_size = 16; head_size <= 272; head_size += 16) {
    for (int32_t dtype : {PX_FLOAT32, PX_FLOAT16}) check({1, 3, head_size, 16, 0, 0, dtype, {18}, {2}});
  }
  return 0;
}
