// The kernel tables of this library: for each family one source, compiled once for each variant (PERFX_VARIANT).
#ifndef PERFX_RISCV_KERNEL_TABLE_HPP
#define PERFX_RISCV_KERNEL_TABLE_HPP

#include "perfx/host/variants.hpp"

// The table of a family in the variant at hand, as `general_kernels_rvv256`.
#define PERFX_TABLE_OF(family, variant) family##_kernels_##variant
#define PERFX_TABLE_OF_VARIANT(family, variant) PERFX_TABLE_OF(family, variant)
#define PERFX_TABLE(family) PERFX_TABLE_OF_VARIANT(family, PERFX_VARIANT)

// Declares the five tables of a variant: norms, rotary embedding, KV cache, attention, elementwise, sampling; products
// with packed weights; the primitives of the array API standard; products of floating-point matrices; convolutions,
// pools, recurrent layers, resampling.
#define PERFX_DECLARE_TABLES(variant)                        \
  extern const KernelTable PERFX_TABLE_OF(general, variant); \
  extern const KernelTable PERFX_TABLE_OF(linear, variant);  \
  extern const KernelTable PERFX_TABLE_OF(array, variant);   \
  extern const KernelTable PERFX_TABLE_OF(matmul, variant);  \
  extern const KernelTable PERFX_TABLE_OF(neural, variant);

namespace perfx {

PERFX_DECLARE_TABLES(scalar)
PERFX_DECLARE_TABLES(rvv128)
PERFX_DECLARE_TABLES(rvv256)
PERFX_DECLARE_TABLES(rvv512)
PERFX_DECLARE_TABLES(rvv1024)
PERFX_DECLARE_TABLES(rvv128_zvfhmin)
PERFX_DECLARE_TABLES(rvv256_zvfhmin)
PERFX_DECLARE_TABLES(rvv512_zvfhmin)
PERFX_DECLARE_TABLES(rvv1024_zvfhmin)

}  // namespace perfx
#endif
