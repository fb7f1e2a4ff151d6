/* convolution: float32, one to three spatial axes, strides, dilations, pads, groups.
 *
 * The result is cut into blocks of places (rows of the result, or parts of one). A thread takes a block and a part of
 * the filters, copies what the block reads (windows.hpp) so that it stays in the second cache, and multiplies
 * it with one panel of filters after another. A convolution in which every group has one channel and one filter is
 * depthwise.hpp's.
 *
 * An element is its bias, plus, for each block of the inner dimension (channels, then taps in row-major order), one
 * chain of fused multiply-adds in ascending order: it does not depend on the batch, on the threads or on how the result
 * is cut.
 */
#ifndef PERFX_KERNELS_CONVOLUTION_HPP
#define PERFX_KERNELS_CONVOLUTION_HPP

#include "perfx/kernels/convolution_tile.hpp"

namespace perfx {
namespace PERFX_VARIANT {
namespace convolution {

/* Positions of the inner dimension whose panel of filters stays in the first cache. */
constexpr int64_t kDepthBlock = 640;
/* Numbers of a block's copy: half of the second cache. */
constexpr int64_t kBlockFloats = int64_t(1) << 17;
/* Places of a block at most, and those below which it is not cut further for the sake of other threads. */
constexpr int64_t kBlockPlaces = 512, kLeastPlaces = 128;
/* Places of a block where there is one filter, which reads what was copied only once; and where windows are many, but
 * the inner dimension is up to kShallow: with more rows, fewer are copied twice. */
constexpr int64_t kDepthwisePlaces = 8192, kShallowPlaces = 1024, kShallow = 256;
/* Parts of one image's work that there should be for each thread. */
constexpr int64_t kTasks = 3;

/* The operands of one call. */
struct Problem {
  explicit Problem(const PxCall* call)
      : x(call->operands[0]),
        weight(call->operands[1]),
        bias(call->operands[2]),
        y(call->operands[3]),
        groups(call->attrs[3 * kListAttrs].i),
        channels(weight.shape[1]),
        filters(weight.shape[0] / groups),
        windows(x, y, call->attrs, [&](int axis) { return weight.shape[2 + axis]; }) {
    flatten();
  }

  int64_t depth() const { return channels * windows.taps(); }
  int64_t batch() const { return y.shape[0]; }
  bool is_depthwise() const { return channels == 1 && filters == 1; }
  /* The first item of a channel at a position of the depth axis, which must be inside. */
  const char* plane(int64_t n, int64_t channel, int64_t at) const {
    const int64_t offset = n * x.strides[0] + channel * x.strides[1] + at * windows.depth().bytes;
    return static_cast<const char*>(x.data) + offset;
  }
  /* The result of a filter at a place of the depth axis. */
  float* result(int64_t n, int64_t filter, int64_t at) const {
    const Axis* a = windows.axes;
    const int64_t plane = a[1].places * a[2].places;
    return static_cast<float*>(y.data) + ((n * y.shape[1] + filter) * a[0].places + at) * plane;
  }
  const float* bias_of(int64_t filter) const { return is_absent(bias) ? nullptr : floats(bias) + filter; }

  const PxTensor &x, &weight, &bias, &y;
  int64_t groups, channels, filters;
  Windows windows;

