/* matmul: products of float32 or float64 matrices of any strides, and of batches of them.
 *
 * Shapes and layouts fall into five classes. What is read in place is never packed, so reading and arithmetic overlap:
 * - a matrix of contiguous rows by one column: matmul_vector.hpp;
 * - one row by a matrix of contiguous rows: matmul_row.hpp;
 * - very few rows by a matrix whose columns are contiguous (or the other way round): squares are transposed in
 * registers (multiply_turned in matmul_tile.hpp);
 * - up to kInPlaceRows of them: the tall operand is read in place, the other one is packed: matmul_skinny.hpp;
 * - all others: both operands are packed.
 *
 * Where both are packed, the narrow operand is packed as a whole (a part of it, where it is large), shared by all
 * threads. Each thread then walks its share of the wide operand: a block of it is packed, multiplied with all of the
 * narrow operand while it is in the second cache, and never read again: the five loops of BLIS, with the loop over the
 * inner dimension inside the loop over blocks.
 *
 * An element's bits depend on its row, its column, the length of the inner dimension, and on whether it is one of the
 * products by one column: see matmul_tile.hpp. They never depend on the number of rows, the batch or the threads.
 */
#ifndef PERFX_MATMUL_HPP
#define PERFX_MATMUL_HPP

#include <string.h>

#include "perfx/matmul_problem.hpp"
#include "perfx/matmul_row.hpp"
#include "perfx/matmul_skinny.hpp"
#include "perfx/matmul_vector.hpp"

namespace perfx {
namespace PERFX_VARIANT {
namespace matmul {

/* The threads that share one product: all of the pool's, or one alone. */
class Crew {
 public:
  Crew(const PxThread* thread, bool alone)
      : index(alone ? 0 : thread->index), count(alone ? 1 : thread->count), thread_(thread) {}

  void meet() const {
    if (count > 1) thread_->barrier(thread_);
  }
  Range share_of(int64_t size, int64_t grain) const {
    const int64_t grains = divide_up(size, grain);
    return {grains * index / count * grain, smaller(grains * (index + 1) / count * grain, size)};
  }
  /* Takes the next of a round's parts, as threads are free; -1 when none is left. Parts of all rounds of a call are
   * numbered through: one of the next round that was taken too early is kept for it. */
  int64_t take(int64_t parts) {
    if (taken_ < 0) taken_ = count > 1 ? perfx_claim(thread_, 0, 1) : next_++;
    const int64_t part = taken_ - done_;
    if (part >= parts) {
      done_ += parts;
      return -1;
    }
    taken_ = -1;
    return part;
  }

  const int64_t index, count;

 private:
  const PxThread* thread_;
  int64_t taken_ = -1, done_ = 0, next_ = 0;
};

/* A part of a product: inner positions from `k` on, rows of the narrow operand from `row` on. */
template <class T>
class Round {
 public:
  Round(const Problem<T>& problem, int64_t k, int64_t depth, int64_t row, int64_t rows, T* packed)
      : problem_(problem), k_(k), depth_(depth), row_(row), rows_(rows), panels_(rows), packed_(packed) {}

  /* Packs this thread's share of the narrow operand. */
  void pack(const Crew& crew) const {
    const int64_t blocks = divide_up(depth_, kDepthBlock);
    const Range mine = crew.share_of(blocks * panels_.count, 1);
    for (int64_t item = mine.begin; item < mine.end; ++item) {
      const int64_t k = item / panels_.count * kDepthBlock, panel = item % panels_.count;
      pack_narrow(problem_.narrow, row_ + panels_.first(panel), panels_.rows(panel), k_ + k, depth_at(k),
                  const_cast<T*>(narrow_at(k, panel)));
    }
  }

  /* Multiplies this thread's share of the wide operand. */
  void multiply(const Crew& crew, T* wide, T* sums) const {
    const int64_t grain = panel_lanes<T>(), block = problem_.wide_block();
    const Range mine = crew.share_of(problem_.wide.size, grain);
    for (int64_t first = mine.begin; first < mine.end; first += block) {
      const int64_t size = smaller(block, mine.end - first);
      if (problem_.rows_are_wide) {
        multiply_rows(first, size, wide, sums);
      } else {
        for (int64_t k = 0; k < depth_; k += kDepthBlock) {
          multiply_block(first, size, k, wide, problem_.result + row_ * problem_.n + first, problem_.n);
        }
      }
    }
  }

