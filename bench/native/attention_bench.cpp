// Speed of paged_attention, beside what the machine can do at the same moment.
//
//   library=$(python -c "import perfxapi_backend_cpu as b; print(b.__path__[0])")/_native.so
//   c++ -std=c++17 -O3 -I perfxapi/include bench/native/attention_bench.cpp "$library" -o build/attention_bench
//   build/attention_bench [threads] [variant] [case]
//
// Prefill: a whole prompt of one request; 10^9 operations a second, counting what the causal mask and the window leave,
// a multiplication and an addition being two; the yardstick is the multiply instruction alone. Decode: the last token
// of one request, keys and values not in the cache of the processor; the yardstick is reading as much memory and
// nothing else. Blocks of keys and values lie scattered.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "timing.hpp"

namespace {

using namespace timing;

constexpr int64_t kCold = 192 << 20;  // bytes of keys and values that are cycled through
constexpr int64_t kBlock = 16;        // positions in a block

struct Case {
  const char* name;
  int64_t heads, kv_heads, head_size, window;
  int32_t dtype;
};

constexpr Case kCases[] = {{"gemma3-270m", 4, 1, 256, 0, PX_FLOAT16},
                           {"gemma3-270m-window", 4, 1, 256, 512, PX_FLOAT16},
                           {"tinyllama", 32, 4, 64, 0, PX_FLOAT16},
                           {"llama-7b", 32, 32, 128, 0, PX_FLOAT16},
                           {"gemma3-270m-float32", 4, 1, 256, 0, PX_FLOAT32}};

// One request's operands: `tokens` queries at the end of `length` positions; caches of several layers, taken in turn.
class Attention {
 public:
  Attention(const Threads& threads, const PxVariant& variant, const Case& shape, int64_t tokens, int64_t length,
            int64_t layers)
      : threads_(threads),
        kernel_(kernel_of(variant, "paged_attention")),
        blocks_((length + kBlock - 1) / kBlock),
        layer_bytes_(blocks_ * kBlock * shape.kv_heads * shape.head_size * (shape.dtype == PX_FLOAT16 ? 2 : 4)),
        layers_(layers),
        keys_(layer_bytes_ * layers),
        values_(layer_bytes_ * layers),
        q_(tokens * shape.heads * shape.head_size * 4),
        y_(tokens * shape.heads * shape.head_size * 4),
        query_start_{0, int32_t(tokens)},
        kv_len_(int32_t(length)) {
    for (int64_t i = 0; i < blocks_; ++i) table_.push_back(int32_t(i % 2 == 0 ? i / 2 : blocks_ - 1 - i / 2));
    tensor(0, q_.data, PX_FLOAT32, {tokens, shape.heads, shape.head_size});
    tensor(1, keys_.data, shape.dtype, {blocks_, shape.kv_heads, shape.head_size, kBlock});
    tensor(2, values_.data, shape.dtype, {blocks_, shape.kv_heads, kBlock, shape.head_size});
    tensor(3, query_start_, PX_INT32, {2});
    tensor(4, &kv_len_, PX_INT32, {1});
    tensor(5, table_.data(), PX_INT32, {1, blocks_});
    tensor(6, y_.data, PX_FLOAT32, {tokens, shape.heads, shape.head_size});
    attrs_[0].f = 0.0625, attrs_[1].i = shape.window, attrs_[2].f = 0;
    call_ = {6, 7, 3, 0, operands_, attrs_, nullptr, 0};
    if (kernel_.accepts(&call_) != PX_OK) std::abort();
    call_.workspace_bytes = kernel_.workspace(&call_, threads.count());
    memory_ = std::make_unique<Bytes>(call_.workspace_bytes + 64);
    call_.workspace = memory_->data;
  }
  void operator()() {
    operands_[1].data = keys_.data + next_ % layers_ * layer_bytes_;
    operands_[2].data = values_.data + next_++ % layers_ * layer_bytes_;
    threads_.run(kernel_.run, call_);
  }

 private:
  void tensor(int index, void* data, int32_t dtype, const std::vector<int64_t>& shape) {
    PxTensor& t = operands_[index] = {data, dtype, PX_STRIDED, int32_t(shape.size()), PX_CONTIGUOUS, {}, {}};
    int64_t stride = dtype == PX_FLOAT16 ? 2 : 4;
    for (size_t i = shape.size(); i-- > 0; stride *= shape[i]) t.shape[i] = shape[i], t.strides[i] = stride;
  }

  const Threads& threads_;
  const PxKernel& kernel_;
  int64_t blocks_, layer_bytes_, layers_, next_ = 0;
  Bytes keys_, values_, q_, y_;
  std::unique_ptr<Bytes> memory_;
  int32_t query_start_[2], kv_len_;
  std::vector<int32_t> table_;
  PxTensor operands_[7];
  PxAttr attrs_[3];
  PxCall call_;
};

void bench_prefill(const Threads& threads, const PxVariant& variant, const Case& shape, int64_t tokens) {
  const yardsticks::Multiply multiply = yardsticks::float_multiply();
  Attention attention(threads, variant, shape, tokens, tokens, 1);
  const Times times = fastest(attention, [&] {
    if (multiply.run != nullptr) threads.run(multiply_only<yardsticks::float_multiply>, {});
  });
  double pairs = 0;
  for (int64_t p = 1; p <= tokens; ++p) pairs += double(shape.window > 0 && shape.window < p ? shape.window : p);
  const double speed = 4 * pairs * double(shape.heads * shape.head_size) / times.run * 1e-9;
  std::printf("  prefill %4lld %8.0f us %5.1f Gop/s", static_cast<long long>(tokens), times.run * 1e6, speed);
  if (multiply.run == nullptr) return;
  std::printf(" (%2.0f%%)", 100 * speed * times.yardstick / (multiply.operations * threads.count() * 1e-9));
}

void bench_decode(const Threads& threads, const PxVariant& variant, const Case& shape, int64_t length) {
  const int64_t item = shape.dtype == PX_FLOAT16 ? 2 : 4;
  const int64_t bytes = 2 * length * shape.kv_heads * shape.head_size * item;
  Attention attention(threads, variant, shape, 1, length, kCold / bytes);
  Bytes other(kCold);
  int64_t place = 0;
  const Times times = fastest(attention, [&] {
    threads.read(other.data + place, bytes);
    place = place + 2 * bytes <= kCold ? place + bytes : 0;
  });
  std::printf("  decode %4lld %6.1f us (reading %5.1f)", static_cast<long long>(length), times.run * 1e6,
              times.yardstick * 1e6);
}

void bench_variant(const Threads& threads, const PxVariant& variant, const char* name) {
  for (const Case& shape : kCases) {
    if (name != nullptr && std::strcmp(name, shape.name) != 0) continue;
    std::printf("%-10s %-19s", variant.name, shape.name);
    for (int64_t tokens : {64, 512, 2048}) bench_prefill(threads, variant, shape, tokens);
    for (int64_t length : {80, 512, 1024}) {
      if (shape.window == 0 || length <= shape.window) bench_decode(threads, variant, shape, length);
    }
    std::printf("\n");
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const Threads threads(argc > 1 ? std::atoi(argv[1]) : 2);
  const char *only = argc > 2 ? argv[2] : nullptr, *name = argc > 3 ? argv[3] : nullptr;
  for_each_variant(only, [&](const PxVariant& variant) { bench_variant(threads, variant, name); });
  return 0;
}
