// Elementwise kernels at every size around vectors and blocks, in every dtype, against the same formula in double.
#include <algorithm>
#include <functional>

#include "numbers.hpp"

using namespace perfx_test;

namespace {

using Formula = std::function<double(const double*)>;
struct Bounds {
  double low, high;
};

// An op, the bounds of its inputs, and what it gives.
struct Form {
  const char* op;
  std::vector<Bounds> inputs;
  Formula formula;
  std::vector<int32_t> dtypes;
  double absolute = 1e-6;
  int32_t gives = -1;  // the result's dtype; -1: that of the inputs
  std::vector<PxAttr> attrs = {};
};

const std::vector<int32_t> kSingle = {PX_FLOAT32}, kFloats = {PX_FLOAT32, PX_FLOAT64},
                           kAnyFloats = {PX_FLOAT32, PX_FLOAT64, PX_FLOAT16, PX_BFLOAT16},
                           kWhole = {PX_INT8, PX_INT16, PX_INT32, PX_INT64, PX_UINT8, PX_UINT16, PX_UINT32, PX_UINT64};
std::vector<int32_t> joined(std::vector<int32_t> a, const std::vector<int32_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// The inputs of a form in one dtype, all of their elements and what these come to.
struct Case {
  Case(const Form& form_in, int32_t dtype_in, int64_t count)
      : form(form_in), dtype(dtype_in), gives(form.gives < 0 ? dtype : form.gives) {
    for (const Bounds& bounds : form.inputs) {
      inputs.push_back(numbers_of(dtype, size_t(count), 3 + inputs.size(), bounds.low, bounds.high));
    }
    for (int64_t i = 0; i < count; ++i) {
      double x[3] = {};
      for (size_t k = 0; k < inputs.size(); ++k) x[k] = inputs[k].values[size_t(i)];
      expected.push_back(form.formula(x));
    }
  }
  bool holds(const std::vector<char>& y, const std::vector<double>& what) const {
    const double relative = gives == PX_FLOAT64 ? 1e-12 : gives == PX_FLOAT32 ? 2e-6 : 1.0 / 256;
    return perfx_test::holds(gives, y, what, relative, form.absolute);
  }
  const Form& form;
  int32_t dtype, gives;
  std::vector<Numbers> inputs;
  std::vector<double> expected;
};

void check_dense(const Case& c, int64_t size) {
  Trial trial(c.form.op, c.form.attrs);
  std::vector<char> y;
  for (const Numbers& input : c.inputs) trial.in_as(input.bytes.data(), c.dtype, {size});
  trial.out_as(y, c.gives, {size}).run(pool_for(size), [&] { return c.holds(y, c.expected); });
}

// Every second element, from the last one backwards: blocks are gathered.
void check_strided(const Case& c, int64_t size) {
  Trial trial(c.form.op, c.form.attrs);
  std::vector<char> y;
  const int64_t all = 2 * size - 1;
  for (const Numbers& input : c.inputs) {
    trial.in_strided(input.bytes.data(), size_t(all * input.item), c.dtype, {size}, {-2 * input.item},
                     (all - 1) * input.item);
  }
  std::vector<double> expected;
  for (int64_t i = 0; i < size; ++i) expected.push_back(c.expected[size_t(all - 1 - 2 * i)]);
  trial.out_as(y, c.gives, {size}).run(pool_for(size), [&] { return c.holds(y, expected); });
}

// One number and `size` elements, in either order; then rows of `size` with a column of numbers.
void check_broadcast(const Case& c, int64_t size) {
  for (size_t number : {0, 1}) {
    for (const Shape& shape : {Shape{size}, Shape{3, size}}) {
      const Shape numbers = shape.size() == 1 ? Shape{1} : Shape{3, 1};
      Trial trial(c.form.op, c.form.attrs);
      for (size_t i : {0, 1}) trial.in_as(c.inputs[i].bytes.data(), c.dtype, i == number ? numbers : shape);
      std::vector<double> expected;
      for (int64_t i = 0; i < count_of(shape); ++i) {
        double x[2];
        for (size_t k : {0, 1}) x[k] = c.inputs[k].values[size_t(k == number ? i / size : i)];
        expected.push_back(c.form.formula(x));
      }
      std::vector<char> y;
      trial.out_as(y, c.gives, shape).run(pool_for(size), [&] { return c.holds(y, expected); });
    }
  }
}

void check(const Form& form) {
  for (int32_t dtype : form.dtypes) {
    const Case c(form, dtype, 4200);
    // The longest vectors of float32 have 128 elements.
    for (int64_t size : sizes_around(dtype == PX_FLOAT32 ? 258 : 66, 2048)) check_dense(c, size);
    if (form.dtypes == kSingle) continue; /* these take dense operands alone */
    for (int64_t size : {1, 2, 15, 17, 33, 255, 257, 1023, 1024, 1025, 2049}) {
      check_strided(c, size);
      if (form.inputs.size() == 2 && size < 300) check_broadcast(c, size);
    }
  }
}

double logistic(double x) { return 1 / (1 + std::exp(-x)); }
double gelu_tanh(double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }
double silu(double x) { return x * logistic(x); }

template <double (*kFunction)(double)>
Formula of() {
  return [](const double* x) { return kFunction(x[0]); };
}
template <double (*kFunction)(double, double)>
Formula of() {
  return [](const double* x) { return kFunction(x[0], x[1]); };
}

std::vector<Form> functions() {
  return {
      {"gelu_tanh", {{-6, 6}}, of<gelu_tanh>(), kSingle},
      {"silu", {{-20, 20}}, of<silu>(), kSingle},
      {"sigmoid", {{-20, 20}}, of<logistic>(), kSingle},
      {"erf", {{-4, 4}}, of<std::erf>(), kSingle},
      {"gelu", {{-6, 6}}, [](const double* x) { return x[0] / 2 * (1 + std::erf(x[0] / std::sqrt(2))); }, kSingle},
      {"softcap",
       {{-90, 90}},
       [](const double* x) { return 30 * std::tanh(x[0] / 30); },
       kSingle,
       1e-6,
       -1,
       {attr(30.0)}},
      {"exp", {{-5, 5}}, of<std::exp>(), kFloats},
      {"tanh", {{-5, 5}}, of<std::tanh>(), kFloats},
      {"expm1", {{-3, 3}}, of<std::expm1>(), kFloats},
      {"log", {{0.1, 20}}, of<std::log>(), kFloats},
      {"log2", {{0.1, 20}}, of<std::log2>(), kFloats},
      {"log10", {{0.1, 20}}, of<std::log10>(), kFloats},
      {"log1p", {{-0.9, 20}}, of<std::log1p>(), kFloats},
      {"sin", {{-20, 20}}, of<std::sin>(), kFloats},
      {"cos", {{-20, 20}}, of<std::cos>(), kFloats},
      {"tan", {{-1.4, 1.4}}, of<std::tan>(), kFloats},
      {"asin", {{-1, 1}}, of<std::asin>(), kFloats},
      {"acos", {{-1, 1}}, of<std::acos>(), kFloats},
      {"atan", {{-9, 9}}, of<std::atan>(), kFloats},
      {"sinh", {{-4, 4}}, of<std::sinh>(), kFloats},
      {"cosh", {{-4, 4}}, of<std::cosh>(), kFloats},
      {"asinh", {{-9, 9}}, of<std::asinh>(), kFloats},
      {"acosh", {{1, 9}}, of<std::acosh>(), kFloats},
      {"atanh", {{-0.9, 0.9}}, of<std::atanh>(), kFloats},
      {"abs", {{-60, 60}}, of<std::fabs>(), joined(kAnyFloats, kWhole)},
      {"sign", {{-2, 2}}, [](const double* x) { return double((x[0] > 0) - (x[0] < 0)); }, joined(kAnyFloats, kWhole)},
      {"ceil", {{-9, 9}}, of<std::ceil>(), kAnyFloats},
      {"floor", {{-9, 9}}, of<std::floor>(), kAnyFloats},
      {"trunc", {{-9, 9}}, of<std::trunc>(), kAnyFloats},
      {"round", {{-9, 9}}, of<std::nearbyint>(), kAnyFloats},
      {"sqrt", {{0, 9}}, of<std::sqrt>(), kFloats},
  };
}

double floored(double a, double b) { return b == 0 ? 0 : std::floor(a / b); }
double rest_of(double a, double b) { return b == 0 ? 0 : a - b * std::floor(a / b); }
double copied_sign(double a, double b) { return std::copysign(a, b); }
double angle(double a, double b) { return std::atan2(a, b); }
double length(double a, double b) { return std::sqrt(a * a + b * b); }
double power(double a, double b) { return std::pow(a, b); }

template <class Whole>
Formula of_whole(Whole whole) {
  return [whole](const double* x) { return double(whole(int64_t(x[0]), int64_t(x[1]))); };
}

std::vector<Form> pairs() {
  const std::vector<int32_t> all = joined(kAnyFloats, kWhole), bits = joined({PX_BOOL}, kWhole);
  return {
      {"add", {{-30, 30}, {-30, 30}}, [](const double* x) { return x[0] + x[1]; }, all},
      {"subtract", {{30, 60}, {-30, 30}}, [](const double* x) { return x[0] - x[1]; }, all},
      {"multiply", {{-7, 7}, {-7, 7}}, [](const double* x) { return x[0] * x[1]; }, all},
      {"divide", {{-9, 9}, {0.5, 9}}, [](const double* x) { return x[0] / x[1]; }, kFloats},
      {"maximum", {{-60, 60}, {-60, 60}}, [](const double* x) { return std::max(x[0], x[1]); }, all},
      {"minimum", {{-60, 60}, {-60, 60}}, [](const double* x) { return std::min(x[0], x[1]); }, all},
      {"floor_divide", {{-60, 60}, {1, 7}}, of<floored>(), joined(kFloats, kWhole)},
      {"remainder", {{-60, 60}, {1, 7}}, of<rest_of>(), joined(kFloats, kWhole), 5e-5},
      {"pow", {{0.5, 3}, {0, 4}}, of<power>(), joined(kFloats, kWhole)},
      {"bitwise_and", {{-99, 99}, {-99, 99}}, of_whole([](int64_t a, int64_t b) { return a & b; }), bits},
      {"bitwise_or", {{-99, 99}, {-99, 99}}, of_whole([](int64_t a, int64_t b) { return a | b; }), bits},
      {"bitwise_xor", {{-99, 99}, {-99, 99}}, of_whole([](int64_t a, int64_t b) { return a ^ b; }), bits},
      {"bitwise_left_shift", {{-9, 9}, {0, 3}}, of_whole([](int64_t a, int64_t b) { return a * (1 << b); }), kWhole},
      {"bitwise_right_shift", {{-99, 99}, {0, 9}}, of_whole([](int64_t a, int64_t b) { return a >> b; }), kWhole},
      {"equal",
       {{0, 2}, {0, 2}},
       [](const double* x) { return double(x[0] == x[1]); },
       joined({PX_BOOL}, all),
       0,
       PX_BOOL},
      {"less", {{-9, 9}, {-9, 9}}, [](const double* x) { return double(x[0] < x[1]); }, all, 0, PX_BOOL},
      {"less_equal", {{-2, 2}, {-2, 2}}, [](const double* x) { return double(x[0] <= x[1]); }, all, 0, PX_BOOL},
      {"copysign", {{-9, 9}, {-9, 9}}, of<copied_sign>(), kFloats},
      {"atan2", {{-9, 9}, {-9, 9}}, of<angle>(), kFloats},
      {"hypot", {{-9, 9}, {-9, 9}}, of<length>(), kFloats},
      {"logaddexp",
       {{-9, 9}, {-9, 9}},
       [](const double* x) { return std::log(std::exp(x[0]) + std::exp(x[1])); },
       kFloats},
      {"nextafter", {{1, 9}, {1, 9}}, [](const double* x) { return x[0]; }, kFloats},
  };
}

// ---- ops whose operands differ in dtype

void check_where() {
  for (int32_t dtype : {PX_UINT8, PX_FLOAT16, PX_FLOAT32, PX_FLOAT64}) {
    const Numbers condition = numbers_of(PX_BOOL, 2100, 1, 0, 1), a = numbers_of(dtype, 2100, 2, 0, 60),
                  b = numbers_of(dtype, 2100, 3, 60, 99);
    std::vector<double> expected;
    for (size_t i = 0; i < a.values.size(); ++i)
      expected.push_back(condition.values[i] != 0 ? a.values[i] : b.values[i]);
    for (int64_t size : sizes_around(258, 2048)) {
      std::vector<char> y;
      Trial("where")
          .in_as(condition.bytes.data(), PX_BOOL, {size})
          .in_as(a.bytes.data(), dtype, {size})
          .in_as(b.bytes.data(), dtype, {size})
          .out_as(y, dtype, {size})
          .run(pool_for(size), [&] { return holds(dtype, y, expected, 0, 0); });
    }
  }
}

void check_astype() {
  for (int32_t from : kReal) {
    const Numbers x = numbers_of(from, 1100, 5, 0, 60);
    for (int32_t to : kReal) {
#ifdef __riscv
      // qemu before 8.1 dies where a loop begins with a vector conversion to whole numbers (its issue 1441).
      if (is_float(from) && to != PX_BOOL && !is_float(to)) continue;
#endif
      std::vector<double> expected;
      for (double value : x.values) {
        expected.push_back(to == PX_BOOL ? double(value != 0) : is_float(to) ? value : std::trunc(value));
      }
      const bool rounds = to == PX_FLOAT16 || to == PX_BFLOAT16;
      for (int64_t size : sizes_around(34, 1024)) {
        std::vector<char> y;
        Trial("astype", {attr(int64_t(to))})
            .in_as(x.bytes.data(), from, {size})
            .out_as(y, to, {size})
            .run(pool_for(size), [&] { return holds(to, y, expected, rounds ? 1.0 / 256 : 1e-7, 0); });
      }
    }
  }
}

// ---- programs, gates and random words

// max(x * y + n, z) with y a number for each row and n one number: tanh of it.
void check_chain() {
  const std::vector<int32_t> program = {2, 0, 1, 0, 4, 2, 4, 5, 3, 7, 6, 6};
  const std::vector<float> x = random_floats(3000, 1), y = random_floats(3, 2), n = {0.25f}, z = random_floats(3000, 3);
  for (int64_t size : sizes_around(66, 512)) {
    std::vector<double> expected;
    for (int64_t i = 0; i < 3 * size; ++i) {
      const double sum = float(x[size_t(i)] * y[size_t(i / size)]) + double(n[0]);
      expected.push_back(std::tanh(std::max(sum, double(z[size_t(i)]))));
    }
    std::vector<float> result;
    Trial("elementwise_chain")
        .in(program, {4, 3})
        .in(x, {3, size})
        .in(y, {3, 1})
        .in(n, {1})
        .in(z, {3, size})
        .out(result, {3, size})
        .run(pool_for(size), [&] { return all_close(result, expected, 1e-6, 1e-6); });
  }
}

void check_gates() {
  for (int64_t size : sizes_around(130, 1024)) {
    const int64_t rows = 2, stride = size + 3, count = size == 0 ? 0 : stride + size;
    const std::vector<float> gate = random_floats(size_t(count), 5), up = random_floats(size_t(count), 6);
    for (int64_t activation : {0, 1}) {
      std::vector<double> expected;
      for (int64_t i = 0; i < rows * size; ++i) {
        const size_t at = size_t(i / size * stride + i % size);
        expected.push_back((activation == 0 ? gelu_tanh(gate[at]) : silu(gate[at])) * up[at]);
      }
      std::vector<float> y;
      Trial("gated_activation", {attr(activation)})
          .in_strided(gate.data(), gate.size() * 4, PX_FLOAT32, {rows, size}, {stride * 4, 4})
          .in_strided(up.data(), up.size() * 4, PX_FLOAT32, {rows, size}, {stride * 4, 4})
          .out(y, {rows, size})
          .run(pool_for(size), [&] { return all_close(y, expected, 2e-6, 1e-6); });
    }
  }
}

// Philox4x32-10, one block at a time (Salmon, Moraes, Dror and Shaw 2011, figure 2).
uint32_t random_word(const uint64_t* key, uint64_t index) {
  const uint64_t block = key[2] + index / 4;
  uint32_t c[4] = {uint32_t(block), uint32_t(block >> 32), uint32_t(key[1]), uint32_t(key[1] >> 32)};
  uint32_t k[2] = {uint32_t(key[0]), uint32_t(key[0] >> 32)};
  for (int round = 0; round < 10; ++round, k[0] += 0x9E3779B9u, k[1] += 0xBB67AE85u) {
    const uint64_t first = uint64_t(0xD2511F53u) * c[0], second = uint64_t(0xCD9E8D57u) * c[2];
    const uint32_t next[4] = {uint32_t(second >> 32) ^ c[1] ^ k[0], uint32_t(second),
                              uint32_t(first >> 32) ^ c[3] ^ k[1], uint32_t(first)};
    std::memcpy(c, next, sizeof(c));
  }
  return c[index % 4];
}

void check_random_bits() {
  const std::vector<uint64_t> key = {0x0123456789abcdefull, 42, 0xfffffffeull};
  for (int64_t size : sizes_around(130, 4096)) {
    std::vector<uint32_t> words;
    const auto are_right = [&] {
      for (size_t i = 0; i < words.size(); ++i) {
        if (words[i] != random_word(key.data(), i)) return false;
      }
      return true;
    };
    Trial("random_bits", {attr(size)}).in(key, {3}).out(words, {size}).run(pool_for(size), are_right);
  }
}

}  // namespace

int main() {
  for (const Form& form : functions()) check(form);
  for (const Form& form : pairs()) check(form);
  check_where();
  check_astype();
  check_chain();
  check_gates();
  check_random_bits();
  return 0;
}
