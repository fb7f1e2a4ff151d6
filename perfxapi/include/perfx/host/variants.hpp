/* How a backend's library makes its table (perfx/abi.h) from families of kernels, each compiled once for each
 * instruction set.
 *
 * A family is compiled in its own translation unit, with PERFX_VARIANT set to the name of the variant; Joined puts the
 * families of one variant together. Flags every kernel file needs, so that all variants give the same bits:
 * -ffp-contract=off, no -ffast-math.
 */
#ifndef PERFX_HOST_VARIANTS_HPP
#define PERFX_HOST_VARIANTS_HPP

#include <initializer_list>

#include "perfx/abi.h"

namespace perfx {

struct KernelTable {
  const PxKernel* kernels;
  int32_t count;
};

/* The kernels of one instruction set: its families joined. `supported` says whether the machine can run them. */
class Joined {
 public:
  Joined(const char* name, int32_t (*supported)(void), std::initializer_list<KernelTable> families)
      : variant_{name, supported, 0, 0, kernels_} {
    for (const KernelTable& family : families) {
      for (int32_t i = 0; i < family.count && variant_.num_kernels < kMaxKernels; ++i) {
        kernels_[variant_.num_kernels++] = family.kernels[i];
      }
    }
  }
  Joined(const Joined&) = delete;
  const PxVariant& variant() const { return variant_; }

 private:
  static constexpr int32_t kMaxKernels = 256;
  PxKernel kernels_[kMaxKernels];
  PxVariant variant_;
};

/* The table of a library. `variants`, best first, live as long as it. */
template <int32_t count>
inline PxLibrary library_of(const char* name, const PxVariant (&variants)[count]) {
  return {PERFX_ABI_VERSION,
          sizeof(PxTensor),
          sizeof(PxCall),
          sizeof(PxThread),
          sizeof(PxKernel),
          sizeof(PxVariant),
          name,
          count,
          0,
          variants};
}

}  // namespace perfx
#endif
