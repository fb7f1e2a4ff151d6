/* Operands of any strides, read block by block in the row-major order of a shape that they are broadcast to.
 *
 * A kernel's loop sees dense blocks alone: what lies dense in memory is read in place, all else is gathered into a
 * buffer that stays in the first cache. So a loop is compiled once for each dtype, whatever the strides are.
 */
#ifndef PERFX_KERNELS_STRIDED_HPP
#define PERFX_KERNELS_STRIDED_HPP

#include <string.h>

#include "perfx/kernels/operands.hpp"

namespace perfx {
namespace PERFX_VARIANT {

/* Elements of a gathered block. */
constexpr int64_t kBlock = 1024;
/* Rows at least so long are read in place, each in blocks of its own. */
constexpr int64_t kLongRow = 256;
constexpr int64_t kMaxItem = 16;
/* Bytes of an element of each plain dtype. */
constexpr int8_t kItemBytes[] = {1, 1, 2, 4, 8, 1, 2, 4, 8, 2, 2, 4, 8, 8, 16};
constexpr int32_t kNumPlain = int32_t(sizeof(kItemBytes));

inline bool is_plain(const PxTensor& tensor) {
  return tensor.layout == PX_STRIDED && tensor.dtype >= 0 && tensor.dtype < kNumPlain;
}
inline bool is_plain_dense(const PxTensor& tensor) {
  if (!is_plain(tensor)) return false;
  if (tensor.flags & PX_CONTIGUOUS) return true;
  int64_t stride = kItemBytes[tensor.dtype];
  for (int axis = tensor.ndim - 1; axis >= 0; --axis) {
    if (tensor.shape[axis] > 1 && tensor.strides[axis] != stride) return false;
    stride *= tensor.shape[axis];
  }
  return true;
}
/* Is the operand broadcast to this shape by the array API's rules? */
inline bool broadcasts_to(const PxTensor& tensor, const PxTensor& like) {
  for (int axis = 1; axis <= tensor.ndim; ++axis) {
    const int64_t size = tensor.shape[tensor.ndim - axis];
    if (axis > like.ndim || (size != 1 && size != like.shape[like.ndim - axis])) return false;
  }
  return true;
}

/* Elements of 16 bytes. */
struct Wide {
  uint64_t low, high;
};

/* An operand's place in memory, dimensions innermost first. Neighbors that one stride covers are one dimension, and
 * there is none of size 1. */
struct Walk {
  char* data;
  int64_t item;
  int ndim;
  int64_t shape[PERFX_MAX_NDIM];
  int64_t strides[PERFX_MAX_NDIM];

  void add(int64_t size, int64_t stride) {
    if (size == 1) return;
    if (ndim > 0 && stride == strides[ndim - 1] * shape[ndim - 1]) {
      shape[ndim - 1] *= size;
    } else {
      shape[ndim] = size;
      strides[ndim++] = stride;
    }
  }
  bool dense() const { return ndim == 0 || (ndim == 1 && strides[0] == item); }
  bool one_number() const { return ndim == 1 && strides[0] == 0; }
};

/* The stride of an operand along an axis of a shape that it is broadcast to. */
inline int64_t broadcast_stride(const PxTensor& tensor, const PxTensor& like, int axis) {
  const int own = axis - (like.ndim - tensor.ndim);
  return own < 0 || tensor.shape[own] == 1 ? 0 : tensor.strides[own];
}

inline Walk walk_over(const PxTensor& tensor, const PxTensor& like) {
  Walk walk{static_cast<char*>(tensor.data), kItemBytes[tensor.dtype], 0, {}, {}};
  for (int axis = like.ndim - 1; axis >= 0; --axis) walk.add(like.shape[axis], broadcast_stride(tensor, like, axis));
  return walk;
}

/* A place on a walk of one dimension or more. */
class Cursor {
 public:
  Cursor() = default;
  Cursor(const Walk& walk, int64_t position) : walk_(walk), at_(walk.data) {
    for (int d = 0; d < walk_.ndim; ++d) {
      index_[d] = position % walk_.shape[d];
      position /= walk_.shape[d];
      at_ += index_[d] * walk_.strides[d];
    }
  }
  char* at() const { return at_; }
  int64_t stride() const { return walk_.strides[0]; }
  /* Elements up to the end of the innermost dimension. */
  int64_t left() const { return walk_.shape[0] - index_[0]; }
  /* Goes on by at most left() elements. */
  void advance(int64_t count) {
    index_[0] += count;
    at_ += count * walk_.strides[0];
    for (int d = 0; index_[d] == walk_.shape[d] && d + 1 < walk_.ndim; ++d) {
      at_ += walk_.strides[d + 1] - index_[d] * walk_.strides[d];
      index_[d] = 0;
      ++index_[d + 1];
    }
  }

