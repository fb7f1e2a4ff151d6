/* paged_attention: softmax(scale * q k^T) v over a paged KV cache (Kwon et al., 2023), any mixture of prefill and
 * decode.
 *
 * Work is cut into tiles of query rows; a row is one query head of one token, and heads that share a kv head share a
 * tile. A tile walks over its partitions of the positions (attention_tile.hpp) and merges what each gives in ascending
 * order, rescaling to the larger maximum (Milakov and Gimelshein, 2018). Where there are too few tiles for the threads,
 * as in decoding a single request, the partitions are shared out and merged afterwards, with the same operations.
 */
#ifndef PERFX_KERNELS_PAGED_ATTENTION_HPP
#define PERFX_KERNELS_PAGED_ATTENTION_HPP

#include "perfx/kernels/attention_tile.hpp"
#include "perfx/kernels/rows.hpp"

namespace perfx {
namespace PERFX_VARIANT {

/* The rows of a tile, if one token has no more; else those of one token. */
constexpr int64_t kTaskRows = 32;
/* At most this much workspace for partitions that are shared out. */
constexpr int64_t kMaxSharedBytes = int64_t(32) << 20;

inline int32_t accepts_paged_attention(const PxCall* call) {
  if (!has_signature(call, 6, 1, 3)) return PX_UNSUPPORTED;
  const PxTensor *t = call->operands, &q = t[0], &k = t[1];
  if (!is_rows(q, PX_FLOAT32, 3) || !is_rows(t[6], PX_FLOAT32, 3) || !same_shape(q, t[6])) return PX_UNSUPPORTED;
  if (!is_kv_cache(k, t[2]) || !is_dense(t[3], PX_INT32, 1) || !is_dense(t[4], PX_INT32, 1)) return PX_UNSUPPORTED;
  const bool ok = is_rows(t[5], PX_INT32, 2) && t[3].shape[0] == t[4].shape[0] + 1 && t[5].shape[0] == t[4].shape[0] &&
                  k.shape[1] > 0 && q.shape[1] % k.shape[1] == 0 && q.shape[2] == k.shape[2] && k.shape[2] > 0 &&
                  k.shape[2] % kLanes == 0 && call->attrs[1].i >= 0;
  return ok ? PX_OK : PX_UNSUPPORTED;
}

/* The result of a row so far: unnormalized outputs[D], and what they are relative to. */
struct RowState {
  float largest;
  float sum;
  float* outputs;
};

/* Puts the state of a later partition onto that of the earlier ones. */
inline void merge(RowState& total, const RowState& next, int64_t head_size) {
  const float largest = next.largest > total.largest ? next.largest : total.largest;
  float weights[kLanes] = {total.largest - largest, next.largest - largest};
  store(weights, exp(load(weights)));
  const F keep = set(weights[0]), take = set(weights[1]);
  for (int64_t d = 0; d < head_size; d += kLanes) {
    store(total.outputs + d, fma(load(total.outputs + d), keep, load(next.outputs + d) * take));
  }
  total.sum = total.sum * weights[0] + next.sum * weights[1];
  total.largest = largest;
}

inline void finish(const RowState& total, int64_t head_size, float* y) {
  for (int64_t d = 0; d < head_size; d += kLanes) store(y + d, load(total.outputs + d) / set(total.sum));
}

/* Some tokens of a request and the query heads of one kv head. */
struct Task {
  int64_t request, head;
  int64_t first_token, num_tokens; /* tokens counted over the whole batch */
  int64_t first_position;          /* of first_token */
};

/* Numbers that follow from the operands. */
template <class T>
struct Attention {
  explicit Attention(const PxCall* call)
      : query(call->operands[0]),
        block_table(call->operands[5]),
        output(call->operands[6]),
        cache(call->operands[1], call->operands[2]),
        query_start(ints(call->operands[3])),
        kv_len(ints(call->operands[4])),
        num_requests(call->operands[4].shape[0]),
        group(query.shape[1] / cache.num_heads),
        tokens_per_task(larger(1, kTaskRows / larger(1, group))),
        scale(float(call->attrs[0].f)),
        window(call->attrs[1].i),
        softcap(float(call->attrs[2].f)) {}

  int64_t num_queries(int64_t request) const { return query_start[request + 1] - query_start[request]; }
  int64_t first_visible(int64_t position) const { return window > 0 ? larger(0, position - window + 1) : 0; }

