// Reductions, scans, sorts and copies at every size around vectors, blocks and segments, in every dtype, against plain
// loops.
#include <algorithm>
#include <numeric>

#include "numbers.hpp"

using namespace perfx_test;

namespace {

constexpr int32_t kComputed[] = {PX_INT8,   PX_INT16,  PX_INT32,  PX_INT64,   PX_UINT8,
                                 PX_UINT16, PX_UINT32, PX_UINT64, PX_FLOAT32, PX_FLOAT64};

// A matrix of numbers, dense or every second element of rows that lie further apart.
struct Table {
  Table(int32_t dtype, int64_t rows_in, int64_t columns_in, bool is_dense_in, double low, double high)
      : rows(rows_in),
        columns(columns_in),
        is_dense(is_dense_in),
        step(is_dense ? 1 : 2),
        pitch(is_dense ? columns : 2 * columns + 3),
        numbers(numbers_of(dtype, size_t(count()), uint64_t(7 + columns), low, high)) {}
  int64_t count() const { return rows * columns == 0 ? 0 : (rows - 1) * pitch + (columns - 1) * step + 1; }
  double at(int64_t r, int64_t c) const { return numbers.values[size_t(r * pitch + c * step)]; }
  void add_to(Trial& trial) const {
    const Shape shape = {rows, columns};
    if (is_dense) {
      trial.in_as(numbers.bytes.data(), numbers.dtype, shape);
    } else {
      trial.in_strided(numbers.bytes.data(), numbers.bytes.size(), numbers.dtype, shape,
                       {pitch * numbers.item, step * numbers.item});
    }
  }
  int64_t rows, columns;
  bool is_dense;
  int64_t step, pitch;
  Numbers numbers;
};

// ---- reductions

enum Kind { kSum, kProduct, kLargest, kSmallest };
struct Reduction {
  const char* op;
  Kind kind;
  double low, high;
};

// What a whole number of 64 bits is in a dtype: sums and products wrap around.
double wrapped(int32_t dtype, uint64_t value) {
  switch (dtype) {
    case PX_INT8:
      return int8_t(value);
    case PX_INT16:
      return int16_t(value);
    case PX_INT32:
      return int32_t(value);
    case PX_INT64:
      return double(int64_t(value));
    case PX_UINT8:
      return uint8_t(value);
    case PX_UINT16:
      return uint16_t(value);
    case PX_UINT32:
      return uint32_t(value);
    default:
      return double(value);
  }
}

// The sum or product of so many elements of a dtype.
template <class At>
double total_of(int32_t dtype, bool is_product, int64_t count, At at) {
  double total = is_product;
  uint64_t whole = is_product;
  for (int64_t i = 0; i < count; ++i) {
    const double x = at(i);
    total = is_product ? total * x : total + x;
    if (!is_float(dtype)) whole = is_product ? whole * uint64_t(int64_t(x)) : whole + uint64_t(int64_t(x));
  }
  return is_float(dtype) ? total : wrapped(dtype, whole);
}

void check_reduction(const Reduction& op, const Table& x, int64_t axis) {
  const int32_t dtype = x.numbers.dtype;
  const int64_t results = axis == 1 ? x.rows : x.columns, elements = axis == 1 ? x.columns : x.rows;
  std::vector<double> expected;
  for (int64_t i = 0; i < results; ++i) {
    const auto at = [&](int64_t k) { return axis == 1 ? x.at(i, k) : x.at(k, i); };
    double total = op.kind == kLargest ? -INFINITY : INFINITY;
    for (int64_t k = 0; k < elements; ++k)
      total = op.kind == kLargest ? std::max(total, at(k)) : std::min(total, at(k));
    if (op.kind <= kProduct) total = total_of(dtype, op.kind == kProduct, elements, at);
    expected.push_back(total);
  }
  std::vector<char> y;
  Trial trial(op.op, {attr(int64_t(1) << axis), attr(int64_t(0))});
  x.add_to(trial);
  const double relative = dtype == PX_FLOAT64 ? 1e-12 : dtype == PX_FLOAT16 ? 1.0 / 1024 : 2e-6;
  trial.out_as(y, dtype, {results}).run(pool_for(results * elements), [&] {
    return holds(dtype, y, expected, relative, op.kind == kSum ? 1e-5 : dtype == PX_FLOAT16 ? 1e-6 : 0);
  });
}

void check_reductions() {
  const Reduction ops[] = {
      {"sum", kSum, -2, 2}, {"prod", kProduct, 0.9, 1.1}, {"max", kLargest, -99, 99}, {"min", kSmallest, -99, 99}};
  for (const Reduction& op : ops) {
    std::vector<int32_t> dtypes(kComputed, kComputed + 10);
    dtypes.push_back(PX_FLOAT16);
    for (int32_t dtype : dtypes) {
      const bool of_whole = op.kind == kProduct && !is_float(dtype);
      const double low = of_whole ? 1 : op.low, high = of_whole ? 3 : op.high;
      const int64_t least = op.kind <= kProduct ? 0 : 1; /* nothing has no largest element */
      // Lanes are 64; columns are gathered where they are fewer than 8.
      for (int64_t size : sizes_around(dtype == PX_FLOAT32 ? 130 : 34, dtype == PX_UINT8 ? 2048 : 1024)) {
        if (size < least) continue;
        check_reduction(op, Table(dtype, 2, size, size % 4 != 2, low, high), 1);
        const int64_t rows = size % 3 == 0 ? 1 : size % 3 == 1 || size > 130 ? 2 : 33;
        check_reduction(op, Table(dtype, rows, size, true, low, high), 0);
        if (size < 40) check_reduction(op, Table(dtype, size, 5 + size % 5, true, low, high), 0);
      }
    }
    for (int64_t size : {16383, 16384, 16385, 40000}) {
      check_reduction(op, Table(PX_FLOAT32, 1, size, true, 0.999, 1.001), 1);
    }
  }
}

void check_position(const char* op, const Table& x, int64_t axis) {
  const bool is_largest = op[3] == 'm' && op[4] == 'a';
  const int64_t results = axis == 1 ? x.rows : x.columns, elements = axis == 1 ? x.columns : x.rows;
  std::vector<int64_t> expected, y;
  for (int64_t i = 0; i < results; ++i) {
    const auto at = [&](int64_t k) { return axis == 1 ? x.at(i, k) : x.at(k, i); };
    int64_t best = 0;
    for (int64_t k = 1; k < elements; ++k) {
      if (is_largest ? at(k) > at(best) : at(k) < at(best)) best = k;
    }
    expected.push_back(best);
  }
  Trial trial(op, {attr(axis), attr(int64_t(0))});
  x.add_to(trial);
  trial.out(y, {results}).run(pool_for(results * elements), [&] { return y == expected; });
}

void check_positions() {
  for (const char* op : {"argmax", "argmin"}) {
    for (int32_t dtype : kComputed) {
      for (int64_t size : sizes_around(34, 1024)) {
        if (size == 0) continue;
        check_position(op, Table(dtype, 2, size, size % 4 != 2, -99, 99), 1);
        check_position(op, Table(dtype, 3, size, true, -3, 3), 0);
      }
    }
    for (int64_t size : {16384, 16385, 40000}) check_position(op, Table(PX_FLOAT32, 1, size, true, -9, 9), 1);
  }
}

// ---- scans

void check_scan(const char* op, const Table& x, int64_t axis) {
  const int32_t dtype = x.numbers.dtype;
  const bool is_product = op[11] == 'p';
  std::vector<double> expected;
  for (int64_t i = 0; i < x.rows * x.columns; ++i) {
    const int64_t r = i / x.columns, c = i % x.columns;
    const auto at = [&](int64_t k) { return axis == 1 ? x.at(r, k) : x.at(k, c); };
    expected.push_back(total_of(dtype, is_product, 1 + (axis == 1 ? c : r), at));
  }
  std::vector<char> y;
  Trial trial(op, {attr(axis)});
  x.add_to(trial);
  trial.out_as(y, dtype, {x.rows, x.columns}).run(pool_for(x.rows * x.columns), [&] {
    return holds(dtype, y, expected, dtype == PX_FLOAT64 ? 1e-12 : 1e-6, 1e-6);
  });
}

void check_scans() {
  for (const char* op : {"cumulative_sum", "cumulative_prod"}) {
    for (int32_t dtype : kComputed) {
      const double low = is_float(dtype) ? 0.9 : -3, high = is_float(dtype) ? 1.1 : 3;
      for (int64_t size : sizes_around(dtype == PX_FLOAT32 ? 130 : 34, 256)) {
        check_scan(op, Table(dtype, 2, size, size % 4 != 2, low, high), 1);
        check_scan(op, Table(dtype, 3, size, true, low, high), 0);
      }
    }
  }
}

// ---- sorts and searches

void check_argsort(int32_t dtype, int64_t size, bool descending) {
  const Table x(dtype, 2, size, size % 2 == 0, -40, 40);
  std::vector<int64_t> expected, y;
  for (int64_t r = 0; r < 2; ++r) {
    std::vector<int64_t> order(static_cast<size_t>(size));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return descending ? x.at(r, a) > x.at(r, b) : x.at(r, a) < x.at(r, b);
    });
    expected.insert(expected.end(), order.begin(), order.end());
  }
  Trial trial("argsort", {attr(int64_t(1)), attr(int64_t(descending))});
  x.add_to(trial);
  trial.out(y, {2, size}).run(pool_for(size), [&] { return y == expected; });
}

