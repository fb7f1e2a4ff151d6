// The exported pool and command list: perfx/host.h on top of the core's perfx/thread_pool.hpp and
// perfx/command_list.hpp.
#pragma GCC visibility push(default)
#include "perfx/host.h"
#pragma GCC visibility pop

#include <algorithm>
#include <exception>

#include "perfx/command_list.hpp"
#include "perfx/thread_pool.hpp"

PxPool* perfx_pool_create(int32_t num_threads, const int32_t* cpus, int64_t spin_us) {
  constexpr int32_t kMaxThreads = 4096;
  constexpr int64_t kMaxSpinUs = int64_t(3600) * 1000 * 1000;
  if (num_threads < 1 || num_threads > kMaxThreads) return nullptr;
  try {
    return new PxPool(num_threads, cpus, std::clamp(spin_us, int64_t(0), kMaxSpinUs));
  } catch (const std::exception&) {
    return nullptr;
  }
}

void perfx_pool_destroy(PxPool* pool) { delete pool; }

int32_t perfx_pool_num_threads(const PxPool* pool) { return pool->num_threads(); }

int32_t perfx_pool_run(PxPool* pool, PxKernelFn run, const PxCall* call) {
  return run == nullptr ? int32_t(PX_DISABLED) : perfx::run_kernel(*pool, run, *call);
}

int32_t perfx_run_small(const PxSmallCall* small, void* x, void* y, void* z) {
  return small->run == nullptr ? int32_t(PX_DISABLED) : perfx::run_small(*small, {x, y, z});
}

int64_t perfx_pool_native_ns(const PxPool* pool) { return pool->native_ns(); }

PxList* perfx_list_create(void) {
  try {
    return new PxList;
  } catch (const std::exception&) {
    return nullptr;
  }
}

void perfx_list_destroy(PxList* list) { delete list; }

int32_t perfx_list_append(PxList* list, PxKernelFn run, const PxCall* call, const int32_t* symbols,
                          int32_t barrier_before) {
  try {
    return list->append(run, *call, symbols, barrier_before != 0);
  } catch (const std::exception&) {
    return -1;
  }
}

int32_t perfx_list_length(const PxList* list) { return list->length(); }

int32_t perfx_list_run(PxPool* pool, PxList* list, int32_t first, int32_t last, const int64_t* symbols,
                       int32_t num_symbols, int32_t* stopped_at) {
  return list->run(*pool, first, last, symbols, num_symbols, stopped_at);
}

void perfx_list_profile(PxList* list, int32_t enabled) { list->profile(enabled != 0); }

const int64_t* perfx_list_node_ns(const PxList* list) { return list->node_ns(); }
