/* The tile kernel: 16 rows of weights times a group of tokens, written once over a small vector layer.
 *
 * `Simd` is that layer (backends/cpu/csrc/linear_simd_*.hpp): vectors of kLanes rows, 16 or fewer, code vectors of
 * kLanes x 4 bytes, and a dot product of codes. (What works on whole rows of results uses the general layer of
 * simd_portable.hpp.) Weights of a block are unpacked once and multiplied with every token of the group. One token is
 * multiplied straight from the packed tile, for which memory is the limit; for more, tiles are first expanded (codes as
 * bytes, scales as float32), so that unpacking is not repeated for every group.
 *
 * The arithmetic of one output never depends on the group: for each block in ascending order an exact integer dot
 * product, then one fused multiply-add. So one token gives the same bits alone and among others.
 */
#ifndef PERFX_LINEAR_TILE_HPP
#define PERFX_LINEAR_TILE_HPP

#include "perfx/kernels/math.hpp"
#include "perfx/linear_activations.hpp"

#define PERFX_UNROLL _Pragma("GCC unroll 16")

namespace perfx {
namespace PERFX_VARIANT {
namespace linear {

/* The op attribute `activation`. */
enum Activation : int { kGeluTanh = 0, kSilu = 1 };

/* One call of a tile kernel. */
struct TileTask {
  const Byte* weights;     /* a packed or an expanded tile */
  int64_t num_blocks;      /* of the packed format, or 32-column blocks when expanded, or columns of a float tile */
  const Byte* activations; /* the group's first byte */
  float* results;          /* [tokens][16] */
  Field correction;        /* the correction that belongs to the weight's offset */
};
using TileFn = void (*)(const TileTask& task);
using ExpandFn = void (*)(const Byte* tile, int64_t num_blocks, Byte* expanded);

/* The constant that is subtracted from a format's codes, and where the activations hold its correction. */
constexpr int offset_of(int32_t dtype) {
  switch (dtype) {
    case PX_Q4_0:
      return 8;
    case PX_Q5_0:
      return 16;
    case PX_Q8_0:
      return 128;
    case PX_Q6_K:
      return 32;
    default:
      return 0;
  }
}
constexpr Field correction_of(int32_t dtype) {
  switch (dtype) {
    case PX_Q4_0:
      return kCorrection8;
    case PX_Q5_0:
      return kCorrection16;
    case PX_Q8_0:
      return kCorrection128;
    default:
      return kCorrection32First; /* not read for Q4_K */
  }
}

/* ---- sources of weights: a block's codes and scales for the lanes from `lane` on, 32 columns (a part) at a time.
 *
 * kParts        parts in a block
 * kScales       scales in a part: 1, or 2 for 16 columns each
 * kOffset       are codes minus a constant meant?
 * kMinimum      is minimum(part) added for every unit of activation?
 * kAhead        how far ahead to prefetch, in bytes; 0: the tile is in cache already
 */
template <class Simd>
inline void unpack_nibbles(const Byte* nibbles, typename Simd::Codes* codes) {
  PERFX_UNROLL for (int v = 0; v < 4; ++v) {
    const auto both = Simd::load_codes(nibbles + 64 * v);
    codes[v] = Simd::low_nibbles(both);
    codes[v + 4] = Simd::high_nibbles(both);
  }
}

template <class Simd, int32_t dtype>
struct Source;

/* The formats with one float16 scale for a block of 32 columns. */
template <class Simd, int bytes>
struct SimpleSource {
  static constexpr int kBytes = bytes, kParts = 1, kScales = 1, kAhead = 2048;
  static constexpr bool kOffset = true, kMinimum = false;
  const Byte* block;
  int lane;

