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
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "perfx/host.h"
#include "perfx/packing.h"

#include "yardsticks.hpp"

namespace {

constexpr int64_t kCold = 192 << 20;  // bytes of weights that are cycled through
constexpr double kSeconds = 0.5;      // for each figure
constexpr int64_t kMaxOutputs = int64_t{4} << 20;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

struct Times {
  double run, yardstick;
};

// The smallest time of one call of each, over kSeconds.
template <class Run, class Yardstick>
Times fastest(Run& run, Yardstick yardstick) {
  Times best = {1e9, 1e9};
  for (const double start = now(); now() - start < kSeconds;) {
    const double begin = now();
    run();
    const double middle = now();
    yardstick();
    const double end = now();
    if (middle - begin < best.run) best.run = middle - begin;
    if (end - middle < best.yardstick) best.yardstick = end - middle;
  }
  return best;
}

struct Bytes {
  explicit Bytes(int64_t size)
      : data(static_cast<unsigned char*>(std::aligned_alloc(64, size_t(size + 63) / 64 * 64))) {
    std::memset(data, 0x3f, size_t(size));  // a harmless number in every format
  }
  ~Bytes() { std::free(data); }
  Bytes(const Bytes&) = delete;
  unsigned char* data;
};

PxTensor matrix(void* data, int32_t dtype, int32_t layout, int64_t rows, int64_t columns) {
  PxTensor tensor = {data, dtype, layout, 2, PX_CONTIGUOUS, {rows, columns}, {columns * 4, 4}};
  return tensor;
}

// Reading memory and nothing else: operand 0 is a matrix of bytes.
int32_t read_memory(const PxCall* call, const PxThread* thread) {
  const PxTensor& tensor = call->operands[0];
  const int64_t lines = tensor.shape[0] * tensor.shape[1] / 64, chunk = 1024;
  const uint64_t* words = static_cast<const uint64_t*>(tensor.data);
  uint64_t sum = 0;
  for (int64_t first; (first = perfx_claim(thread, 0, chunk)) < lines;)
    sum += yardsticks::read_lines(words + first * 8, first + chunk < lines ? chunk : lines - first);
  return sum == 42 ? PX_KERNEL_ERROR : PX_OK;
}

// The fastest multiply-add of the machine.
template <yardsticks::Multiply (*multiply)()>
int32_t multiply_only(const PxCall*, const PxThread*) {
  multiply().run();
  return PX_OK;
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

int32_t num_threads = 2;
PxPool* pool = nullptr;

void run(PxKernelFn kernel, const PxCall& call) {
  if (perfx_pool_run(pool, kernel, &call) != PX_OK) std::abort();
}

const PxKernel& kernel_of(const PxVariant& variant, const char* op) {
  for (int32_t i = 0; i < variant.num_kernels; ++i)
    if (std::strcmp(variant.kernels[i].op, op) == 0) return variant.kernels[i];
  std::abort();
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
  Linear(const PxVariant& variant, const Case& shape, int64_t tokens, int64_t format, int64_t copies)
      : kernel_(kernel_of(variant, "linear")),
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
    memory_ = std::make_unique<Bytes>(kernel_.workspace(&call_, num_threads) + 64);
    call_.workspace = memory_->data;
  }
  int64_t bytes() const { return bytes_; }
  void operator()() {
    operands_[1].data = weights_.data + next_++ % copies_ * bytes_;
    run(kernel_.run, call_);
  }

 private:
  const PxKernel& kernel_;
  int64_t bytes_, copies_, next_ = 0;
  Bytes weights_, x_, y_;
  std::unique_ptr<Bytes> memory_;
  PxTensor operands_[3];
  PxAttr attr_;
  PxCall call_;
};

void bench_one_token(const PxVariant& variant, const Case& shape, int64_t format) {
  const int64_t bytes = perfx_packed_bytes(shape.dtype, PX_TILE16, shape.rows, shape.columns);
  Linear linear(variant, shape, 1, format, bytes < kCold ? kCold / bytes : 1);
  Bytes other(kCold);
  const int64_t read = bytes < kCold ? bytes / 64 : kCold / 64;
  int64_t place = 0;
  const Times times = fastest(linear, [&] {
    const PxTensor operand = matrix(other.data + place, PX_UINT8, PX_STRIDED, read, 64);
    PxCall call = {1, 1, 0, 0, &operand, nullptr, nullptr, 0};
    run(read_memory, call);
    place = place + 2 * read * 64 <= kCold ? place + read * 64 : 0;
  });
  const double speed = double(bytes) / times.run * 1e-9, limit = double(read * 64) / times.yardstick * 1e-9;
  std::printf("   1 token  %9.1f us %7.2f GB/s, %3.0f%% of reading", times.run * 1e6, speed, 100 * speed / limit);
}

void bench_tokens(const PxVariant& variant, const Case& shape, int64_t format, int64_t tokens) {
  const Multiply multiply = multiply_of(format);
  const PxCall nothing = {};
  Linear linear(variant, shape, tokens, format, 1);
  const Times times = fastest(linear, [&] {
    if (multiply.run != nullptr) run(multiply.run, nothing);
  });
  const double speed = 2.0 * double(tokens) * double(shape.rows) * double(shape.columns) / times.run * 1e-9;
  std::printf("   %lld tokens %9.1f us %6.1f Gop/s", static_cast<long long>(tokens), times.run * 1e6, speed);
  if (multiply.run == nullptr) return;
  const double limit = multiply.operations * num_threads / times.yardstick * 1e-9;
  std::printf(", %2.0f%% of multiplying", 100 * speed / limit);
}

void bench_variant(const PxVariant& variant, const char* type, const std::vector<int64_t>& many) {
  static const char* const formats[] = {"float32", "int8", "int16"};
  for (const Case& shape : kCases) {
    if (type != nullptr && std::strcmp(type, shape.name) != 0) continue;
    for (int64_t format = 0; format < 3; ++format) {
      if ((format == 0) != (shape.dtype < PX_Q4_0)) continue;
      std::printf("%-10s %-9s %6lld x %-4lld %-7s", variant.name, shape.name, static_cast<long long>(shape.rows),
                  static_cast<long long>(shape.columns), formats[format]);
      bench_one_token(variant, shape, format);
      for (const int64_t tokens : many)
        if (tokens * shape.rows <= kMaxOutputs) bench_tokens(variant, shape, format, tokens);
      std::printf("\n");
      std::fflush(stdout);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) num_threads = std::atoi(argv[1]);
  const char *only = argc > 2 ? argv[2] : nullptr, *type = argc > 3 ? argv[3] : nullptr;
  std::vector<int64_t> many;
  for (int i = 4; i < argc; ++i) many.push_back(std::atoll(argv[i]));
  if (many.empty()) many = {16, 96, 512};
  pool = perfx_pool_create(num_threads, nullptr, 1000);
  if (pool == nullptr) return 1;
  const PxLibrary* library = perfx_library();
  for (int32_t i = 0; i < library->num_variants; ++i) {
    const PxVariant& variant = library->variants[i];
    if (variant.supported() && (only == nullptr || std::strcmp(only, variant.name) == 0))
      bench_variant(variant, type, many);
  }
  perfx_pool_destroy(pool);
  return 0;
}
