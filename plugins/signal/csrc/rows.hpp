/* The rows of operands, whatever their strides. */
#ifndef PERFX_SIGNAL_ROWS_HPP
#define PERFX_SIGNAL_ROWS_HPP

#include "perfx/kernel.h"
#include "vectors.hpp"

namespace perfx {
namespace PERFX_VARIANT {

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
inline bool is_real(int32_t dtype) { return dtype == PX_FLOAT32 || dtype == PX_FLOAT64; }

inline int64_t item_size(int32_t dtype) {
  return dtype == PX_FLOAT32 ? 4 : dtype == PX_COMPLEX128 ? 16 : 8; /* float64 and complex64 have 8 */
}

/* Is it a strided operand whose elements lie where their parts are aligned? */
inline bool has_items(const PxTensor& tensor) {
  const int64_t part = tensor.dtype == PX_FLOAT32 || tensor.dtype == PX_COMPLEX64 ? 4 : 8;
  for (int axis = 0; axis < tensor.ndim; ++axis) {
    if (tensor.shape[axis] > 1 && tensor.strides[axis] % part != 0) return false;
  }
  return tensor.layout == PX_STRIDED && tensor.ndim >= 1;
}

/* Where the rows of an operand begin, and how many bytes an item of a row is from the next. */
struct Rows {
  char* begin(int64_t row) const {
    if (row_bytes != 0) return data + row * row_bytes;
    int64_t offset = 0;
    for (int axis = tensor->ndim - 2; axis >= 0; --axis) {
      offset += row % tensor->shape[axis] * tensor->strides[axis];
      row /= tensor->shape[axis];
    }
    return data + offset;
  }
  const PxTensor* tensor;
  char* data;
  int64_t count, step, row_bytes;
};

/* The last axis of an operand of any strides. */
inline Rows last_axis(const PxTensor& tensor) {
  int64_t count = 1;
  for (int axis = 0; axis < tensor.ndim - 1; ++axis) count *= tensor.shape[axis];
  return {&tensor, static_cast<char*>(tensor.data), count, tensor.strides[tensor.ndim - 1], 0};
}

/* `count` rows of `width` items in a dense operand: its last axis, or several. */
inline Rows dense_rows(const PxTensor& tensor, int64_t count, int64_t width) {
  const int64_t item = item_size(tensor.dtype);
  return {&tensor, static_cast<char*>(tensor.data), count, item, width * item};
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
