/* Windows that slide over spatial axes, as convolutions and pools see them: operands are [batch, channels, spatial
 * sizes...], with one to three spatial axes. Those that lack are in front, with one place and one tap.
 *
 * What a block of places reads is copied first, padded and sorted by the phases of the strides: then every tap of
 * neighboring places is neighbors in memory, whatever the strides, the dilations and the pads are. */
#ifndef PERFX_KERNELS_WINDOWS_HPP
#define PERFX_KERNELS_WINDOWS_HPP

#include <string.h>

#include "perfx/kernels/operands.hpp"

namespace perfx {
namespace PERFX_VARIANT {

constexpr int kMaxSpatial = 3;
/* Attributes that a list takes. */
constexpr int kListAttrs = 1 + PERFX_MAX_LIST;

/* The number at an index of a list attribute; an empty list has the same number everywhere. */
inline int64_t listed(const PxAttr* list, int64_t index, int64_t otherwise) {
  return list[0].i > 0 ? list[1 + index].i : otherwise;
}

/* One spatial axis: place o reads the input at o * stride + tap * dilation - begin. */
struct Axis {
  int64_t size = 1, places = 1, taps = 1, stride = 1, dilation = 1, begin = 0, end = 0;
  int64_t bytes = 0; /* from one item of the input to the next */
  int64_t position(int64_t place, int64_t tap) const { return place * stride + tap * dilation - begin; }
  /* Does every place read the one item at its own position? */
  bool is_pointwise() const { return taps == 1 && stride == 1 && begin == 0 && end == 0; }
};

/* All spatial axes: depth, rows, columns. */
struct Windows {
  /* `attrs` are strides, dilations and pads; `taps` has the window's size along each axis. */
  template <class Taps>
  Windows(const PxTensor& x, const PxTensor& y, const PxAttr* attrs, Taps taps) {
    const int count = x.ndim - 2;
    for (int i = 0; i < count; ++i) {
      Axis& axis = axes[kMaxSpatial - count + i];
      axis = {x.shape[2 + i],
              y.shape[2 + i],
              taps(i),
              listed(attrs, i, 1),
              listed(attrs + kListAttrs, i, 1),
              listed(attrs + 2 * kListAttrs, i, 0),
              listed(attrs + 2 * kListAttrs, count + i, 0),
              x.strides[2 + i]};
    }
  }
  int64_t places() const { return axes[0].places * axes[1].places * axes[2].places; }
  int64_t taps() const { return axes[0].taps * axes[1].taps * axes[2].taps; }
  const Axis& depth() const { return axes[0]; }
  const Axis& rows() const { return axes[1]; }
  const Axis& columns() const { return axes[2]; }

  Axis axes[kMaxSpatial];
};

/* Is it [batch, channels, spatial sizes...] in float32, of any strides? */
inline bool is_image(const PxTensor& tensor) {
  return tensor.ndim > 2 && tensor.ndim <= 2 + kMaxSpatial && is_strided(tensor, PX_FLOAT32, tensor.ndim);
}

/* Has a result a place along every spatial axis? A window always fits (perfxapi/ops/windows.py); work is cut by it. */
inline bool has_places(const PxTensor& y) {
  for (int axis = 2; axis < y.ndim; ++axis) {
    if (y.shape[axis] < 1) return false;
  }
  return true;
}

inline bool is_absent(const PxTensor& tensor) { return tensor.ndim == 1 && tensor.shape[0] == 0; }

/* How the taps of an axis find their input in a copy that is sorted by phases: tap k of place o reads item o + shift(k)
 * of slot(k), which holds every `stride`-th input position from phase(slot) on. */
struct Phases {
  explicit Phases(const Axis& axis) : axis_(axis) {
    int64_t a = axis.stride, b = axis.dilation;
    while (b > 0) {
      const int64_t rest = a % b;
      a = b;
      b = rest;
    }
    period_ = axis.stride / a;
    count = smaller(axis.taps, period_);
    reach = shift(axis.taps - 1);
  }
  int64_t slot(int64_t tap) const { return tap % period_; }
  int64_t shift(int64_t tap) const { return tap * axis_.dilation / axis_.stride; }
  /* The input position of an item of a slot. */
  int64_t position(int64_t slot, int64_t item) const {
    return item * axis_.stride + slot * axis_.dilation % axis_.stride - axis_.begin;
  }
  /* Items [begin, end) of the `items` of a slot, from item `first` on, that lie within the input, numbered from 0. */
  Range inside(int64_t slot, int64_t first, int64_t items) const {
    const int64_t at = position(slot, first);
    const int64_t begin = at < 0 ? smaller(divide_up(-at, axis_.stride), items) : 0;
    const int64_t end = at < axis_.size ? smaller(divide_up(axis_.size - at, axis_.stride), items) : 0;
    return {begin, larger(end, begin)};
  }
  int64_t count, reach;

