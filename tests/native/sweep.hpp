// Calls at every size whose operands lie at the edges of memory, on every variant of an op.
//
// Operands, and the workspace, lie right before a page that nobody may touch and, in every fourth trial, once more one
// item past such a page: what reads or writes beyond an operand dies there, and operands do not begin where a vector
// would like them to. What is around operands must stay, and so must what inputs hold. The first run's results are for
// the test to judge; all other runs must give the same bits.
#ifndef PERFX_TESTS_SWEEP_HPP
#define PERFX_TESTS_SWEEP_HPP

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>

#include "check.hpp"

namespace perfx_test {

// Memory between two pages that nobody may touch.
class Region {
 public:
  explicit Region(size_t bytes) : page_(size_t(sysconf(_SC_PAGESIZE))) {
    size_ = (bytes + page_ - 1) / page_ * page_;
    void* memory = mmap(nullptr, size_ + 2 * page_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    begin_ = static_cast<char*>(memory) + page_;
    CHECK(mprotect(begin_, size_, PROT_READ | PROT_WRITE) == 0);
    std::memset(begin_, 0xff, size_);
  }
  ~Region() { munmap(begin_ - page_, size_ + 2 * page_); }
  Region(const Region&) = delete;
  char* begin() const { return begin_; }
  char* end() const { return begin_ + size_; }
  size_t size() const { return size_; }

 private:
  size_t page_, size_;
  char* begin_;
};

// One of the regions that all trials share, at least so large.
inline Region& shared_region(size_t number, size_t bytes) {
  static std::deque<std::unique_ptr<Region>> regions;
  while (regions.size() <= number) regions.push_back(nullptr);
  if (regions[number] == nullptr || regions[number]->size() < bytes) {
    regions[number].reset(new Region(std::max(bytes, size_t(1) << 16)));
  }
  return *regions[number];
}

template <class T>
struct TypeName;
template <int32_t number>
struct Named {
  static constexpr int32_t dtype = number;
};
template <>
struct TypeName<int8_t> : Named<PX_INT8> {};
template <>
struct TypeName<int16_t> : Named<PX_INT16> {};
template <>
struct TypeName<int32_t> : Named<PX_INT32> {};
template <>
struct TypeName<int64_t> : Named<PX_INT64> {};
template <>
struct TypeName<uint8_t> : Named<PX_UINT8> {};
template <>
struct TypeName<uint16_t> : Named<PX_UINT16> {};
template <>
struct TypeName<uint32_t> : Named<PX_UINT32> {};
template <>
struct TypeName<uint64_t> : Named<PX_UINT64> {};
template <>
struct TypeName<float> : Named<PX_FLOAT32> {};
template <>
struct TypeName<double> : Named<PX_FLOAT64> {};

using Shape = std::vector<int64_t>;

inline int64_t count_of(const Shape& shape) {
  int64_t count = 1;
  for (int64_t size : shape) count *= size;
  return count;
}

// One op with its operands, at both ends of memory.
class Trial {
 public:
  explicit Trial(const char* op, std::vector<PxAttr> attrs = {}) : op_(op), attrs_(std::move(attrs)) {}

