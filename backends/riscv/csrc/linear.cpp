// Products with packed weights in the variant at hand.
#include "simd.hpp"

#ifdef __riscv_vector
#include "linear_simd_rvv.hpp"
#else
#include "perfx/linear_simd_portable.hpp"
#endif

#include "kernel_table.hpp"
#include "perfx/linear.hpp"

const perfx::KernelTable perfx::PERFX_TABLE(linear) = {
    perfx::PERFX_VARIANT::linear::kKernels<
        perfx::PERFX_VARIANT::linear::TileTarget<perfx::PERFX_VARIANT::linear::Simd>>,
    perfx::PERFX_VARIANT::linear::kNumKernels};
