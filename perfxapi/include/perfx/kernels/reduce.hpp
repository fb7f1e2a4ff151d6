/* sum, prod, max, min over any set of axes.
 *
 * The elements of a result are cut into segments of fixed size, whatever the number of threads is, and what the
 * segments come to is joined in their order: so threads do not change the bits.
 */
#ifndef PERFX_KERNELS_REDUCE_HPP
#define PERFX_KERNELS_REDUCE_HPP

#include "perfx/kernels/reduce_loops.hpp"

namespace perfx {
namespace PERFX_VARIANT {

/* Elements, or rows, that a thread reduces without regard to others. */
constexpr int64_t kReduceSegment = 16384;
constexpr int64_t kRowSegment = 1024;
/* Fewer columns than this are better gathered one by one. */
constexpr int64_t kFewColumns = 8;

/* An operand's elements by result: where each result's first element is, and from there all others. */
struct Reduction {
  Walk kept, reduced;
  int64_t results, elements;

  Reduction(const PxTensor& x, int64_t axes)
      : kept{static_cast<char*>(x.data), kItemBytes[x.dtype], 0, {}, {}}, reduced(kept), results(1), elements(1) {
    for (int axis = x.ndim - 1; axis >= 0; --axis) {
      const bool gone = axes >> axis & 1;
      (gone ? reduced : kept).add(x.shape[axis], x.strides[axis]);
      (gone ? elements : results) *= x.shape[axis];
    }
  }
  /* Do neighboring results have neighboring elements, and no result's elements neighbor each other? */
  bool by_columns() const {
    const bool rows = reduced.ndim > 0 && reduced.strides[0] != reduced.item;
    return rows && kept.ndim > 0 && kept.strides[0] == kept.item && kept.shape[0] >= kFewColumns;
  }
  int64_t segments() const { return larger(1, divide_up(elements, by_columns() ? kRowSegment : kReduceSegment)); }
};

/* Some results, those of consecutive elements in memory, from one segment. */
struct ReduceTask {
  int64_t result, count, segment;
};

/* What the threads of a call share. */
struct ReducePlan {
  const ReduceLoops& loops;
  Convert convert;
  Reduction reduction;
  const PxTensor& y;
  char* partial; /* [segments][results] accumulators; null where there is one segment */