  // An input, dense; what `data` points to must last as long as the trial.
  template <class T>
  Trial& in(const T* data, const Shape& shape) {
    return in_as(data, TypeName<T>::dtype, shape);
  }
  template <class T>
  Trial& in(const std::vector<T>& data, const Shape& shape) {
    CHECK(int64_t(data.size()) >= count_of(shape));
    return in(data.data(), shape);
  }
  Trial& in_as(const void* data, int32_t dtype, const Shape& shape) {
    const PxTensor t = dense(dtype, shape);
    return add({kInput, t, data, size_t(count_of(shape) * item_of(dtype)), size_t(item_of(dtype)), nullptr, 0});
  }
  // An input of any strides (bytes) in a block of memory, whose first element stands at `offset` (bytes).
  Trial& in_strided(const void* data, size_t bytes, int32_t dtype, const Shape& shape, const Shape& strides,
                    int64_t offset = 0) {
    return add({kInput, strided(dtype, shape, strides), data, bytes, size_t(item_of(dtype)), nullptr, offset});
  }
  // Bytes that begin on a boundary, as packed weights do; or at any byte, as stored ones, with alignment 1.
  Trial& in_bytes(const PxTensor& tensor, const void* data, size_t bytes, size_t alignment) {
    return add({kInput, tensor, data, bytes, alignment, nullptr, 0});
  }
  // An output, dense. What each run gives is put into `data`.
  template <class T>
  Trial& out(std::vector<T>& data, const Shape& shape) {
    return out_as(data, TypeName<T>::dtype, shape);
  }
  template <class T>
  Trial& out_as(std::vector<T>& data, int32_t dtype, const Shape& shape) {
    const size_t bytes = size_t(count_of(shape) * item_of(dtype));
    data.resize(bytes / sizeof(T));
    char* const result = reinterpret_cast<char*>(data.data());
    return add({kOutput, dense(dtype, shape), nullptr, bytes, size_t(item_of(dtype)), result, 0});
  }
  // An output of any strides: `data` has all of its memory, what is between its elements too.
  template <class T>
  Trial& out_strided(std::vector<T>& data, size_t count, const Shape& shape, const Shape& strides, int64_t offset = 0) {
    data.resize(count);
    const PxTensor t = strided(TypeName<T>::dtype, shape, strides);
    return add({kOutput, t, nullptr, count * sizeof(T), sizeof(T), reinterpret_cast<char*>(data.data()), offset});
  }
  // An input that the op changes: `after` is what each run leaves of it.
  template <class T>
  Trial& changed(const std::vector<T>& before, std::vector<T>& after, const PxTensor& tensor, int64_t offset = 0) {
    after.resize(before.size());
    return add({kChanged, tensor, before.data(), before.size() * sizeof(T), size_t(item_of(tensor.dtype)),
                reinterpret_cast<char*>(after.data()), offset});
  }
  template <class T>
  Trial& changed(const std::vector<T>& before, std::vector<T>& after, const Shape& shape) {
    return changed(before, after, dense(TypeName<T>::dtype, shape));
  }
  // Runs every variant; `holds()` looks at the results of the first run.
  template <class Holds>
  void run(PxPool* pool, Holds holds) {
    current() = this;
    catch_faults();
    static int64_t num_trials = 0;
    const bool at_both_ends = num_trials++ % 4 == 0;
    bool is_first = true;
    for (const Candidate& candidate : candidates()) {
      for (bool at_end : {true, false}) {
        if (!at_end && !at_both_ends) continue;
        candidate_ = &candidate, at_end_ = at_end;
        place();
        expect(run_guarded(*candidate.kernel, pool) == PX_OK, "it does not run");
        check_surroundings();
        take_results(is_first);
        if (is_first) expect(holds(), "wrong results");
        is_first = false;
      }
    }
    current() = nullptr;
  }

  static int64_t item_of(int32_t dtype) {
    static constexpr int64_t kBytes[] = {1, 1, 2, 4, 8, 1, 2, 4, 8, 2, 2, 4, 8, 8, 16};
    return dtype < 15 ? kBytes[dtype] : 1;
  }
  static PxTensor strided(int32_t dtype, const Shape& shape, const Shape& strides) {
    CHECK(shape.size() == strides.size());
    PxTensor t{nullptr, dtype, PX_STRIDED, int32_t(shape.size()), 0, {}, {}};
    for (size_t axis = 0; axis < shape.size(); ++axis) t.shape[axis] = shape[axis], t.strides[axis] = strides[axis];
    return t;
  }
  static PxTensor dense(int32_t dtype, const Shape& shape) {
    PxTensor t = strided(dtype, shape, shape);
    t.flags = PX_CONTIGUOUS;
    perfx::set_contiguous_strides(t, item_of(dtype));
    return t;
  }

 private:
  static constexpr size_t kGuard = 128;  // bytes around an operand that are looked at
  enum Role { kInput, kOutput, kChanged };
  struct Operand {
    Role role;
    PxTensor tensor;
    const void* input;  // what it holds before
    size_t bytes, alignment;
    char* result;    // where what it holds afterwards goes
    int64_t offset;  // of the first element
    char* memory = nullptr;
    std::vector<char> first = {};
  };

  Trial& add(Operand operand) {
    operands_.push_back(std::move(operand));
    return *this;
  }

  const std::vector<Candidate>& candidates() const {
    static std::map<std::string, std::vector<Candidate>> known;
    std::vector<Candidate>& found = known[op_];
    if (found.empty()) found = kernels_of(op_.c_str());
    return found;
  }

  static char* place_in(const Region& region, size_t bytes, size_t alignment, bool at_end) {
    if (at_end) return region.end() - (bytes + alignment - 1) / alignment * alignment;
    return region.begin() + alignment;
  }
  void place() {
    for (size_t i = 0; i < operands_.size(); ++i) {
      Operand& o = operands_[i];
      const Region& region = shared_region(i + 1, o.bytes + 3 * kGuard);
      o.memory = place_in(region, o.bytes, o.alignment, at_end_);
      std::memset(o.memory - before(region, o), 0xff, before(region, o));
      std::memset(o.memory + o.bytes, 0xff, behind(region, o));
      if (o.role == kOutput) {
        std::memset(o.memory, 0xff, o.bytes);
      } else if (o.bytes > 0) {
        std::memcpy(o.memory, o.input, o.bytes);
      }
      o.tensor.data = o.memory + o.offset;
    }
  }
  static size_t before(const Region& region, const Operand& o) {
    return std::min(kGuard, size_t(o.memory - region.begin()));
  }
  static size_t behind(const Region& region, const Operand& o) {
    return std::min(kGuard, size_t(region.end() - o.memory - o.bytes));
  }

