/* The vector layer of the tile kernels for NEON, half a tile at a time. */
#ifndef PERFX_CPU_LINEAR_SIMD_NEON_HPP
#define PERFX_CPU_LINEAR_SIMD_NEON_HPP

#include "linear_dot_neon.hpp"

namespace perfx {
namespace PERFX_VARIANT {
namespace linear {

struct Simd {
  static constexpr int kLanes = 8;
  static constexpr int kMaxTokens = 8;
  static constexpr int kMaxChains = 8; /* 16 registers; eight hold the codes of half a block */
  static constexpr bool kHoldsCodes = true;

  using F32 = EightFloats;
  using I32 = EightInts;
  using Codes = EightCodes;
  using ActivationLayout = NeonLayout;
  /* Codes of eight bits are special where TokenDot centers them. */
  static constexpr int code_bits(int bits) { return NeonDot<kInt8, 8>::kCentersBytes ? larger(bits, 7) : 8; }
  template <ActivationFormat format, int bits>
  using Dot = NeonDot<format, bits>;

  static F32 zero() { return broadcast_float(0.0f); }
  static I32 zero_int() { return {vdupq_n_s32(0), vdupq_n_s32(0)}; }
  static F32 broadcast_float(float value) { return {vdupq_n_f32(value), vdupq_n_f32(value)}; }
  static F32 broadcast(const Byte* from) { return broadcast_float(load_unaligned<float>(from)); }
  static I32 broadcast_int(const Byte* from) {
    const int32x4_t value = vdupq_n_s32(load_unaligned<int32_t>(from));
    return {value, value};
  }
  static F32 load(const void* from) {
    const float* p = static_cast<const float*>(from);
    return {vld1q_f32(p), vld1q_f32(p + 4)};
  }
  static void store(void* to, F32 value) {
    vst1q_f32(static_cast<float*>(to), value.low);
    vst1q_f32(static_cast<float*>(to) + 4, value.high);
  }

  static F32 widen_float16(const Byte* from) {
    const float16x8_t half = vreinterpretq_f16_u8(vld1q_u8(from));
    return {vcvt_f32_f16(vget_low_f16(half)), vcvt_high_f32_f16(half)};
  }
  static F32 widen_bfloat16(const Byte* from) {
    const uint16x8_t words = vreinterpretq_u16_u8(vld1q_u8(from));
    return {vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(words), 16)),
            vreinterpretq_f32_u32(vshll_high_n_u16(words, 16))};
  }
  static F32 widen_uint8(const Byte* from) { return widen_bytes(vld1_u8(from)); }
  static F32 widen_int8(const Byte* from) {
    const int16x8_t words = vmovl_s8(vreinterpret_s8_u8(vld1_u8(from)));
    return to_float({vmovl_s16(vget_low_s16(words)), vmovl_high_s16(words)});
  }
  static F32 widen_low_nibble(const Byte* from) { return widen_bytes(vand_u8(vld1_u8(from), vdup_n_u8(15))); }
  static F32 widen_high_nibble(const Byte* from) { return widen_bytes(vshr_n_u8(vld1_u8(from), 4)); }
  static F32 widen_bytes(uint8x8_t bytes) {
    const uint16x8_t words = vmovl_u8(bytes);
    return {vcvtq_f32_u32(vmovl_u16(vget_low_u16(words))), vcvtq_f32_u32(vmovl_high_u16(words))};
  }
  static F32 power_of_two(const Byte* from) {
    const uint16x8_t words = vmovl_u8(vld1_u8(from));
    return {power_of_two(vmovl_u16(vget_low_u16(words))), power_of_two(vmovl_high_u16(words))};
  }
  static float32x4_t power_of_two(uint32x4_t exponent) {
    const uint32x4_t half = exponent >> 1, first = (half + 63) << 23, second = (exponent - half + 63) << 23;
    return vmulq_f32(vreinterpretq_f32_u32(first), vreinterpretq_f32_u32(second));
  }

