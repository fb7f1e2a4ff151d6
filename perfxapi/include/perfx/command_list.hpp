/* Command lists: many calls with one wake-up of the pool, dimensions looked up when the list runs.
 *
 * Each thread walks the nodes by itself and meets the others only where a node asks for it, so small independent nodes
 * cost no synchronization. A thread whose kernel fails leaves the barrier and stops; the others stop at their next
 * barrier at the latest. Kernels that decide on failure from their operands alone, before they divide the work, fail on
 * all threads alike, and then nothing past the failed node begins.
 */
#ifndef PERFX_COMMAND_LIST_HPP
#define PERFX_COMMAND_LIST_HPP

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "perfx/host.h"
#include "perfx/thread_pool.hpp"

namespace perfx {

/* The counters of many calls. Those of eight calls share PERFX_NUM_COUNTERS cache lines, one line for each counter, so
 * that zeroing the counters of a long list touches little memory. */
class Counters {
 public:
  /* Makes room for `num_calls` calls. Not while a job runs. */
  void resize(size_t num_calls) {
    const size_t groups = (num_calls + kCalls - 1) / kCalls;
    if (groups <= groups_) return;
    groups_ = std::max(groups, 2 * groups_);
    storage_ = std::make_unique<Line[]>(groups_ * PERFX_NUM_COUNTERS);
  }
  void zero() {
    if (groups_ > 0) std::memset(storage_.get(), 0, groups_ * PERFX_NUM_COUNTERS * sizeof(Line));
  }
  int64_t* of(size_t call) { return storage_[call / kCalls * PERFX_NUM_COUNTERS].value + call % kCalls; }

 private:
  static constexpr size_t kCalls = 8;
  struct alignas(64) Line {
    int64_t value[kCalls];
  };
  std::unique_ptr<Line[]> storage_;
  size_t groups_ = 0;
};

/* One node: a call whose operands and attributes the node owns. */
struct Node {
  PxKernelFn run;
  PxCall call;
  bool barrier_before;
  std::vector<PxTensor> operands;
  std::vector<PxAttr> attrs;
};

/* Byte strides of a dense row-major tensor, from the size of one item. */
inline void set_contiguous_strides(PxTensor& tensor, int64_t item_bytes) {
  for (int axis = tensor.ndim - 1; axis >= 0; --axis) {
    tensor.strides[axis] = item_bytes;
    item_bytes *= tensor.shape[axis];
  }
}

/* Bytes of one item of a plain dtype; 0 for quantized storage, whose rows are blocks. */
inline int64_t item_bytes(int32_t dtype) {
  switch (dtype) {
    case PX_BOOL:
    case PX_INT8:
    case PX_UINT8:
      return 1;
    case PX_INT16:
    case PX_UINT16:
    case PX_FLOAT16:
    case PX_BFLOAT16:
      return 2;
    case PX_INT32:
    case PX_UINT32:
    case PX_FLOAT32:
      return 4;
    case PX_INT64:
    case PX_UINT64:
    case PX_FLOAT64:
    case PX_COMPLEX64:
      return 8;
    case PX_COMPLEX128:
      return 16;
    default:
      return 0;
  }
}

}  // namespace perfx

struct PxList {
 public:
  /* Throws std::bad_alloc. Returns the node's index. */
  int32_t append(PxKernelFn run, const PxCall& call, const int32_t* symbols, bool barrier_before) {
    std::lock_guard<std::mutex> lock(mutex_);
    const size_t index = nodes_.size();
    const size_t num_patches = patches_.size();
    counters_.resize(index + 1);
    profile_ns_.resize(index + 1, 0);
    try {
      nodes_.push_back({run,
                        call,
                        barrier_before,
                        {call.operands, call.operands + call.num_operands},
                        {call.attrs, call.attrs + call.num_attrs}});
      perfx::Node& node = nodes_.back();
      node.call.operands = node.operands.data();
      node.call.attrs = node.attrs.data();
      for (int32_t i = 0; i < call.num_operands; ++i) add_patch(int32_t(index), i, symbols + i * PERFX_MAX_NDIM);
    } catch (...) {
      nodes_.resize(index);
      patches_.resize(num_patches);
      throw;
    }
    resolved_ = false;
    return int32_t(index);
  }