 private:
  /* Where every place reads the one item at its own position, rows are one long row. */
  void flatten() {
    Axis &rows = windows.axes[1], &columns = windows.axes[2];
    if (!rows.is_pointwise() || !columns.is_pointwise()) return;
    if (rows.size > 1 && rows.bytes != columns.bytes * columns.size) return;
    columns.size = columns.places = rows.size * columns.size;
    rows.size = rows.places = 1;
  }
};

/* How a call is cut: the same for every image. */
struct Cut {
  Cut(const Problem& p, int64_t num_threads) : by_row(p.windows.rows()), by_column(p.windows.columns()) {
    planes = p.channels * p.windows.depth().taps;
    const bool is_shallow = p.windows.taps() > 1 && p.depth() <= kShallow;
    most_places = p.is_depthwise() ? kDepthwisePlaces : is_shallow ? kShallowPlaces : kBlockPlaces;
    sums_step = p.is_depthwise() ? 0 : kLanes;
    const Axis &r = p.windows.rows(), &c = p.windows.columns();
    const int64_t images = p.windows.depth().places * p.groups;
    columns = c.places;
    rows = r.places;
    rows = fitting_rows();
    if (rows < 1) {
      rows = 1;
      const int64_t fitting = kBlockFloats / (planes * by_row.count * by_column.count * (1 + by_row.reach));
      const int64_t most = larger(smaller(fitting - by_column.reach, most_places), kLeastPlaces);
      columns = divide_up(divide_up(c.places, divide_up(c.places, most)), kLanes) * kLanes;
    }
    const int64_t wanted = divide_up(kTasks * num_threads, images);
    const int64_t least = divide_up(kLeastPlaces, pitch());
    /* a multiple of the threads, so that all end together */
    const int64_t blocks = divide_up(larger(divide_up(r.places, rows), wanted), num_threads) * num_threads;
    rows = smaller(rows, larger(divide_up(r.places, blocks), least));
    row_blocks = divide_up(r.places, rows);
    column_blocks = divide_up(c.places, columns);
    sums_step *= divide_up(places(), kLanes);
    const int64_t panels = divide_up(p.filters, kPanelRows);
    parts = larger(1, smaller(panels, divide_up(wanted, row_blocks * column_blocks)));
  }

  int64_t pitch() const { return pitch_of(rows, columns); }
  /* Numbers from one row of a copy to the next. Where there is one row, rows of planes begin at whole vectors. */
  int64_t pitch_of(int64_t num_rows, int64_t num_columns) const {
    const int64_t items = num_columns + by_column.reach;
    return num_rows > 1 ? items : divide_up(items, kLanes) * kLanes;
  }
  int64_t plane_floats() const { return (rows + by_row.reach) * pitch(); }
  int64_t places() const { return (rows - 1) * pitch() + columns; }
  /* Numbers of the copy, with what the last tile reads beyond it. */
  int64_t copy_floats() const { return planes * by_row.count * by_column.count * plane_floats() + kMaxTileLanes; }
  /* Are a block's results neighbors in memory, so that sums are made in place? */
  bool is_direct() const { return rows == 1 || by_column.reach == 0; }

  Phases by_row, by_column;
  int64_t planes, most_places, sums_step, rows, columns, row_blocks, column_blocks, parts;

 private:
  int64_t fitting_rows() const {
    const int64_t row = planes * by_row.count * by_column.count * pitch();
    return smaller(kBlockFloats / row - by_row.reach, most_places / pitch());
  }
};

/* One part of the work. */
struct Block {
  int64_t n, group, depth, row, rows, column, columns;
  Range filters; /* within the group */
};

/* One thread's work: its scratch memory, and what it does with a block. */
class Worker {
 public:
  Worker(const Problem& problem, const Cut& cut, char* memory)
      : problem_(problem), cut_(cut), offsets_(reinterpret_cast<int64_t*>(memory)) {
    panel_ = reinterpret_cast<float*>(memory + offset_bytes(problem));
    sums_ = panel_ + panel_floats(problem);
    copy_ = sums_ + kPanelRows * cut.sums_step;
  }
  static int64_t bytes(const Problem& problem, const Cut& cut) {
    const int64_t numbers = panel_floats(problem) + kPanelRows * cut.sums_step + cut.copy_floats();
    return offset_bytes(problem) + divide_up(numbers * int64_t(sizeof(float)), 64) * 64;
  }

  void run(const Block& block) {
    if (block.columns != columns_) find_offsets(block.columns);
    copy(block);
    if (problem_.is_depthwise()) return multiply_rows(block);
    const float* weight = floats(problem_.weight) + block.group * problem_.filters * problem_.depth();
    for (int64_t f = block.filters.begin; f < block.filters.end;) {
      const int64_t panels = divide_up(block.filters.end - f, kPanelRows);
      const int rows = int(divide_up(block.filters.end - f, panels));
      multiply(block, weight, f, rows);
      f += rows;
    }
  }

