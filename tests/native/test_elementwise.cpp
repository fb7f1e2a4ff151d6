// Elementwise kernels: every size around the vector width, misaligned, each variant; errors in units of the last place.
#include <functional>

#include "check.hpp"

using namespace perfx_test;

namespace {

double gelu(double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }
double silu(double x) { return x / (1 + std::exp(-x)); }
double sigmoid(double x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }

struct Unary {
  const char* op;
  std::function<double(double)> reference;
  double low, high;
  double ulps;      // of the result
  double absolute;  // or this much, where the formula itself loses relative accuracy in float32
};

const Unary kUnary[] = {
    {"exp", [](double x) { return std::exp(x); }, -110, 90, 1.0, 0},
    {"sigmoid", sigmoid, -100, 100, 2.5, 0},
    {"tanh", [](double x) { return std::tanh(x); }, -12, 12, 2.5, 0},
    {"silu", silu, -80, 80, 3.5, 0},
    {"gelu_tanh", gelu, -6, 6, 4, 3e-7},
};

// Distance in units of the last place of the expected float32 (subnormals counted as such).
double ulps_between(float actual, double expected) {
  if (std::isinf(float(expected)) || std::isnan(expected)) return actual == float(expected) ? 0 : 1e9;
  int exponent;
  std::frexp(expected, &exponent);
  const double ulp = std::ldexp(1.0, std::max(exponent, -125) - 24);
  return std::fabs(actual - expected) / ulp;
}

void check_accuracy(const Unary& unary, PxPool* pool) {
  constexpr int64_t kCount = 200000;
  std::vector<float> x(kCount), y(kCount), first;
  for (int64_t i = 0; i < kCount; ++i) x[i] = float(unary.low + (unary.high - unary.low) * double(i) / (kCount - 1));
  for (int64_t i = 0; i < kCount; i += 7) x[i] *= 1e-3f;
  Call call(1, {tensor(x, {kCount}), tensor(y, {kCount})});
  for (const Candidate& candidate : kernels_of(unary.op)) {
    CHECK(run(*candidate.kernel, pool, call.call) == PX_OK);
    double worst = 0;
    for (int64_t i = 0; i < kCount; ++i) {
      const double expected = unary.reference(x[i]);
      if (std::fabs(y[i] - expected) > unary.absolute) worst = std::max(worst, ulps_between(y[i], expected));
    }
    std::printf("%-10s %-8s %.2f ulp\n", unary.op, candidate.variant.c_str(), worst);
    CHECK(worst <= unary.ulps);
    if (first.empty()) first = y;
    CHECK(same_bits(first, y));
  }
}

// All sizes 0 .. 2 * 16 + 1 and some larger, from a misaligned address; the bytes around must stay.
void check_sizes(const Unary& unary, PxPool* pool) {
  for (const Candidate& candidate : kernels_of(unary.op)) {
    for (int64_t size : {0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 255, 256, 257, 1000}) {
      std::vector<float> x = random_floats(size + 1, 3), y(size + 3, -77.0f);
      Call call(1, {tensor(x.data() + 1, PX_FLOAT32, {size}), tensor(y.data() + 1, PX_FLOAT32, {size})});
      CHECK(run(*candidate.kernel, pool, call.call) == PX_OK);
      for (int64_t i = 0; i < size; ++i) CHECK(close(y[i + 1], unary.reference(x[i + 1]), 1e-6, 1e-7));
      CHECK(y[0] == -77.0f && y[size + 1] == -77.0f && y[size + 2] == -77.0f);
    }
  }
}

void check_special_values(PxPool* pool) {
  const float inf = INFINITY;
  std::vector<float> x = {0.0f, -0.0f, inf, -inf, NAN, 88.8f, -104.0f, -103.0f}, y(8);
  Call call(1, {tensor(x, {8}), tensor(y, {8})});
  for (const Candidate& candidate : kernels_of("exp")) {
    CHECK(run(*candidate.kernel, pool, call.call) == PX_OK);
    CHECK(y[0] == 1 && y[1] == 1 && y[2] == inf && y[3] == 0 && std::isnan(y[4]) && y[5] == inf && y[6] == 0);
    CHECK(y[7] == std::exp(-103.0f));  // subnormal
  }
  for (const Candidate& candidate : kernels_of("tanh")) {
    CHECK(run(*candidate.kernel, pool, call.call) == PX_OK);
    CHECK(y[0] == 0 && std::signbit(y[1]) && y[2] == 1 && y[3] == -1 && std::isnan(y[4]));
  }
  for (const Candidate& candidate : kernels_of("sigmoid")) {
    CHECK(run(*candidate.kernel, pool, call.call) == PX_OK);
    CHECK(y[0] == 0.5f && y[2] == 1 && y[3] == 0 && std::isnan(y[4]));
  }
}

struct Binary {
  const char* op;
  float (*reference)(float, float);
};

float nan_or(float a, float b, float value) { return std::isnan(a) || std::isnan(b) ? NAN : value; }

const Binary kBinary[] = {
    {"add", [](float a, float b) { return a + b; }},
    {"subtract", [](float a, float b) { return a - b; }},
    {"multiply", [](float a, float b) { return a * b; }},
    {"divide", [](float a, float b) { return a / b; }},
    {"maximum", [](float a, float b) { return nan_or(a, b, a > b ? a : b); }},
    {"minimum", [](float a, float b) { return nan_or(a, b, a < b ? a : b); }},
};

void check_binary(const Binary& binary, PxPool* pool) {
  for (const Candidate& candidate : kernels_of(binary.op)) {
    for (int64_t size : {0, 1, 5, 16, 33, 1027}) {
      std::vector<float> a = random_floats(size, 1), b = random_floats(size, 2), y(size);
      if (size > 4) a[1] = NAN, b[3] = NAN, b[4] = 0;
      Call call(2, {tensor(a, {size}), tensor(b, {size}), tensor(y, {size})});
      CHECK(run(*candidate.kernel, pool, call.call) == PX_OK);
      for (int64_t i = 0; i < size; ++i) {
        const float expected = binary.reference(a[i], b[i]);
        CHECK(y[i] == expected || (std::isnan(y[i]) && std::isnan(expected)));
      }
    }
  }
}

// One operand a single number, on either side, in shapes of other lengths; a row added to each row.
void check_numbers(const Binary& binary, PxPool* pool) {
  for (const Candidate& candidate : kernels_of(binary.op)) {
    for (int64_t size : {0, 1, 5, 1027}) {
      std::vector<float> a = random_floats(2 * size, 1), number = {1.25f}, y(2 * size);
      Call right(2, {tensor(a, {2, size}), tensor(number, {}), tensor(y, {2, size})});
      CHECK(run(*candidate.kernel, pool, right.call) == PX_OK);
      for (int64_t i = 0; i < 2 * size; ++i) CHECK(y[i] == binary.reference(a[i], 1.25f));
      Call left(2, {tensor(number, {1, 1}), tensor(a, {2, size}), tensor(y, {2, size})});
      CHECK(run(*candidate.kernel, pool, left.call) == PX_OK);
      for (int64_t i = 0; i < 2 * size; ++i) CHECK(y[i] == binary.reference(1.25f, a[i]));
    }
    std::vector<float> row = random_floats(5, 3), a = random_floats(10, 4), y(10);
    Call rows(2, {tensor(a, {2, 5}), tensor(row, {5}), tensor(y, {2, 5})});
    CHECK(run(*candidate.kernel, pool, rows.call) == PX_OK);
    for (int64_t i = 0; i < 10; ++i) CHECK(y[i] == binary.reference(a[i], row[i % 5]));
  }
}

// The calling thread alone computes the same bits, wherever the operands lie.
void check_small(const Binary& binary, PxPool* pool) {
  for (const Candidate& candidate : kernels_of(binary.op)) {
    std::vector<float> a = random_floats(33, 1), b = random_floats(33, 2), y(33), small(33);
    Call call(2, {tensor(a, {33}), tensor(b, {33}), tensor(y, {33})});
    CHECK(run(*candidate.kernel, pool, call.call) == PX_OK);
    for (PxTensor& operand : call.operands) operand.data = nullptr;
    PxSmallCall alone{candidate.kernel->run, &call.call, nullptr, 0};
    CHECK(perfx_run_small(&alone, a.data(), b.data(), small.data()) == PX_OK);
    CHECK(std::memcmp(y.data(), small.data(), 33 * sizeof(float)) == 0);
    CHECK(call.operands[0].data == nullptr);
    call.call.num_operands = 4;
    CHECK(perfx_run_small(&alone, nullptr, nullptr, nullptr) == PX_UNSUPPORTED);
    alone.run = nullptr;
    CHECK(perfx_run_small(&alone, nullptr, nullptr, nullptr) == PX_DISABLED);
  }
}

void check_softcap(PxPool* pool) {
  std::vector<float> x = random_floats(777, 4, -200, 200), y(777);
  for (const Candidate& candidate : kernels_of("softcap")) {
    Call call(1, {tensor(x, {777}), tensor(y, {777})}, {attr(30.0)});
    CHECK(run(*candidate.kernel, pool, call.call) == PX_OK);
    for (size_t i = 0; i < x.size(); ++i) CHECK(close(y[i], 30 * std::tanh(x[i] / 30.0), 5e-7));
    call.attrs[0].f = 0;
    CHECK(run(*candidate.kernel, pool, call.call) == PX_UNSUPPORTED);
  }
}

void check_gated(PxPool* pool) {
  for (const Candidate& candidate : kernels_of("gated_activation")) {
    for (int64_t kind : {0, 1}) {
      const int64_t rows = 3, size = 1100, stride = 1111;
      std::vector<float> gate = random_floats(rows * stride, 5), up = random_floats(rows * stride, 6), y(rows * size);
      PxTensor g = tensor(gate, {rows, size}), u = tensor(up, {rows, size});
      g.flags = u.flags = 0;
      g.strides[0] = u.strides[0] = stride * 4;
      Call call(2, {g, u, tensor(y, {rows, size})}, {attr(kind)});
      CHECK(run(*candidate.kernel, pool, call.call) == PX_OK);
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t i = 0; i < size; ++i) {
          const double x = gate[r * stride + i];
          CHECK(close(y[r * size + i], (kind == 0 ? gelu(x) : silu(x)) * up[r * stride + i], 1e-6, 1e-6));
        }
      }
    }
  }
}

void check_refusals() {
  std::vector<float> x(64);
  Call strided(1, {tensor(x, {4, 4}), tensor(x, {4, 4})}), other_shape(1, {tensor(x, {4, 4}), tensor(x, {16})});
  Call other_dtype(1, {tensor(x.data(), PX_FLOAT64, {4}), tensor(x.data(), PX_FLOAT64, {4})});
  strided.operands[0].flags = 0;
  strided.operands[0].strides[0] = 32;
  for (const Candidate& candidate : kernels_of("silu")) {
    for (const Call* call : {&strided, &other_shape, &other_dtype}) {
      CHECK(candidate.kernel->accepts(&call->call) == PX_UNSUPPORTED);
    }
  }
}

}  // namespace

int main() {
  Pool pool(3);
  for (const Unary& unary : kUnary) {
    check_accuracy(unary, pool.pool);
    check_sizes(unary, pool.pool);
  }
  check_special_values(pool.pool);
  for (const Binary& binary : kBinary) {
    check_binary(binary, pool.pool);
    check_numbers(binary, pool.pool);
    check_small(binary, pool.pool);
  }
  check_softcap(pool.pool);
  check_gated(pool.pool);
  check_refusals();
  return 0;
}