void check_sorts() {
  for (int32_t dtype : kReal) {
    for (int64_t size : sizes_around(18, 256)) check_argsort(dtype, size, size % 3 == 1);
  }
  check_argsort(PX_FLOAT32, 32767, false);
  check_argsort(PX_FLOAT32, 32769, true);
}

void check_searches() {
  for (int32_t dtype : kComputed) {
    for (int64_t count : {0, 1, 2, 3, 15, 16, 17, 31, 33}) {
      Numbers random = numbers_of(dtype, size_t(count), 3, -9, 9);
      std::sort(random.values.begin(), random.values.end());
      const Numbers edges(dtype, random.values), values = numbers_of(dtype, 200, 4, -9, 9);
      for (int64_t size : sizes_around(18, 128)) {
        const bool right = size % 2 == 1;
        std::vector<int64_t> expected, y;
        for (int64_t i = 0; i < size; ++i) {
          const double value = values.values[size_t(i)];
          const auto all = edges.values;
          const auto place =
              right ? std::upper_bound(all.begin(), all.end(), value) : std::lower_bound(all.begin(), all.end(), value);
          expected.push_back(place - all.begin());
        }
        Trial("searchsorted", {attr(int64_t(right))})
            .in_as(edges.bytes.data(), dtype, {count})
            .in_as(values.bytes.data(), dtype, {size})
            .out(y, {size})
            .run(pool_for(size * 4), [&] { return y == expected; });
      }
    }
  }
}

