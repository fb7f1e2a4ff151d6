/* The table of the kernels of the array API standard's primitives. */
#ifndef PERFX_KERNELS_ARRAY_HPP
#define PERFX_KERNELS_ARRAY_HPP

#include "perfx/kernels/arithmetic.hpp"
#include "perfx/kernels/copy.hpp"
#include "perfx/kernels/gather.hpp"
#include "perfx/kernels/reduce.hpp"
#include "perfx/kernels/scan.hpp"
#include "perfx/kernels/sort.hpp"
#include "perfx/kernels/unary.hpp"

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
template <const LoopTable& kTable, int64_t kGrain = kElementGrain>
constexpr PxKernel single_kernel(const char* op) {
  return {op, accepts_single<kTable>, nullptr, run_single<kTable, kGrain>};
}
template <const ReduceTable& kTable>
constexpr PxKernel reduce_kernel(const char* op) {
  return {op, accepts_reduce<kTable>, reduce_workspace, run_reduce<kTable>};
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
    single_kernel<kNumberLoops<Magnitude>>("abs"),
    single_kernel<kNumberLoops<Sign>>("sign"),
    single_kernel<kRoundLoops<Ceil>>("ceil"),
    single_kernel<kRoundLoops<Floor>>("floor"),
    single_kernel<kRoundLoops<Truncate>>("trunc"),
    single_kernel<kRoundLoops<Round>>("round"),
    single_kernel<kRoundLoops<SquareRoot>>("sqrt"),
    {"exp", accepts_single<kExpLoops>, nullptr, run_single_or_vectors<kExpLoops, exp>},
    {"tanh", accepts_single<kTanhLoops>, nullptr, run_single_or_vectors<kTanhLoops, tanh>},
    single_kernel<kMixedLoops<wide::expm1_of, ::expm1>, kSlowGrain>("expm1"),
    single_kernel<kWideLoops<wide::log_of<false>, wide::log_of<true>>, kSlowGrain>("log"),
    single_kernel<kWideLoops<wide::log2_of<false>, wide::log2_of<true>>, kSlowGrain>("log2"),
    single_kernel<kWideLoops<wide::log10_of<false>, wide::log10_of<true>>, kSlowGrain>("log10"),
    single_kernel<kWideLoops<wide::log1p_of<false>, wide::log1p_of<true>>, kSlowGrain>("log1p"),
    single_kernel<kWideLoops<wide::sine_of<false, 0>, wide::sine_of<true, 0>>, kSlowGrain>("sin"),
    single_kernel<kWideLoops<wide::sine_of<false, 1>, wide::sine_of<true, 1>>, kSlowGrain>("cos"),
    single_kernel<kMixedLoops<tangent, ::tan>, kSlowGrain>("tan"),
    single_kernel<kMixedLoops<wide::asin_of, ::asin>, kSlowGrain>("asin"),
    single_kernel<kMixedLoops<wide::acos_of, ::acos>, kSlowGrain>("acos"),
    single_kernel<kMixedLoops<wide::atan_of, ::atan>, kSlowGrain>("atan"),
    single_kernel<kMixedLoops<wide::sinh_of, ::sinh>, kSlowGrain>("sinh"),
    single_kernel<kMixedLoops<wide::cosh_of, ::cosh>, kSlowGrain>("cosh"),
    single_kernel<kMixedLoops<wide::asinh_of, ::asinh>, kSlowGrain>("asinh"),
    single_kernel<kMixedLoops<wide::acosh_of, ::acosh>, kSlowGrain>("acosh"),
    single_kernel<kMixedLoops<wide::atanh_of, ::atanh>, kSlowGrain>("atanh"),
    {"where", accepts_where, nullptr, run_where},
    {"astype", accepts_astype, nullptr, run_astype},
    {"assign", accepts_assign, nullptr, run_assign},
    {"concat", accepts_concat, nullptr, run_concat},
    reduce_kernel<kWrappingReduction<SumOf>>("sum"),
    reduce_kernel<kWrappingReduction<ProductOf>>("prod"),
    reduce_kernel<kOrderReduction<LargestOf>>("max"),
    reduce_kernel<kOrderReduction<SmallestOf>>("min"),
    {"argmax", accepts_positions, positions_workspace, run_positions<true>},
    {"argmin", accepts_positions, positions_workspace, run_positions<false>},
    {"cumulative_sum", accepts_scan, nullptr, run_scan<SumOf>},
    {"cumulative_prod", accepts_scan, nullptr, run_scan<ProductOf>},
    {"take", accepts_take, nullptr, run_take},
    {"take_along_axis", accepts_take_along, nullptr, run_take_along},
    {"put_rows", accepts_put_rows, nullptr, run_put_rows},
    {"flat_nonzero", accepts_flat_nonzero, nullptr, run_flat_nonzero},
    {"searchsorted", accepts_searchsorted, nullptr, run_searchsorted},
    {"argsort", accepts_argsort, argsort_workspace, run_argsort},
};
constexpr int32_t kNumArrayKernels = int32_t(sizeof(kArrayKernels) / sizeof(kArrayKernels[0]));

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
