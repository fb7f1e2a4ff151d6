// What the native benchmarks share: memory, threads, and the shortest time of a call beside its yardstick's.
#pragma once

#include <chrono>
#include <cstdlib>
#include <cstring>

#include "perfx/host.h"

#include "yardsticks.hpp"

namespace timing {

constexpr double kSeconds = 0.5;  // for each figure

inline double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

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

// Reading memory and nothing else: operand 0 is a matrix of bytes.
inline int32_t read_memory(const PxCall* call, const PxThread* thread) {
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

// The threads that kernels run on.
class Threads {
 public:
  explicit Threads(int32_t count) : count_(count), pool_(perfx_pool_create(count, nullptr, 1000)) {
    if (pool_ == nullptr) std::abort();
  }
  ~Threads() { perfx_pool_destroy(pool_); }
  Threads(const Threads&) = delete;
  int32_t count() const { return count_; }
  void run(PxKernelFn kernel, const PxCall& call) const {
    if (perfx_pool_run(pool_, kernel, &call) != PX_OK) std::abort();
  }
  // Reads `bytes` bytes from `data` on.
  void read(unsigned char* data, int64_t bytes) const {
    const PxTensor operand = {data, PX_UINT8, PX_STRIDED, 2, PX_CONTIGUOUS, {bytes / 64, 64}, {64, 1}};
    run(read_memory, {1, 1, 0, 0, &operand, nullptr, nullptr, 0});
  }

 private:
  int32_t count_;
  PxPool* pool_;
};

inline const PxKernel& kernel_of(const PxVariant& variant, const char* op) {
  for (int32_t i = 0; i < variant.num_kernels; ++i)
    if (std::strcmp(variant.kernels[i].op, op) == 0) return variant.kernels[i];
  std::abort();
}

// body(variant) for each variant that this machine runs, or for the one of that name.
template <class Body>
void for_each_variant(const char* only, Body body) {
  const PxLibrary* library = perfx_library();
  for (int32_t i = 0; i < library->num_variants; ++i) {
    const PxVariant& variant = library->variants[i];
    if (variant.supported() && (only == nullptr || std::strcmp(only, variant.name) == 0)) body(variant);
  }
}

}  // namespace timing
