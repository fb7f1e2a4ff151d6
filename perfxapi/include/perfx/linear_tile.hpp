/* The tile kernel: 16 rows of weights times a group of tokens, written once over a small vector layer.
 *
 * `Simd` is that layer (linear_simd_*.hpp): vectors of kLanes rows, 16 or fewer, code vectors of
 * kLanes x 4 bytes, and a dot product of codes. (What works on whole rows of results uses the general layer of
 * simd_portable.hpp.) Weights of a block are unpacked once and multiplied with every token of the group. When many
 * groups of tokens follow, tiles are expanded first (codes as bytes, scales as float32), so that unpacking is not
 * repeated.
 *
 * The arithmetic of one output never depends on the group: for each block in ascending order an exact integer dot
 * product, then one fused multiply-add. So one token gives the same bits alone and among others.
 */
#ifndef PERFX_LINEAR_TILE_HPP
#define PERFX_LINEAR_TILE_HPP

#include "perfx/kernels/math.hpp"
#include "perfx/linear_expanded.hpp"
#include "perfx/linear_screen.hpp"

#ifdef __clang__
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wpass-failed" /* loops that were unrolled before the pragma was looked at */
#endif

namespace perfx {
namespace PERFX_VARIANT {
namespace linear {

/* The op attribute `activation`. */
enum Activation : int { kGeluTanh = 0, kSilu = 1 };

/* One call of a tile kernel. */
struct TileTask {
  const Byte* weights;     /* a packed or an expanded tile */
  const Byte* low_halves;  /* those of a split tile, which lie apart */
  int64_t num_blocks;      /* of the packed format, or 32-column blocks when expanded, or columns of a float tile */
  const Byte* activations; /* the group's first byte */
  float* results;          /* [tokens][16] */
  Field correction;        /* the correction that belongs to the weight's offset */
  const Byte* ahead;       /* what will be read after this tile: brought into the second-level cache meanwhile, */
  int64_t ahead_bytes;     /* so many bytes of it during each block */
};
template <class From>
constexpr bool is_split = false;
template <class Simd>
constexpr bool is_split<SplitSource<Simd>> = true;

template <class From>
struct SourceAt {
  static From make(const TileTask& task, int64_t block, int lane) {
    return {task.weights + block * From::kBytes, lane};
  }
};
template <class Simd>
struct SourceAt<SplitSource<Simd>> {
  static SplitSource<Simd> make(const TileTask& task, int64_t block, int lane) {
    return {task.weights, task.low_halves, task.num_blocks, block, lane};
  }
};

using TileFn = void (*)(const TileTask& task);
using ExpandFn = void (*)(const Weight& weight, int64_t tile, Byte* expanded);

/* The tile kernel of one group size, source of weights and activation format. */
template <class Simd, class From, ActivationFormat format, int tokens>
class TileKernel {
 public:
  static void run(const TileTask& task) {
    for (int lane = 0; lane < kTileRows; lane += Simd::kLanes) {
      F32 sums[tokens];
#pragma GCC unroll 16
      for (int m = 0; m < tokens; ++m) sums[m] = Simd::zero();
      add_blocks(task, lane, sums);
#pragma GCC unroll 16
      for (int m = 0; m < tokens; ++m) Simd::store(task.results + kTileRows * m + lane, sums[m]);
    }
  }

 private:
  using F32 = typename Simd::F32;
  using Dot = typename Simd::template Dot<format, Simd::code_bits(From::kBits)>;
  static constexpr int kCodeBytes = Simd::ActivationLayout::template bytes<format>();
  static constexpr int kPartBytes = tokens * (kCodeBytes + 4 * kNumFields);
  static constexpr int kGroups = 8 / From::kScales; /* of columns with one scale */
  /* Tokens whose dot products are computed together: enough to hide the latency, not more than registers hold. */
  static constexpr int kBatch = tokens * Dot::kChains <= Simd::kMaxChains       ? tokens
                                : tokens / 2 * Dot::kChains <= Simd::kMaxChains ? tokens / 2
                                                                                : tokens / 3;
  static_assert(tokens % kBatch == 0 && kBatch * Dot::kChains <= Simd::kMaxChains, "whole batches that fit");
  /* Do dot products begin with what their codes' offset amounts to? */
  static constexpr bool kCorrects = From::kOffset && !(Dot::kCentersBytes && From::kBits == 8);

  static inline void add_blocks(const TileTask& task, int lane, F32* sums) {
    const Byte* x = task.activations;
    const Byte* ahead = task.ahead;
    for (int64_t b = 0; b < task.num_blocks; ++b) {
      if (!From::kIsPacked)
        for (const Byte* end = ahead + task.ahead_bytes; ahead < end; ahead += kCacheLine)
          __builtin_prefetch(ahead, 0, 2);
      const From source = SourceAt<From>::make(task, b, lane);
      const Byte* block = task.weights + b * From::kBytes;
      for (int part = 0; part < From::kParts; ++part, x += kPartBytes) {
        if (From::kIsPacked && !is_split<From>)
          prefetch(block + part * (From::kBytes / From::kParts), From::kBytes / From::kParts);
        add_part(source, part, x, task.correction, sums);
      }
    }
  }