  /* Are all numbers in range? */
  bool valid() const {
    if (num_requests > 0 && query_start[0] != 0) return false;
    const int64_t max_blocks = block_table.shape[1];
    for (int64_t r = 0; r < num_requests; ++r) {
      if (num_queries(r) < 0 || query_start[r + 1] > query.shape[0]) return false;
      if (num_queries(r) == 0) continue;
      const int64_t length = kv_len[r];
      if (length < num_queries(r) || length > max_blocks * cache.block_size) return false;
      const int64_t first = first_visible(length - num_queries(r)) / cache.block_size;
      const int64_t end = divide_up(length, cache.block_size);
      if (!all_below(at<int32_t>(block_table, r) + first, end - first, cache.num_blocks)) return false;
    }
    return true;
  }

  Task whole(int64_t request, int64_t head) const {
    return {request, head, query_start[request], num_queries(request), kv_len[request] - num_queries(request)};
  }
  int64_t first_partition(const Task& task) const { return first_visible(task.first_position) / kPartition; }
  int64_t end_partition(const Task& task) const { return divide_up(task.first_position + task.num_tokens, kPartition); }

  PartitionView<T> view(const Task& task, int64_t partition) const {
    PartitionView<T> result;
    result.head_size = cache.head_size;
    result.key_stride = cache.block_size;
    const int32_t* blocks = at<int32_t>(block_table, task.request);
    for (int c = 0; c < kChunks; ++c) {
      const int64_t position = partition * kPartition + c * kLanes;
      if (position >= kv_len[task.request] || position + kLanes <= first_visible(task.first_position)) {
        result.keys[c] = result.values[c] = nullptr; /* seen by no row of the task */
        continue;
      }
      const int64_t block = blocks[position / cache.block_size], place = position % cache.block_size;
      result.keys[c] = cache.key(block, task.head, place);
      result.values[c] = cache.value(block, task.head, place);
    }
    return result;
  }

  /* Rows of a task: query head `row % group` of token `row / group`. */
  const float* query_row(const Task& task, int64_t row) const {
    return at<float>(query, task.first_token + row / group, task.head * group + row % group);
  }
  float* output_row(const Task& task, int64_t row) const {
    return at<float>(output, task.first_token + row / group, task.head * group + row % group);
  }
  Span span(const Task& task, int64_t row, int64_t partition) const {
    const int64_t position = task.first_position + row / group, base = partition * kPartition;
    const int64_t begin = larger(0, first_visible(position) - base), end = smaller(kPartition, position + 1 - base);
    return begin < end ? Span{int(begin), int(end)} : Span{0, 0};
  }

  /* queries[D][kTileRows] of a tile, rows that are not there being 0. */
  void pack(const Task& task, int64_t first_row, int num_rows, float* queries) const {
    for (int m = 0; m < kTileRows; ++m) {
      const float* row = m < num_rows ? query_row(task, first_row + m) : nullptr;
      for (int64_t d = 0; d < cache.head_size; ++d) queries[d * kTileRows + m] = row != nullptr ? row[d] : 0.0f;
    }
  }

