/* Expanded tiles: what a packed tile becomes when it is read by many groups of tokens. */
#ifndef PERFX_LINEAR_EXPANDED_HPP
#define PERFX_LINEAR_EXPANDED_HPP

#include "perfx/linear_sources.hpp"

#ifdef __clang__
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wpass-failed" /* loops that were unrolled before the pragma was looked at */
#endif

namespace perfx {
namespace PERFX_VARIANT {
namespace linear {

/* An expanded block of 32 columns: 8 groups of codes, then float32 scales, then as many float32 minimums, each [16]. */
template <class Simd, int scales, int bits, bool offset, bool minimums>
struct Expanded {
  static constexpr int kBytes = 512 + 64 * scales * (1 + minimums), kParts = 1, kScales = scales, kBits = bits;
  static constexpr bool kIsPacked = false, kOffset = offset, kMinimum = minimums;
  const Byte* block;
  int lane;

  Expanded(const Byte* block, int lane) : block(block), lane(lane) {}
  struct Groups {
    const Byte* from;
    typename Simd::Codes operator[](int g) const { return Simd::load_expanded(from + 64 * g); }
  };
  Groups groups(int) const { return {block + 4 * lane}; }
  typename Simd::F32 scale(int, int half) const { return Simd::load(block + 512 + 64 * half + 4 * lane); }
  typename Simd::F32 minimum(int, int half) const { return Simd::load(block + 512 + 64 * (scales + half) + 4 * lane); }
};
template <class Simd, class Packed>
using ExpandedOf = Expanded<Simd, Packed::kScales, Simd::code_bits(Packed::kBits), Packed::kOffset, Packed::kMinimum>;

/* ---- whole tiles, put into cache in the form that products with many tokens read */

/* Walks over the packed tiles of a weight: at(block, lane) is the source of a block. */
template <class Simd, int32_t dtype>
struct TileBlocks {
  using Packed = Source<Simd, dtype>;
  const Byte* tile;
  int64_t count;

  TileBlocks(const Weight& weight, int64_t index)
      : tile(weight.tile(index)), count(weight.columns / perfx_block(dtype).columns) {}
  Packed at(int64_t block, int lane) const {
    const Byte* from = tile + block * Packed::kBytes;
    if (lane == 0) prefetch(from, Packed::kBytes);
    return {from, lane};
  }
};
template <class Simd>
struct SplitBlocks {
  using Packed = SplitSource<Simd>;
  const Byte *tile, *low_halves;
  int64_t count;

  SplitBlocks(const Weight& weight, int64_t index)
      : tile(weight.tile(index)),
        low_halves(weight.low_halves(index * kTileRows)),
        count(weight.columns / PERFX_SPLIT_COLUMNS) {}
  Packed at(int64_t block, int lane) const { return {tile, low_halves, count, block, lane}; }
};

template <class Simd, class Blocks>
void expand_tile(const Weight& weight, int64_t index, Byte* expanded) {
  using Packed = typename Blocks::Packed;
  const Blocks blocks(weight, index);
  for (int64_t b = 0; b < blocks.count; ++b) {
    for (int lane = 0; lane < kTileRows; lane += Simd::kLanes) {
      const Packed source = blocks.at(b, lane);
      for (int part = 0; part < Packed::kParts; ++part) {
        Byte* to = expanded + (b * Packed::kParts + part) * ExpandedOf<Simd, Packed>::kBytes + 4 * lane;
        typename Simd::Codes codes[8];
        unpack<Simd>(source.groups(part), codes);
#pragma GCC unroll 16
        for (int g = 0; g < 8; ++g) Simd::store_expanded(to + 64 * g, codes[g]);
        for (int half = 0; half < Packed::kScales; ++half) {
          Simd::store(to + 512 + 64 * half, source.scale(part, half));
          if (Packed::kMinimum) Simd::store(to + 512 + 64 * (Packed::kScales + half), source.minimum(part, half));
        }
      }
    }
  }
}

/* The float32 values of a tile of quantized weights, [columns][16]: what a product with float32 activations reads. */
template <class Simd, class Blocks>
void dequantize_tile(const Weight& weight, int64_t index, Byte* values) {
  using Packed = typename Blocks::Packed;
  const Blocks blocks(weight, index);
  const auto offset = Simd::broadcast_float(-float(offset_of(weight.dtype)));
  for (int64_t b = 0; b < blocks.count * Packed::kParts; ++b, values += kBlock * kTileRows * 4) {
    const int part = int(b % Packed::kParts);
    for (int lane = 0; lane < kTileRows; lane += Simd::kLanes) {
      const Packed source = blocks.at(b / Packed::kParts, lane);
      typename Simd::Codes codes[8];
      unpack<Simd>(source.groups(part), codes);
      for (int g = 0; g < 8; ++g) {
        const int half = g * Packed::kScales / 8;
        const auto scale = source.scale(part, half), minimum = source.minimum(part, half);
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

}  // namespace linear
}  // namespace PERFX_VARIANT
}  // namespace perfx

#ifdef __clang__
#pragma clang diagnostic pop
#endif
#endif
