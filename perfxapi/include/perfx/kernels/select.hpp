/* The largest items of a long row without sorting it; used by topk and sample.
 *
 * A row is cut into segments of 1024 items. The maximum of each of a segment's 16 lanes stands for 64 items: the k-th
 * largest of those maxima cannot exceed the k-th largest item, so the few items that reach it hold the k largest. NaN
 * counts as the smallest.
 */
#ifndef PERFX_KERNELS_SELECT_HPP
#define PERFX_KERNELS_SELECT_HPP

#include <math.h>

#include <algorithm>

#include "perfx/kernels/operands.hpp"

namespace perfx {
namespace PERFX_VARIANT {

constexpr int64_t kSegment = 1024;

/* An item of a row. */
struct Candidate {
  float value;
  int32_t id;
};

/* Larger values first, lower ids first among equals. (A type of this namespace, and so are the algorithms made from
 * it.) */
struct Before {
  bool operator()(const Candidate& a, const Candidate& b) const {
    return a.value > b.value || (a.value == b.value && a.id < b.id);
  }
};

/* Memory for the work on one row of `size` items. */
struct SelectSpace {
  SelectSpace(void* memory, int64_t size) {
    const int64_t segments = divide_up(size, kSegment);
    candidates = static_cast<Candidate*>(memory);
    masses = reinterpret_cast<double*>(candidates + divide_up(size, kLanes) * kLanes);
    maxima = reinterpret_cast<float*>(masses + segments);
    partial_masses = maxima + segments * kLanes;
    ids = reinterpret_cast<int32_t*>(partial_masses + segments * kLanes);
    counts = ids + segments * kSegment;
  }
  static int64_t bytes(int64_t size) {
    const int64_t segments = divide_up(size, kSegment);
    const int64_t bytes = divide_up(size, kLanes) * kLanes * int64_t(sizeof(Candidate)) +
                          segments * (8 + 2 * kLanes * 4 + kSegment * 4 + 4);
    return divide_up(bytes, 64) * 64;
  }

  Candidate* candidates; /* [size], free for any use */
  double* masses;        /* [segments] */
  float* maxima;         /* [segments][16] */
  float* partial_masses; /* [segments][16] */
  int32_t* ids;          /* [segments][1024], of which counts[segment] are used */
  int32_t* counts;       /* [segments] */
};

inline int64_t num_segments(int64_t size) { return divide_up(size, kSegment); }

/* Calls body(segment, first item, number of items) for the thread's segments. */
template <class Body>
inline void for_each_segment(int64_t size, const PxThread* thread, Body body) {
  const Range range = share(num_segments(size), 1, thread);
  for (int64_t s = range.begin; s < range.end; ++s) body(s, s * kSegment, smaller(kSegment, size - s * kSegment));
}

inline void find_maxima(const float* x, int64_t size, const SelectSpace& space, const PxThread* thread) {
  for_each_segment(size, thread, [&](int64_t segment, int64_t begin, int64_t count) {
    F largest = set(-INFINITY);
    for_each_vector(
        count, [&](int64_t i, int n) { largest = max(select(first(n), load_n(x + begin + i, n), largest), largest); });
    store(space.maxima + segment * kLanes, largest);
  });
}

/* The largest item of a row, from its maxima. */
inline float row_maximum(const SelectSpace& space, int64_t size) {
  F largest = set(-INFINITY);
  for (int64_t s = 0; s < num_segments(size); ++s) largest = max(load(space.maxima + s * kLanes), largest);
  return reduce_max(largest);
}

/* A value that at least k items reach (-inf if the maxima do not tell). Overwrites the candidates. Segments are first
 * joined as far as four maxima for each of the k remain: few enough to be quick, enough that hardly more than k items
 * reach it. */
inline float lower_bound_of_kth(const SelectSpace& space, int64_t size, int64_t k) {
  const int64_t segments = num_segments(size), fold = larger(1, segments * kLanes / (4 * k));
  Candidate* const maxima = space.candidates;
  int64_t count = 0;
  for (int64_t s = 0; s < segments; s += fold) {
    F largest = load(space.maxima + s * kLanes);
    for (int64_t i = s + 1; i < smaller(s + fold, segments); ++i)
      largest = max(load(space.maxima + i * kLanes), largest);
    float lanes[kLanes];
    store(lanes, largest);
    /* in a row of less than one vector the maxima are the items, and the lanes past them are -inf */
    for (int lane = 0; lane < smaller(kLanes, size); ++lane) maxima[count++] = {lanes[lane], 0};
  }
  if (k > count) return -INFINITY;
  std::nth_element(maxima, maxima + k - 1, maxima + count, Before());
  return maxima[k - 1].value;
}

/* Notes the ids of the items that reach `bound`; NaN reaches it if `with_nan`. */
inline void gather(const float* x, int64_t size, float bound, bool with_nan, const SelectSpace& space,
                   const PxThread* thread) {
  for_each_segment(size, thread, [&](int64_t segment, int64_t begin, int64_t count) {
    int32_t* ids = space.ids + segment * kSegment;
    int32_t found = 0;
    for_each_vector(count, [&](int64_t i, int n) {
      const F v = load_n(x + begin + i, n);
      uint32_t bits = mask_bits(with_nan ? less(v, set(bound)) : less_equal(set(bound), v));
      if (with_nan) bits = ~bits;
      bits &= (1u << n) - 1;
      for (; bits != 0; bits &= bits - 1) ids[found++] = int32_t(begin + i + __builtin_ctz(bits));
    });
    space.counts[segment] = found;
  });
}

/* Puts the gathered items into space.candidates in the order of their ids; returns their number. */
inline int64_t collect(const float* x, int64_t size, const SelectSpace& space) {
  int64_t count = 0;
  for (int64_t s = 0; s < num_segments(size); ++s) {
    for (int32_t i = 0; i < space.counts[s]; ++i) {
      const int32_t id = space.ids[s * kSegment + i];
      space.candidates[count++] = {x[id], id};
    }
  }
  return count;
}

/* Several rows are worked on at once, each by one thread, if there are enough rows and not too many threads (for each
 * needs memory for a row); else all threads share each row. */
constexpr int32_t kMaxSolo = 8;
inline int64_t select_workspace(int64_t rows, int64_t size, int32_t num_threads) {
  const bool solo = rows >= num_threads && num_threads <= kMaxSolo;
  return SelectSpace::bytes(size) * (solo ? num_threads : 1);
}

inline void no_barrier(const PxThread*) {}

/* Calls body(row, space, thread) for each row, on one thread or on all of them, as the workspace allows. */
template <class Body>
inline int32_t for_each_row(int64_t rows, int64_t size, const PxCall* call, const PxThread* thread, Body body) {
  const int64_t bytes = SelectSpace::bytes(size);
  if (call->workspace_bytes < bytes) return PX_OUT_OF_MEMORY;
  char* memory = static_cast<char*>(call->workspace);
  if (rows >= thread->count && call->workspace_bytes >= bytes * thread->count) {
    const PxThread solo{0, 1, no_barrier, thread->pool, thread->counters};
    const SelectSpace space(memory + bytes * thread->index, size);
    for (int64_t row; (row = perfx_claim(thread, 0, 1)) < rows;) body(row, space, &solo);
  } else {
    const SelectSpace space(memory, size);
    for (int64_t row = 0; row < rows; ++row) {
      body(row, space, thread);
      thread->barrier(thread); /* the next row uses the same memory */
    }
  }
  return PX_OK;
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