  const PxTensor &query, &block_table, &output;
  KvCache<T> cache;
  const int32_t *query_start, *kv_len;
  int64_t num_requests, group, tokens_per_task;
  float scale;
  int64_t window;
  float softcap;
};

/* The workspace of one thread, in floats. */
struct Scratch {
  Scratch(float* memory, int64_t rows, int64_t head_size)
      : queries(memory),
        totals(queries + divide_up(rows, kTileRows) * kTileRows * head_size),
        outputs(totals + rows * head_size),
        largest(outputs + kTileRows * head_size),
        sum(largest + rows) {}
  static int64_t size(int64_t rows, int64_t head_size) {
    const int64_t floats = (divide_up(rows, kTileRows) * kTileRows + rows + kTileRows) * head_size + 2 * rows;
    return divide_up(floats, kLanes) * kLanes;
  }
  float *queries, *totals, *outputs, *largest, *sum;
};

/* The tile of up to kTileRows rows of a task from `row` on, in one partition. False where none of them sees any of it.
 */
template <class T>
inline bool make_tile(const Attention<T>& a, const Task& task, int64_t row, int64_t num_rows, int64_t partition,
                      Tile* tile) {
  bool seen = false;
  tile->num_rows = int(smaller(kTileRows, num_rows - row));
  for (int m = 0; m < tile->num_rows; ++m) {
    tile->spans[m] = a.span(task, row + m, partition);
    seen |= tile->spans[m].begin < tile->spans[m].end;
  }
  return seen;
}

/* Puts what a tile computed onto the totals of its rows, `row` being the first. A total's sum of 0 says that nothing
 * was seen yet: later it is at least 1. */
inline void merge_tile(const Tile& tile, int64_t row, int64_t head_size, const Scratch& scratch) {
  for (int m = 0; m < tile.num_rows; ++m) {
    if (tile.spans[m].begin >= tile.spans[m].end) continue;
    float &largest = scratch.largest[row + m], &sum = scratch.sum[row + m];
    RowState total{largest, sum, scratch.totals + (row + m) * head_size};
    const RowState next{tile.largest[m], tile.sum[m], tile.outputs + m * head_size};
    if (sum == 0.0f) {
      for (int64_t d = 0; d < head_size; d += kLanes) store(total.outputs + d, load(next.outputs + d));
      largest = next.largest;
      sum = next.sum;
    } else {
      merge(total, next, head_size);
      largest = total.largest;
      sum = total.sum;
    }
  }
}

/* One task over all of its partitions, by one thread. */
template <class T>
inline void run_task(const Attention<T>& a, const Task& task, const Scratch& scratch) {
  const int64_t rows = task.num_tokens * a.group, size = a.cache.head_size;
  for (int64_t r = 0; r < rows; r += kTileRows) {
    a.pack(task, r, int(smaller(kTileRows, rows - r)), scratch.queries + r * size);
  }
  for (int64_t r = 0; r < rows; ++r) scratch.sum[r] = 0.0f;
  for (int64_t partition = a.first_partition(task); partition < a.end_partition(task); ++partition) {
    const PartitionView<T> view = a.view(task, partition);
    for (int64_t r = 0; r < rows; r += kTileRows) {
      Tile tile;
      if (!make_tile(a, task, r, rows, partition, &tile)) continue;
      tile.queries = scratch.queries + r * size;
      tile.outputs = scratch.outputs;
      attend(view, tile, a.scale, a.softcap);
      merge_tile(tile, r, size, scratch);
    }
  }
  for (int64_t r = 0; r < rows; ++r) {
    finish({scratch.largest[r], scratch.sum[r], scratch.totals + r * size}, size, a.output_row(task, r));
  }
}

/* Tasks of several tokens each, claimed one by one; in a request the last tokens, which see most, come first. */
template <class T>
inline void run_tasks(const Attention<T>& a, const PxThread* thread, const Scratch& scratch) {
  int64_t claimed = perfx_claim(thread, 0, 1);
  int64_t first = 0;
  for (int64_t r = 0; r < a.num_requests; ++r) {
    const int64_t tiles = divide_up(a.num_queries(r), a.tokens_per_task), count = tiles * a.cache.num_heads;
    for (; claimed < first + count; claimed = perfx_claim(thread, 0, 1)) {
      Task task = a.whole(r, (claimed - first) % a.cache.num_heads);
      const int64_t skipped = (tiles - 1 - (claimed - first) / a.cache.num_heads) * a.tokens_per_task;
      task.first_token += skipped;
      task.first_position += skipped;
      task.num_tokens = smaller(a.tokens_per_task, task.num_tokens - skipped);
      run_task(a, task, scratch);
    }
    first += count;
  }
}

/* Partitions of requests with one token each: shared out, and merged once all are done. */
template <class T>
class SharedPartitions {
 public:
  SharedPartitions(const Attention<T>& a, float* memory) : a_(a), memory_(memory) {}

  /* Floats that all partitions need, or -1 where this way is of no use. */
  static int64_t size(const Attention<T>& a, int32_t num_threads) {
    int64_t units = 0, partitions = 0;
    for (int64_t r = 0; r < a.num_requests; ++r) {
      if (a.num_queries(r) > 1) return -1;
      if (a.num_queries(r) == 0) continue;
      const Task task = a.whole(r, 0);
      units += a.cache.num_heads;
      partitions += a.cache.num_heads * (a.end_partition(task) - a.first_partition(task));
    }
    if (num_threads == 1 || units > 2 * num_threads || partitions == units) return -1;
    return partitions * state_size(a.group, a.cache.head_size);
  }
  static int64_t state_size(int64_t group, int64_t head_size) { return group * (head_size + kLanes); }

  void compute(const PxThread* thread, const Scratch& scratch) const {
    int64_t claimed = perfx_claim(thread, 0, 1);
    for_each_unit([&](const Task& task, int64_t first) {
      const int64_t count = a_.end_partition(task) - a_.first_partition(task);
      for (; claimed < first + count; claimed = perfx_claim(thread, 0, 1)) {
        compute_partition(task, a_.first_partition(task) + claimed - first, claimed, scratch);
      }
    });
  }

  void merge_all(const PxThread* thread) const {
    const int64_t size = a_.cache.head_size;
    int64_t item = 0;
    for_each_unit([&](const Task& task, int64_t first) {
      const int64_t count = a_.end_partition(task) - a_.first_partition(task);
      for (int64_t row = 0; row < a_.group; ++row) {
        if (item++ % thread->count != thread->index) continue;
        RowState total = state(first, row);
        for (int64_t i = 1; i < count; ++i) merge(total, state(first + i, row), size);
        finish(total, size, a_.output_row(task, row));
      }
    });
  }

