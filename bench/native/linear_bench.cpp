// Speed of the matrix-product kernels, beside what the machine can do at the same moment.
//
//   library=$(python -c "import perfxapi_backend_cpu as b; print(b.__path__[0])")/_native.so
//   c++ -std=c++17 -O3 -I perfxapi/include bench/native/linear_bench.cpp "$library" -o build/linear_bench
//   build/linear_bench [threads] [variant] [storage type] [tokens...]
//
// One token: GB/s of packed weights, out of more matrices than the last-level cache holds; the yardstick is reading
// memory and nothing else. More tokens (16, 96 and 512 unless told): 10^9 operations a second, a multiplication and an
// addition being two; the yardstick is the multiply instruction alone (two of them for int16 activations). Each case
// runs in turn with its yardstick, and the shortest time of each counts: the machine may be shared.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "perfx/packing.h"

#include "timing.hpp"

namespace {

using namespace timing;

constexpr int64_t kCold = 192 << 20;  // bytes of weights that are cycled through
constexpr int64_t kMaxOutputs = int64_t{4} << 20;

PxTensor matrix(void* data, int32_t dtype, int32_t layout, int64_t rows, int64_t columns) {
  PxTensor tensor = {data, dtype, layout, 2, PX_CONTIGUOUS, {rows, columns}, {columns * 4, 4}};
  return tensor;
}

struct Multiply {
  PxKernelFn run;     // null where the machine's best instruction is not known here
  double operations;  // of one run on one thread
};

// What bounds a product with these activations.
Multiply multiply_of(int64_t format) {
  const double floats = yardsticks::float_multiply().operations, bytes = yardsticks::byte_multiply().operations;
  if (yardsticks::float_multiply().run == nullptr) return {nullptr, 0};
  return format == 0 ? Multiply{multiply_only<yardsticks::float_multiply>, floats}
                     : Multiply{multiply_only<yardsticks::byte_multiply>, format == 1 ? bytes : bytes / 2};
}

struct Case {
  const char* name;
  int32_t dtype;
  int64_t rows, columns;
};

constexpr Case kCases[] = {{"q8_0", PX_Q8_0, 262144, 640},    {"q8_0", PX_Q8_0, 2048, 640},
                           {"q5_0", PX_Q5_0, 2048, 640},      {"q5_0", PX_Q5_0, 640, 2048},
                           {"q4_0", PX_Q4_0, 2048, 2048},     {"q4_k", PX_Q4_K, 2048, 2048},
                           {"q6_k", PX_Q6_K, 2048, 2048},     {"int4_g128", PX_INT4_G128, 2048, 2048},
                           {"q4_1", PX_Q4_1, 2048, 2048},     {"q5_1", PX_Q5_1, 2048, 2048},
                           {"q2_k", PX_Q2_K, 2048, 2048},     {"q3_k", PX_Q3_K, 2048, 2048},
                           {"q5_k", PX_Q5_K, 2048, 2048},     {"q8_k", PX_Q8_K, 2048, 2048},
                           {"iq4_nl", PX_IQ4_NL, 2048, 2048}, {"iq4_xs", PX_IQ4_XS, 2048, 2048},
                           {"mxfp4", PX_MXFP4, 2048, 2048},   {"f32", PX_FLOAT32, 2048, 640},
                           {"f16", PX_FLOAT16, 2048, 640},    {"bf16", PX_BFLOAT16, 2048, 640}};

// One case's operands: weights of several matrices, taken in turn.
class Linear {
 public:
  Linear(const Threads& threads, const PxVariant& variant, const Case& shape, int64_t tokens, int64_t format,
         int64_t copies)
      : threads_(threads),
        kernel_(kernel_of(variant, "linear")),
        bytes_(perfx_packed_bytes(shape.dtype, PX_TILE16, shape.rows, shape.columns)),
        copies_(copies),
        weights_(bytes_ * copies),
        x_(tokens * shape.columns * 4),
        y_(tokens * shape.rows * 4) {
    operands_[0] = matrix(x_.data, PX_FLOAT32, PX_STRIDED, tokens, shape.columns);
    operands_[1] = matrix(weights_.data, shape.dtype, PX_TILE16, shape.rows, shape.columns);
    operands_[2] = matrix(y_.data, PX_FLOAT32, PX_STRIDED, tokens, shape.rows);
    attr_.i = format;
    call_ = {2, 3, 1, 0, operands_, &attr_, nullptr, 0};
    if (kernel_.accepts(&call_) != PX_OK) std::abort();
    memory_ = std::make_unique<Bytes>(kernel_.workspace(&call_, threads.count()) + 64);
    call_.workspace = memory_->data;
  }
  int64_t bytes() const { return bytes_; }
  void operator()() {
    operands_[1].data = weights_.data + next_++ % copies_ * bytes_;
    threads_.run(kernel_.run, call_);
  }

