/* What the native host backend (cpu, riscv) exports beside `perfx_library`: the thread pool, the command list, packing.
 *
 * Plain C; cffi reads what stands between "cdef: begin" and "cdef: end".
 */
#ifndef PERFX_HOST_H
#define PERFX_HOST_H

#include "perfx/abi.h"

#ifdef __cplusplus
extern "C" {
#endif
#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif

/* cdef: begin */
/* The table of this library's kernels. */
const PxLibrary* perfx_library(void);

typedef struct PxPool PxPool;
typedef struct PxList PxList;

/* ---- pool: `num_threads` threads, the caller being the first. They spin for `spin_us`, then sleep.
 * `cpus` (may be null) has one processor number a thread, or -1 for no affinity; the first one pins the thread that
 * makes the pool. Null when out of resources or when num_threads is not positive. A pool may be used by several threads
 * of the program: one job runs at a time, others wait. In a forked child the pool starts workers of its own. Lists and
 * pools must not be destroyed while they run. */
PxPool* perfx_pool_create(int32_t num_threads, const int32_t* cpus, int64_t spin_us);
void perfx_pool_destroy(PxPool* pool);
int32_t perfx_pool_num_threads(const PxPool* pool);
/* Runs one kernel on all threads; returns the first status that is not PX_OK. */
int32_t perfx_pool_run(PxPool* pool, PxKernelFn run, const PxCall* call);
/* Runs one kernel on a pool, or (null) on the calling thread alone, for work that is not worth waking the pool for:
 * that is not timed, which would take as long. Operand i has its data at the i-th of x, y and z instead of where the
 * call says (null where there are fewer); `small` is only read, so threads of the program may share it. The kernel gets
 * `workspace_bytes` of the calling thread's, which keeps them. PX_UNSUPPORTED for a call of more than three operands,
 * PX_OUT_OF_MEMORY. */
typedef struct PxSmallCall {
  PxKernelFn run;
  const PxCall* call;
  PxPool* pool;
  int64_t workspace_bytes;
} PxSmallCall;
int32_t perfx_run_small(const PxSmallCall* small, void* x, void* y, void* z);
/* Nanoseconds spent inside perfx_pool_run and perfx_list_run since the pool was made. */
int64_t perfx_pool_native_ns(const PxPool* pool);

/* ---- command list: calls whose dimensions may be symbols, looked up in a table when the list runs. */
PxList* perfx_list_create(void);
void perfx_list_destroy(PxList* list);
/* Appends a node; copies everything. `symbols` holds num_operands * PERFX_MAX_NDIM numbers: -1 where the dimension is
 * the constant in `shape`, else the index of a symbol, and the dimension is shape (a factor, usually 1) times its
 * value. An operand with PX_CONTIGUOUS has its strides computed from the resolved shape; others keep theirs.
 * `barrier_before` is 0 where the node needs nothing that was written since the last barrier.
 * Returns the node's index, or a negative number when out of memory. */
int32_t perfx_list_append(PxList* list, PxKernelFn run, const PxCall* call, const int32_t* symbols,
                          int32_t barrier_before);
/* An appended node with run == NULL is disabled: the list stops there with PX_DISABLED. */
int32_t perfx_list_length(const PxList* list);
/* Runs nodes first..last-1 in one wake-up of the pool. PX_OK, or the status of the node whose index is put in
 * *stopped_at; all nodes before it are complete, none after it has begun (see PxKernelFn). PX_INVALID_ARGUMENT also
 * where a symbol is missing or negative. One thread of the program runs a list at a time, others wait. */
int32_t perfx_list_run(PxPool* pool, PxList* list, int32_t first, int32_t last, const int64_t* symbols,
                       int32_t num_symbols, int32_t* stopped_at);
/* While profiling is on (0 or 1), adds each node's nanoseconds (thread 0, with the wait before it) to ns[node]. The
 * pointer holds until the next append. */
void perfx_list_profile(PxList* list, int32_t enabled);
const int64_t* perfx_list_node_ns(const PxList* list);

/* ---- packing: PX_STRIDED rows (contiguous) to a PxLayout of packed weights and back, losslessly. See perfx/packing.h.
 */
/* The layout in which this library's kernels like a weight best. */
int32_t perfx_packed_layout(int32_t dtype, int64_t rows, int64_t columns);
/* Bytes of a packed [rows, columns] weight; -1 where the dtype or the shape does not go with the layout. */
int64_t perfx_packed_bytes(int32_t dtype, int32_t layout, int64_t rows, int64_t columns);
/* Packs rows first .. first + count - 1 (`first` a multiple of 16), which `source` begins with. */
int32_t perfx_pack(PxPool* pool, int32_t dtype, int32_t layout, int64_t rows, int64_t columns, int64_t first,
                   int64_t count, const void* source, void* packed);
int32_t perfx_unpack(PxPool* pool, int32_t dtype, int32_t layout, int64_t rows, int64_t columns, const void* packed,
                     void* rows_out);
/* cdef: end */

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif
#endif
