// Every kernel in every variant that the machine can run, on one thread and on three, beside plain loops in double.
#include <cmath>
#include <complex>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "perfx/kernel.h"

extern "C" const PxLibrary* perfx_library(void);

namespace {

typedef std::vector<double> Numbers;
typedef std::vector<int64_t> Shape;

#define CHECK(condition)                                                         \
  if (!(condition)) {                                                            \
    std::fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
    std::exit(1);                                                                \
  }

Numbers noise(size_t size, uint64_t seed) {
  Numbers values(size);
  uint64_t state = seed * 0x9e3779b97f4a7c15ull + 1;  // xorshift64* (Vigna, 2016)
  for (double& value : values) {
    state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
    value = double((state * 0x2545f4914f6cdd1dull) >> 11) / 4503599627370496.0 - 1.0;
  }
  return values;
}

PxTensor dense(Numbers& values, const Shape& shape, int32_t dtype = PX_FLOAT64) {
  PxTensor tensor{values.data(), dtype, PX_STRIDED, int32_t(shape.size()), PX_CONTIGUOUS, {}, {}};
  int64_t stride = dtype == PX_COMPLEX128 ? 16 : 8;
  for (size_t axis = shape.size(); axis-- > 0; stride *= shape[axis]) {
    tensor.shape[axis] = shape[axis];
    tensor.strides[axis] = stride;
  }
  return tensor;
}

// Kernels here have no barriers, so threads may as well run one after another.
void run(const PxVariant& variant, const char* op, std::vector<PxTensor> operands, int num_inputs, Numbers attributes,
         int num_threads) {
  std::vector<PxAttr> attrs(attributes.size() + 1);
  for (size_t i = 0; i < attributes.size(); ++i) attrs[i].i = int64_t(attributes[i]);
  PxCall call{
      num_inputs, int32_t(operands.size()), int32_t(attributes.size()), 0, operands.data(), attrs.data(), nullptr, 0};
  for (int32_t k = 0; k < variant.num_kernels; ++k) {
    const PxKernel& kernel = variant.kernels[k];
    if (std::strcmp(kernel.op, op) != 0) continue;
    CHECK(kernel.accepts(&call) == PX_OK);
    call.workspace_bytes = kernel.workspace(&call, num_threads);
    Numbers workspace(size_t(call.workspace_bytes / 8 + 9), NAN);
    call.workspace = workspace.data() + (64 - reinterpret_cast<uintptr_t>(workspace.data()) % 64) % 64 / 8;
    int64_t counters[PERFX_NUM_COUNTERS * 8] = {};
    for (int thread = 0; thread < num_threads; ++thread) {
      const PxThread place{thread, num_threads, nullptr, nullptr, counters};
      CHECK(kernel.run(&call, &place) == PX_OK);
    }
    return;
  }
  CHECK(!"the variant has the kernel");
}

void expect(const Numbers& got, const Numbers& expected) {
  double largest = 0;
  for (double value : expected) largest = std::fmax(largest, std::fabs(value));
  for (size_t i = 0; i < expected.size(); ++i) CHECK(std::fabs(got[i] - expected[i]) <= 1e-12 * largest);
}

void test_lfilter(const PxVariant& variant, int threads) {
  const int64_t rows = 2 * 9, size = 300;
  for (int64_t order : {1, 4, 7, 11}) {
    Numbers x = noise(rows * size, 1), b = noise(order + 1, 2), a = noise(order, 3), zi = noise(rows * order, 4);
    for (double& value : a) value *= 0.5 / double(order);
    a[0] = 2.0;
    Numbers y(x.size()), zf(zi.size()), expected(x.size()), state = zi;
    for (int64_t r = 0; r < rows; ++r) {
      double* z = state.data() + r * order;
      for (int64_t t = 0; t < size; ++t) {
        const double in = x[r * size + t], out = b[0] / a[0] * in + z[0];
        for (int64_t k = 1; k <= order; ++k) {
          const double feedback = k < int64_t(a.size()) ? a[k] / a[0] : 0.0;
          z[k - 1] = b[k] / a[0] * in - feedback * out + (k < order ? z[k] : 0.0);
        }
        expected[r * size + t] = out;
      }
    }
    run(variant, "lfilter",
        {dense(x, {2, 9, size}), dense(b, {order + 1}), dense(a, {order}), dense(zi, {2, 9, order}),
         dense(y, {2, 9, size}), dense(zf, {2, 9, order})},
        4, {}, threads);
    expect(y, expected);
    expect(zf, state);
  }
}

void test_sosfilt(const PxVariant& variant, int threads) {
  const int64_t rows = 9, size = 150, sections = 7;
  Numbers x = noise(rows * size, 1), sos = noise(sections * 6, 2), zi = noise(rows * sections * 2, 3);
  for (int64_t s = 0; s < sections; ++s) sos[6 * s + 3] = 1.0, sos[6 * s + 4] *= 0.4, sos[6 * s + 5] *= 0.4;
  Numbers y(x.size()), zf(zi.size()), expected = x, state = zi;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t t = 0; t < size; ++t) {
      double& value = expected[r * size + t];
      for (int64_t s = 0; s < sections; ++s) {
        const double *c = &sos[6 * s], in = value;
        double* z = &state[(r * sections + s) * 2];
        value = c[0] * in + z[0];
        z[0] = c[1] * in - c[4] * value + z[1];
        z[1] = c[2] * in - c[5] * value;
      }
    }
  }
  run(variant, "sosfilt",
      {dense(x, {rows, size}), dense(sos, {sections, 6}), dense(zi, {rows, sections, 2}), dense(y, {rows, size}),
       dense(zf, {rows, sections, 2})},
      3, {}, threads);
  expect(y, expected);
  expect(zf, state);
}