 private:
  Walk walk_;
  char* at_;
  int64_t index_[PERFX_MAX_NDIM];
};

template <class T>
inline void gather_run(const char* from, int64_t stride, char* to, int64_t count) {
  T* out = reinterpret_cast<T*>(to);
  if (stride == int64_t(sizeof(T))) {
    memcpy(to, from, size_t(count) * sizeof(T));
  } else if (stride == 0) {
    const T value = *reinterpret_cast<const T*>(from);
    for (int64_t i = 0; i < count; ++i) out[i] = value;
  } else {
    for (int64_t i = 0; i < count; ++i) out[i] = *reinterpret_cast<const T*>(from + i * stride);
  }
}
template <class T>
inline void scatter_run(const char* from, char* to, int64_t stride, int64_t count) {
  if (stride == int64_t(sizeof(T))) {
    memcpy(to, from, size_t(count) * sizeof(T));
  } else {
    for (int64_t i = 0; i < count; ++i) *reinterpret_cast<T*>(to + i * stride) = reinterpret_cast<const T*>(from)[i];
  }
}
template <class T>
inline void gather_elements(Cursor& cursor, char* to, int64_t count) {
  while (count > 0) {
    const int64_t run = smaller(count, cursor.left());
    gather_run<T>(cursor.at(), cursor.stride(), to, run);
    cursor.advance(run);
    to += run * int64_t(sizeof(T));
    count -= run;
  }
}
template <class T>
inline void scatter_elements(const char* from, Cursor& cursor, int64_t count) {
  while (count > 0) {
    const int64_t run = smaller(count, cursor.left());
    scatter_run<T>(from, cursor.at(), cursor.stride(), run);
    cursor.advance(run);
    from += run * int64_t(sizeof(T));
    count -= run;
  }
}

/* Calls body(T{}) with a type of so many bytes. */
template <class Body>
inline void with_item(int64_t item, Body body) {
  switch (item) {
    case 1:
      return body(uint8_t());
    case 2:
      return body(uint16_t());
    case 4:
      return body(uint32_t());
    case 8:
      return body(uint64_t());
    default:
      return body(Wide());
  }
}
inline void gather(Cursor& cursor, int64_t item, char* to, int64_t count) {
  with_item(item, [&](auto element) { gather_elements<decltype(element)>(cursor, to, count); });
}
inline void scatter(const char* from, Cursor& cursor, int64_t item, int64_t count) {
  with_item(item, [&](auto element) { scatter_elements<decltype(element)>(from, cursor, count); });
}

/* Elements of one dtype as another: `count` of them, dense. */
using Convert = void (*)(const char* from, char* to, int64_t count);

/* An operand as dense blocks in the dtype that a loop takes, from a place on. */
class Reader {
 public:
  void start(const PxTensor& tensor, const PxTensor& like, Convert convert, Range part) {
    start(walk_over(tensor, like), convert, part.begin);
  }
  void start(const Walk& walk, Convert convert, int64_t begin) {
    cursor_ = Cursor(walk, begin);
    convert_ = convert;
    dense_ = walk.dense();
    one_number_ = walk.one_number();
    item_ = walk.item;
    long_rows_ = !dense_ && walk.strides[0] == item_ && walk.shape[0] >= kLongRow;
    at_ = cursor_.at();
  }
  /* Elements of the loop's dtype have `item` bytes; `count` is the most that are read at once. */
  void repeat_number(int64_t item, int64_t count) {
    if (!one_number_) return;
    const char* number = at_;
    if (convert_ != nullptr) {
      convert_(number, gathered_, 1);
      number = gathered_;
    }
    with_item(item, [&](auto element) { gather_run<decltype(element)>(number, 0, converted_, count); });
  }
  /* How many of the next `count` elements can be read at once. */
  int64_t at_once(int64_t count) const {
    if (long_rows_) count = smaller(count, cursor_.left());
    return (dense_ || long_rows_) && convert_ == nullptr ? count : smaller(count, kBlock);
  }
  const char* read(int64_t count) {
    if (one_number_) return converted_;
    const char* block = dense_ ? next_dense(count) : next_of_rows(count);
    if (convert_ == nullptr) return block;
    convert_(block, converted_, count);
    return converted_;
  }

 private:
  const char* next_dense(int64_t count) {
    const char* block = at_;
    at_ += count * item_;
    return block;
  }
  const char* next_of_rows(int64_t count) {
    if (cursor_.stride() == item_ && cursor_.left() >= count) {
      const char* block = cursor_.at();
      cursor_.advance(count);
      return block;
    }
    gather(cursor_, item_, gathered_, count);
    return gathered_;
  }

  Cursor cursor_;
  Convert convert_;
  const char* at_;
  int64_t item_;
  bool dense_, one_number_, long_rows_;
  alignas(64) char gathered_[kBlock * kMaxItem];
  alignas(64) char converted_[kBlock * kMaxItem];
};

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
