/* The table of the kernels of vision and speech networks. */
#ifndef PERFX_KERNELS_NEURAL_HPP
#define PERFX_KERNELS_NEURAL_HPP

#include "perfx/kernels/convolution.hpp"
#include "perfx/kernels/error_function.hpp"
#include "perfx/kernels/layer_norm.hpp"
#include "perfx/kernels/pooling.hpp"
#include "perfx/kernels/recurrent.hpp"
#include "perfx/kernels/resampling.hpp"

namespace perfx {
namespace PERFX_VARIANT {

static const PxKernel kNeuralKernels[] = {
    {"convolution", convolution::accepts, convolution::general_workspace, convolution::run_general},
    {"pool", pooling::accepts_pool, pooling::workspace<1>, pooling::run_pool},
    {"max_pool_with_indices", pooling::accepts_with_indices, pooling::workspace<0>, pooling::run_max_pool_with_indices},
    {"lstm", recurrent::accepts<recurrent::kLstm>, recurrent::workspace<recurrent::kLstm>,
     recurrent::run<recurrent::kLstm>},
    {"gru", recurrent::accepts<recurrent::kGru>, recurrent::workspace<recurrent::kGru>,
     recurrent::run<recurrent::kGru>},
    {"rnn", recurrent::accepts<recurrent::kRnn>, recurrent::workspace<recurrent::kRnn>,
     recurrent::run<recurrent::kRnn>},
    {"resample", resampling::accepts, nullptr, resampling::run},
    {"layer_norm", accepts_layer_norm, nullptr, run_layer_norm},
    {"erf", accepts_unary, nullptr, run_unary<erf>},
    {"gelu", accepts_unary, nullptr, run_unary<gelu>},
};
constexpr int32_t kNumNeuralKernels = int32_t(sizeof(kNeuralKernels) / sizeof(kNeuralKernels[0]));

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