  int32_t length() const { return int32_t(nodes_.size()); }
  void profile(bool enabled) { profiling_ = enabled; }
  const int64_t* node_ns() const { return profile_ns_.data(); }

  /* As perfx_list_run. */
  int32_t run(PxPool& pool, int32_t first, int32_t last, const int64_t* symbols, int32_t num_symbols,
              int32_t* stopped_at) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (first < 0 || last > length() || num_symbols < 0) {
      *stopped_at = first;
      return PX_INVALID_ARGUMENT;
    }
    if (!resolve(symbols, num_symbols, stopped_at)) return PX_INVALID_ARGUMENT;
    return pool.exclusive([&](perfx::Team& team) {
      Run state{*this, team, first, last, {}};
      counters_.zero();
      team.run(walk, &state);
      if (state.outcome.status() != PX_OK) *stopped_at = state.outcome.node();
      return state.outcome.status();
    });
  }

 private:
  /* An operand whose shape or strides depend on symbols. */
  struct Patch {
    int32_t node;
    int32_t operand;
    int32_t symbols[PERFX_MAX_NDIM];
    int64_t factors[PERFX_MAX_NDIM];
  };

  struct Run {
    PxList& list;
    perfx::Team& team;
    int32_t first;
    int32_t last;
    perfx::Outcome outcome;
  };

  void add_patch(int32_t node, int32_t operand, const int32_t* symbols) {
    PxTensor& tensor = nodes_[node].operands[operand];
    if (tensor.flags & PX_CONTIGUOUS) set_strides(tensor);
    Patch patch{node, operand, {}, {}};
    bool symbolic = false;
    for (int axis = 0; axis < PERFX_MAX_NDIM; ++axis) {
      patch.symbols[axis] = axis < tensor.ndim ? symbols[axis] : -1;
      patch.factors[axis] = tensor.shape[axis];
      symbolic |= patch.symbols[axis] >= 0;
    }
    if (symbolic) patches_.push_back(patch);
  }

  static void set_strides(PxTensor& tensor) {
    const int64_t bytes = perfx::item_bytes(tensor.dtype);
    if (bytes > 0) perfx::set_contiguous_strides(tensor, bytes);
  }

  /* Writes the symbols' values into the operands; nothing to do where they are those of the last run. */
  bool resolve(const int64_t* symbols, int32_t num_symbols, int32_t* stopped_at) {
    if (resolved_ && std::equal(values_.begin(), values_.end(), symbols, symbols + num_symbols)) return true;
    resolved_ = false;
    for (const Patch& patch : patches_) {
      PxTensor& tensor = nodes_[patch.node].operands[patch.operand];
      for (int axis = 0; axis < tensor.ndim; ++axis) {
        const int32_t symbol = patch.symbols[axis];
        if (symbol < 0) continue;
        if (symbol >= num_symbols || symbols[symbol] < 0) {
          *stopped_at = patch.node;
          return false;
        }
        tensor.shape[axis] = patch.factors[axis] * symbols[symbol];
      }
      if (tensor.flags & PX_CONTIGUOUS) set_strides(tensor);
    }
    values_.assign(symbols, symbols + num_symbols);
    resolved_ = true;
    return true;
  }

  static void barrier(const PxThread* thread) { static_cast<perfx::Team*>(thread->pool)->barrier().arrive_and_wait(); }

  /* What each thread does. */
  static void walk(void* context, int32_t index) {
    Run& run = *static_cast<Run*>(context);
    PxList& list = run.list;
    PxThread thread{index, run.team.count(), barrier, &run.team, nullptr};
    const bool timed = index == 0 && list.profiling_;
    int64_t begin = timed ? perfx::now_ns() : 0;
    for (int32_t i = run.first; i < run.last; ++i) {
      const perfx::Node& node = list.nodes_[i];
      if (node.barrier_before && i > run.first) {
        barrier(&thread);
        if (run.outcome.failed_before(i)) break;
      }
      thread.counters = list.counters_.of(i);
      const int32_t status = node.run == nullptr ? int32_t(PX_DISABLED) : node.run(&node.call, &thread);
      if (timed) {
        const int64_t end = perfx::now_ns();
        list.profile_ns_[i] += end - begin;
        begin = end;
      }
      if (status != PX_OK) {
        run.outcome.fail(i, index, status);
        break;
      }
    }
    run.team.barrier().leave();
  }

  std::mutex mutex_;
  std::vector<perfx::Node> nodes_;
  std::vector<Patch> patches_;
  std::vector<int64_t> values_;
  bool resolved_ = false;
  std::atomic<bool> profiling_{false};
  perfx::Counters counters_;
  std::vector<int64_t> profile_ns_;
};

