/* The family of matrix products: linear, multi_linear, gated_linear, vocab_topk, embedding.
 *
 * A translation unit defines PERFX_VARIANT, includes the general vector layer (perfx/simd_portable.hpp says what it
 * is), the one of the tile kernels (which defines `Simd`; perfx/linear_simd_portable.hpp says what it holds) and
 * this header, and exports `kKernels<TileTarget<Simd>>`. An instruction set whose vectors cannot be members or array
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

template <bool (*fits)(const PxCall* call)>
int32_t accepts(const PxCall* call) {
  return fits(call) ? PX_OK : PX_UNSUPPORTED;
}

constexpr int32_t kNumKernels = 5;

template <class Target>
constexpr PxKernel kKernels[kNumKernels] = {
    {"linear", accepts<fits_linear>, linear_workspace_bytes<Target>, run_linear<Target>},
    {"multi_linear", accepts<fits_linear>, linear_workspace_bytes<Target>, run_linear<Target>},
    {"gated_linear", accepts<fits_gated_linear>, gated_workspace_bytes<Target>, run_gated_linear<Target>},
    {"vocab_topk", accepts<fits_vocab_topk>, vocab_workspace_bytes<Target>, run_vocab_topk<Target>},
    {"embedding", accepts<fits_embedding>, nullptr, run_embedding},
};

}  // namespace linear
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
