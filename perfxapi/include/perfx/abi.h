/* The C ABI between PerfXAPI and every native backend or plugin.
 *
 * A native library is a plain shared library. It includes no Python header, is opened with dlopen, and exports one
 * function, `perfx_library`, that returns a constant table of kernels. Versions and struct sizes are checked at load.
 *
 * A kernel is a function of (call, thread). It never creates threads: the host backend's pool calls it once on each
 * thread, and the kernel divides its own work by `thread->index` and `thread->count` (or by `perfx_claim`).
 *
 * What stands between "cdef: begin" and "cdef: end" is plain C declarations and numeric #defines, as cffi reads them.
 *
 * C99; usable from C, C++, Rust, Fortran (iso_c_binding) and anything else that can export a C symbol.
 */
#ifndef PERFX_ABI_H
#define PERFX_ABI_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* cdef: begin */
#define PERFX_ABI_VERSION 1
#define PERFX_MAX_NDIM 6
#define PERFX_MAX_OPERANDS 24
#define PERFX_NUM_COUNTERS 4
#define PERFX_MAX_LIST 12

typedef enum PxStatus {
  PX_OK = 0,
  PX_UNSUPPORTED = 1,      /* accepts(): not for this kernel; run(): refused before anything was written */
  PX_INVALID_ARGUMENT = 2, /* an operand's value is out of range (a token id, a block number) */
  PX_OUT_OF_MEMORY = 3,
  PX_KERNEL_ERROR = 4,
  PX_DEVICE_LOST = 5,
  PX_DISABLED = 6 /* the node was disabled by setting */
} PxStatus;

/* Storage types. The numbers are part of the ABI and equal perfxapi.dtypes.DType.code. */
typedef enum PxDType {
  PX_BOOL = 0,
  PX_INT8 = 1,
  PX_INT16 = 2,
  PX_INT32 = 3,
  PX_INT64 = 4,
  PX_UINT8 = 5,
  PX_UINT16 = 6,
  PX_UINT32 = 7,
  PX_UINT64 = 8,
  PX_FLOAT16 = 9,
  PX_BFLOAT16 = 10,
  PX_FLOAT32 = 11,
  PX_FLOAT64 = 12,
  PX_COMPLEX64 = 13,
  PX_COMPLEX128 = 14,
  /* Quantized storage, blocks along the last axis, byte for byte as in GGUF; int4_g128 is our own (packing.h). */
  PX_Q4_0 = 32,
  PX_Q5_0 = 33,
  PX_Q8_0 = 34,
  PX_Q4_K = 35,
  PX_Q6_K = 36,
  PX_INT4_G128 = 37,
  PX_Q4_1 = 38,
  PX_Q5_1 = 39,
  PX_Q2_K = 40,
  PX_Q3_K = 41,
  PX_Q5_K = 42,
  PX_Q8_K = 43,
  PX_IQ4_NL = 44,
  PX_IQ4_XS = 45,
  PX_MXFP4 = 46
} PxDType;

/* How the bytes of an operand are arranged. */
typedef enum PxLayout {
  PX_STRIDED = 0, /* shape and strides say all; a quantized row is its blocks, one after another */
  PX_TILE16 = 1,  /* weights, 16 rows interleaved: see perfx/packing.h */
  PX_SPLIT16 = 2  /* a vocabulary in PX_Q8_0, each code split into two nibbles: see perfx/packing.h */
} PxLayout;

#define PX_CONTIGUOUS 1

typedef struct PxTensor {
  void* data;
  int32_t dtype;  /* PxDType */
  int32_t layout; /* PxLayout */
  int32_t ndim;
  int32_t flags; /* PX_CONTIGUOUS: in a command list, strides follow from the resolved shape */
  int64_t shape[PERFX_MAX_NDIM];
  int64_t strides[PERFX_MAX_NDIM]; /* bytes; meaningless for packed weights */
} PxTensor;

typedef union PxAttr {
  int64_t i;
  double f;
} PxAttr;

/* One operation. Operands are the inputs, then the outputs; one that may be left out, and is, has the shape [0].
 * Attributes stand in the order of the op's spec: a choice as its index, a set of axes as a mask with the bit 1 << axis
 * for each, a list of whole numbers as its length and PERFX_MAX_LIST numbers, of which those past its end are 0. */
typedef struct PxCall {
  int32_t num_inputs;
  int32_t num_operands;
  int32_t num_attrs;
  int32_t reserved;
  const PxTensor* operands;
  const PxAttr* attrs;
  void* workspace; /* as large as the kernel's workspace() asked for at the largest shapes, 64-byte aligned */
  int64_t workspace_bytes;
} PxCall;

/* What one thread of the pool knows while a kernel runs. */
typedef struct PxThread {
  int32_t index;
  int32_t count;
  void (*barrier)(const struct PxThread* thread); /* returns when all `count` threads have called it */
  void* pool;
  int64_t* counters; /* PERFX_NUM_COUNTERS shared counters, 64 bytes apart, zero when the kernel starts */
} PxThread;

/* What a thread of the pool calls. A status other than PX_OK should be decided from the operands before the work is
 * divided, and so be the same on all threads: then a command list stops exactly there. */
typedef int32_t (*PxKernelFn)(const PxCall* call, const PxThread* thread);
/* PX_OK: this kernel runs the call; PX_UNSUPPORTED: it does not. Looks at dtypes, layouts, shapes and strides only;
 * `data` may be null. Shapes are upper bounds. */
typedef int32_t (*PxAcceptsFn)(const PxCall* call);
typedef int64_t (*PxWorkspaceFn)(const PxCall* call, int32_t num_threads);

typedef struct PxKernel {
  const char* op; /* the OpSpec's name */
  PxAcceptsFn accepts;
  PxWorkspaceFn workspace; /* may be null: none needed */
  PxKernelFn run;
} PxKernel;

/* Kernels compiled for one instruction set. One variant is chosen, and only its kernels are used: a kernel that has
 * nothing special for an instruction set stands in the tables of several. */
typedef struct PxVariant {
  const char* name;           /* "scalar", "avx2", "avx512", "avx512vnni", ... */
  int32_t (*supported)(void); /* can this machine run it? */
  int32_t num_kernels;
  int32_t reserved;
  const PxKernel* kernels;
} PxVariant;

typedef struct PxLibrary {
  uint32_t abi_version; /* PERFX_ABI_VERSION */
  uint32_t sizeof_tensor;
  uint32_t sizeof_call;
  uint32_t sizeof_thread;
  uint32_t sizeof_kernel;
  uint32_t sizeof_variant;
  const char* name;
  int32_t num_variants; /* best first */
  int32_t reserved;
  const PxVariant* variants;
} PxLibrary;

typedef const PxLibrary* (*PxLibraryFn)(void); /* exported as `perfx_library` */
/* cdef: end */

/* Claims the next `size` items of shared counter `which`; returns the first. Each item is claimed once. */
static inline int64_t perfx_claim(const PxThread* thread, int which, int64_t size) {
  return __atomic_fetch_add(thread->counters + 8 * which, size, __ATOMIC_RELAXED);
}

#ifdef __cplusplus
}
#endif
#endif
