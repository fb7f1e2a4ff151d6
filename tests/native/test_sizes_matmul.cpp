// Products of floating-point matrices at every size around tiles, panels and blocks, every layout, against plain sums.

#include <iterator>

#include "sweep.hpp"

using namespace perfx_test;

namespace {

// Of the numbers at (row, column) of operands; smaller products take the first rows and columns.
constexpr int64_t kMost = 193, kMostDepth = 769;

template <class T>
const std::vector<T>& numbers(uint64_t seed) {
  static std::map<uint64_t, std::vector<T>> known;
  std::vector<T>& values = known[seed];
  if (values.empty()) {
    for (float value : random_floats(kMost * kMostDepth, seed, -1, 1)) values.push_back(T(value));
  }
  return values;
}
template <class T>
T left_at(int64_t row, int64_t k) {
  static const std::vector<T>& all = numbers<T>(1);
  return all[size_t(row * kMostDepth + k)];
}
template <class T>
T right_at(int64_t k, int64_t column) {
  static const std::vector<T>& all = numbers<T>(2);
  return all[size_t(k * kMost + column)];
}

// The product of all rows and columns over the first positions of the inner dimension.
template <class T>
const std::vector<double>& product_over(int64_t depth) {
  static std::map<int64_t, std::vector<double>> known = {{0, std::vector<double>(size_t(kMost * kMost), 0.0)}};
  const auto found = known.find(depth);
  if (found != known.end()) return found->second;
  const auto before = std::prev(known.upper_bound(depth));
  std::vector<double> sums = before->second;
  for (int64_t k = before->first; k < depth; ++k) {
    for (int64_t i = 0; i < kMost * kMost; ++i) {
      sums[size_t(i)] += double(left_at<T>(i / kMost, k)) * double(right_at<T>(k, i % kMost));
    }
  }
  return known[depth] = sums;
}

// One operand [rows, columns] in memory: by rows or, turned, by columns, which may lie further apart than they are
// long.
template <class T, T (*kAt)(int64_t, int64_t)>
struct Side {
  Side(int64_t rows_in, int64_t columns_in, bool is_turned, int64_t apart) : rows(rows_in), columns(columns_in) {
    const int64_t lines = is_turned ? columns : rows, length = is_turned ? rows : columns, pitch = length + apart;
    row_step = is_turned ? 1 : pitch;
    column_step = is_turned ? pitch : 1;
    data.resize(lines * length == 0 ? 0 : size_t((lines - 1) * pitch + length), T(NAN));
    for (int64_t i = 0; i < rows * columns; ++i) {
      data[size_t(i / columns * row_step + i % columns * column_step)] = kAt(i / columns, i % columns);
    }
  }
  void add_to(Trial& trial) const {
    constexpr int64_t item = sizeof(T);
    const Shape strides = {row_step * item, column_step * item};
    trial.in_strided(data.data(), data.size() * sizeof(T), TypeName<T>::dtype, {rows, columns}, strides);
  }
  int64_t rows, columns, row_step, column_step;
  std::vector<T> data;
};

// Every layout of a product, or every other one.
template <class T>
void check(int64_t m, int64_t n, int64_t k, int64_t apart = 0, bool all_layouts = false) {
  const std::vector<double>& all = product_over<T>(k);
  std::vector<double> expected;
  for (int64_t i = 0; i < m * n; ++i) expected.push_back(all[size_t(i / n * kMost + i % n)]);
  for (int layout = 0; layout < 4; ++layout) {
    if (!all_layouts && (layout + m + n + k) % 2 == 0) continue;
    const Side<T, left_at<T>> a(m, k, layout & 1, apart);
    const Side<T, right_at<T>> b(k, n, layout & 2, apart);
    std::vector<T> c;
    Trial trial("matmul");
    a.add_to(trial), b.add_to(trial);
    const double unit = sizeof(T) == 8 ? 2.3e-16 : 1.2e-7; /* a sum's error grows with its number of roundings */
    trial.out(c, {m, n}).run(pool_for(m + n + k), [&] { return all_close(c, expected, 4 * unit, unit * double(k)); });
  }
}

// Batches: as many matrices on the left, one for all on the right, or one for each; vectors on either side.
template <class T>
void check_batches(int64_t m, int64_t n, int64_t k) {
  const std::vector<T>&a = numbers<T>(1), &b = numbers<T>(2);
  for (bool is_shared : {true, false}) {
    std::vector<double> expected;
    for (int64_t i = 0; i < 3 * m * n; ++i) {
      const int64_t matrix = i / m / n;
      double sum = 0;
      for (int64_t d = 0; d < k; ++d) {
        sum += double(a[size_t((matrix * m + i / n % m) * k + d)]) *
               double(b[size_t(((is_shared ? 0 : matrix) * k + d) * n + i % n)]);
      }
      expected.push_back(sum);
    }
    std::vector<T> c;
    Trial("matmul").in(a, {3, m, k}).in(b, {is_shared ? 1 : 3, k, n}).out(c, {3, m, n}).run(pool_for(m + n), [&] {
      return all_close(c, expected, 1e-6, 1e-5);
    });
  }
}

template <class T>
void check_all() {
  // rows and columns: 2 x 12 rows of a tile, 2 x 64 of its lanes, 64 that are read in place, 192 of a skinny product
  for (int64_t size : sizes_around(34, 192)) {
    for (int64_t other : {0, 1, 3, 17}) {
      const bool all_layouts = other == 3 && size < 40;
      check<T>(size, other, 5, size % 3, all_layouts);
      check<T>(other, size, 5, size % 3, all_layouts);
    }
    if (size < 130) check<T>(size, size / 2, 9, size % 3), check<T>(size / 2, size, 9);
  }
  for (int64_t size : {65, 66, 70, 193}) check<T>(size, 66, 2), check<T>(66, size, 3);
  // the inner dimension: vectors, squares of them, blocks of 384
  for (int64_t size : sizes_around(34, 128)) {
    check<T>(1, 5, size, 0, true), check<T>(5, 1, size, 0, true), check<T>(2, 19, size, 1), check<T>(13, 17, size);
  }
  for (int64_t size : {7, 16, 17, 33}) check<T>(70, 67, size);
  for (int64_t size : {383, 384, 385, 769}) {
    check<T>(1, 18, size), check<T>(18, 1, size), check<T>(3, 20, size), check<T>(9, 33, size);
  }
  check<T>(66, 65, 385);
  for (int64_t size = 1; size <= 26; ++size) check_batches<T>(size, 1 + size % 5, 7), check_batches<T>(2, size, 18);
}

}  // namespace

int main() {
  check_all<float>();
  check_all<double>();
  return 0;
}