void check_nonzero() {
  for (int64_t size : sizes_around(258, 2048)) {
    const Numbers x = numbers_of(PX_BOOL, size_t(size), uint64_t(size), 0, 1);
    std::vector<int64_t> expected, y;
    for (int64_t i = 0; i < size; ++i) {
      if (x.values[size_t(i)] != 0) expected.push_back(i);
    }
    const int64_t count = int64_t(expected.size());
    Trial("flat_nonzero", {attr(count)})
        .in_as(x.bytes.data(), PX_BOOL, {size})
        .out(y, {count})
        .run(pool_for(size), [&] { return y == expected; });
  }
}

// ---- elements by index, and copies

std::vector<int32_t> indices_of(int64_t count, int64_t size) {
  Random random(9);
  std::vector<int32_t> indices;
  for (int64_t i = 0; i < count; ++i) indices.push_back(int32_t(random.below(2 * size) - size));
  return indices;
}
int64_t from_front(int64_t index, int64_t size) { return index < 0 ? index + size : index; }

// Elements of so many bytes, each a pattern of its own.
std::vector<char> patterns(int64_t count, int64_t item, uint64_t seed = 17) {
  Random random(seed);
  std::vector<char> bytes(static_cast<size_t>(count * item));
  for (char& byte : bytes) byte = char(random.below(256));
  return bytes;
}
constexpr int32_t kByItem[] = {PX_UINT8, PX_FLOAT16, PX_FLOAT32, PX_FLOAT64, PX_COMPLEX128};

void put_element(std::vector<char>& to, int64_t at, const std::vector<char>& from, int64_t source, int64_t item) {
  std::memcpy(to.data() + at * item, from.data() + source * item, size_t(item));
}

void check_takes() {
  for (int32_t dtype : kByItem) {
    const int64_t item = Trial::item_of(dtype);
    for (int64_t inner : {1, 2, 3, 16, 17, 33}) {
      const std::vector<char> x = patterns(2 * 7 * inner, item);
      for (int64_t count : sizes_around(34, 1024)) {
        if (inner > 1 && count > 40) continue;
        const std::vector<int32_t> indices = indices_of(count, 7);
        std::vector<char> expected(static_cast<size_t>(2 * count * inner * item)), y;
        for (int64_t i = 0; i < 2 * count * inner; ++i) {
          const int64_t matrix = i / inner / count, place = from_front(indices[size_t(i / inner % count)], 7);
          put_element(expected, i, x, (matrix * 7 + place) * inner + i % inner, item);
        }
        Trial("take", {attr(int64_t(1))})
            .in_as(x.data(), dtype, {2, 7, inner})
            .in(indices, {count})
            .out_as(y, dtype, {2, count, inner})
            .run(pool_for(count * inner), [&] { return y == expected; });
      }
    }
  }
}

