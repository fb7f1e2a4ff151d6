/* paged_attention: softmax(scale * q k^T) v over a paged KV cache (Kwon et al., 2023), any mixture of prefill and
 * decode.
 *
 * Work is cut into tasks of query rows; a row is one query head of one token, and heads that share a kv head share a
 * task. A task walks over its partitions of the positions in ascending order (attention_tile.hpp). Where there are too
 * few tasks for the threads, as in decoding a single request, the partitions are shared out, each with totals of its
 * own, and these are put together afterwards, with the same operations.
 */
#ifndef PERFX_KERNELS_PAGED_ATTENTION_HPP
#define PERFX_KERNELS_PAGED_ATTENTION_HPP

#include "perfx/kernels/attention_tile.hpp"
#include "perfx/kernels/rows.hpp"

namespace perfx {
namespace PERFX_VARIANT {

/* At most so many rows in a task, or those of one token. A multiple of kTileRows; the keys and values of a partition
 * are loaded from memory once for all of them. */
constexpr int64_t kTaskRows = 48;
static_assert(kTaskRows % kTileRows == 0, "tiles fill a task");
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
  /* What a token at `position` sees of a partition. */
  Span span(int64_t position, int64_t partition) const {
    const int64_t base = partition * kPartition;
    const int64_t begin = larger(0, first_visible(position) - base), end = smaller(kPartition, position + 1 - base);
    return begin < end ? Span{int(begin), int(end)} : Span{0, 0};
  }