  static inline __attribute__((always_inline)) void add_part(const From& source, int part, const Byte* x,
                                                             Field correction, F32* sums) {
    if constexpr (Simd::kHoldsCodes) {
      typename Simd::Codes codes[8];
      unpack<Simd>(source.groups(part), codes);
      add_codes(source, part, codes, x, correction, sums);
    } else {
      add_codes(source, part, source.groups(part), x, correction, sums);
    }
  }

  template <class Groups>
  static inline __attribute__((always_inline)) void add_codes(const From& source, int part, const Groups& codes,
                                                              const Byte* x, Field correction, F32* sums) {
    const Byte* fields = x + tokens * kCodeBytes;
#pragma GCC unroll 2
    for (int half = 0; half < From::kScales; ++half) {
      const Byte* corrections = fields + 4 * (correction + half) * tokens;
#pragma GCC unroll 16
      for (int first = 0; first < tokens; first += kBatch)
        add_batch(source, part, half, codes, x + first * kCodeBytes, fields + 4 * first, corrections + 4 * first,
                  sums + first);
    }
  }

  /* Adds the products of one half of a part with kBatch tokens to their sums. */
  template <class Groups>
  static inline __attribute__((always_inline)) void add_batch(const From& source, int part, int half,
                                                              const Groups& codes, const Byte* x, const Byte* fields,
                                                              const Byte* corrections, F32* sums) {
    typename Simd::I32 products[kBatch];
#pragma GCC unroll 16
    for (int m = 0; m < kBatch; ++m)
      products[m] = kCorrects ? Simd::broadcast_int(corrections + 4 * m) : Simd::zero_int();
    multiply_groups<Simd, Dot, kGroups, kBatch, kCodeBytes>(codes, x, half * kGroups, products);
    const auto scale = source.scale(part, half);
#pragma GCC unroll 16
    for (int m = 0; m < kBatch; ++m) {
      const F32 both = Simd::multiply(scale, Simd::broadcast(fields + 4 * (kScale * tokens + m)));
      sums[m] = Simd::fused(Simd::to_float(products[m]), both, sums[m]);
    }
    if (!From::kMinimum) return;
    const auto minimum = source.minimum(part, half);
#pragma GCC unroll 16
    for (int m = 0; m < kBatch; ++m) sums[m] = Simd::fused(minimum, scaled_sum(fields, corrections, m), sums[m]);
  }

  /* Scale * (sum of the codes) of token m, of the part or of half of it: a half's sum is what it is corrected by, a
   * whole number times -32, so that the division is exact. */
  static inline __attribute__((always_inline)) F32 scaled_sum(const Byte* fields, const Byte* corrections, int m) {
    if constexpr (From::kScales == 1) return Simd::broadcast(fields + 4 * (kScaledSum * tokens + m));
    const F32 sum =
        Simd::multiply(Simd::to_float(Simd::broadcast_int(corrections + 4 * m)), Simd::broadcast_float(-1.0f / 32));
    return Simd::multiply(Simd::broadcast(fields + 4 * (kScale * tokens + m)), sum);
  }
};

template <class Simd, int32_t dtype, int tokens>
void multiply_float_tile(const TileTask& task) {
  constexpr int itemsize = dtype == PX_FLOAT32 ? 4 : 2;
  for (int lane = 0; lane < kTileRows; lane += Simd::kLanes) {
    typename Simd::F32 sums[tokens];
#pragma GCC unroll 16
    for (int m = 0; m < tokens; ++m) sums[m] = Simd::zero();
    const Byte* from = task.weights + itemsize * lane;
    const Byte* x = task.activations;
    for (int64_t k = 0; k < task.num_blocks; ++k, from += itemsize * kTileRows, x += 4 * tokens) {
      if (tokens <= 4) prefetch(from, 1);
      const auto weights = dtype == PX_FLOAT32   ? Simd::load(from)
                           : dtype == PX_FLOAT16 ? Simd::widen_float16(from)
                                                 : Simd::widen_bfloat16(from);
#pragma GCC unroll 16
      for (int m = 0; m < tokens; ++m) sums[m] = Simd::fused(weights, Simd::broadcast(x + 4 * m), sums[m]);
    }
#pragma GCC unroll 16
    for (int m = 0; m < tokens; ++m) Simd::store(task.results + kTileRows * m + lane, sums[m]);
  }
}

/* ---- the kernels of one instruction set, as the outer loops ask for them */
template <class Simd>
struct TileTarget {
  static constexpr int kMaxTokens = Simd::kMaxTokens;
  /* Up to so many tokens it is quicker to unpack a tile again for each group than to expand it first; one whose low
   * halves lie apart is transposed as well, which is worth it for one group. */
  static constexpr int64_t kFewTokens = 24;
  static constexpr int64_t kFewSplitTokens = 8;
  static bool reads_packed(const Weight& weight, int64_t tokens) {
    return tokens <= (weight.is_split ? kFewSplitTokens : kFewTokens);
  }
  using ActivationLayout = typename Simd::ActivationLayout;
  /* Where both formats of codes lie alike, one kernel serves both: half of the code, half of the time to compile it. */
  static constexpr bool has_one_layout =
      ActivationLayout::template bytes<kInt8>() == ActivationLayout::template bytes<kInt16>();
  static constexpr ActivationFormat kNarrow = has_one_layout ? kInt16 : kInt8;