  SimpleSource(const Byte* block, int lane) : block(block), lane(lane) {}
  typename Simd::F32 scale(int, int) const { return Simd::widen_float16(block + 2 * lane); }
  typename Simd::F32 minimum(int) const { return Simd::zero(); }
};

template <class Simd>
struct Source<Simd, PX_Q8_0> : SimpleSource<Simd, 544> {
  using SimpleSource<Simd, 544>::SimpleSource;
  void codes(int, typename Simd::Codes* codes) const {
    PERFX_UNROLL for (int g = 0; g < 8; ++g) codes[g] = Simd::load_codes(this->block + 32 + 64 * g + 4 * this->lane);
  }
};

template <class Simd>
struct Source<Simd, PX_Q5_0> : SimpleSource<Simd, 352> {
  using SimpleSource<Simd, 352>::SimpleSource;
  void codes(int, typename Simd::Codes* codes) const {
    unpack_nibbles<Simd>(this->block + 32 + 4 * this->lane, codes);
    const Byte* plane = this->block + 288 + this->lane / 2;
    PERFX_UNROLL for (int g = 0; g < 8; ++g) codes[g] = Simd::add_fifth_bits(codes[g], plane + 8 * g);
  }
};

template <class Simd>
struct Source<Simd, PX_Q4_0> : SimpleSource<Simd, 288> {
  using SimpleSource<Simd, 288>::SimpleSource;
  void codes(int, typename Simd::Codes* codes) const { unpack_nibbles<Simd>(this->block + 32 + 4 * this->lane, codes); }
};

template <class Simd>
struct Source<Simd, PX_Q4_K> {
  static constexpr int kBytes = 2368, kParts = 8, kScales = 1, kAhead = 2048;
  static constexpr bool kOffset = false, kMinimum = true;
  const Byte* block;
  int lane;
  typename Simd::F32 d, negative_dmin;

  Source(const Byte* block, int lane)
      : block(block),
        lane(lane),
        d(Simd::widen_float16(block + 2 * lane)),
        negative_dmin(Simd::negate(Simd::widen_float16(block + 32 + 2 * lane))) {}
  void codes(int part, typename Simd::Codes* codes) const {
    unpack_nibbles<Simd>(block + 320 + 256 * part + 4 * lane, codes);
  }
  typename Simd::F32 scale(int part, int) const {
    return Simd::multiply(d, Simd::widen_uint8(block + 64 + 16 * part + lane));
  }
  typename Simd::F32 minimum(int part) const {
    return Simd::multiply(negative_dmin, Simd::widen_uint8(block + 192 + 16 * part + lane));
  }
};

template <class Simd>
struct Source<Simd, PX_Q6_K> {
  static constexpr int kBytes = 3360, kParts = 8, kScales = 2, kAhead = 2048;
  static constexpr bool kOffset = true, kMinimum = false;
  const Byte* block;
  int lane;
  typename Simd::F32 d;

  Source(const Byte* block, int lane) : block(block), lane(lane), d(Simd::widen_float16(block + 2 * lane)) {}
  void codes(int part, typename Simd::Codes* codes) const {
    const Byte* nibbles = block + 288 + 384 * part + 4 * lane;
    unpack_nibbles<Simd>(nibbles, codes);
    const auto low = Simd::load_codes(nibbles + 256), high = Simd::load_codes(nibbles + 320);
    codes[0] = Simd::template add_crumbs<0>(codes[0], low);
    codes[1] = Simd::template add_crumbs<1>(codes[1], low);
    codes[2] = Simd::template add_crumbs<2>(codes[2], low);
    codes[3] = Simd::template add_crumbs<3>(codes[3], low);
    codes[4] = Simd::template add_crumbs<0>(codes[4], high);
    codes[5] = Simd::template add_crumbs<1>(codes[5], high);
    codes[6] = Simd::template add_crumbs<2>(codes[6], high);
    codes[7] = Simd::template add_crumbs<3>(codes[7], high);
  }
  typename Simd::F32 scale(int part, int half) const {
    return Simd::multiply(d, Simd::widen_int8(block + 32 + 16 * (2 * part + half) + lane));
  }
  typename Simd::F32 minimum(int) const { return Simd::zero(); }
};

/* An expanded block of 32 columns: 8 groups of codes, then float32 scales, then float32 minimums, each [16]. */
template <class Simd, int scales, bool offset, bool minimums>
struct Expanded {
  static constexpr int kBytes = 512 + 64 * (scales + minimums), kParts = 1, kScales = scales, kAhead = 0;
  static constexpr bool kOffset = offset, kMinimum = minimums;
  const Byte* block;
  int lane;