 private:
  /* body(task, number of the unit's first partition) for each request that has a token, and each kv head. */
  template <class Body>
  void for_each_unit(Body body) const {
    int64_t first = 0;
    for (int64_t r = 0; r < a_.num_requests; ++r) {
      if (a_.num_queries(r) == 0) continue;
      for (int64_t head = 0; head < a_.cache.num_heads; ++head) {
        const Task task = a_.whole(r, head);
        body(task, first);
        first += a_.end_partition(task) - a_.first_partition(task);
      }
    }
  }

  /* A row's state: outputs[D], largest, sum, and padding to a whole vector. */
  float* memory(int64_t index, int64_t row) const {
    return memory_ + index * state_size(a_.group, a_.cache.head_size) + row * (a_.cache.head_size + kLanes);
  }
  RowState state(int64_t index, int64_t row) const {
    float* outputs = memory(index, row);
    return {outputs[a_.cache.head_size], outputs[a_.cache.head_size + 1], outputs};
  }

  void compute_partition(const Task& task, int64_t partition, int64_t index, const Scratch& scratch) const {
    const int64_t size = a_.cache.head_size;
    const PartitionView<T> view = a_.view(task, partition);
    for (int64_t r = 0; r < a_.group; r += kTileRows) {
      Tile tile;
      make_tile(a_, task, r, a_.group, partition, &tile);
      tile.queries = scratch.queries;
      tile.outputs = scratch.outputs;
      a_.pack(task, r, tile.num_rows, scratch.queries);
      attend(view, tile, a_.scale, a_.softcap);
      for (int m = 0; m < tile.num_rows; ++m) {
        float* out = memory(index, r + m);
        for (int64_t d = 0; d < size; d += kLanes) store(out + d, load(tile.outputs + m * size + d));
        out[size] = tile.largest[m];
        out[size + 1] = tile.sum[m];
      }
    }
  }

  const Attention<T>& a_;
  float* memory_;
};

/* Rows of a thread's largest task. */
inline int64_t rows_per_task(int64_t group) { return larger(1, kTaskRows / larger(1, group)) * group; }

inline int64_t paged_attention_workspace(const PxCall* call, int32_t num_threads) {
  const PxTensor &q = call->operands[0], &k = call->operands[1], &block_table = call->operands[5];
  const int64_t heads = k.shape[1], group = q.shape[1] / heads, head_size = q.shape[2];
  const int64_t units = smaller(block_table.shape[0] * heads, 2 * num_threads);
  const int64_t partitions = divide_up(block_table.shape[1] * k.shape[3], kPartition);
  const int64_t shared = units * partitions * group * (head_size + kLanes) * int64_t(sizeof(float));
  return num_threads * Scratch::size(rows_per_task(group), head_size) * int64_t(sizeof(float)) +
         smaller(shared, kMaxSharedBytes);
}

template <class T>
inline int32_t attend_all(const PxCall* call, const PxThread* thread) {
  const Attention<T> a(call);
  if (!a.valid()) return PX_INVALID_ARGUMENT;
  const int64_t rows = rows_per_task(a.group), size = a.cache.head_size;
  const int64_t private_size = Scratch::size(rows, size);
  const int64_t workspace_size = call->workspace_bytes / int64_t(sizeof(float));
  if (workspace_size < thread->count * private_size) return PX_OUT_OF_MEMORY;
  float* memory = static_cast<float*>(call->workspace);
  const Scratch scratch(memory + thread->index * private_size, rows, size);
  float* shared = memory + thread->count * private_size;
  const int64_t shared_size = SharedPartitions<T>::size(a, thread->count);
  if (shared_size > 0 && shared_size <= workspace_size - thread->count * private_size) {
    const SharedPartitions<T> partitions(a, shared);
    partitions.compute(thread, scratch);
    thread->barrier(thread);
    partitions.merge_all(thread);
  } else {
    run_tasks(a, thread, scratch);
  }
  return PX_OK;
}

/* Tokens that belong to no request get zeros. */
inline void clear_padding(const PxCall* call, const PxThread* thread) {
  const PxTensor &y = call->operands[6], &query_start = call->operands[3];
  const int64_t used = ints(query_start)[query_start.shape[0] - 1];
  const Range range = share((y.shape[0] - used) * y.shape[1], 1, thread);
  for (int64_t i = range.begin; i < range.end; ++i) {
    memset(at<float>(y, used + i / y.shape[1], i % y.shape[1]), 0, size_t(y.shape[2]) * sizeof(float));
  }
}

inline int32_t run_paged_attention(const PxCall* call, const PxThread* thread) {
  const bool half = call->operands[1].dtype == PX_FLOAT16;
  const int32_t status = half ? attend_all<uint16_t>(call, thread) : attend_all<float>(call, thread);
  if (status == PX_OK) clear_padding(call, thread);
  return status;
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
