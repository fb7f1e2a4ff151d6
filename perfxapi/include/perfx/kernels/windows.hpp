/* Windows that slide over spatial axes, as convolutions and pools see them: operands are [batch, channels, spatial
 * sizes...], with one to three spatial axes. Those that lack are in front, with one place and one tap. */
#ifndef PERFX_KERNELS_WINDOWS_HPP
#define PERFX_KERNELS_WINDOWS_HPP

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

inline bool is_absent(const PxTensor& tensor) { return tensor.ndim == 1 && tensor.shape[0] == 0; }

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
