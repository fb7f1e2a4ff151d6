/* The table of the kernels of vision and speech networks. */
#ifndef PERFX_KERNELS_NEURAL_HPP
#define PERFX_KERNELS_NEURAL_HPP

#include "perfx/kernels/convolution.hpp"

namespace perfx {
namespace PERFX_VARIANT {

static const PxKernel kNeuralKernels[] = {
    {"convolution", convolution::accepts, convolution::general_workspace, convolution::run_general},
};
constexpr int32_t kNumNeuralKernels = int32_t(sizeof(kNeuralKernels) / sizeof(kNeuralKernels[0]));

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
