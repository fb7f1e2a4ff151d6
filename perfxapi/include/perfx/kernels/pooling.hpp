/* pool (max, average) and max_pool_with_indices: float32, one to three spatial axes.
 *
 * A thread takes rows of one plane of the result (a channel at a place of the depth axis), copies what they read
 * (windows.hpp), and takes the taps of neighboring places, which lie across lanes, in ascending order.
 */
#ifndef PERFX_KERNELS_POOLING_HPP
#define PERFX_KERNELS_POOLING_HPP

#include <math.h>
#include <string.h>

#include "perfx/kernels/windows.hpp"

namespace perfx {
namespace PERFX_VARIANT {
namespace pooling {

enum Mode : int64_t { kMax, kAverage, kNorm };
/* Numbers of a copy, where that many rows are not needed. */
constexpr int64_t kCopyFloats = int64_t(1) << 15;

/* One call: what its attributes say from `attrs` on (window, strides, dilations, pads), and how it is cut. */
struct Problem {
  Problem(const PxCall* call, const PxAttr* attrs)
      : x(call->operands[0]),
        y(call->operands[1]),
        windows(x, y, attrs + kListAttrs, [&](int axis) { return attrs[1 + axis].i; }),
        by_row(windows.rows()),
        by_column(windows.columns()),
        pitch(windows.columns().places + by_column.reach) {
    slots = windows.depth().taps * by_row.count * by_column.count;
    rows = smaller(larger(kCopyFloats / (slots * pitch) - by_row.reach, 1), windows.rows().places);
  }
  int64_t plane_floats() const { return (rows + by_row.reach) * pitch; }
  int64_t offset_bytes() const { return divide_up(windows.taps() * int64_t(sizeof(int64_t)), 64) * 64; }
  int64_t count_floats() const { return divide_up(windows.columns().places, kLanes) * kLanes; }
  /* A thread's scratch memory: offsets of taps, a number for each column, the copy and what is read beyond it. */
  int64_t bytes() const {
    const int64_t numbers = count_floats() + slots * plane_floats() + kLanes;
    return offset_bytes() + divide_up(numbers * int64_t(sizeof(float)), 64) * 64;
  }

  const PxTensor &x, &y;
  Windows windows;
  Phases by_row, by_column;
  int64_t pitch, slots, rows;
};

/* How many taps of a place count: those inside the input, or those inside the input and its pads. */
inline int64_t taps_inside(const Axis& axis, int64_t place, bool with_pads) {
  int64_t count = 0;
  for (int64_t tap = 0; tap < axis.taps; ++tap) {
    const int64_t at = axis.position(place, tap);
    count += with_pads ? at < axis.size + axis.end : at >= 0 && at < axis.size;
  }
  return count;
}

/* One thread's work. A row of the result is made by `each(worker, row, first, from, lanes)` for each vector. */
class Worker {
 public:
  Worker(const Problem& problem, float outside, char* memory)
      : problem_(problem),
        outside_(outside),
        offsets_(reinterpret_cast<int64_t*>(memory)),
        counts_(reinterpret_cast<float*>(memory + problem.offset_bytes())),
        copy_(counts_ + problem.count_floats()) {
    int64_t* at = offsets_;
    const Axis* a = problem.windows.axes;
    for (int64_t d = 0; d < a[0].taps; ++d) {
      for (int64_t r = 0; r < a[1].taps; ++r) {
        for (int64_t c = 0; c < a[2].taps; ++c) {
          const int64_t slot = (d * problem.by_row.count + problem.by_row.slot(r)) * problem.by_column.count;
          *at++ = (slot + problem.by_column.slot(c)) * problem.plane_floats() +
                  problem.by_row.shift(r) * problem.pitch + problem.by_column.shift(c);
        }
      }
    }
  }

  /* Calls row(plane, depth, row, from) for rows [first, last) of one plane of the result. */
  template <class Row>
  void run(int64_t plane, int64_t depth, int64_t first, int64_t last, Row row) const {
    copy(plane, depth, first, last - first);
    for (int64_t r = first; r < last; ++r) row(plane, depth, r, copy_ + (r - first) * problem_.pitch);
  }
  float* counts() const { return counts_; }
  const int64_t* offsets() const { return offsets_; }