  static uint32_t largest_bits(const float* x) { return Simd::largest_bits(x); }
  template <ActivationFormat format>
  static void round_block(const float* x, float inverse, Byte* to, int32_t* sums) {
    Simd::template round_block<format>(x, inverse, to, sums);
  }
  /* A group of at most 8 tokens times a packed tile. */
  static TileFn packed_product(const Weight& weight, ActivationFormat format, int tokens) {
    if (weight.is_split) return product<SplitSource<Simd>>(format, tokens);
    return for_quantized(
        weight.dtype, [&](auto constant) { return product<Source<Simd, decltype(constant)::value>>(format, tokens); });
  }
  /* A group of tokens times an expanded tile. */
  static TileFn expanded_product(int32_t dtype, ActivationFormat format, int tokens) {
    return for_quantized(dtype, [&](auto constant) {
      return product<ExpandedOf<Simd, Source<Simd, decltype(constant)::value>>>(format, tokens);
    });
  }
  /* A group of tokens times a tile of floats. */
  static TileFn float_product(int32_t dtype, int tokens) {
    return for_float(dtype, [&](auto constant) {
      return for_tokens(tokens, [](auto count) -> TileFn {
        return multiply_float_tile<Simd, decltype(constant)::value, decltype(count)::value>;
      });
    });
  }
  /* From a packed tile to an expanded one; for float32 activations, to floats. */
  static ExpandFn expand(const Weight& weight, ActivationFormat format) {
    if (weight.is_split) return expand_blocks<SplitBlocks<Simd>>(format);
    return for_quantized(weight.dtype, [&](auto constant) {
      return expand_blocks<TileBlocks<Simd, decltype(constant)::value>>(format);
    });
  }
  static int64_t expanded_bytes(int32_t dtype, ActivationFormat format, int64_t columns) {
    if (format == kFloat32) return columns * kTileRows * 4;
    return columns / kBlock * for_quantized(dtype, [](auto constant) {
             return int64_t{ExpandedOf<Simd, Source<Simd, decltype(constant)::value>>::kBytes};
           });
  }
  /* Which rows of a vocabulary can still matter (linear_screen.hpp), for activations in int8 or int16. */
  static void screen(ActivationFormat format, const Weight& weight, int64_t tile, const Byte* activations,
                     const float* factors, float slack, Screened& out) {
    has_one_layout || format == kInt16 ? screen_tile<Simd, kInt16>(weight, tile, activations, factors, slack, out)
                                       : screen_tile<Simd, kNarrow>(weight, tile, activations, factors, slack, out);
  }
  static float low_part(const Weight& weight, int64_t row, const float* values) {
    return linear::low_part<Simd>(weight, row, values);
  }
  /* Bit i: !(values[i] <= bound), for 16 values; true for NaN. */
  static uint32_t not_below(const float* values, float bound) {
    return ~mask_bits(less_equal(load(values), set(bound))) & 0xffffu;
  }
  /* gate = activation(gate) * up, for 16 values: the functions of the op gated_activation, bit for bit. */
  static void apply_gate(Activation activation, float* gate, const float* up) {
    const F x = load(gate);
    store(gate, (activation == kSilu ? silu(x) : gelu_tanh(x)) * load(up));
  }

 private:
  template <class Blocks>
  static ExpandFn expand_blocks(ActivationFormat format) {
    return format == kFloat32 ? dequantize_tile<Simd, Blocks> : expand_tile<Simd, Blocks>;
  }
  /* Calls `function` with the group size as a type's constant. */
  template <int largest = kMaxTokens, class Function>
  static TileFn for_tokens(int tokens, Function function) {
    if constexpr (largest >= 12)
      if (tokens == 12) return function(Constant<12>{});
    if constexpr (largest >= 8)
      if (tokens == 8) return function(Constant<8>{});
    return tokens == 4 ? function(Constant<4>{}) : tokens == 2 ? function(Constant<2>{}) : function(Constant<1>{});
  }
  template <class From>
  static TileFn product(ActivationFormat format, int tokens) {
    return for_tokens<From::kIsPacked ? smaller(kMaxTokens, 8) : kMaxTokens>(tokens, [&](auto count) -> TileFn {
      constexpr int size = decltype(count)::value;
      return has_one_layout || format == kInt16 ? TileKernel<Simd, From, kInt16, size>::run
                                                : TileKernel<Simd, From, kNarrow, size>::run;
    });
  }
};

}  // namespace linear
}  // namespace PERFX_VARIANT
}  // namespace perfx

#ifdef __clang__
#pragma clang diagnostic pop
#endif
#endif