void check_takes_along() {
  for (int32_t dtype : kByItem) {
    const int64_t item = Trial::item_of(dtype);
    for (int64_t axis : {0, 1}) {
      for (int64_t count : sizes_around(34, 512)) {
        const int64_t lines = 3, size = 5;
        const std::vector<char> x = patterns(lines * size, item);
        const std::vector<int32_t> indices = indices_of(lines * count, size);
        std::vector<char> expected(static_cast<size_t>(lines * count * item)), y;
        const Shape from = axis == 0 ? Shape{size, lines} : Shape{lines, size};
        const Shape to = axis == 0 ? Shape{count, lines} : Shape{lines, count};
        for (int64_t i = 0; i < lines * count; ++i) {
          const int64_t place = from_front(indices[size_t(i)], size);
          put_element(expected, i, x, axis == 0 ? place * lines + i % lines : i / count * size + place, item);
        }
        Trial("take_along_axis", {attr(axis)})
            .in_as(x.data(), dtype, from)
            .in(indices, to)
            .out_as(y, dtype, to)
            .run(pool_for(count), [&] { return y == expected; });
      }
    }
  }
}

void check_puts() {
  for (int32_t dtype : kByItem) {
    const int64_t item = Trial::item_of(dtype);
    for (int64_t columns : sizes_around(34, 256)) {
      const int64_t rows = 6, count = 4;
      const std::vector<int32_t> indices = {2, -1, 0, 2};
      const std::vector<char> target = patterns(rows * columns, item), values = patterns(count * columns, item, 18);
      std::vector<char> expected = target, after;
      for (int64_t i = 0; i < count * columns; ++i) {
        const int64_t row = from_front(indices[size_t(i / columns)], rows);
        put_element(expected, row * columns + i % columns, values, i, item);
      }
      Trial("put_rows")
          .changed(target, after, Trial::dense(dtype, {rows, columns}))
          .in(indices, {count})
          .in_as(values.data(), dtype, {count, columns})
          .run(pool_for(columns), [&] { return after == expected; });
    }
  }
}

// A matrix into one of other strides: as it is, transposed, or backwards; a row or a column into all of them.
void check_assigns() {
  for (int32_t dtype : kByItem) {
    const int64_t item = Trial::item_of(dtype);
    for (int64_t rows : {1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 65}) {
      for (int64_t columns : {0, 1, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 130}) {
        const int64_t pitch = columns + 1, count = columns == 0 ? 0 : (rows - 1) * pitch + columns;
        const std::vector<char> target = patterns(count, item), source = patterns(rows * columns, item, 18);
        const Shape to = {pitch * item, item};
        const Shape from[] = {
            {columns * item, item}, {item, rows * item}, {-columns * item, -item}, {0, item}, {item, 0}};
        for (const Shape& strides : from) {
          const int64_t offset = strides[0] < 0 && columns > 0 ? (rows * columns - 1) * item : 0;
          std::vector<char> expected = target, after;
          for (int64_t i = 0; i < rows * columns; ++i) {
            const int64_t place = offset + i / columns * strides[0] + i % columns * strides[1];
            put_element(expected, i / columns * pitch + i % columns, source, place / item, item);
          }
          Trial("assign")
              .changed(target, after, Trial::strided(dtype, {rows, columns}, to))
              .in_strided(source.data(), size_t(rows * columns * item), dtype, {rows, columns}, strides, offset)
              .run(pool_for(rows * columns), [&] { return after == expected; });
        }
      }
    }
  }
}

void check_concats() {
  for (int32_t dtype : kByItem) {
    const int64_t item = Trial::item_of(dtype);
    for (int64_t size : sizes_around(66, 1024)) {
      const std::vector<char> a = patterns(2 * size, item), b = patterns(2 * 3, item, 18);
      std::vector<char> expected(static_cast<size_t>(2 * (size + 3) * item)), y;
      for (int64_t i = 0; i < 2 * (size + 3); ++i) {
        const int64_t row = i / (size + 3), column = i % (size + 3);
        put_element(expected, i, column < size ? a : b, column < size ? row * size + column : row * 3 + column - size,
                    item);
      }
      Trial("concat", {attr(int64_t(1))})
          .in_as(a.data(), dtype, {2, size})
          .in_as(b.data(), dtype, {2, 3})
          .out_as(y, dtype, {2, size + 3})
          .run(pool_for(size), [&] { return y == expected; });
    }
  }
}

}  // namespace

int main() {
  check_reductions();
  check_positions();
  check_scans();
  check_sorts();
  check_searches();
  check_nonzero();
  check_takes();
  check_takes_along();
  check_puts();
  check_assigns();
  check_concats();
  return 0;
}
