/* What makes a library of a few kernels short to write in C or C++. Nothing here is part of the ABI (`abi.h`), and a
 * library may do without it. For example:
 *
 *   static int32_t accepts(const PxCall* call) { return perfx_accept_dense(call, 1, 1, PX_FLOAT32); }
 *   static int32_t run(const PxCall* call, const PxThread* thread) {
 *     const float* x = (const float*)call->operands[0].data;
 *     float* y = (float*)call->operands[1].data;
 *     const PxRange part = perfx_share(perfx_num_elements(&call->operands[0]), 1024, thread);
 *     for (int64_t i = part.begin; i < part.end; ++i) y[i] = x[i] * x[i];
 *     return PX_OK;
 *   }
 *   PERFX_LIBRARY("square", {"square", accepts, 0, run})
 */
#ifndef PERFX_KERNEL_H
#define PERFX_KERNEL_H

#include "perfx/abi.h"

/* Part of a count: from `begin` up to, not including, `end`. */
typedef struct PxRange {
  int64_t begin;
  int64_t end;
} PxRange;

static inline int64_t perfx_num_elements(const PxTensor* tensor) {
  int64_t count = 1;
  for (int32_t axis = 0; axis < tensor->ndim; ++axis) count *= tensor->shape[axis];
  return count;
}

/* Does the operand hold elements of this dtype, in row-major order without gaps? */
static inline int perfx_is_dense(const PxTensor* tensor, int32_t dtype) {
  return tensor->dtype == dtype && tensor->layout == PX_STRIDED && (tensor->flags & PX_CONTIGUOUS) != 0;
}

/* PX_OK for a call with so many inputs and outputs, all of them dense and of this dtype; else PX_UNSUPPORTED. */
static inline int32_t perfx_accept_dense(const PxCall* call, int32_t num_inputs, int32_t num_outputs, int32_t dtype) {
  if (call->num_inputs != num_inputs || call->num_operands != num_inputs + num_outputs) return PX_UNSUPPORTED;
  for (int32_t i = 0; i < call->num_operands; ++i) {
    if (!perfx_is_dense(&call->operands[i], dtype)) return PX_UNSUPPORTED;
  }
  return PX_OK;
}

/* This thread's part of `count` items; no thread gets fewer than `grain` but the last that gets any. */
static inline PxRange perfx_share(int64_t count, int64_t grain, const PxThread* thread) {
  int64_t size = (count + thread->count - 1) / thread->count;
  PxRange range;
  if (size < grain) size = grain;
  range.begin = size * thread->index < count ? size * thread->index : count;
  range.end = count - range.begin < size ? count : range.begin + size;
  return range;
}

#ifdef __cplusplus
#define PERFX_EXPORT extern "C" __attribute__((visibility("default")))
#else
#define PERFX_EXPORT __attribute__((visibility("default")))
#endif

/* Exports a library of kernels for any machine: its name, then a PxKernel in braces for each. */
#define PERFX_LIBRARY(NAME, ...)                                                                            \
  static int32_t perfx_any_machine(void) { return 1; }                                                      \
  static const PxKernel perfx_kernels[] = {__VA_ARGS__};                                                    \
  static const PxVariant perfx_variants[] = {                                                               \
      {"plain", perfx_any_machine, (int32_t)(sizeof(perfx_kernels) / sizeof(PxKernel)), 0, perfx_kernels}}; \
  static const PxLibrary perfx_table = {PERFX_ABI_VERSION,                                                  \
                                        sizeof(PxTensor),                                                   \
                                        sizeof(PxCall),                                                     \
                                        sizeof(PxThread),                                                   \
                                        sizeof(PxKernel),                                                   \
                                        sizeof(PxVariant),                                                  \
                                        NAME,                                                               \
                                        1,                                                                  \
                                        0,                                                                  \
                                        perfx_variants};                                                    \
  PERFX_EXPORT const PxLibrary* perfx_library(void);                                                        \
  PERFX_EXPORT const PxLibrary* perfx_library(void) { return &perfx_table; }

#endif
