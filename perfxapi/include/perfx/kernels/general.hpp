/* The table of the kernels in this folder: everything a model needs beside its matrix products. */
#ifndef PERFX_KERNELS_GENERAL_HPP
#define PERFX_KERNELS_GENERAL_HPP

#include "perfx/kernels/norm.hpp"
#include "perfx/kernels/rows.hpp"

namespace perfx {
namespace PERFX_VARIANT {

static const PxKernel kGeneralKernels[] = {
    {"rms_norm", accepts_rms_norm, nullptr, run_rms_norm},
    {"add_rms_norm", accepts_add_rms_norm, nullptr, run_add_rms_norm},
    {"norm_add_rms_norm", accepts_norm_add_rms_norm, nullptr, run_norm_add_rms_norm},
    {"take_rows", accepts_take_rows, nullptr, run_take_rows},
};
constexpr int32_t kNumGeneralKernels = int32_t(sizeof(kGeneralKernels) / sizeof(kGeneralKernels[0]));

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
