/* The table of the kernels in this folder: everything a model needs beside its matrix products. */
#ifndef PERFX_KERNELS_GENERAL_HPP
#define PERFX_KERNELS_GENERAL_HPP

#include "perfx/kernels/chain.hpp"
#include "perfx/kernels/elementwise.hpp"
#include "perfx/kernels/kv_cache.hpp"
#include "perfx/kernels/logits.hpp"
#include "perfx/kernels/norm.hpp"
#include "perfx/kernels/paged_attention.hpp"
#include "perfx/kernels/random_bits.hpp"
#include "perfx/kernels/rope.hpp"
#include "perfx/kernels/rows.hpp"
#include "perfx/kernels/sample.hpp"
#include "perfx/kernels/softmax.hpp"
#include "perfx/kernels/topk.hpp"

namespace perfx {
namespace PERFX_VARIANT {

static const PxKernel kGeneralKernels[] = {
    {"rms_norm", accepts_rms_norm, nullptr, run_rms_norm},
    {"add_rms_norm", accepts_add_rms_norm, nullptr, run_add_rms_norm},
    {"norm_add_rms_norm", accepts_norm_add_rms_norm, nullptr, run_norm_add_rms_norm},
    {"rope_table", accepts_rope_table, nullptr, run_rope_table},
    {"rope", accepts_rope, nullptr, run_rope},
    {"norm_rope", accepts_norm_rope, nullptr, run_norm_rope},
    {"kv_write", accepts_kv_write, nullptr, run_kv_write},
    {"paged_attention", accepts_paged_attention, paged_attention_workspace, run_paged_attention},
    {"gated_activation", accepts_gated_activation, nullptr, run_gated_activation},
    {"gelu_tanh", accepts_unary, nullptr, run_unary<gelu_tanh>},
    {"silu", accepts_unary, nullptr, run_unary<silu>},
    {"sigmoid", accepts_unary, nullptr, run_unary<sigmoid>},
    {"softcap", accepts_softcap, nullptr, run_softcap},
    {"elementwise_chain", accepts_elementwise_chain, nullptr, run_elementwise_chain},
    {"random_bits", accepts_random_bits, nullptr, run_random_bits},
    {"take_rows", accepts_take_rows, nullptr, run_take_rows},
    {"softmax", accepts_softmax, softmax_workspace, run_softmax<false>},
    {"log_softmax", accepts_softmax, softmax_workspace, run_softmax<true>},
    {"logsumexp", accepts_logsumexp, softmax_workspace, run_logsumexp},
    {"topk", accepts_topk, topk_workspace, run_topk},
    {"adjust_logits", accepts_adjust_logits, nullptr, run_adjust_logits},
    {"sample", accepts_sample, sample_workspace, run_sample},
};
constexpr int32_t kNumGeneralKernels = int32_t(sizeof(kGeneralKernels) / sizeof(kGeneralKernels[0]));

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
