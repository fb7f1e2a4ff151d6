// Speed of the matrix-product kernels, against what the machine can do.
//
//   cmake -S backends/cpu -B build -DPERFX_TESTS=ON && cmake --build build --target linear_bench && build/linear_bench
//   [threads]
//
// Prints, for each case, the minimum over many short runs: the machine may be shared. Vectors by matrices (one token)
// are given in GB/s of packed weights, taken from more matrices than the last-level cache holds, beside the speed of
// only reading memory; products of 512 tokens in 10^9 operations a second (a multiplication and an addition are two),
// beside the speed of the multiply instruction alone.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "perfx/host.h"
#include "perfx/packing.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

constexpr int64_t kCold = 192 << 20;  // bytes of weights that are cycled through
constexpr double kSeconds = 0.6;      // for each case

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// The smallest time of one call of `run`, over kSeconds.
template <class Run>
double fastest(Run run) {
  double best = 1e9;
  for (const double start = now(); now() - start < kSeconds;) {
    const double before = now();
    run();
    const double seconds = now() - before;
    if (seconds < best) best = seconds;
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
  const int64_t lines = tensor.shape[0] * tensor.shape[1] / 64, chunk = 4096;
  const uint64_t* words = static_cast<const uint64_t*>(tensor.data);
  uint64_t sum = 0;
  for (int64_t first; (first = perfx_claim(thread, 0, chunk)) < lines;)
    for (int64_t i = first * 8; i < (first + chunk) * 8 && i < lines * 8; i += 8) {
#if defined(__x86_64__)
      _mm_prefetch(reinterpret_cast<const char*>(words + i) + 2048, _MM_HINT_T0);
#endif
      sum += words[i];
    }
  return sum == 42 ? PX_KERNEL_ERROR : PX_OK;
}

#if defined(__x86_64__)
// As many vpdpbusd as the machine issues; operand 0's rows say how many.
__attribute__((target("avx512f,avx512vnni"))) int32_t multiply_only(const PxCall* call, const PxThread*) {
  __m512i sums[12] = {}, a = _mm512_set1_epi8(1);
  for (int64_t i = 0; i < call->operands[0].shape[0]; ++i) {
#pragma GCC unroll 12
    for (int m = 0; m < 12; ++m) sums[m] = _mm512_dpbusd_epi32(sums[m], a, a);
    asm volatile("" : "+v"(a));
  }
#pragma GCC unroll 12
  for (int m = 0; m < 12; ++m) asm volatile("" : : "v"(sums[m]));
  return PX_OK;
}
#endif

int32_t num_threads = 2;
PxPool* pool = nullptr;

void run(PxKernelFn kernel, int32_t num_inputs, std::vector<PxTensor> operands, std::vector<PxAttr> attrs,
         void* memory) {
  PxCall call = {num_inputs, int32_t(operands.size()), int32_t(attrs.size()), 0, operands.data(), attrs.data(), memory,
                 0};
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

constexpr Case kCases[] = {{"q8_0", PX_Q8_0, 262144, 640}, {"q8_0", PX_Q8_0, 2048, 640},
                           {"q5_0", PX_Q5_0, 2048, 640},   {"q5_0", PX_Q5_0, 640, 2048},
                           {"q4_0", PX_Q4_0, 4096, 4096},  {"q4_k", PX_Q4_K, 4096, 4096},
                           {"q6_k", PX_Q6_K, 4096, 4096},  {"f32", PX_FLOAT32, 2048, 640},
                           {"f16", PX_FLOAT16, 2048, 640}, {"bf16", PX_BFLOAT16, 2048, 640}};

// Seconds of linear with `tokens` tokens; the weights come from `copies` matrices in turn.
double time_linear(const PxVariant& variant, const Case& shape, int64_t tokens, int64_t format, int64_t copies) {
  const PxKernel& kernel = kernel_of(variant, "linear");
  const int64_t bytes = perfx_packed_bytes(shape.dtype, shape.rows, shape.columns);
  Bytes weights(bytes * copies), x(tokens * shape.columns * 4), y(tokens * shape.rows * 4);
  std::vector<PxTensor> operands = {matrix(x.data, PX_FLOAT32, PX_STRIDED, tokens, shape.columns),
                                    matrix(weights.data, shape.dtype, PX_TILE16, shape.rows, shape.columns),
                                    matrix(y.data, PX_FLOAT32, PX_STRIDED, tokens, shape.rows)};
  operands[2].strides[0] = shape.rows * 4;
  std::vector<PxAttr> attrs(1);
  attrs[0].i = format;
  PxCall call = {2, 3, 1, 0, operands.data(), attrs.data(), nullptr, 0};
  if (kernel.accepts(&call) != PX_OK) std::abort();
  Bytes memory(kernel.workspace(&call, num_threads) + 64);
  const double seconds = fastest([&] {
    for (int64_t i = 0; i < copies; ++i) {
      operands[1].data = weights.data + i * bytes;
      run(kernel.run, 2, operands, attrs, memory.data);
    }
  });
  return seconds / double(copies);
}

void bench_variant(const PxVariant& variant) {
  static const char* const formats[] = {"float32", "int8", "int16"};
  for (const Case& shape : kCases) {
    const int64_t bytes = perfx_packed_bytes(shape.dtype, shape.rows, shape.columns);
    for (int64_t format = 0; format < 3; ++format) {
      if ((format == 0) != (shape.dtype < PX_Q4_0)) continue;
      const double one = time_linear(variant, shape, 1, format, bytes < kCold ? kCold / bytes : 1);
      std::printf("%-11s %-5s %7lld x %-5lld %-8s 1 token %9.1f us %6.2f GB/s", variant.name, shape.name,
                  (long long)shape.rows, (long long)shape.columns, formats[format], one * 1e6,
                  double(bytes) / one * 1e-9);
      if (shape.rows <= 4096) {
        const double many = time_linear(variant, shape, 512, format, 1);
        const double operations = 2.0 * 512 * double(shape.rows) * double(shape.columns);
        std::printf("   512 tokens %9.1f us %7.1f Gop/s", many * 1e6, operations / many * 1e-9);
      }
      std::printf("\n");
      std::fflush(stdout);
    }
  }
}

void bench_machine() {
  Bytes memory(kCold);
  std::vector<PxTensor> operands = {matrix(memory.data, PX_UINT8, PX_STRIDED, kCold / 64, 64)};
  const double seconds = fastest([&] { run(read_memory, 1, operands, {}, nullptr); });
  std::printf("reading memory, %d threads: %.2f GB/s\n", num_threads, double(kCold) / seconds * 1e-9);
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512vnni")) {
    constexpr int64_t count = 20000;
    operands = {matrix(nullptr, PX_UINT8, PX_STRIDED, count, 1)};
    const double time = fastest([&] { run(multiply_only, 1, operands, {}, nullptr); });
    std::printf("vpdpbusd, %d threads: %.1f Gop/s of bytes\n", num_threads,
                double(count) * 12 * 128 * num_threads / time * 1e-9);
  }
#endif
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) num_threads = std::atoi(argv[1]);
  const char* only = argc > 2 ? argv[2] : nullptr;
  pool = perfx_pool_create(num_threads, nullptr, 1000);
  if (pool == nullptr) return 1;
  bench_machine();
  const PxLibrary* library = perfx_library();
  for (int32_t i = 0; i < library->num_variants; ++i) {
    const PxVariant& variant = library->variants[i];
    if (variant.supported() && (only == nullptr || std::strcmp(only, variant.name) == 0)) bench_variant(variant);
  }
  perfx_pool_destroy(pool);
  return 0;
}