void test_upfirdn(const PxVariant& variant, int threads) {
  const int64_t rates[][2] = {{1, 1}, {1, 3}, {2, 1}, {3, 2}, {4, 6}, {16, 15}};
  for (const auto& rate : rates) {
    for (int64_t taps : {1, 33, 700}) {
      const int64_t rows = 2, size = 2500, outputs = ((size - 1) * rate[0] + taps - 1) / rate[1] + 1;
      Numbers x = noise(rows * size, 1), h = noise(taps, 2), y(rows * outputs), expected(rows * outputs);
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t j = 0; j < outputs; ++j) {
          for (int64_t k = j * rate[1] % rate[0]; k < taps; k += rate[0]) {
            const int64_t index = (j * rate[1] - k) / rate[0];
            if (k <= j * rate[1] && index < size) expected[r * outputs + j] += h[k] * x[r * size + index];
          }
        }
      }
      run(variant, "upfirdn", {dense(x, {rows, size}), dense(h, {taps}), dense(y, {rows, outputs})}, 2,
          {double(rate[0]), double(rate[1])}, threads);
      expect(y, expected);
    }
  }
}

void test_transforms(const PxVariant& variant, int threads) {
  for (int64_t size : {2, 8, 64, 512}) {
    const int64_t rows = 11, bins = size / 2 + 1;
    Numbers x = noise(rows * size, 1), y(rows * bins * 2), expected(y.size()), back(x.size());
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t k = 0; k < bins; ++k) {
        std::complex<double> sum = 0;
        for (int64_t t = 0; t < size; ++t) {
          sum += x[r * size + t] * std::polar(1.0, -6.283185307179586 * double(k * t % size) / double(size));
        }
        expected[(r * bins + k) * 2] = sum.real();
        expected[(r * bins + k) * 2 + 1] = sum.imag();
      }
    }
    const PxTensor signal = dense(x, {rows, size}), spectrum = dense(y, {rows, bins}, PX_COMPLEX128);
    run(variant, "rfft", {signal, spectrum}, 1, {1, 0}, threads);
    expect(y, expected);
    run(variant, "irfft", {spectrum, dense(back, {rows, size})}, 1, {1, double(size), 0}, threads);
    expect(back, x);
  }
}

}  // namespace

int main() {
  const PxLibrary* library = perfx_library();
  for (int32_t v = 0; v < library->num_variants; ++v) {
    const PxVariant& variant = library->variants[v];
    for (int threads : {1, 3}) {
      if (!variant.supported()) continue;
      test_lfilter(variant, threads);
      test_sosfilt(variant, threads);
      test_upfirdn(variant, threads);
      test_transforms(variant, threads);
    }
    std::printf("%s: %s\n", variant.name, variant.supported() ? "tested" : "not for this machine");
  }
  return 0;
}