 private:
  int64_t depth_at(int64_t k) const { return smaller(kDepthBlock, depth_ - k); }
  const T* narrow_at(int64_t k, int64_t panel) const {
    return packed_ + k * rows_ + panels_.first(panel) * depth_at(k);
  }

  /* Rows of the result lie across lanes: sums are kept as columns, and transposed into place at the end. */
  void multiply_rows(int64_t first, int64_t size, T* wide, T* sums) const {
    const int64_t n = problem_.n, step = round_up(size, lanes_of<T>());
    T* result = problem_.result + first * n + row_;
    if (k_ > 0) {
      for (int64_t i = 0; i < size; i += lanes_of<T>()) {
        const int count = int(smaller(lanes_of<T>(), size - i));
        pack_vector(Side<T>{result + i * n, 0, n, 1}, rows_, count, lanes_of<T>(), sums + i, step);
      }
    }
    for (int64_t k = 0; k < depth_; k += kDepthBlock) multiply_block(first, size, k, wide, sums, step);
    for (int64_t j = 0; j < rows_; j += lanes_of<T>()) {
      const int count = int(smaller(lanes_of<T>(), rows_ - j));
      pack_vector(Side<T>{sums + j * step, 0, step, 1}, size, count, count, result + j, n);
    }
  }

  /* One block of the wide operand with all panels of the narrow one. */
  void multiply_block(int64_t first, int64_t size, int64_t k, T* wide, T* target, int64_t step) const {
    const int64_t depth = depth_at(k), full = panel_lanes<T>();
    if (problem_.is_turned()) return multiply_turned_block(first, size, k, target, step);
    for (int64_t i = 0; i < size; i += full) {
      pack_wide(problem_.wide, first + i, smaller(full, size - i), k_ + k, depth, vectors_of(size - i),
                wide + i * depth);
    }
    for (int64_t panel = 0; panel < panels_.count; ++panel) {
      const T* narrow = narrow_at(k, panel);
      T* row = target + panels_.first(panel) * step;
      for (int64_t i = 0; i < size; i += full) {
        const TileFn<T> tile = tile_for<T>(panels_.rows(panel), vectors_of(size - i));
        tile(depth, wide + i * depth, narrow, {row + i, step, int(smaller(full, size - i)), k_ + k > 0});
      }
    }
  }

  /* One vector of rows of the wide operand in place with the narrow one, which is one panel. */
  void multiply_turned_block(int64_t first, int64_t size, int64_t k, T* target, int64_t step) const {
    const Side<T>& wide = problem_.wide;
    const int64_t depth = depth_at(k), ahead = k + depth < depth_ ? depth : lanes_of<T>() * wide.outer - k;
    turned_for<T>(int(rows_))({wide.at(first, k_ + k), size, wide.outer, 1}, depth, ahead, narrow_at(k, 0),
                              {target, step, int(size), k_ + k > 0});
  }

  static int vectors_of(int64_t lanes) { return int(smaller(kProductVectors, divide_up(lanes, lanes_of<T>()))); }