  Expanded(const Byte* block, int lane) : block(block), lane(lane) {}
  void codes(int, typename Simd::Codes* codes) const {
    PERFX_UNROLL for (int g = 0; g < 8; ++g) codes[g] = Simd::load_codes(block + 64 * g + 4 * lane);
  }
  typename Simd::F32 scale(int, int half) const { return Simd::load(block + 512 + 64 * half + 4 * lane); }
  typename Simd::F32 minimum(int) const { return Simd::load(block + 512 + 64 * scales + 4 * lane); }
};
template <class Simd, class Packed>
using ExpandedOf = Expanded<Simd, Packed::kScales, Packed::kOffset, Packed::kMinimum>;

template <class Simd, int32_t dtype>
void expand_tile(const Byte* tile, int64_t num_blocks, Byte* expanded) {
  using Packed = Source<Simd, dtype>;
  for (int64_t b = 0; b < num_blocks; ++b, tile += Packed::kBytes) {
    for (int i = 0; i < Packed::kBytes; i += int(kCacheLine)) __builtin_prefetch(tile + Packed::kAhead + i);
    for (int lane = 0; lane < kTileRows; lane += Simd::kLanes) {
      const Packed source(tile, lane);
      for (int part = 0; part < Packed::kParts; ++part) {
        Byte* to = expanded + (b * Packed::kParts + part) * ExpandedOf<Simd, Packed>::kBytes + 4 * lane;
        typename Simd::Codes codes[8];
        source.codes(part, codes);
        PERFX_UNROLL for (int g = 0; g < 8; ++g) Simd::store_codes(to + 64 * g, codes[g]);
        for (int half = 0; half < Packed::kScales; ++half) Simd::store(to + 512 + 64 * half, source.scale(part, half));
        if (Packed::kMinimum) Simd::store(to + 512 + 64 * Packed::kScales, source.minimum(part));
      }
    }
  }
}

/* The float32 values of a tile of quantized weights, [columns][16]: what a product with float32 activations reads. */
template <class Simd, int32_t dtype>
void dequantize_tile(const Byte* tile, int64_t num_blocks, Byte* values) {
  using Packed = Source<Simd, dtype>;
  const auto offset = Simd::broadcast_float(-float(offset_of(dtype)));
  for (int64_t b = 0; b < num_blocks * Packed::kParts; ++b, values += kBlock * kTileRows * 4) {
    const int part = int(b % Packed::kParts);
    for (int lane = 0; lane < kTileRows; lane += Simd::kLanes) {
      const Packed source(tile + b / Packed::kParts * Packed::kBytes, lane);
      typename Simd::Codes codes[8];
      source.codes(part, codes);
      const auto minimum = source.minimum(part);
      for (int g = 0; g < 8; ++g) {
        const auto scale = source.scale(part, g * Packed::kScales / 8);
        const auto put = [&](int column, typename Simd::F32 code) {
          const auto value = Simd::fused(Simd::add(code, offset), scale, minimum);
          Simd::store(values + 4 * (kTileRows * (4 * g + column) + lane), value);
        };
        put(0, Simd::template column_of<0>(codes[g]));
        put(1, Simd::template column_of<1>(codes[g]));
        put(2, Simd::template column_of<2>(codes[g]));
        put(3, Simd::template column_of<3>(codes[g]));
      }
    }
  }
}

/* ---- products */

/* Adds the products of a part's `half` with tokens first .. first + count - 1 to their sums. */
template <class Simd, class From, ActivationFormat format, int tokens, int first, int count>
inline void add_products(const From& source, int part, int half, const typename Simd::Codes* codes, const Byte* x,
                         const Byte* fields, const Byte* corrections, typename Simd::F32* sums) {
  using Dot = typename Simd::template Dot<format>;
  constexpr int code_bytes = Simd::ActivationLayout::template bytes<format>();
  constexpr int groups = 8 / From::kScales;
  typename Dot::Chain chains[count];
  PERFX_UNROLL for (int m = 0; m < count; ++m) chains[m] =
      Dot::start(From::kOffset ? Simd::broadcast_int(corrections + 4 * (first + m)) : Simd::zero_int());
  PERFX_UNROLL for (int i = 0; i < groups; ++i) {
    const auto weights = Simd::operand(codes[half * groups + i]);
    PERFX_UNROLL for (int m = 0; m < count; ++m)
        Dot::add(chains[m], weights, x + (first + m) * code_bytes, half * groups + i);
  }
  const auto scale = source.scale(part, half);
  PERFX_UNROLL for (int m = 0; m < count; ++m) {
    const auto both = Simd::multiply(scale, Simd::broadcast(fields + 4 * (kScale * tokens + first + m)));
    sums[first + m] = Simd::fused(Simd::to_float(Dot::finish(chains[m])), both, sums[first + m]);
  }
  if (!From::kMinimum) return;
  const auto minimum = source.minimum(part);
  PERFX_UNROLL for (int m = 0; m < count; ++m) sums[first + m] =
      Simd::fused(minimum, Simd::broadcast(fields + 4 * (kScaledSum * tokens + first + m)), sums[first + m]);
}

template <class Simd, class From, ActivationFormat format, int tokens>
inline void add_part(const From& source, int part, const Byte* x, Field correction, typename Simd::F32* sums) {
  constexpr int code_bytes = Simd::ActivationLayout::template bytes<format>();
  constexpr int batch = smaller(tokens, Simd::kBatch);
  const Byte* fields = x + tokens * code_bytes;
  const Byte* corrections = fields + 4 * correction * tokens;
  typename Simd::Codes codes[8];
  source.codes(part, codes);
  PERFX_UNROLL for (int half = 0; half < From::kScales; ++half) {
    const Byte* start = corrections + 4 * half * tokens;
    add_products<Simd, From, format, tokens, 0, batch>(source, part, half, codes, x, fields, start, sums);
    if constexpr (tokens > batch)
      add_products<Simd, From, format, tokens, batch, batch>(source, part, half, codes, x, fields, start, sums);
    if constexpr (tokens > 2 * batch)
      add_products<Simd, From, format, tokens, 2 * batch, batch>(source, part, half, codes, x, fields, start, sums);
  }
}

template <class Simd, class From, ActivationFormat format, int tokens>
void multiply_tile(const TileTask& task) {
  static_assert(tokens <= Simd::kBatch || (tokens % Simd::kBatch == 0 && tokens <= 3 * Simd::kBatch), "whole batches");
  constexpr int part_bytes = tokens * (Simd::ActivationLayout::template bytes<format>() + 4 * kNumFields);
  for (int lane = 0; lane < kTileRows; lane += Simd::kLanes) {
    typename Simd::F32 sums[tokens];
    PERFX_UNROLL for (int m = 0; m < tokens; ++m) sums[m] = Simd::zero();
    const Byte* block = task.weights;
    const Byte* x = task.activations;
    for (int64_t b = 0; b < task.num_blocks; ++b, block += From::kBytes) {
      const From source(block, lane);
      for (int part = 0; part < From::kParts; ++part, x += part_bytes) {
        constexpr int bytes = From::kBytes / From::kParts;
        if (From::kAhead != 0)
          for (int i = 0; i < bytes; i += int(kCacheLine)) __builtin_prefetch(block + From::kAhead + part * bytes + i);
        add_part<Simd, From, format, tokens>(source, part, x, task.correction, sums);
      }
    }
    PERFX_UNROLL for (int m = 0; m < tokens; ++m) Simd::store(task.results + kTileRows * m + lane, sums[m]);
  }
}

template <class Simd, int32_t dtype, int tokens>
void multiply_float_tile(const TileTask& task) {
  constexpr int itemsize = dtype == PX_FLOAT32 ? 4 : 2;
  for (int lane = 0; lane < kTileRows; lane += Simd::kLanes) {
    typename Simd::F32 sums[tokens];
    PERFX_UNROLL for (int m = 0; m < tokens; ++m) sums[m] = Simd::zero();
    const Byte* from = task.weights + itemsize * lane;
    const Byte* x = task.activations;
    for (int64_t k = 0; k < task.num_blocks; ++k, from += itemsize * kTileRows, x += 4 * tokens) {
      const auto weights = dtype == PX_FLOAT32   ? Simd::load(from)
                           : dtype == PX_FLOAT16 ? Simd::widen_float16(from)
                                                 : Simd::widen_bfloat16(from);
      PERFX_UNROLL for (int m = 0; m < tokens; ++m) sums[m] = Simd::fused(weights, Simd::broadcast(x + 4 * m), sums[m]);
    }
    PERFX_UNROLL for (int m = 0; m < tokens; ++m) Simd::store(task.results + kTileRows * m + lane, sums[m]);
  }
}

/* ---- the kernels of one instruction set, as the outer loops ask for them */
template <class Simd>
struct TileTarget {
  static constexpr int kMaxTokens = Simd::kMaxTokens;
  using ActivationLayout = typename Simd::ActivationLayout;

