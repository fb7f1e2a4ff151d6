/* What kernels ask about their operands, and how they divide their work. Included after a SIMD layer. */
#ifndef PERFX_KERNELS_OPERANDS_HPP
#define PERFX_KERNELS_OPERANDS_HPP

#include <stdint.h>

#include "perfx/abi.h"

namespace perfx {
namespace PERFX_VARIANT {

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

inline int64_t num_elements(const PxTensor& tensor) {
  int64_t count = 1;
  for (int axis = 0; axis < tensor.ndim; ++axis) count *= tensor.shape[axis];
  return count;
}

inline int64_t last_dimension(const PxTensor& tensor) { return tensor.shape[tensor.ndim - 1]; }

/* Are two operands of one shape? */
inline bool same_shape(const PxTensor& a, const PxTensor& b) {
  if (a.ndim != b.ndim) return false;
  for (int axis = 0; axis < a.ndim; ++axis) {
    if (a.shape[axis] != b.shape[axis]) return false;
  }
  return true;
}

/* Is the operand strided, of this dtype and number of axes, with every stride a whole number of items? */
inline bool is_strided(const PxTensor& tensor, int32_t dtype, int ndim) {
  if (tensor.layout != PX_STRIDED || tensor.dtype != dtype || tensor.ndim != ndim) return false;
  const int64_t item = dtype == PX_FLOAT16 ? 2 : 4;
  if (tensor.flags & PX_CONTIGUOUS) return true;
  for (int axis = 0; axis < ndim; ++axis) {
    if (tensor.shape[axis] > 1 && tensor.strides[axis] % item != 0) return false;
  }
  return true;
}

/* Is the last axis contiguous, the others of any stride? */
inline bool is_rows(const PxTensor& tensor, int32_t dtype, int ndim) {
  if (ndim < 1 || !is_strided(tensor, dtype, ndim)) return false;
  const int64_t item = dtype == PX_FLOAT16 ? 2 : 4;
  return (tensor.flags & PX_CONTIGUOUS) || last_dimension(tensor) <= 1 || tensor.strides[ndim - 1] == item;
}

/* Is the operand dense in row-major order? */
inline bool is_dense(const PxTensor& tensor, int32_t dtype, int ndim) {
  if (!is_strided(tensor, dtype, ndim)) return false;
  if (tensor.flags & PX_CONTIGUOUS) return true;
  int64_t stride = dtype == PX_FLOAT16 ? 2 : 4;
  for (int axis = ndim - 1; axis >= 0; --axis) {
    if (tensor.shape[axis] > 1 && tensor.strides[axis] != stride) return false;
    stride *= tensor.shape[axis];
  }
  return true;
}

/* A float32 row vector of `size` items. */
inline bool is_vector(const PxTensor& tensor, int64_t size) {
  return is_dense(tensor, PX_FLOAT32, 1) && tensor.shape[0] == size;
}

inline bool has_signature(const PxCall* call, int num_inputs, int num_outputs, int num_attrs) {
  return call->num_inputs == num_inputs && call->num_operands == num_inputs + num_outputs &&
         call->num_attrs == num_attrs;
}

inline const float* floats(const PxTensor& tensor) { return static_cast<const float*>(tensor.data); }
inline const int32_t* ints(const PxTensor& tensor) { return static_cast<const int32_t*>(tensor.data); }

/* The item at (i) or (i, j) of an operand whose further axes are contiguous. */
template <class T>
inline T* at(const PxTensor& tensor, int64_t i) {
  return reinterpret_cast<T*>(static_cast<char*>(tensor.data) + i * tensor.strides[0]);
}
template <class T>
inline T* at(const PxTensor& tensor, int64_t i, int64_t j) {
  return reinterpret_cast<T*>(static_cast<char*>(tensor.data) + i * tensor.strides[0] + j * tensor.strides[1]);
}

/* The rows of an operand: its items without the last axis. */
struct Rows {
  explicit Rows(const PxTensor& operand) : tensor(&operand), size(last_dimension(operand)), count(1) {
    for (int axis = 0; axis < operand.ndim - 1; ++axis) count *= operand.shape[axis];
  }
  float* operator[](int64_t row) const {
    int64_t offset = 0;
    for (int axis = tensor->ndim - 2; axis > 0; --axis) {
      offset += row % tensor->shape[axis] * tensor->strides[axis];
      row /= tensor->shape[axis];
    }
    if (tensor->ndim > 1) offset += row * tensor->strides[0];
    return reinterpret_cast<float*>(static_cast<char*>(tensor->data) + offset);
  }
  const PxTensor* tensor;
  int64_t size;
  int64_t count;
};

/* Thread's share of `count` items, cut at multiples of `grain`. */
struct Range {
  int64_t begin, end;
};
inline Range share(int64_t count, int64_t grain, const PxThread* thread) {
  const int64_t grains = divide_up(count, grain);
  const int64_t begin = grains * thread->index / thread->count * grain;
  const int64_t end = grains * (thread->index + 1) / thread->count * grain;
  return {begin, smaller(end, count)};
}

/* Calls body(i, n) for each vector of `size` items: n is 16, less for the last one. */
template <class Body>
inline void for_each_vector(int64_t size, Body body) {
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) body(i, kLanes);
  if (i < size) body(i, int(size - i));
}

inline F load_n(const float* p, int n) { return n == kLanes ? load(p) : load_first(p, n); }
inline void store_n(float* p, int n, F x) { n == kLanes ? store(p, x) : store_first(p, n, x); }

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
