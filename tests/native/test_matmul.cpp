// Products of floating-point matrices: sizes around the tiles, strides, batches, threads; each variant the same bits.
#include "check.hpp"

using namespace perfx_test;

namespace {

// The order that perfx/matmul_tile.hpp promises: fused chains over blocks of 384, the blocks added in order.
template <class T>
T expected(const T* a, int64_t a_step, const T* b, int64_t b_step, int64_t depth) {
  T total = 0;
  for (int64_t first = 0; first < depth; first += 384) {
    T sum = 0;
    for (int64_t k = first; k < std::min(first + 384, depth); ++k) sum = std::fma(a[k * a_step], b[k * b_step], sum);
    total = first == 0 ? sum : total + sum;
  }
  return total;
}

// The order of perfx/matmul_vector.hpp, for one column and contiguous rows: a chain for each lane, then halves of
// lanes.
template <class T>
T expected_by_vector(const T* a, const T* b, int64_t b_step, int64_t depth) {
  constexpr int64_t lanes = 64 / sizeof(T);
  T sums[lanes] = {};
  for (int64_t k = 0; k < depth; ++k) sums[k % lanes] = std::fma(a[k], b[k * b_step], sums[k % lanes]);
  for (int64_t half = lanes / 2; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; ++i) sums[i] += sums[i + half];
  }
  return sums[0];
}

template <class T>
PxTensor matrix(T* data, int64_t rows, int64_t columns, int64_t row_stride, int64_t column_stride) {
  PxTensor t = tensor(data, sizeof(T) == 8 ? PX_FLOAT64 : PX_FLOAT32, {rows, columns});
  t.flags = 0;
  t.strides[0] = row_stride * int64_t(sizeof(T));
  t.strides[1] = column_stride * int64_t(sizeof(T));
  return t;
}

template <class T>
std::vector<T> numbers(size_t size, uint64_t seed) {
  const std::vector<float> values = random_floats(size, seed);
  return std::vector<T>(values.begin(), values.end());
}

// a [m, k] and b [k, n], either one transposed in memory, one item off alignment; what is behind the result must stay.
template <class T>
void check_product(int64_t m, int64_t k, int64_t n, bool turn_a, bool turn_b, PxPool* pool) {
  std::vector<T> a = numbers<T>(m * k + 1, 1), b = numbers<T>(k * n + 1, 2), c(m * n + 2, T(-77));
  const int64_t a_row = turn_a ? 1 : k, a_column = turn_a ? m : 1, b_row = turn_b ? 1 : n, b_column = turn_b ? k : 1;
  PxTensor result = matrix(c.data() + 1, m, n, n, 1);
  result.flags = PX_CONTIGUOUS;
  Call call(2, {matrix(a.data() + 1, m, k, a_row, a_column), matrix(b.data() + 1, k, n, b_row, b_column), result});
  for (const Candidate& candidate : kernels_of("matmul")) {
    std::fill(c.begin(), c.end(), T(-77));
    CHECK(run(*candidate.kernel, pool, call.call) == PX_OK);
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        const T *row = &a[1 + i * a_row], *column = &b[1 + j * b_column];
        const bool by_vector = n == 1 && a_column == 1;
        CHECK(c[1 + i * n + j] ==
              (by_vector ? expected_by_vector(row, column, b_row, k) : expected(row, a_column, column, b_row, k)));
      }
    }
    CHECK(c.front() == T(-77) && c.back() == T(-77));
  }
}

template <class T>
void check_sizes(PxPool* pool) {
  const int64_t sizes[][3] = {
      {1, 1, 1},      {1, 5, 40},     {40, 5, 1},     {2, 390, 35},   {3, 33, 3},      {7, 16, 16},  {12, 9, 31},
      {13, 9, 33},    {64, 400, 5},   {65, 20, 66},   {200, 3, 210},  {31, 800, 1},    {1, 800, 70}, {4, 17, 300},
      {300, 17, 4},   {5, 385, 260},  {0, 3, 4},      {3, 0, 4},      {1, 3, 1},       {3, 17, 1},   {17, 100, 1},
      {100, 257, 1},  {13, 1300, 1},  {2, 600, 1},    {0, 5, 1},      {5, 0, 1},       {100, 17, 9}, {117, 3, 100},
      {17, 100, 17},  {3, 100, 100},  {9, 400, 50},   {40, 800, 8},   {230, 40, 33},   {1, 400, 17}, {20, 12300, 10},
      {18, 12300, 2}, {1, 390, 2100}, {2100, 390, 1}, {30, 1500, 16}, {120, 1100, 64}, {1, 800, 4}};
  for (const auto& size : sizes) {
    for (int turned = 0; turned < 4; ++turned) {
      check_product<T>(size[0], size[1], size[2], turned & 1, turned & 2, pool);
    }
  }
}