  int32_t run_guarded(const PxKernel& kernel, PxPool* pool) {
    std::vector<PxTensor> tensors;
    int32_t num_inputs = 0;
    for (const Operand& o : operands_) {
      tensors.push_back(o.tensor);
      num_inputs += o.role != kOutput;
    }
    PxCall call{num_inputs, int32_t(tensors.size()), int32_t(attrs_.size()), 0, tensors.data(), attrs_.data(), nullptr,
                0};
    const int32_t accepted = kernel.accepts(&call);
    if (accepted != PX_OK) return accepted;
    const int32_t threads = perfx_pool_num_threads(pool);
    call.workspace_bytes = kernel.workspace == nullptr ? 0 : kernel.workspace(&call, threads);
    const Region& region = shared_region(0, size_t(call.workspace_bytes) + 3 * kGuard);
    char* workspace = place_in(region, size_t(call.workspace_bytes), 64, at_end_);
    const size_t room = std::min(kGuard, size_t(workspace - region.begin()));
    std::memset(workspace - room, 0xff, room);
    call.workspace = workspace;
    const int32_t status = perfx_pool_run(pool, kernel.run, &call);
    expect(is_untouched(workspace - room, room), "something before the workspace was written");
    return status;
  }

  static bool is_untouched(const char* bytes, size_t count) {
    for (size_t i = 0; i < count; ++i) {
      if (bytes[i] != char(0xff)) return false;
    }
    return true;
  }
  void check_surroundings() {
    for (size_t i = 0; i < operands_.size(); ++i) {
      const Operand& o = operands_[i];
      const Region& region = shared_region(i + 1, 0);
      expect(is_untouched(o.memory - before(region, o), before(region, o)), "something before an operand was written");
      expect(is_untouched(o.memory + o.bytes, behind(region, o)), "something behind an operand was written");
      const bool stays = o.role == kInput && o.bytes > 0;
      expect(!stays || std::memcmp(o.memory, o.input, o.bytes) == 0, "an input was written");
    }
  }
  void take_results(bool is_first) {
    for (Operand& o : operands_) {
      if (o.role == kInput || o.bytes == 0) continue;
      if (is_first) {
        std::memcpy(o.result, o.memory, o.bytes);
        o.first.assign(o.memory, o.memory + o.bytes);
      }
      expect(std::memcmp(o.first.data(), o.memory, o.bytes) == 0, "results are not those of the first run");
    }
  }

  void expect(bool condition, const char* otherwise) {
    if (condition) return;
    describe(otherwise);
    std::exit(1);
  }
  void describe(const char* what) const {
    std::fprintf(stderr, "%s in %s, operands %s\n%s:", op_.c_str(), candidate_->variant.c_str(),
                 at_end_ ? "at the end of memory" : "one item past its begin", what);
    for (const Operand& o : operands_) {
      std::fprintf(stderr, " %d[", int(o.tensor.dtype));
      for (int axis = 0; axis < o.tensor.ndim; ++axis)
        std::fprintf(stderr, axis ? ",%d" : "%d", int(o.tensor.shape[axis]));
      std::fprintf(stderr, "]");
    }
    for (const PxAttr& a : attrs_) std::fprintf(stderr, " %lld", static_cast<long long>(a.i));
    std::fprintf(stderr, "\n");
  }

  static Trial*& current() {
    static Trial* trial = nullptr;
    return trial;
  }
  static void on_fault(int) {
    if (current() != nullptr) current()->describe("memory beyond an operand was touched");
    _exit(1);
  }
  static void catch_faults() {
    static bool is_set = false;
    if (is_set) return;
    struct sigaction action = {};
    action.sa_handler = on_fault;
    sigaction(SIGSEGV, &action, nullptr);
    sigaction(SIGBUS, &action, nullptr);
    is_set = true;
  }

  std::string op_;
  std::vector<PxAttr> attrs_;
  std::vector<Operand> operands_;
  const Candidate* candidate_ = nullptr;
  bool at_end_ = true;
};

// One thread; three for every eighth number, so that work is shared out too.
inline PxPool* pool_for(int64_t number) {
  static Pool one(1), three(3);
  return number % 8 == 1 ? three.pool : one.pool;
}

// Every number of elements up to `all`, then those around multiples of each power of two up to `most`.
inline std::vector<int64_t> sizes_around(int64_t all, int64_t most = 0) {
  std::vector<int64_t> sizes;
  for (int64_t size = 0; size <= all; ++size) sizes.push_back(size);
  for (int64_t edge = 16; edge <= most; edge *= 2) {
    for (int64_t size : {edge - 1, edge, edge + 1, edge + edge / 2 + 1}) {
      if (size > all && size <= most + 1) sizes.push_back(size);
    }
  }
  return sizes;
}

template <class T>
inline bool all_close(const std::vector<T>& actual, const std::vector<double>& expected, double relative,
                      double absolute = 0) {
  for (size_t i = 0; i < actual.size(); ++i) {
    if (close(double(actual[i]), expected[i], relative, absolute)) continue;
    std::fprintf(stderr, "element %d is %.9g and not %.9g\n", int(i), double(actual[i]), expected[i]);
    return false;
  }
  return true;
}

}  // namespace perfx_test
#endif
