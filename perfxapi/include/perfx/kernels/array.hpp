/* The table of the kernels of the array API standard's primitives. */
#ifndef PERFX_KERNELS_ARRAY_HPP
#define PERFX_KERNELS_ARRAY_HPP

#include "perfx/kernels/arithmetic.hpp"
#include "perfx/kernels/copy.hpp"

namespace perfx {
namespace PERFX_VARIANT {

template <const LoopTable& kTable, F (*Function)(F, F)>
constexpr PxKernel vector_pair_kernel(const char* op) {
  return {op, accepts_pair<kTable, false>, nullptr, run_pair_or_vectors<kTable, Function>};
}
template <const LoopTable& kTable, int64_t kGrain = kElementGrain>
constexpr PxKernel pair_kernel(const char* op) {
  return {op, accepts_pair<kTable, false>, nullptr, run_pair<kTable, false, kGrain>};
}
template <const LoopTable& kTable>
constexpr PxKernel truth_kernel(const char* op) {
  return {op, accepts_pair<kTable, true>, nullptr, run_pair<kTable, true, kElementGrain>};
}

static const PxKernel kArrayKernels[] = {
    vector_pair_kernel<kWrappingLoops<Add>, add>("add"),
    vector_pair_kernel<kWrappingLoops<Subtract>, subtract>("subtract"),
    vector_pair_kernel<kWrappingLoops<Multiply>, multiply>("multiply"),
    vector_pair_kernel<kFloatLoops<Divide>, divide>("divide"),
    vector_pair_kernel<kRealLoops<Maximum>, maximum>("maximum"),
    vector_pair_kernel<kRealLoops<Minimum>, minimum>("minimum"),
    pair_kernel<kRealLoops<FloorDivide>, kSlowGrain>("floor_divide"),
    pair_kernel<kRealLoops<Remainder>, kSlowGrain>("remainder"),
    {"pow", accepts_pair<kWrappingLoops<Power>, false>, nullptr, run_power},
    pair_kernel<kBitLoops<And>>("bitwise_and"),
    pair_kernel<kBitLoops<Or>>("bitwise_or"),
    pair_kernel<kBitLoops<Xor>>("bitwise_xor"),
    pair_kernel<kShiftLoops<LeftShift>>("bitwise_left_shift"),
    pair_kernel<kShiftLoops<RightShift>>("bitwise_right_shift"),
    truth_kernel<kEqualLoops<Equal>>("equal"),
    truth_kernel<kOrderLoops<Less>>("less"),
    truth_kernel<kOrderLoops<LessEqual>>("less_equal"),
    pair_kernel<kFloatLoops<CopySign>>("copysign"),
    pair_kernel<kFloatLoops<Atan2>, kSlowGrain>("atan2"),
    pair_kernel<kFloatLoops<Hypot>, kSlowGrain>("hypot"),
    pair_kernel<kFloatLoops<LogAddExp>, kSlowGrain>("logaddexp"),
    {"nextafter", accepts_nextafter, nullptr, run_pair<kFloatLoops<NextAfter>, false, kSlowGrain>},
    {"where", accepts_where, nullptr, run_where},
    {"astype", accepts_astype, nullptr, run_astype},
    {"assign", accepts_assign, nullptr, run_assign},
    {"concat", accepts_concat, nullptr, run_concat},
};
constexpr int32_t kNumArrayKernels = int32_t(sizeof(kArrayKernels) / sizeof(kArrayKernels[0]));

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
