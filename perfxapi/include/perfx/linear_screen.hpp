/* The screen of a vocabulary: which rows of a PX_SPLIT16 weight can still be among the k largest logits?
 *
 * A code is 16 * high + low - 128. With the high halves alone, the middle taken for the low ones, a logit is known up
 * to
 *
 *   |sum_b s_b <low_b - 7.5, x_b>|  <=  sum_b |s_b| |low_b - 7.5| |x_b|  <=  norm * reach,  reach = sum_b |s_b| |x_b|
 *
 * (b: blocks of 32 columns, s_b: the row's scales, x_b: the activations as quantized, norm: the row's largest
 * |low_b - 7.5|, stored with the tile). So rows pass three gates, each by a bound that holds for certain: the high
 * halves; the low halves, which are read for the few rows left; and the product itself, which decides. What comes out
 * is what the products of all rows would have given, bit for bit, for about 55% of the bytes.
 *
 * Rounding. With u = 2^-24 and n blocks, the three sums differ from the exact ones by at most, in units of reach:
 * the screen's (2 n + 4) u (240 + 120.5) sqrt(32), the low part's (n + 32) u 7.5 sqrt(32), and the product's
 * (n + 4) u 128 sqrt(32). screen_slack is twice a bound of their sum.
 */
#ifndef PERFX_LINEAR_SCREEN_HPP
#define PERFX_LINEAR_SCREEN_HPP

#include "perfx/linear_sources.hpp"

namespace perfx {
namespace PERFX_VARIANT {
namespace linear {

inline float screen_slack(int64_t columns) { return float(columns / kBlock + 4) * 6e-4f; }

/* One hidden state as the screen reads it: the codes of the tile kernels, and by block and by column what follows. */
class ScreenedRow {
 public:
  static int64_t bytes(int64_t columns) { return round_to_line(columns / kBlock * 12 + columns * 4); }

  ScreenedRow() = default;
  ScreenedRow(Byte* memory, int64_t columns)
      : factors_(reinterpret_cast<float*>(memory)), values_(factors_ + columns / kBlock * 3) {}

  /* For each block: 16 * scale, -120.5 * scale * sum of codes, and a bound of the norm. */
  float* factors() const { return factors_; }
  /* The quantized activations' values. */
  float* values() const { return values_; }

  template <class Layout>
  void prepare(ActivationFormat format, const float* x, const Byte* codes, int64_t columns) const {
    const int code_bytes = format == kInt8 ? Layout::template bytes<kInt8>() : Layout::template bytes<kInt16>();
    const float level = format == kInt8 ? level_of<kInt8>() : level_of<kInt16>();
    constexpr float rounder = 12582912.0f;
    for (int64_t b = 0; b < columns / kBlock; ++b, x += kBlock, codes += code_bytes + 4 * kNumFields) {
      const float scale = load_unaligned<float>(codes + code_bytes + 4 * kScale);
      const float amax = bit_cast<float>(portable_largest_bits(x)), inverse = amax > 0.0f ? level / amax : 0.0f;
      float squares = 0.0f;
      for (int i = 0; i < kBlock; ++i) {
        const float value = scale * ((x[i] * inverse + rounder) - rounder);
        values_[b * kBlock + i] = value;
        squares += value * value;
      }
      factors_[3 * b] = 16.0f * scale;
      factors_[3 * b + 1] = -120.5f * load_unaligned<float>(codes + code_bytes + 4 * kScaledSum);
      factors_[3 * b + 2] = 1.0001f * std::sqrt(squares);
    }
  }

 private:
  float* factors_;
  float* values_;
};

/* The first gate, of one tile: each row's logit in the middle of its bounds, its reach, and the upper bound. */
struct Screened {
  alignas(kCacheLine) float middle[kTileRows];
  alignas(kCacheLine) float reach[kTileRows];
  alignas(kCacheLine) float upper[kTileRows];
};

template <class Simd, ActivationFormat format>
void screen_tile(const Weight& weight, int64_t tile, const Byte* activations, const float* factors, float slack,
                 Screened& out) {
  using Dot = typename Simd::template Dot<format, Simd::code_bits(4)>;
  const Byte* next = weight.tile(tile + 1);
  constexpr int code_bytes = Simd::ActivationLayout::template bytes<format>(), x_bytes = code_bytes + 4 * kNumFields;
  for (int lane = 0; lane < kTileRows; lane += Simd::kLanes) {
    const Byte* high = weight.tile(tile) + 4 * lane;
    const Byte* scales = weight.scales(tile) + 2 * lane;
    const Byte* x = activations;
    auto middle = Simd::zero(), reach = Simd::zero();
    for (int64_t b = 0; b < weight.columns / kBlock; ++b, high += 256, x += x_bytes) {
      if (lane == 0) prefetch_share(next, b, weight.tile_bytes, weight.columns / kBlock);
      typename Simd::Codes codes[8];
      unpack<Simd>(NibbleGroups<Simd>{high}, codes);
      typename Simd::I32 product = Simd::zero_int();
      multiply_groups<Simd, Dot, 8, 1, code_bytes>(codes, x, 0, &product);
      const auto scale = Simd::widen_float16(scales + 32 * b);
      const auto both = Simd::multiply(scale, Simd::broadcast_float(factors[3 * b]));
      middle = Simd::fused(Simd::to_float(product), both, middle);
      middle = Simd::fused(scale, Simd::broadcast_float(factors[3 * b + 1]), middle);
      reach = Simd::fused(Simd::absolute(scale), Simd::broadcast_float(factors[3 * b + 2]), reach);
    }
    const auto norm = Simd::add(Simd::load(weight.norms(tile) + 4 * lane), Simd::broadcast_float(slack));
    Simd::store(out.middle + lane, middle);
    Simd::store(out.reach + lane, reach);
    Simd::store(out.upper + lane, Simd::fused(reach, norm, middle));
  }
}

/* The second gate: what the low halves of a row add to its middle. */
template <class Simd>
float low_part(const Weight& weight, int64_t row, const float* values) {
  const Byte* low = weight.low_halves(row);
  const Byte* scales = weight.scales(row / kTileRows) + 2 * (row % kTileRows);
  const auto center = Simd::broadcast_float(-7.5f);
  auto sum = Simd::zero();
  for (int64_t b = 0; b < weight.columns / kBlock; ++b, low += kBlock / 2, values += kBlock) {
    typename Simd::F32 codes[kBlock / Simd::kLanes];
    Simd::widen_nibbles(low, codes);
    auto dot = Simd::zero();
#pragma GCC unroll 8
    for (int i = 0; i < kBlock / Simd::kLanes; ++i)
      dot = Simd::fused(Simd::add(codes[i], center), Simd::load(values + i * Simd::kLanes), dot);
    sum = Simd::fused(Simd::broadcast_float16(scales + 32 * b), dot, sum);
  }
  alignas(kCacheLine) float lanes[Simd::kLanes];
  Simd::store(lanes, sum);
  float total = 0.0f;
  for (int i = 0; i < Simd::kLanes; ++i) total += lanes[i];
  return total;
}

}  // namespace linear
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