 private:
  const Threads& threads_;
  const PxKernel& kernel_;
  int64_t bytes_, copies_, next_ = 0;
  Bytes weights_, x_, y_;
  std::unique_ptr<Bytes> memory_;
  PxTensor operands_[3];
  PxAttr attr_;
  PxCall call_;
};

void bench_one_token(const Threads& threads, const PxVariant& variant, const Case& shape, int64_t format) {
  const int64_t bytes = perfx_packed_bytes(shape.dtype, PX_TILE16, shape.rows, shape.columns);
  Linear linear(threads, variant, shape, 1, format, bytes < kCold ? kCold / bytes : 1);
  Bytes other(kCold);
  const int64_t read = bytes < kCold ? bytes / 64 : kCold / 64;
  int64_t place = 0;
  const Times times = fastest(linear, [&] {
    threads.read(other.data + place, read * 64);
    place = place + 2 * read * 64 <= kCold ? place + read * 64 : 0;
  });
  const double speed = double(bytes) / times.run * 1e-9, limit = double(read * 64) / times.yardstick * 1e-9;
  std::printf("   1 token  %9.1f us %7.2f GB/s, %3.0f%% of reading", times.run * 1e6, speed, 100 * speed / limit);
}

void bench_tokens(const Threads& threads, const PxVariant& variant, const Case& shape, int64_t format, int64_t tokens) {
  const Multiply multiply = multiply_of(format);
  const PxCall nothing = {};
  Linear linear(threads, variant, shape, tokens, format, 1);
  const Times times = fastest(linear, [&] {
    if (multiply.run != nullptr) threads.run(multiply.run, nothing);
  });
  const double speed = 2.0 * double(tokens) * double(shape.rows) * double(shape.columns) / times.run * 1e-9;
  std::printf("   %lld tokens %9.1f us %6.1f Gop/s", static_cast<long long>(tokens), times.run * 1e6, speed);
  if (multiply.run == nullptr) return;
  const double limit = multiply.operations * threads.count() / times.yardstick * 1e-9;
  std::printf(", %2.0f%% of multiplying", 100 * speed / limit);
}

void bench_variant(const Threads& threads, const PxVariant& variant, const char* type,
                   const std::vector<int64_t>& many) {
  static const char* const formats[] = {"float32", "int8", "int16"};
  for (const Case& shape : kCases) {
    if (type != nullptr && std::strcmp(type, shape.name) != 0) continue;
    for (int64_t format = 0; format < 3; ++format) {
      if ((format == 0) != (shape.dtype < PX_Q4_0)) continue;
      std::printf("%-10s %-9s %6lld x %-4lld %-7s", variant.name, shape.name, static_cast<long long>(shape.rows),
                  static_cast<long long>(shape.columns), formats[format]);
      bench_one_token(threads, variant, shape, format);
      for (const int64_t tokens : many)
        if (tokens * shape.rows <= kMaxOutputs) bench_tokens(threads, variant, shape, format, tokens);
      std::printf("\n");
      std::fflush(stdout);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const Threads threads(argc > 1 ? std::atoi(argv[1]) : 2);
  const char *only = argc > 2 ? argv[2] : nullptr, *type = argc > 3 ? argv[3] : nullptr;
  std::vector<int64_t> many;
  for (int i = 4; i < argc; ++i) many.push_back(std::atoll(argv[i]));
  if (many.empty()) many = {16, 96, 512};
  for_each_variant(only, [&](const PxVariant& variant) { bench_variant(threads, variant, type, many); });
  return 0;
}
