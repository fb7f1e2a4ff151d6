// The kernel tables of this library: one array for each instruction set and family of kernels.
#ifndef PERFX_CPU_KERNEL_TABLES_HPP
#define PERFX_CPU_KERNEL_TABLES_HPP

#include "perfx/host/variants.hpp"

namespace perfx {

// Matrix products, vocab_topk, embedding: linear_<variant>.cpp.
extern const KernelTable linear_kernels_scalar;
extern const KernelTable linear_kernels_avx2;        // -mavx2 -mfma -mf16c
extern const KernelTable linear_kernels_avx512;      // -mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma -mf16c
extern const KernelTable linear_kernels_avx512vnni;  // the same and -mavx512vnni
extern const KernelTable linear_kernels_neon;
extern const KernelTable linear_kernels_dotprod;  // +dotprod
extern const KernelTable linear_kernels_i8mm;     // the same and +i8mm

// Norms, rotary embedding, KV cache, attention, elementwise, sampling: general_<variant>.cpp.
extern const KernelTable general_kernels_scalar;
extern const KernelTable general_kernels_avx2;
extern const KernelTable general_kernels_avx512;
extern const KernelTable general_kernels_neon;

// The primitives of the array API standard: array_<variant>.cpp.
extern const KernelTable array_kernels_scalar;
extern const KernelTable array_kernels_avx2;
extern const KernelTable array_kernels_avx512;
extern const KernelTable array_kernels_neon;

// Products of floating-point matrices: matmul_<variant>.cpp.
extern const KernelTable matmul_kernels_scalar;
extern const KernelTable matmul_kernels_avx2;
extern const KernelTable matmul_kernels_avx512;
extern const KernelTable matmul_kernels_neon;

// Convolutions, pools, recurrent layers, resampling: neural_<variant>.cpp.
extern const KernelTable neural_kernels_scalar;
extern const KernelTable neural_kernels_avx2;
extern const KernelTable neural_kernels_avx512;
extern const KernelTable neural_kernels_neon;

}  // namespace perfx
#endif