 private:
  static int64_t panel_floats(const Problem& problem) {
    return kPanelRows * smaller(problem.depth(), kDepthBlock) + kLanes;
  }
  static int64_t offset_bytes(const Problem& problem) {
    return divide_up(problem.depth() * int64_t(sizeof(int64_t)), 64) * 64;
  }
  int64_t pitch(const Block& block) const { return cut_.pitch_of(cut_.rows, block.columns); }

  /* Where in the copy each position of the inner dimension is read. */
  void find_offsets(int64_t columns) {
    const Axis* a = problem_.windows.axes;
    const int64_t pitch = cut_.pitch_of(cut_.rows, columns), plane = (cut_.rows + cut_.by_row.reach) * pitch;
    int64_t* at = offsets_;
    for (int64_t p = 0; p < cut_.planes; ++p) {
      for (int64_t r = 0; r < a[1].taps; ++r) {
        for (int64_t c = 0; c < a[2].taps; ++c) {
          const int64_t slot = (p * cut_.by_row.count + cut_.by_row.slot(r)) * cut_.by_column.count;
          *at++ = (slot + cut_.by_column.slot(c)) * plane + cut_.by_row.shift(r) * pitch + cut_.by_column.shift(c);
        }
      }
    }
    columns_ = columns;
  }

  /* Copies what a block reads: planes (a channel, and a tap of the depth axis), phases of rows and of columns. */
  void copy(const Block& block) {
    const Axis& depth = problem_.windows.depth();
    for (int64_t phase = 0; phase < cut_.by_column.count; ++phase) {
      const RowCopy row_copy(problem_.windows.columns(), cut_.by_column, phase, block.column, pitch(block), 0.0f);
      for (int64_t slot = 0; slot < cut_.by_row.count; ++slot) {
        for (int64_t p = 0; p < cut_.planes; ++p) {
          const int64_t channel = block.group * problem_.channels + p / depth.taps;
          const int64_t at = depth.position(block.depth, p % depth.taps);
          const char* plane = at < 0 || at >= depth.size ? nullptr : problem_.plane(block.n, channel, at);
          const int64_t number = (p * cut_.by_row.count + slot) * cut_.by_column.count + phase;
          float* target = copy_ + number * (cut_.rows + cut_.by_row.reach) * pitch(block);
          copy_plane(plane, problem_.windows.rows(), cut_.by_row, slot, block.row, block.rows + cut_.by_row.reach,
                     row_copy, target);
        }
      }
    }
  }

  /* The one filter of a group: a row of the result at a time, straight to where it belongs. */
  void multiply_rows(const Block& block) {
    const int64_t depth = problem_.depth(), last = problem_.windows.columns().places;
    float* result = problem_.result(block.n, block.group, block.depth) + block.row * last + block.column;
    const float* weight = floats(problem_.weight) + block.group * depth;
    const float zero = 0.0f, *bias = problem_.bias_of(block.group);
    const int64_t tiles = divide_up(block.columns, tile_vectors(1) * kLanes);
    const int64_t width = divide_up(divide_up(block.columns, tiles), kLanes) * kLanes;
    for (int64_t row = 0; row < block.rows; ++row) {
      for (int64_t i = 0; i < block.columns; i += width) {
        const int64_t left = smaller(width, block.columns - i);
        const TileFn tile = tile_for(1, int(divide_up(left, kLanes)));
        tile(depth, copy_ + row * pitch(block) + i, offsets_, weight,
             {bias != nullptr ? bias : &zero, result + row * last + i, 0, left});
      }
    }
  }

