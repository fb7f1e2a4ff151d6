// What the native tests share: CHECK, calls made from arrays, a random generator, every variant of an op.
#ifndef PERFX_TESTS_CHECK_HPP
#define PERFX_TESTS_CHECK_HPP

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <string>
#include <vector>

#include "perfx/command_list.hpp"
#include "perfx/host.h"

#define CHECK(condition)                                                           \
  do {                                                                             \
    if (!(condition)) {                                                            \
      std::fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
      std::exit(1);                                                                \
    }                                                                              \
  } while (0)

namespace perfx_test {

// Numbers that are the same on every machine (xorshift64*, Marsaglia 2003; Vigna 2016).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ull + 1) {}
  uint64_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545f4914f6cdd1dull;
  }
  double uniform() { return double(next() >> 11) / 9007199254740992.0; }
  float between(double low, double high) { return float(low + (high - low) * uniform()); }
  int64_t below(int64_t bound) { return int64_t(next() % uint64_t(bound)); }

 private:
  uint64_t state_;
};

inline std::vector<float> random_floats(size_t size, uint64_t seed, double low = -2, double high = 2) {
  Random random(seed);
  std::vector<float> values(size);
  for (float& value : values) value = random.between(low, high);
  return values;
}

inline PxTensor tensor(void* data, int32_t dtype, std::initializer_list<int64_t> shape) {
  PxTensor t{data, dtype, PX_STRIDED, int32_t(shape.size()), PX_CONTIGUOUS, {}, {}};
  int axis = 0;
  for (int64_t size : shape) t.shape[axis++] = size;
  perfx::set_contiguous_strides(t, perfx::item_bytes(dtype));
  return t;
}
inline PxTensor tensor(std::vector<float>& v, std::initializer_list<int64_t> shape) {
  return tensor(v.data(), PX_FLOAT32, shape);
}
inline PxTensor tensor(std::vector<int32_t>& v, std::initializer_list<int64_t> shape) {
  return tensor(v.data(), PX_INT32, shape);
}

inline PxAttr attr(int64_t i) {
  PxAttr a;
  a.i = i;
  return a;
}
inline PxAttr attr(double f) {
  PxAttr a;
  a.f = f;
  return a;
}

// A call that owns its operands.
struct Call {
  Call(int32_t num_inputs, std::vector<PxTensor> operands_in, std::vector<PxAttr> attrs_in = {})
      : operands(std::move(operands_in)), attrs(std::move(attrs_in)) {
    call = {num_inputs, int32_t(operands.size()), int32_t(attrs.size()), 0, operands.data(), attrs.data(), nullptr, 0};
  }
  Call(const Call&) = delete;
  std::vector<PxTensor> operands;
  std::vector<PxAttr> attrs;
  PxCall call;
};

struct Pool {
  explicit Pool(int32_t num_threads) : pool(perfx_pool_create(num_threads, nullptr, 50)) { CHECK(pool != nullptr); }
  ~Pool() { perfx_pool_destroy(pool); }
  Pool(const Pool&) = delete;
  PxPool* pool;
};

// Asks accepts, gives the kernel its workspace, runs it.
inline int32_t run(const PxKernel& kernel, PxPool* pool, const PxCall& call) {
  const int32_t accepted = kernel.accepts(&call);
  if (accepted != PX_OK) return accepted;
  PxCall copy = call;
  const int32_t threads = perfx_pool_num_threads(pool);
  copy.workspace_bytes = kernel.workspace == nullptr ? 0 : kernel.workspace(&call, threads);
  std::vector<char> workspace(size_t(copy.workspace_bytes) + 64);
  copy.workspace = reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(workspace.data()) + 63) & ~uintptr_t(63));
  return perfx_pool_run(pool, kernel.run, &copy);
}

struct Candidate {
  std::string variant;
  const PxKernel* kernel;
};

// Is this variant among those named in PERFX_TESTED_VARIANTS, between spaces? All are where nothing is named.
inline bool is_tested(const std::string& variant) {
  const char* names = std::getenv("PERFX_TESTED_VARIANTS");
  return names == nullptr || *names == 0 ||
         (" " + std::string(names) + " ").find(" " + variant + " ") != std::string::npos;
}

// The kernels of an op in all variants that run on this machine and are to be tested.
inline std::vector<Candidate> kernels_of(const char* op) {
  std::vector<Candidate> found;
  const PxLibrary* library = perfx_library();
  for (int32_t v = 0; v < library->num_variants; ++v) {
    const PxVariant& variant = library->variants[v];
    if (!variant.supported() || !is_tested(variant.name)) continue;
    for (int32_t k = 0; k < variant.num_kernels; ++k) {
      if (std::strcmp(variant.kernels[k].op, op) == 0) found.push_back({variant.name, &variant.kernels[k]});
    }
  }
  CHECK(!found.empty());
  return found;
}

inline bool close(double actual, double expected, double relative, double absolute = 0) {
  if (std::isnan(expected)) return std::isnan(actual);
  if (std::isinf(expected)) return actual == expected;
  return std::fabs(actual - expected) <= absolute + relative * std::fabs(expected);
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

}  // namespace perfx_test
#endif