namespace perfx {

/* Runs one kernel on all threads of a pool. */
inline int32_t run_kernel(PxPool& pool, PxKernelFn run, const PxCall& call) {
  struct Shared {
    Team& team;
    PxKernelFn run;
    const PxCall& call;
    Counters& counters;
    Outcome outcome;
  };
  return pool.exclusive([&](Team& team) {
    Counters counters;
    counters.resize(1);
    Shared shared{team, run, call, counters, {}};
    team.run(
        [](void* context, int32_t index) {
          Shared& job = *static_cast<Shared*>(context);
          const PxThread thread{
              index, job.team.count(),
              [](const PxThread* self) { static_cast<Team*>(self->pool)->barrier().arrive_and_wait(); }, &job.team,
              job.counters.of(0)};
          const int32_t status = job.run(&job.call, &thread);
          if (status != PX_OK) job.outcome.fail(0, index, status);
          job.team.barrier().leave();
        },
        &shared);
    return shared.outcome.status();
  });
}

/* The most operands that a small call may have. */
constexpr int32_t kMaxSmallOperands = 3;

/* Scratch memory of the calling thread, which keeps it for the next call; null where there is none to be had. */
inline void* scratch(int64_t bytes) {
  constexpr size_t kAlignment = 64;
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  thread_local std::unique_ptr<void, Free> memory;
  thread_local int64_t size = 0;
  if (bytes > size) {
    size = 0;
    memory.reset(std::aligned_alloc(kAlignment, (size_t(bytes) + kAlignment - 1) / kAlignment * kAlignment));
    if (memory != nullptr) size = bytes;
  }
  return memory.get();
}

/* Runs one kernel on the pool or the calling thread, as the call says; operand i lies at data[i]. */
inline int32_t run_small(const PxSmallCall& small, const std::array<void*, kMaxSmallOperands>& data) {
  PxCall call = *small.call;
  if (call.num_operands > kMaxSmallOperands) return PX_UNSUPPORTED;
  PxTensor operands[kMaxSmallOperands];
  for (int32_t i = 0; i < call.num_operands; ++i) {
    operands[i] = call.operands[i];
    operands[i].data = data[size_t(i)];
  }
  call.operands = operands;
  if (small.workspace_bytes > 0) {
    call.workspace = scratch(small.workspace_bytes);
    call.workspace_bytes = small.workspace_bytes;
    if (call.workspace == nullptr) return PX_OUT_OF_MEMORY;
  }
  if (small.pool != nullptr) return run_kernel(*small.pool, small.run, call);
  int64_t counters[8 * PERFX_NUM_COUNTERS] = {};
  const PxThread alone{0, 1, [](const PxThread*) {}, nullptr, counters};
  return small.run(&call, &alone);
}

}  // namespace perfx

#endif
