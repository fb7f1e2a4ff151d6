// The kernel tables of this library: one array for each instruction set and family of kernels.
//
// A family is compiled once per instruction set, in its own translation unit, with PERFX_VARIANT set to the name of the
// variant; library.cpp joins the arrays of one variant into a PxVariant. Flags every kernel file needs, so that all
// variants give the same bits: -ffp-contract=off, no -ffast-math.
#ifndef PERFX_CPU_KERNEL_TABLES_HPP
#define PERFX_CPU_KERNEL_TABLES_HPP

#include "perfx/abi.h"

namespace perfx {

struct KernelTable {
  const PxKernel* kernels;
  int32_t count;
};

// Matrix products, vocab_topk, embedding: linear_<variant>.cpp.
extern const KernelTable linear_kernels_scalar;
extern const KernelTable linear_kernels_avx2;        // -mavx2 -mfma -mf16c
extern const KernelTable linear_kernels_avx512;      // -mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma -mf16c
extern const KernelTable linear_kernels_avx512vnni;  // the same and -mavx512vnni

// Norms, rotary embedding, KV cache, attention, elementwise, sampling: general_<variant>.cpp.
extern const KernelTable general_kernels_scalar;
extern const KernelTable general_kernels_avx2;
extern const KernelTable general_kernels_avx512;

// The primitives of the array API standard: array_<variant>.cpp.
extern const KernelTable array_kernels_scalar;
extern const KernelTable array_kernels_avx2;
extern const KernelTable array_kernels_avx512;

// Products of floating-point matrices: matmul_<variant>.cpp.
extern const KernelTable matmul_kernels_scalar;
extern const KernelTable matmul_kernels_avx2;
extern const KernelTable matmul_kernels_avx512;

// Convolutions, pools, recurrent layers, resampling: neural_<variant>.cpp.
extern const KernelTable neural_kernels_scalar;
extern const KernelTable neural_kernels_avx2;
extern const KernelTable neural_kernels_avx512;

}  // namespace perfx
#endif