  /* One token times a packed tile. */
  static TileFn packed_product(int32_t dtype, ActivationFormat format) {
    switch (dtype) {
      case PX_Q4_0:
        return packed<PX_Q4_0>(format);
      case PX_Q5_0:
        return packed<PX_Q5_0>(format);
      case PX_Q8_0:
        return packed<PX_Q8_0>(format);
      case PX_Q4_K:
        return packed<PX_Q4_K>(format);
      default:
        return packed<PX_Q6_K>(format);
    }
  }
  /* A group of tokens times an expanded tile. */
  static TileFn expanded_product(int32_t dtype, ActivationFormat format, int tokens) {
    switch (dtype) {
      case PX_Q4_K:
        return expanded<Expanded<Simd, 1, false, true>>(format, tokens);
      case PX_Q6_K:
        return expanded<Expanded<Simd, 2, true, false>>(format, tokens);
      default:
        return expanded<Expanded<Simd, 1, true, false>>(format, tokens);
    }
  }
  /* A group of tokens times a tile of floats. */
  static TileFn float_product(int32_t dtype, int tokens) {
    switch (dtype) {
      case PX_FLOAT16:
        return floats<PX_FLOAT16>(tokens);
      case PX_BFLOAT16:
        return floats<PX_BFLOAT16>(tokens);
      default:
        return floats<PX_FLOAT32>(tokens);
    }
  }
  /* From a packed tile to an expanded one; for float32 activations, to floats. */
  static ExpandFn expand(int32_t dtype, ActivationFormat format) {
    switch (dtype) {
      case PX_Q4_0:
        return expand_as<PX_Q4_0>(format);
      case PX_Q5_0:
        return expand_as<PX_Q5_0>(format);
      case PX_Q8_0:
        return expand_as<PX_Q8_0>(format);
      case PX_Q4_K:
        return expand_as<PX_Q4_K>(format);
      default:
        return expand_as<PX_Q6_K>(format);
    }
  }
  static int64_t expanded_bytes(int32_t dtype, ActivationFormat format, int64_t columns) {
    if (format == kFloat32) return columns * kTileRows * 4;
    return columns / kBlock * (dtype == PX_Q4_K || dtype == PX_Q6_K ? 640 : 576);
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
  template <int32_t dtype>
  static ExpandFn expand_as(ActivationFormat format) {
    return format == kFloat32 ? dequantize_tile<Simd, dtype> : expand_tile<Simd, dtype>;
  }
  template <int32_t dtype>
  static TileFn packed(ActivationFormat format) {
    using From = Source<Simd, dtype>;
    return format == kInt8 ? multiply_tile<Simd, From, kInt8, 1> : multiply_tile<Simd, From, kInt16, 1>;
  }
  template <class From>
  static TileFn expanded(ActivationFormat format, int tokens) {
    return format == kInt8 ? expanded_as<From, kInt8>(tokens) : expanded_as<From, kInt16>(tokens);
  }
  template <class From, ActivationFormat format>
  static TileFn expanded_as(int tokens) {
    if constexpr (kMaxTokens >= 12)
      if (tokens == 12) return multiply_tile<Simd, From, format, 12>;
    if constexpr (kMaxTokens >= 8)
      if (tokens == 8) return multiply_tile<Simd, From, format, 8>;
    return tokens == 4   ? multiply_tile<Simd, From, format, 4>
           : tokens == 2 ? multiply_tile<Simd, From, format, 2>
                         : multiply_tile<Simd, From, format, 1>;
  }
  template <int32_t dtype>
  static TileFn floats(int tokens) {
    if constexpr (kMaxTokens >= 12)
      if (tokens == 12) return multiply_float_tile<Simd, dtype, 12>;
    if constexpr (kMaxTokens >= 8)
      if (tokens == 8) return multiply_float_tile<Simd, dtype, 8>;
    return tokens == 4   ? multiply_float_tile<Simd, dtype, 4>
           : tokens == 2 ? multiply_float_tile<Simd, dtype, 2>
                         : multiply_float_tile<Simd, dtype, 1>;
  }
};

}  // namespace linear
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