  const Problem<T>& problem_;
  const int64_t k_, depth_, row_, rows_;
  const Panels panels_;
  T* packed_;
};

/* One product by a crew, the tall operand in place. `shared` holds the packed other one, `sums` belongs to this thread.
 */
template <class T>
inline void multiply_skinny(const Problem<T>& problem, Crew& crew, T* shared, T* sums) {
  for (int64_t k = 0; k < problem.k; k += kDepth) {
    const SkinnyRound<T> round(problem, k, smaller(kDepth, problem.k - k), shared);
    if (k > 0) crew.meet(); /* nobody reads what was packed before */
    round.pack(crew.index, crew.count);
    crew.meet();
    const int64_t rows = problem.tall.size, grain = round.grain(crew.count);
    for (int64_t part; (part = crew.take(divide_up(rows, grain))) >= 0;) {
      round.multiply(part * grain, smaller(grain, rows - part * grain), sums);
    }
  }
}

/* One product by a crew. `shared` holds the packed narrow operand, `own` belongs to this thread. */
template <class T>
inline void multiply(const Problem<T>& problem, const Layout<T>& layout, Crew& crew, char* shared, char* own) {
  T* const sums = reinterpret_cast<T*>(own + layout.wide_bytes);
  if (problem.is_row()) return multiply_row(problem, crew.share_of(problem.tall.size, lanes_of<T>()), sums);
  if (problem.is_skinny()) return multiply_skinny(problem, crew, reinterpret_cast<T*>(shared), sums);
  const int64_t block = narrow_block<T>(problem.narrow.size, problem.k);
  bool is_first = true;
  for (int64_t k = 0; k < problem.k; k += kDepth) {
    for (int64_t row = 0; row < problem.narrow.size; row += block) {
      const Round<T> round(problem, k, smaller(kDepth, problem.k - k), row, smaller(block, problem.narrow.size - row),
                           reinterpret_cast<T*>(shared));
      if (!is_first) crew.meet(); /* nobody reads what was packed before */
      is_first = false;
      round.pack(crew);
      crew.meet();
      round.multiply(crew, reinterpret_cast<T*>(own), sums);
    }
  }
}

/* The batch: its size, and where each of its matrices begins. */
struct Batch {
  explicit Batch(const PxCall* call) : result(&call->operands[2]), count(1) {
    const PxTensor &a = call->operands[0], &b = call->operands[1];
    axes = larger(larger(a.ndim, b.ndim) - 2, 0);
    for (int axis = 0; axis < axes; ++axis) count *= result->shape[axis];
  }
  /* Bytes from an operand's first matrix to the one of a batch index; an axis of one size is broadcast. */
  int64_t offset(const PxTensor& tensor, int64_t index) const {
    int64_t offset = 0;
    for (int64_t axis = axes - 1, own = tensor.ndim - 3; axis >= 0; --axis, --own) {
      if (own >= 0 && tensor.shape[own] > 1) offset += index % result->shape[axis] * tensor.strides[own];
      index /= result->shape[axis];
    }
    return offset;
  }
  const PxTensor* result;
  int64_t axes, count;
};

/* Are the matrices of a batch rows of one matrix, all to be multiplied with the same one? Then it is one product. */
inline bool is_one_product(const PxTensor& a, const PxTensor& b) {
  for (int axis = 0; axis < b.ndim - 2; ++axis) {
    if (b.shape[axis] != 1) return false;
  }
  for (int axis = a.ndim - 3; axis >= 0; --axis) {
    if (a.shape[axis] > 1 && a.strides[axis] != a.strides[axis + 1] * a.shape[axis + 1]) return false;
  }
  return a.ndim > 2;
}

/* `count` matrices of contiguous rows, each by a vector. Threads take parts as they come. `own` is this thread's. */
template <class T>
inline void run_by_vector(const PxCall* call, const PxThread* thread, const Matrix& a, const Matrix& b,
                          const Batch& batch, int64_t count, T* own) {
  const int64_t grain = vector_grain<T>(a.rows, a.columns, thread->count), grains = divide_up(a.rows, grain);
  for (int64_t item; (item = perfx_claim(thread, 0, 1)) < grains * count;) {
    const int64_t index = item / grains, row = item % grains * grain;
    const T* matrix = reinterpret_cast<const T*>(a.data + batch.offset(call->operands[0], index));
    const T* vector = reinterpret_cast<const T*>(b.data + batch.offset(call->operands[1], index));
    if (b.row_stride != 1) {
      for (int64_t k = 0; k < a.columns; ++k) own[k] = vector[k * b.row_stride];
      vector = own;
    }
    multiply_by_vector(matrix + row * a.row_stride, a.row_stride, a.columns, smaller(grain, a.rows - row), vector,
                       static_cast<T*>(call->operands[2].data) + index * a.rows + row);
  }
}

template <class T>
inline int32_t run_typed(const PxCall* call, const PxThread* thread) {
  const PxTensor* t = call->operands;
  Matrix a(t[0], true, sizeof(T)), b(t[1], false, sizeof(T));
  T* const result = static_cast<T*>(t[2].data);
  const Batch batch(call);
  const bool joined = is_one_product(t[0], t[1]);
  const int64_t count = joined ? 1 : batch.count;
  if (joined) a.rows *= batch.count;
  const int64_t items = a.rows * b.columns;
  if (items == 0 || count == 0) return PX_OK;
  if (a.columns == 0) {
    if (thread->index == 0) memset(result, 0, size_t(items * count) * sizeof(T));
    return PX_OK;
  }
  char* const workspace = static_cast<char*>(call->workspace);
  if (b.columns == 1 && a.column_stride == 1) {
    T* const own = reinterpret_cast<T*>(workspace + thread->index * vector_bytes<T>(a.columns));
    run_by_vector(call, thread, a, b, batch, count, own);
    return PX_OK;
  }
  const Layout<T> layout(a.rows, b.columns, a.columns);
  const bool alone = count > 1 && layout.narrow_bytes <= kSmallBytes;
  Crew crew(thread, alone);
  char* const own = workspace + (alone ? 0 : layout.narrow_bytes) +
                    thread->index * (layout.thread_bytes() + (alone ? layout.narrow_bytes : 0));
  const Range mine = alone ? share(count, 1, thread) : Range{0, count};
  for (int64_t i = mine.begin; i < mine.end; ++i) {
    Matrix left = a, right = b;
    left.data += batch.offset(t[0], i);
    right.data += batch.offset(t[1], i);
    if (!alone && i > mine.begin) crew.meet();
    multiply(Problem<T>(left, right, result + i * items), layout, crew, alone ? own + layout.thread_bytes() : workspace,
             own);
  }
  return PX_OK;
}

inline bool is_whole_items(const PxTensor& tensor, int32_t dtype) {
  if (tensor.layout != PX_STRIDED || tensor.dtype != dtype || tensor.ndim < 1) return false;
  const int64_t item = dtype == PX_FLOAT64 ? 8 : 4;
  for (int axis = 0; axis < tensor.ndim; ++axis) {
    if (tensor.shape[axis] > 1 && tensor.strides[axis] % item != 0) return false;
  }
  return true;
}

inline int32_t accepts(const PxCall* call) {
  if (!has_signature(call, 2, 1, 0)) return PX_UNSUPPORTED;
  const PxTensor* t = call->operands;
  const int32_t dtype = t[0].dtype;
  if (dtype != PX_FLOAT32 && dtype != PX_FLOAT64) return PX_UNSUPPORTED;
  const bool ok = is_whole_items(t[0], dtype) && is_whole_items(t[1], dtype) && t[2].dtype == dtype &&
                  t[2].layout == PX_STRIDED && (t[2].flags & PX_CONTIGUOUS);
  return ok ? PX_OK : PX_UNSUPPORTED;
}

template <class T>
inline int64_t workspace_typed(const PxCall* call, int32_t num_threads) {
  const PxTensor* t = call->operands;
  const Matrix a(t[0], true, sizeof(T)), b(t[1], false, sizeof(T));
  const Batch batch(call);
  const Layout<T> layout(a.rows * batch.count, b.columns, a.columns);
  const int64_t packed = num_threads * (layout.thread_bytes() + kSmallBytes) + layout.narrow_bytes;
  return larger(packed, num_threads * vector_bytes<T>(a.columns));
}

inline int64_t workspace(const PxCall* call, int32_t num_threads) {
  const bool is_double = call->operands[0].dtype == PX_FLOAT64;
  return is_double ? workspace_typed<double>(call, num_threads) : workspace_typed<float>(call, num_threads);
}

inline int32_t run(const PxCall* call, const PxThread* thread) {
  return call->operands[0].dtype == PX_FLOAT64 ? run_typed<double>(call, thread) : run_typed<float>(call, thread);
}

static const PxKernel kKernels[] = {{"matmul", accepts, workspace, run}};
constexpr int32_t kNumKernels = 1;

}  // namespace matmul
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