  static F32 broadcast_float16(const Byte* from) {
    const float32x4_t value = vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(load_unaligned<uint16_t>(from))));
    return {value, value};
  }
  static void widen_nibbles(const Byte* from, F32* numbers) {
    const uint8x16_t both = vld1q_u8(from), low = vandq_u8(both, vdupq_n_u8(15)), high = vshrq_n_u8(both, 4);
    numbers[0] = widen_bytes(vget_low_u8(low));
    numbers[1] = widen_bytes(vget_high_u8(low));
    numbers[2] = widen_bytes(vget_low_u8(high));
    numbers[3] = widen_bytes(vget_high_u8(high));
  }

  static F32 add(F32 a, F32 b) { return {vaddq_f32(a.low, b.low), vaddq_f32(a.high, b.high)}; }
  static F32 multiply(F32 a, F32 b) { return {vmulq_f32(a.low, b.low), vmulq_f32(a.high, b.high)}; }
  static F32 fused(F32 a, F32 b, F32 c) { return {vfmaq_f32(c.low, a.low, b.low), vfmaq_f32(c.high, a.high, b.high)}; }
  static F32 negate(F32 a) { return {vnegq_f32(a.low), vnegq_f32(a.high)}; }
  static F32 absolute(F32 a) { return {vabsq_f32(a.low), vabsq_f32(a.high)}; }
  static F32 to_float(I32 a) { return {vcvtq_f32_s32(a.low), vcvtq_f32_s32(a.high)}; }

  static Codes load_codes(const Byte* from) { return {vld1q_u8(from), vld1q_u8(from + 16)}; }
  static void store_codes(Byte* to, Codes codes) {
    vst1q_u8(to, codes.low);
    vst1q_u8(to + 16, codes.high);
  }
  static Codes load_expanded(const Byte* from) { return load_codes(from); }
  static void store_expanded(Byte* to, Codes codes) { store_codes(to, codes); }
  static Codes low_nibbles(Codes both) { return masked(both, 15); }
  static Codes high_nibbles(Codes both) { return {vshrq_n_u8(both.low, 4), vshrq_n_u8(both.high, 4)}; }
  static Codes join_nibbles(Codes high, Codes low) {
    return {vsliq_n_u8(low.low, high.low, 4), vsliq_n_u8(low.high, high.high, 4)};
  }
  static Codes masked(Codes codes, uint8_t mask) {
    return {vandq_u8(codes.low, vdupq_n_u8(mask)), vandq_u8(codes.high, vdupq_n_u8(mask))};
  }
  static Codes joined(Codes a, Codes b) { return {vorrq_u8(a.low, b.low), vorrq_u8(a.high, b.high)}; }
  /* Each byte by `right` bits, or to the left by as many where that is negative. */
  template <int right>
  static Codes shifted(Codes codes) {
    if constexpr (right < 0) return {codes.low << -right, codes.high << -right};
    return {codes.low >> right, codes.high >> right};
  }
  static void transpose(const Byte* rows, int64_t row_bytes, Codes* vectors) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i, rows += 16, vectors += 4) {
      uint8x16_t upper[4], lower[4];
      transpose_quads(rows, row_bytes, upper);
      transpose_quads(rows + 4 * row_bytes, row_bytes, lower);
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) vectors[j] = {upper[j], lower[j]};
    }
  }
  /* Bytes 4 i .. 4 i + 3 of four rows to vector i, for i < 4. */
  static void transpose_quads(const Byte* rows, int64_t row_bytes, uint8x16_t (&vectors)[4]) {
    const auto row = [&](int i) { return vreinterpretq_u32_u8(vld1q_u8(rows + i * row_bytes)); };
    const uint64x2_t even01 = vreinterpretq_u64_u32(vtrn1q_u32(row(0), row(1)));
    const uint64x2_t odd01 = vreinterpretq_u64_u32(vtrn2q_u32(row(0), row(1)));
    const uint64x2_t even23 = vreinterpretq_u64_u32(vtrn1q_u32(row(2), row(3)));
    const uint64x2_t odd23 = vreinterpretq_u64_u32(vtrn2q_u32(row(2), row(3)));
    vectors[0] = vreinterpretq_u8_u64(vzip1q_u64(even01, even23));
    vectors[1] = vreinterpretq_u8_u64(vzip1q_u64(odd01, odd23));
    vectors[2] = vreinterpretq_u8_u64(vzip2q_u64(even01, even23));
    vectors[3] = vreinterpretq_u8_u64(vzip2q_u64(odd01, odd23));
  }
  template <int value>
  static Codes add_bits(Codes codes, const Byte* bits) {
    /* Each byte of the 32 bits goes to eight bytes, each of which keeps its own bit. */
    const uint8x16_t four = vreinterpretq_u8_u32(vdupq_n_u32(load_unaligned<uint32_t>(bits)));
    const uint8x16_t places = vreinterpretq_u8_u64(vcombine_u64(vcreate_u64(0), vcreate_u64(0x0101010101010101)));
    const uint8x16_t own = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201));
    const uint8x16_t low = vtstq_u8(vqtbl1q_u8(four, places), own);
    const uint8x16_t high = vtstq_u8(vqtbl1q_u8(four, vaddq_u8(places, vdupq_n_u8(2))), own);
    const Codes present = masked({low, high}, value);
    return {vaddq_u8(codes.low, present.low), vaddq_u8(codes.high, present.high)};
  }
  template <int index>
  static Codes add_crumbs(Codes codes, Codes crumbs) {
    return joined(codes, masked(shifted<2 * index - 4>(crumbs), 0x30));
  }
  template <int index, int base>
  static Codes low_crumbs(Codes crumbs) {
    const Codes low = masked(shifted<2 * index>(crumbs), 3);
    return base == 0 ? low : joined(low, {vdupq_n_u8(base), vdupq_n_u8(base)});
  }
  static Codes look_up(Codes codes, const Byte* table) {
    return {vqtbl1q_u8(vld1q_u8(table), codes.low), vqtbl1q_u8(vld1q_u8(table), codes.high)};
  }
  template <int column>
  static F32 column_of(Codes codes) {
    const auto one = [](uint8x16_t four) {
      return vcvtq_f32_u32(vreinterpretq_u32_u8(four) >> (8 * column) & vdupq_n_u32(255));
    };
    return {one(codes.low), one(codes.high)};
  }

  /* largest_bits and round_block do what portable_largest_bits and portable_round_block do. */
  static uint32_t largest_bits(const float* x) {
    uint32x4_t largest = vdupq_n_u32(0);
    for (int i = 0; i < kBlock; i += 4)
      largest = vmaxq_u32(largest, vreinterpretq_u32_f32(vabsq_f32(vld1q_f32(x + i))));
    return vmaxvq_u32(largest);
  }
  template <ActivationFormat format>
  static void round_block(const float* x, float inverse, Byte* to, int32_t* sums) {
    int16x8_t words[4];
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half, x += kBlock / 2) {
      int32x4_t codes[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) codes[i] = round_codes(vld1q_f32(x + 4 * i), inverse, level_of<format>());
      sums[half] = vaddvq_s32(codes[0] + codes[1] + (codes[2] + codes[3]));
      words[2 * half] = vcombine_s16(vmovn_s32(codes[0]), vmovn_s32(codes[1]));
      words[2 * half + 1] = vcombine_s16(vmovn_s32(codes[2]), vmovn_s32(codes[3]));
    }
    ActivationLayout::template store<format>(words, to);
  }
  /* A NaN stays one until it is converted, to 0. */
  static int32x4_t round_codes(float32x4_t x, float inverse, float level) {
    const float32x4_t scaled = vmulq_n_f32(x, inverse);
    return vcvtnq_s32_f32(vminq_f32(vmaxq_f32(scaled, vdupq_n_f32(-level)), vdupq_n_f32(level)));
  }
};

}  // namespace linear
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