 private:
  void copy(int64_t plane, int64_t depth, int64_t first, int64_t rows) const {
    const Axis* a = problem_.windows.axes;
    const PxTensor& x = problem_.x;
    const char* data =
        static_cast<const char*>(x.data) + plane / x.shape[1] * x.strides[0] + plane % x.shape[1] * x.strides[1];
    float* target = copy_;
    for (int64_t d = 0; d < a[0].taps; ++d) {
      const int64_t at = a[0].position(depth, d);
      const char* source = at < 0 || at >= a[0].size ? nullptr : data + at * a[0].bytes;
      for (int64_t slot = 0; slot < problem_.by_row.count; ++slot) {
        for (int64_t phase = 0; phase < problem_.by_column.count; ++phase, target += problem_.plane_floats()) {
          const RowCopy row_copy(a[2], problem_.by_column, phase, 0, problem_.pitch, outside_);
          copy_plane(source, a[1], problem_.by_row, slot, first, rows + problem_.by_row.reach, row_copy, target);
        }
      }
    }
  }

  const Problem& problem_;
  const float outside_;
  int64_t* offsets_;
  float *counts_, *copy_;
};

/* Divides all rows among the threads, as they are free. */
template <class Row>
inline void for_each_row(const Problem& problem, const Worker& worker, const PxThread* thread, Row row) {
  const Axis* a = problem.windows.axes;
  const int64_t blocks = divide_up(a[1].places, problem.rows);
  const int64_t planes = problem.y.shape[0] * problem.y.shape[1];
  for (int64_t task; (task = perfx_claim(thread, 0, 1)) < planes * a[0].places * blocks;) {
    const int64_t first = task % blocks * problem.rows, plane = task / blocks;
    worker.run(plane / a[0].places, plane % a[0].places, first, smaller(first + problem.rows, a[1].places), row);
  }
}

/* Where a row of the result begins, in numbers. */
inline int64_t result_at(const Problem& problem, int64_t plane, int64_t depth, int64_t row) {
  const Axis* a = problem.windows.axes;
  return ((plane * a[0].places + depth) * a[1].places + row) * a[2].places;
}

inline F larger_of(F a, F b) { return select(less_equal(a, a), max(a, b), a); } /* NaN where either is */

inline void run_max(const Problem& problem, const Worker& worker, const PxThread* thread) {
  float* y = static_cast<float*>(problem.y.data);
  const int64_t taps = problem.windows.taps(), *offsets = worker.offsets();
  for_each_row(problem, worker, thread, [&](int64_t plane, int64_t depth, int64_t row, const float* from) {
    float* to = y + result_at(problem, plane, depth, row);
    for_each_vector(problem.windows.columns().places, [&](int64_t i, int n) {
      F best = load(from + i + offsets[0]);
      for (int64_t k = 1; k < taps; ++k) best = larger_of(best, load(from + i + offsets[k]));
      store_n(to + i, n, best);
    });
  });
}

inline void run_average(const Problem& problem, const Worker& worker, const PxThread* thread, bool with_pads) {
  float* y = static_cast<float*>(problem.y.data);
  const Axis* a = problem.windows.axes;
  const int64_t taps = problem.windows.taps(), *offsets = worker.offsets();
  float* counts = worker.counts();
  for (int64_t c = 0; c < a[2].places; ++c) counts[c] = float(taps_inside(a[2], c, with_pads));
  for_each_row(problem, worker, thread, [&](int64_t plane, int64_t depth, int64_t row, const float* from) {
    const F count = set(float(taps_inside(a[0], depth, with_pads) * taps_inside(a[1], row, with_pads)));
    float* to = y + result_at(problem, plane, depth, row);
    for_each_vector(a[2].places, [&](int64_t i, int n) {
      F sum = set(0.0f);
      for (int64_t k = 0; k < taps; ++k) sum = sum + load(from + i + offsets[k]);
      store_n(to + i, n, sum / (count * load_n(counts + i, n)));
    });
  });
}

/* For each place the tap of its largest number, the first of equals; -1 where no tap has more than -infinity. */
inline void find_largest(const float* from, const int64_t* offsets, int64_t taps, F* best, I* where) {
  *best = set(-INFINITY);
  F tap = from_bits(set_int(-1));
  for (int64_t k = 0; k < taps; ++k) {
    const F x = load(from + offsets[k]), number = from_bits(set_int(int32_t(k)));
    const M is_number = less_equal(*best, *best), is_less = less_equal(x, *best);
    tap = select(is_less, tap, select(is_number, number, tap));
    *best = select(is_less, *best, select(is_number, x, *best));
  }
  *where = bits(tap);
}

/* The first tap of a place that lies inside the input; one does, for pads are smaller than windows there. */
inline int64_t first_inside(const Windows& windows, int64_t depth, int64_t row, int64_t column) {
  const Axis* a = windows.axes;
  for (int64_t k = 0; k < windows.taps(); ++k) {
    const int64_t d = a[0].position(depth, k / (a[1].taps * a[2].taps));
    const int64_t r = a[1].position(row, k / a[2].taps % a[1].taps), c = a[2].position(column, k % a[2].taps);
    if (d >= 0 && d < a[0].size && r >= 0 && r < a[1].size && c >= 0 && c < a[2].size) return k;
  }
  return -1;
}

inline void run_with_indices(const Problem& problem, const Worker& worker, const PxThread* thread, int64_t* indices) {
  float* y = static_cast<float*>(problem.y.data);
  const Windows& w = problem.windows;
  const Axis* a = w.axes;
  const int64_t taps = w.taps();
  const auto flat = [&](int64_t d, int64_t r, int64_t c) { return (d * a[1].size + r) * a[2].size + c; };
  for_each_row(problem, worker, thread, [&](int64_t plane, int64_t depth, int64_t row, const float* from) {
    const int64_t at = result_at(problem, plane, depth, row);
    const int64_t begin = plane * a[0].size * a[1].size * a[2].size;
    for_each_vector(a[2].places, [&](int64_t i, int n) {
      F best;
      I where;
      find_largest(from + i, worker.offsets(), taps, &best, &where);
      store_n(y + at + i, n, best);
      float numbers[kLanes];
      store(numbers, from_bits(where));
      for (int j = 0; j < n; ++j) {
        int32_t tap;
        memcpy(&tap, numbers + j, sizeof(tap));
        const int64_t k = tap >= 0 ? tap : first_inside(w, depth, row, i + j);
        const int64_t d = a[0].position(depth, k / (a[1].taps * a[2].taps));
        const int64_t r = a[1].position(row, k / a[2].taps % a[1].taps), c = a[2].position(i + j, k % a[2].taps);
        indices[at + i + j] = k >= 0 ? begin + flat(d, r, c) : -1;
      }
    });
  });
}

inline bool accepts_operands(const PxCall* call, int num_outputs, int num_attrs) {
  if (!has_signature(call, 1, num_outputs, num_attrs)) return false;
  const PxTensor* t = call->operands;
  return is_image(t[0]) && is_dense(t[1], PX_FLOAT32, t[0].ndim) && has_places(t[1]);
}

/* The attributes of `pool` in front of and behind the window's. */
constexpr int kWindowAttrs = 4 * kListAttrs + 1;

inline int32_t accepts_pool(const PxCall* call) {
  const bool ok = accepts_operands(call, 1, 1 + kWindowAttrs + 2) && call->attrs[0].i != kNorm;
  return ok ? PX_OK : PX_UNSUPPORTED;
}
inline int32_t accepts_with_indices(const PxCall* call) {
  if (!accepts_operands(call, 2, kWindowAttrs)) return PX_UNSUPPORTED;
  const PxTensor& indices = call->operands[2];
  return indices.dtype == PX_INT64 && (indices.flags & PX_CONTIGUOUS) ? PX_OK : PX_UNSUPPORTED;
}

template <int First>
inline int64_t workspace(const PxCall* call, int32_t num_threads) {
  return Problem(call, call->attrs + First).bytes() * num_threads;
}

inline int32_t run_pool(const PxCall* call, const PxThread* thread) {
  const Problem problem(call, call->attrs + 1);
  if (call->workspace_bytes < problem.bytes() * thread->count) return PX_OUT_OF_MEMORY;
  const bool is_max = call->attrs[0].i == kMax;
  char* const memory = static_cast<char*>(call->workspace) + problem.bytes() * thread->index;
  const Worker worker(problem, is_max ? -INFINITY : 0.0f, memory);
  if (is_max) {
    run_max(problem, worker, thread);
  } else {
    run_average(problem, worker, thread, call->attrs[1 + kWindowAttrs].i != 0);
  }
  return PX_OK;
}

inline int32_t run_max_pool_with_indices(const PxCall* call, const PxThread* thread) {
  const Problem problem(call, call->attrs);
  if (call->workspace_bytes < problem.bytes() * thread->count) return PX_OUT_OF_MEMORY;
  const Worker worker(problem, -INFINITY, static_cast<char*>(call->workspace) + problem.bytes() * thread->index);
  run_with_indices(problem, worker, thread, static_cast<int64_t*>(call->operands[2].data));
  return PX_OK;
}

}  // namespace pooling
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