 private:
  const Axis& axis_;
  int64_t period_;
};

inline void fill(float* target, int64_t count, float value) {
  for_each_vector(count, [&](int64_t i, int n) { store_n(target + i, n, set(value)); });
}

/* p[0], p[2], ..., p[2 * (n - 1)] in the first n lanes; nothing behind them is read. */
inline F load_even(const float* p, int n) {
  F result;
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define PERFX_SHUFFLE_VECTOR
#endif
#endif
#ifdef PERFX_SHUFFLE_VECTOR
  typedef float Sixteen __attribute__((vector_size(64)));
  const F low = load_first(p, int(smaller(2 * n - 1, kLanes))),
          high = load_first(p + kLanes, int(larger(2 * n - 17, 0)));
  Sixteen a, b;
  memcpy(&a, &low, sizeof(a));
  memcpy(&b, &high, sizeof(b));
  a = __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  memcpy(&result, &a, sizeof(a));
#else
  float lanes[kLanes];
  for (int i = 0; i < n; ++i) lanes[i] = p[2 * i];
  result = load_first(lanes, n);
#endif
  return result;
}

/* How a row of a block's copy is made of a row of the input: the same for all rows. */
struct RowCopy {
  /* `items` items of a slot, from item `first` on; `outside` stands where there is no input. */
  RowCopy(const Axis& axis, const Phases& phases, int64_t slot, int64_t first, int64_t items, float outside)
      : outside(outside),
        items(items),
        inside(phases.inside(slot, first, items)),
        offset(phases.position(slot, first + inside.begin) * axis.bytes),
        step(axis.bytes * axis.stride) {}
  void run(const char* row, float* target) const {
    fill(target, inside.begin, outside);
    fill(target + inside.end, items - inside.end, outside);
    const int64_t count = inside.end - inside.begin;
    float* to = target + inside.begin;
    const char* from = row + offset;
    if (step == int64_t(sizeof(float))) {
      const float* source = reinterpret_cast<const float*>(from);
      for_each_vector(count, [&](int64_t i, int n) { store_n(to + i, n, load_n(source + i, n)); });
    } else if (step == 2 * int64_t(sizeof(float))) {
      const float* source = reinterpret_cast<const float*>(from);
      for_each_vector(count, [&](int64_t i, int n) { store_n(to + i, n, load_even(source + 2 * i, n)); });
    } else {
      for (int64_t i = 0; i < count; ++i, from += step) to[i] = *reinterpret_cast<const float*>(from);
    }
  }
  const float outside;
  const int64_t items;
  const Range inside;
  const int64_t offset, step;
};

/* Copies rows of a plane (null: there is none) that belong to a slot, from item `first` on. */
inline void copy_plane(const char* plane, const Axis& axis, const Phases& phases, int64_t slot, int64_t first,
                       int64_t rows, const RowCopy& row_copy, float* target) {
  int64_t row = phases.position(slot, first);
  for (int64_t r = 0; r < rows; ++r, row += axis.stride, target += row_copy.items) {
    if (plane == nullptr || row < 0 || row >= axis.size) {
      fill(target, row_copy.items, row_copy.outside);
    } else {
      row_copy.run(plane + row * axis.bytes, target);
    }
  }
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