  /* The rows of a task as tiles of queries[D][kTileRows], rows that are not there being 0. */
  void pack(const Task& task, float* queries) const {
    const int64_t rows = task.num_tokens * group;
    for (int64_t first = 0; first < rows; first += kTileRows) {
      const int num_rows = int(smaller(kTileRows, rows - first));
      const float* row[kTileRows];
      for (int m = 0; m < num_rows; ++m) row[m] = query_row(task, first + m);
      for (int64_t d = 0; d < cache.head_size; d += kLanes) {
        F items[kLanes];
        for (int m = 0; m < kLanes; ++m) items[m] = m < num_rows ? load(row[m] + d) : set(0.0f);
        transpose(items);
        for (int i = 0; i < kLanes; ++i, queries += kTileRows) store_first(queries, kTileRows, items[i]);
      }
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

/* Totals of rows in memory, one after another. */
inline int64_t totals_size(int64_t rows, int64_t head_size) {
  return rows * head_size + divide_up(2 * rows, kLanes) * kLanes;
}
inline Totals totals_at(float* memory, int64_t rows, int64_t head_size) {
  float* largest = memory + rows * head_size;
  return {memory, largest, largest + rows};
}
inline void clear(const Totals& totals, int64_t rows, int64_t head_size) {
  for (int64_t i = 0; i < rows * head_size; i += kLanes) store(totals.outputs + i, set(0.0f));
  for (int64_t r = 0; r < rows; ++r) totals.largest[r] = kLowest, totals.sum[r] = 0.0f;
}

/* The workspace of one thread, in floats. */
struct Scratch {
  Scratch(float* memory, int64_t rows, int64_t head_size)
      : queries(memory), totals(totals_at(memory + queries_size(rows, head_size), rows, head_size)) {}
  static int64_t queries_size(int64_t rows, int64_t head_size) {
    return divide_up(rows, kTileRows) * kTileRows * head_size;
  }
  static int64_t size(int64_t rows, int64_t head_size) {
    return queries_size(rows, head_size) + totals_size(rows, head_size);
  }
  float* queries;
  Totals totals;
};

/* Puts what the rows of a task see of one partition onto their totals. Fetches the partition `next` into the cache. */
template <class T>
inline void attend_partition(const Attention<T>& a, const Task& task, int64_t partition, const PartitionView<T>& view,
                             const PartitionView<T>& next, const float* queries, const Totals& totals) {
  const int64_t rows = task.num_tokens * a.group, size = a.cache.head_size;
  for (int64_t row = 0; row < rows; row += kTileRows) {
    Tile tile;
    tile.num_rows = int(smaller(kTileRows, rows - row));
    tile.queries = queries + row * size;
    tile.totals = {totals.outputs + row * size, totals.largest + row, totals.sum + row};
    int64_t token = row / a.group, head = row % a.group;
    for (int m = 0; m < kTileRows; ++m) {
      tile.spans[m] = m < tile.num_rows ? a.span(task.first_position + token, partition) : Span{0, 0};
      if (++head == a.group) ++token, head = 0;
    }
    attend(view, row == 0 ? &next : nullptr, tile, a.scale, a.softcap);
  }
}

/* Columns begin..end-1 of a row's result. */
inline void finish(const Totals& totals, int64_t row, int64_t head_size, Range columns, float* y) {
  const F scale = set(1.0f / totals.sum[row]);
  for (int64_t d = columns.begin; d < columns.end; d += kLanes) {
    store(y + d, load(totals.outputs + row * head_size + d) * scale);
  }
}

/* One task over all of its partitions, by one thread. */
template <class T>
inline void run_task(const Attention<T>& a, const Task& task, const Scratch& scratch) {
  const int64_t rows = task.num_tokens * a.group, size = a.cache.head_size;
  a.pack(task, scratch.queries);
  clear(scratch.totals, rows, size);
  PartitionView<T> view = a.view(task, a.first_partition(task));
  for (int64_t partition = a.first_partition(task); partition < a.end_partition(task); ++partition) {
    const PartitionView<T> next = a.view(task, partition + 1);
    attend_partition(a, task, partition, view, next, scratch.queries, scratch.totals);
    view = next;
  }
  for (int64_t r = 0; r < rows; ++r) finish(scratch.totals, r, size, {0, size}, a.output_row(task, r));
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

/* Partitions of requests with one token each: shared out, and put together once all are done. */
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
    return partitions * totals_size(a.group, a.cache.head_size);
  }

  void compute(const PxThread* thread, const Scratch& scratch) const {
    int64_t packed = -1;
    for (Place place = find(perfx_claim(thread, 0, 1)); place.unit >= 0;) {
      const Place next = find(perfx_claim(thread, 0, 1));
      if (packed != place.unit) a_.pack(place.task, scratch.queries);
      packed = place.unit;
      const Totals part = totals(place.index);
      clear(part, a_.group, a_.cache.head_size);
      attend_partition(a_, place.task, place.partition, place.view, next.view, scratch.queries, part);
      place = next;
    }
  }

  /* Threads share the columns of all units. */
  void put_together(const PxThread* thread, const Scratch& scratch) const {
    const int64_t size = a_.cache.head_size;
    const Range share_of_all = share(num_units() * size, kLanes, thread);
    for_each_unit([&](const Task& task, int64_t unit, int64_t first) {
      const Range columns = {larger(0, share_of_all.begin - unit * size),
                             smaller(size, share_of_all.end - unit * size)};
      if (columns.begin >= columns.end) return;
      clear(scratch.totals, a_.group, size);
      for (int64_t i = 0; i < num_partitions(task); ++i) add(scratch.totals, totals(first + i), columns);
      for (int64_t r = 0; r < a_.group; ++r) finish(scratch.totals, r, size, columns, a_.output_row(task, r));
    });
  }

 private:
  /* A partition: number `index` of all, of the request and kv head numbered `unit`; -1: there is none. */
  struct Place {
    int64_t unit, index, partition;
    Task task;
    PartitionView<T> view;
  };

  int64_t num_partitions(const Task& task) const { return a_.end_partition(task) - a_.first_partition(task); }
  Totals totals(int64_t index) const {
    const int64_t size = totals_size(a_.group, a_.cache.head_size);
    return totals_at(memory_ + index * size, a_.group, a_.cache.head_size);
  }

  /* body(task, unit, number of the unit's first partition) for each request that has a token, and each kv head. */
  template <class Body>
  void for_each_unit(Body body) const {
    int64_t unit = 0, first = 0;
    for (int64_t r = 0; r < a_.num_requests; ++r) {
      if (a_.num_queries(r) == 0) continue;
      for (int64_t head = 0; head < a_.cache.num_heads; ++head, ++unit) {
        const Task task = a_.whole(r, head);
        body(task, unit, first);
        first += num_partitions(task);
      }
    }
  }
  int64_t num_units() const {
    int64_t count = 0;
    for_each_unit([&](const Task&, int64_t, int64_t) { ++count; });
    return count;
  }

  Place find(int64_t index) const {
    Place place = {-1, index, 0, {}, {}};
    for_each_unit([&](const Task& task, int64_t unit, int64_t first) {
      if (index < first || index >= first + num_partitions(task)) return;
      place.unit = unit;
      place.partition = a_.first_partition(task) + index - first;
      place.task = task;
      place.view = a_.view(task, place.partition);
    });
    return place;
  }

  /* A partition's columns onto those of the partitions before. */
  void add(const Totals& totals, const Totals& part, Range columns) const {
    const int64_t size = a_.cache.head_size;
    for (int64_t first = 0; first < a_.group; first += kLanes) {
      const int num_rows = int(smaller(kLanes, a_.group - first));
      Rescaling rescaling;
      rescale(num_rows, {nullptr, totals.largest + first, totals.sum + first}, part.largest + first, part.sum + first,
              &rescaling);
      for (int m = 0; m < num_rows; ++m) {
        const int64_t row = (first + m) * size;
        for (int64_t d = columns.begin; d < columns.end; d += kLanes) {
          add_part(totals.outputs + row + d, load(part.outputs + row + d), rescaling, m);
        }
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
  const int64_t shared = units * partitions * totals_size(group, head_size) * int64_t(sizeof(float));
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
    partitions.put_together(thread, scratch);
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