  void finish(const char* accumulators, int64_t first, int64_t count) const {
    char* out = static_cast<char*>(y.data) + first * kItemBytes[y.dtype];
    const int32_t dtype = computed_in(y.dtype);
    if (dtype == y.dtype) return loops.finish(accumulators, count, out);
    alignas(64) char wide[kBlock * kMaxItem];
    loops.finish(accumulators, count, wide);
    conversion(dtype, y.dtype)(wide, out, count);
  }
  /* The accumulators of a task are complete. */
  void put(const char* accumulators, const ReduceTask& task) const {
    if (partial == nullptr) return finish(accumulators, task.result, task.count);
    const int64_t place = task.segment * reduction.results + task.result;
    memcpy(partial + place * loops.accumulator_bytes, accumulators, size_t(task.count * loops.accumulator_bytes));
  }
  Range elements_of(int64_t segment, int64_t size) const {
    return {segment * size, smaller(reduction.elements, (segment + 1) * size)};
  }
};

/* One result after another, each from blocks of its elements. */
inline void reduce_elements(const ReducePlan& plan, const PxThread* thread) {
  const Reduction& r = plan.reduction;
  const int64_t segments = r.segments(), size = smaller(larger(r.elements, 1), kReduceSegment);
  const Range tasks = share(r.results * segments, larger(1, 2048 / size), thread);
  if (tasks.begin >= tasks.end) return;
  const bool in_place = r.reduced.dense() && plan.convert == nullptr;
  Cursor kept(r.kept, tasks.begin / segments);
  Reader reader;
  for (int64_t task = tasks.begin; task < tasks.end; ++task) {
    const ReduceTask done{task / segments, 1, task % segments};
    const Range part = plan.elements_of(done.segment, kReduceSegment);
    alignas(8) char accumulator[kAccumulatorBytes];
    plan.loops.clear(accumulator, 1);
    Walk elements = r.reduced;
    elements.data = kept.at();
    if (!in_place && part.begin < part.end) {
      reader.start(elements, plan.convert, part.begin);
      reader.repeat_number(plan.convert == nullptr ? elements.item : int64_t(sizeof(float)), kBlock);
    }
    for (int64_t i = part.begin, count; i < part.end; i += count) {
      count = smaller(kBlock, part.end - i);
      if (!in_place) count = reader.at_once(count);
      const char* block = in_place ? elements.data + i * elements.item : reader.read(count);
      plan.loops.add_block(block, count, accumulator);
    }
    plan.put(accumulator, done);
    if (done.segment == segments - 1 && r.kept.ndim > 0) kept.advance(1);
  }
}

/* Blocks of neighboring results, each from rows of neighboring elements. */
inline void reduce_columns(const ReducePlan& plan, const PxThread* thread) {
  const Reduction& r = plan.reduction;
  const int64_t segments = r.segments(), columns = r.kept.shape[0], blocks = divide_up(columns, kBlock);
  const Range tasks = share(r.results / columns * blocks * segments, 1, thread);
  alignas(64) char accumulators[kBlock * kAccumulatorBytes], wide[kBlock * kMaxItem];
  for (int64_t task = tasks.begin; task < tasks.end; ++task) {
    const int64_t row = task / segments / blocks, column = task / segments % blocks * kBlock;
    const ReduceTask done{row * columns + column, smaller(kBlock, columns - column), task % segments};
    const Range part = plan.elements_of(done.segment, kRowSegment);
    plan.loops.clear(accumulators, done.count);
    Walk elements = r.reduced;
    elements.data = Cursor(r.kept, done.result).at();
    Cursor at;
    if (part.begin < part.end) at = Cursor(elements, part.begin);
    for (int64_t i = part.begin, rows; i < part.end; i += rows) {
      rows = plan.convert == nullptr ? smaller(part.end - i, at.left()) : 1;
      if (plan.convert != nullptr) plan.convert(at.at(), wide, done.count);
      plan.loops.add_rows(plan.convert == nullptr ? at.at() : wide, at.stride(), rows, done.count, accumulators);
      at.advance(rows);
    }
    plan.put(accumulators, done);
  }
}

/* The segments of each result, in their order. */
inline void join_segments(const ReducePlan& plan, const PxThread* thread) {
  const int64_t results = plan.reduction.results, item = plan.loops.accumulator_bytes;
  const Range part = share(results, kElementGrain, thread);
  for (int64_t first = part.begin; first < part.end; first += kBlock) {
    const int64_t count = smaller(kBlock, part.end - first);
    char* totals = plan.partial + first * item;
    for (int64_t segment = 1; segment < plan.reduction.segments(); ++segment) {
      plan.loops.merge(plan.partial + (segment * results + first) * item, count, totals);
    }
    plan.finish(totals, first, count);
  }
}

inline const ReduceLoops* reduce_loops(const ReduceTable& table, int32_t dtype) {
  const int32_t computed = computed_in(dtype);
  return computed < kNumReal ? table.of[computed] : nullptr;
}
template <const ReduceTable& kTable>
inline int32_t accepts_reduce(const PxCall* call) {
  if (!has_signature(call, 1, 1, 2)) return PX_UNSUPPORTED;
  const PxTensor &x = call->operands[0], &y = call->operands[1];
  const bool ok = is_plain(x) && is_plain_dense(y) && x.dtype == y.dtype && reduce_loops(kTable, x.dtype) != nullptr;
  return ok ? PX_OK : PX_UNSUPPORTED;
}
inline int64_t reduce_workspace(const PxCall* call, int32_t) {
  const Reduction reduction(call->operands[0], call->attrs[0].i);
  /* a result of symbolic size may be cut either way */
  const int64_t segments = divide_up(reduction.elements, kRowSegment);
  return segments > 1 ? segments * reduction.results * kAccumulatorBytes : 0;
}
template <const ReduceTable& kTable>
inline int32_t run_reduce(const PxCall* call, const PxThread* thread) {
  const PxTensor &x = call->operands[0], &y = call->operands[1];
  ReducePlan plan{*reduce_loops(kTable, x.dtype), conversion(x.dtype, computed_in(x.dtype)),
                  Reduction(x, call->attrs[0].i), y, nullptr};
  const int64_t segments = plan.reduction.segments();
  if (segments > 1) {
    if (call->workspace_bytes < segments * plan.reduction.results * kAccumulatorBytes) return PX_OUT_OF_MEMORY;
    plan.partial = static_cast<char*>(call->workspace);
  }
  plan.reduction.by_columns() ? reduce_columns(plan, thread) : reduce_elements(plan, thread);
  if (segments > 1) {
    thread->barrier(thread);
    join_segments(plan, thread);
  }
  return PX_OK;
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
