// Command lists: symbolic shapes, stopping and going on, disabled nodes, counters, nodes without barriers.
#include "check.hpp"

using namespace perfx_test;

namespace {

// Adds 1 to each item of a [n] int32 operand; items are claimed.
int32_t increment(const PxCall* call, const PxThread* thread) {
  const PxTensor& x = call->operands[0];
  for (int64_t i; (i = perfx_claim(thread, 1, 1)) < x.shape[0];) static_cast<int32_t*>(x.data)[i] += 1;
  return PX_OK;
}

// Thread 0 writes the shape and strides it was given.
int32_t record_shape(const PxCall* call, const PxThread* thread) {
  const PxTensor &x = call->operands[0], &out = call->operands[1];
  if (thread->index == 0) {
    for (int axis = 0; axis < x.ndim; ++axis) {
      static_cast<int64_t*>(out.data)[axis] = x.shape[axis];
      static_cast<int64_t*>(out.data)[x.ndim + axis] = x.strides[axis];
    }
  }
  return PX_OK;
}

int32_t refuse(const PxCall*, const PxThread*) { return PX_INVALID_ARGUMENT; }

int32_t fail_on_first(const PxCall*, const PxThread* thread) { return thread->index == 0 ? PX_KERNEL_ERROR : PX_OK; }

int32_t meet(const PxCall*, const PxThread* thread) {
  for (int i = 0; i < 3; ++i) thread->barrier(thread);
  return PX_OK;
}

const std::vector<int32_t> kNoSymbols(PERFX_MAX_OPERANDS* PERFX_MAX_NDIM, -1);

struct List {
  List() : list(perfx_list_create()) {}
  ~List() { perfx_list_destroy(list); }
  List(const List&) = delete;
  int32_t add(PxKernelFn kernel, const Call& call, bool barrier = true) {
    return perfx_list_append(list, kernel, &call.call, kNoSymbols.data(), barrier);
  }
  int32_t run(const Pool& pool, int32_t first = 0) {
    return perfx_list_run(pool.pool, list, first, perfx_list_length(list), nullptr, 0, &stopped_at);
  }
  PxList* list;
  int32_t stopped_at = -1;
};

void check_symbols(const Pool& pool) {
  std::vector<float> data(1000);
  std::vector<int64_t> seen(6);
  PxTensor out = tensor(seen.data(), PX_INT64, {6});
  Call call(1, {tensor(data, {1, 5, 2}), out});
  std::vector<int32_t> symbols = kNoSymbols;
  symbols[0] = 1;  // [s1, 5, 2 * s0]
  symbols[2] = 0;
  List list;
  CHECK(perfx_list_append(list.list, record_shape, &call.call, symbols.data(), 1) == 0);
  int32_t stopped_at = -1;
  for (int64_t n : {3, 4, 4, 0}) {
    const int64_t values[2] = {n, n + 1};
    CHECK(perfx_list_run(pool.pool, list.list, 0, 1, values, 2, &stopped_at) == PX_OK);
    CHECK((seen == std::vector<int64_t>{n + 1, 5, 2 * n, 40 * n, 8 * n, 4}));
  }
  const int64_t negative[2] = {-1, 1};
  CHECK(perfx_list_run(pool.pool, list.list, 0, 1, negative, 2, &stopped_at) == PX_INVALID_ARGUMENT && stopped_at == 0);
  CHECK(perfx_list_run(pool.pool, list.list, 0, 1, negative, 1, &stopped_at) == PX_INVALID_ARGUMENT);
  CHECK(perfx_list_run(pool.pool, list.list, 0, 2, negative, 2, &stopped_at) == PX_INVALID_ARGUMENT);
}

void check_stop(const Pool& pool, PxKernelFn bad, int32_t status, bool exact) {
  std::vector<int32_t> before(100), beside(100), after(100);
  Call first(0, {tensor(before, {100})}), other(0, {tensor(beside, {100})}), second(0, {tensor(after, {100})}),
      empty(0, {});
  List list;
  for (int i = 0; i < 5; ++i) {
    list.add(increment, first, true);
    list.add(increment, other, false);
  }
  const int32_t index = list.add(bad, empty, false);
  list.add(exact ? increment : meet, exact ? second : empty, false);
  list.add(increment, second, true);
  CHECK(list.run(pool) == status && list.stopped_at == index);
  for (int i = 0; i < 100; ++i) CHECK(before[i] == 5 && beside[i] == 5);
  for (int32_t value : after) CHECK(value == 0);
  CHECK(list.run(pool, index + 1) == PX_OK);
  for (int32_t value : after) CHECK(value == (exact ? 2 : 1));
}

void check_profile(const Pool& pool) {
  std::vector<int32_t> data(1000);
  Call call(0, {tensor(data, {1000})});
  List list;
  list.add(increment, call);
  list.add(increment, call);
  CHECK(list.run(pool) == PX_OK && perfx_list_node_ns(list.list)[0] == 0);
  perfx_list_profile(list.list, 1);
  CHECK(list.run(pool) == PX_OK);
  for (int i = 0; i < 2; ++i) CHECK(perfx_list_node_ns(list.list)[i] > 0);
}

}  // namespace

int main() {
  for (int32_t threads : {1, 2, 5}) {
    Pool pool(threads);
    check_symbols(pool);
    for (int i = 0; i < 20; ++i) {
      check_stop(pool, refuse, PX_INVALID_ARGUMENT, true);
      check_stop(pool, nullptr, PX_DISABLED, true);
      check_stop(pool, fail_on_first, PX_KERNEL_ERROR, false);
    }
    check_profile(pool);
  }
  return 0;
}
