/* The table of kernels of one instruction set. A translation unit defines PERFX_VARIANT before it. */
#ifndef PERFX_SIGNAL_KERNELS_HPP
#define PERFX_SIGNAL_KERNELS_HPP

#include "fourier.hpp"
#include "kernel_tables.hpp"
#include "polyphase.hpp"
#include "recurrence.hpp"

namespace perfx {
namespace PERFX_VARIANT {

constexpr PxKernel kKernels[] = {
    {"irfft", accepts_irfft, workspace_irfft, run_irfft},
    {"lfilter", accepts_lfilter, workspace_lfilter, run_lfilter},
    {"rfft", accepts_rfft, workspace_rfft, run_rfft},
    {"sosfilt", accepts_sosfilt, workspace_sosfilt, run_sosfilt},
    {"upfirdn", accepts_upfirdn, workspace_upfirdn, run_upfirdn},
};
constexpr KernelTable kSignalKernels = {kKernels, int32_t(sizeof(kKernels) / sizeof(kKernels[0]))};

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