  /* `rows` filters from `filter` on, with all places of a block. */
  void multiply(const Block& block, const float* weight, int64_t filter, int rows) {
    const int64_t depth = problem_.depth(), blocks = divide_up(depth, kDepthBlock), size = divide_up(depth, blocks);
    const int64_t number = block.group * problem_.filters + filter;
    const int64_t lanes = (block.rows - 1) * pitch(block) + block.columns;
    const Axis* a = problem_.windows.axes;
    float* result = problem_.result(block.n, number, block.depth) + block.row * a[2].places + block.column;
    const bool direct = cut_.is_direct();
    float* sums = direct ? result : sums_;
    const int64_t step = direct ? a[0].places * a[1].places * a[2].places : cut_.sums_step;
    const int64_t vectors = divide_up(lanes, kLanes), tiles = divide_up(vectors, tile_vectors(rows));
    const int64_t width = divide_up(vectors, tiles) * kLanes;
    float zeros[kPanelRows] = {};
    const float* bias = problem_.bias_of(number);
    for (int64_t k = 0; k < depth; k += size) {
      const int64_t part = smaller(size, depth - k);
      pack_panel(weight + filter * depth + k, depth, rows, part, panel_);
      const float* start = k > 0 ? nullptr : bias != nullptr ? bias : zeros;
      for (int64_t i = 0; i < lanes; i += width) {
        const int64_t left = smaller(width, lanes - i);
        const TileFn tile = tile_for(rows, int(divide_up(left, kLanes)));
        tile(part, copy_ + i, offsets_ + k, panel_, {start, sums + i, step, left});
      }
    }
    if (direct) return;
    for (int r = 0; r < rows; ++r) {
      for (int64_t row = 0; row < block.rows; ++row) {
        const float* from = sums_ + r * step + row * pitch(block);
        float* to = result + r * a[0].places * a[1].places * a[2].places + row * a[2].places;
        for_each_vector(block.columns, [&](int64_t i, int n) { store_n(to + i, n, load_n(from + i, n)); });
      }
    }
  }

  const Problem& problem_;
  const Cut& cut_;
  int64_t* offsets_;
  float *panel_, *sums_, *copy_;
  int64_t columns_ = -1;
};

/* Which part of the work a number stands for: parts of the filters run fastest, then blocks of one image. */
inline Block block_at(const Problem& problem, const Cut& cut, int64_t task) {
  const Axis* a = problem.windows.axes;
  const auto next = [&](int64_t count) {
    const int64_t digit = task % count;
    task /= count;
    return digit;
  };
  Block block;
  const int64_t part = next(cut.parts), column = next(cut.column_blocks), row = next(cut.row_blocks);
  block.column = column * cut.columns;
  block.columns = smaller(cut.columns, a[2].places - block.column);
  block.row = row * cut.rows;
  block.rows = smaller(cut.rows, a[1].places - block.row);
  block.depth = next(a[0].places);
  block.group = next(problem.groups);
  block.n = task;
  const int64_t panels = divide_up(problem.filters, kPanelRows);
  const auto bound = [&](int64_t i) { return smaller(panels * i / cut.parts * kPanelRows, problem.filters); };
  block.filters = {bound(part), bound(part + 1)};
  return block;
}

inline int32_t accepts(const PxCall* call) {
  if (!has_signature(call, 3, 1, 3 * kListAttrs + 1)) return PX_UNSUPPORTED;
  const PxTensor *t = call->operands, &weight = t[1];
  const bool ok = is_image(t[0]) && is_dense(weight, PX_FLOAT32, t[0].ndim) && num_elements(weight) > 0 &&
                  (is_absent(t[2]) || is_vector(t[2], weight.shape[0])) && is_dense(t[3], PX_FLOAT32, t[0].ndim) &&
                  has_places(t[3]);
  return ok ? PX_OK : PX_UNSUPPORTED;
}

inline int32_t run_general(const PxCall* call, const PxThread* thread) {
  const Problem problem(call);
  const Cut cut(problem, thread->count);
  const int64_t bytes = Worker::bytes(problem, cut);
  if (call->workspace_bytes < bytes * thread->count) return PX_OUT_OF_MEMORY;
  Worker worker(problem, cut, static_cast<char*>(call->workspace) + bytes * thread->index);
  const int64_t blocks = cut.parts * cut.column_blocks * cut.row_blocks;
  const int64_t tasks = problem.batch() * problem.groups * problem.windows.depth().places * blocks;
  for (int64_t task; (task = perfx_claim(thread, 0, 1)) < tasks;) worker.run(block_at(problem, cut, task));
  return PX_OK;
}

inline int64_t general_workspace(const PxCall* call, int32_t num_threads) {
  const Problem problem(call);
  return Worker::bytes(problem, Cut(problem, num_threads)) * num_threads;
}

}  // namespace convolution
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
