/* The family of matrix products: linear, multi_linear, gated_linear, vocab_topk, embedding.
 *
 * A translation unit defines PERFX_VARIANT, includes a vector layer (which defines `Simd`; the plain one says what it must
 * hold) and this header, and exports `kKernels<TileTarget<Simd>>`. An instruction set whose vectors cannot be members or array
 * elements supplies its own target instead, with the members of TileTarget (linear_tile.hpp).
 */
#ifndef PERFX_LINEAR_HPP
#define PERFX_LINEAR_HPP

#include "perfx/linear_embedding.hpp"
#include "perfx/linear_product.hpp"
#include "perfx/linear_topk.hpp"

namespace perfx {
namespace PERFX_VARIANT {
namespace linear {

constexpr int32_t kNumKernels = 5;

/* A predicate as the ABI wants it. */
template <int32_t (*Predicate)(const PxCall*)>
int32_t accepts(const PxCall* call) {
  return Predicate(call) ? PX_OK : PX_UNSUPPORTED;
}

template <class Target>
constexpr PxKernel kKernels[kNumKernels] = {
    {"linear", accepts<accepts_linear>, linear_workspace_bytes<Target>, run_linear<Target>},
    {"multi_linear", accepts<accepts_linear>, linear_workspace_bytes<Target>, run_linear<Target>},
    {"gated_linear", accepts<accepts_gated_linear>, gated_workspace_bytes<Target>, run_gated_linear<Target>},
    {"vocab_topk", accepts<accepts_vocab_topk>, vocab_workspace_bytes<Target>, run_vocab_topk<Target>},
    {"embedding", accepts<accepts_embedding>, nullptr, run_embedding},
};

}  // namespace linear
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