void check_steps(PxPool* pool) {
  std::vector<float> a = random_floats(2000, 3), b = random_floats(4000, 4), c(15);
  PxTensor result = tensor(c, {5, 3});
  Call call(2, {matrix(a.data() + 1999, 5, 40, -50, -7), matrix(b.data(), 40, 3, 90, 3), result});
  for (const Candidate& candidate : kernels_of("matmul")) {
    CHECK(run(*candidate.kernel, pool, call.call) == PX_OK);
    for (int i = 0; i < 15; ++i) CHECK(c[i] == expected(&a[1999 - i / 3 * 50], -7, &b[i % 3 * 3], 90, 40));
  }
}

// Rows and vectors that lie in steps, some backwards; a batch of them, with one matrix for all.
void check_vectors(PxPool* pool) {
  std::vector<float> a = random_floats(40 * 70, 7), b = random_floats(3 * 50 * 4, 8), c(3 * 40);
  PxTensor vectors = tensor(b, {3, 50, 1}), matrices = matrix(a.data() + 39 * 70, 40, 50, -70, 1);
  vectors.flags = 0;
  vectors.strides[0] = 200 * sizeof(float), vectors.strides[1] = 4 * sizeof(float);
  Call call(2, {matrices, vectors, tensor(c, {3, 40, 1})});
  for (const Candidate& candidate : kernels_of("matmul")) {
    CHECK(run(*candidate.kernel, pool, call.call) == PX_OK);
    for (int i = 0; i < 120; ++i) CHECK(c[i] == expected_by_vector(&a[(39 - i % 40) * 70], &b[i / 40 * 200], 4, 50));
  }
}

void check_batches(PxPool* pool) {
  std::vector<float> a = random_floats(3 * 6 * 50, 5), b = random_floats(4 * 50 * 7, 6), c(3 * 4 * 6 * 7);
  Call call(2, {tensor(a, {3, 1, 6, 50}), tensor(b, {4, 50, 7}), tensor(c, {3, 4, 6, 7})});
  for (const Candidate& candidate : kernels_of("matmul")) {
    CHECK(run(*candidate.kernel, pool, call.call) == PX_OK);
    for (int64_t i = 0; i < int64_t(c.size()); ++i) {
      const int64_t column = i % 7, row = i / 7 % 6, second = i / 42 % 4, first = i / 168;
      CHECK(c[i] == expected(&a[(first * 6 + row) * 50], 1, &b[second * 350 + column], 7, 50));
    }
  }
}

void check_refusals() {
  std::vector<float> x(64);
  PxTensor uneven = tensor(x, {4, 4}), strided_result = tensor(x, {4, 4});
  uneven.strides[0] = 18;
  strided_result.flags = 0;
  Call whole(2, {tensor(x, {4, 4}), tensor(x.data(), PX_INT32, {4, 4}), tensor(x, {4, 4})});
  Call broken(2, {uneven, tensor(x, {4, 4}), tensor(x, {4, 4})});
  Call result(2, {tensor(x, {4, 4}), tensor(x, {4, 4}), strided_result});
  for (const Candidate& candidate : kernels_of("matmul")) {
    for (const Call* call : {&whole, &broken, &result}) {
      CHECK(candidate.kernel->accepts(&call->call) == PX_UNSUPPORTED);
    }
  }
}

}  // namespace

int main() {
  Pool pool(3);
  check_sizes<float>(pool.pool);
  check_sizes<double>(pool.pool);
  check_steps(pool.pool);
  check_vectors(pool.pool);
  check_batches(pool.pool);
  check_refusals();
  return 0;
}
