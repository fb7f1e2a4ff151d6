/* What is special about NEON's products of codes: how activations lie, and the dot products of a layer (the type Dot of
 * perfx/linear_simd_portable.hpp). With dot products of bytes (FEAT_DotProd) and matrix products of bytes (FEAT_I8MM)
 * where the compiler's flags have them.
 *
 * FEAT_BF16 has no use here: BFDOT and BFMMLA round sums that the definition of the op keeps exact, and widening
 * bfloat16 is a shift. */
#ifndef PERFX_CPU_LINEAR_DOT_NEON_HPP
#define PERFX_CPU_LINEAR_DOT_NEON_HPP

#include <arm_neon.h>

#include "perfx/linear_activations.hpp"

namespace perfx {
namespace PERFX_VARIANT {
namespace linear {

/* Numbers of eight rows, and four codes of each. */
struct EightFloats {
  float32x4_t low, high;
};
struct EightInts {
  int32x4_t low, high;
};
struct EightCodes {
  uint8x16_t low, high;
};

/* Codes as int16, in the order of the columns. */
struct WordLayout {
  static constexpr bool kPairsTokens = false;
  template <ActivationFormat>
  static constexpr int bytes() {
    return 2 * kBlock;
  }
  template <ActivationFormat>
  static void store(const int16x8_t (&words)[4], Byte* to) {
    for (int i = 0; i < 4; ++i) vst1q_u8(to + 16 * i, vreinterpretq_u8_s16(words[i]));
  }
};

/* Products of int16, which any NEON has. */
template <ActivationFormat format, int bits>
struct WordDot {
  static constexpr int kChains = 1;
  static constexpr bool kTakesGroups = true, kCentersBytes = false;
  static constexpr int kCodeBytes = 2 * kBlock;

  /* Two groups of four columns at a time: their activations are one register. */
  template <int groups, int tokens>
  static void multiply(const EightCodes* codes, const Byte* x, int first, EightInts* sums) {
#pragma GCC unroll 4
    for (int i = 0; i < groups; i += 2) {
      int16x8_t columns[8];
      widen(codes[first + i], columns);
      widen(codes[first + i + 1], columns + 4);
#pragma GCC unroll 16
      for (int m = 0; m < tokens; ++m)
        add_eight(sums[m], columns, vreinterpretq_s16_u8(vld1q_u8(x + m * kCodeBytes + 8 * (first + i))));
    }
  }

 private:
  /* The four columns of eight rows. */
  static void widen(EightCodes codes, int16x8_t* columns) {
    const uint16x8_t even = vreinterpretq_u16_u8(vuzp1q_u8(codes.low, codes.high)); /* columns 0, 2 of each row */
    const uint16x8_t odd = vreinterpretq_u16_u8(vuzp2q_u8(codes.low, codes.high));  /* columns 1, 3 */
    const uint16x8_t low_byte = vdupq_n_u16(255);
    columns[0] = vreinterpretq_s16_u16(vandq_u16(even, low_byte));
    columns[1] = vreinterpretq_s16_u16(vandq_u16(odd, low_byte));
    columns[2] = vreinterpretq_s16_u16(vshrq_n_u16(even, 8));
    columns[3] = vreinterpretq_s16_u16(vshrq_n_u16(odd, 8));
  }
  template <int column>
  static void add(EightInts& sum, int16x8_t weights, int16x8_t x) {
    sum.low = vmlal_laneq_s16(sum.low, vget_low_s16(weights), x, column);
    sum.high = vmlal_high_laneq_s16(sum.high, weights, x, column);
  }
  static void add_eight(EightInts& sum, const int16x8_t (&columns)[8], int16x8_t x) {
    add<0>(sum, columns[0], x);
    add<1>(sum, columns[1], x);
    add<2>(sum, columns[2], x);
    add<3>(sum, columns[3], x);
    add<4>(sum, columns[4], x);
    add<5>(sum, columns[5], x);
    add<6>(sum, columns[6], x);
    add<7>(sum, columns[7], x);
  }
};

#ifdef __ARM_FEATURE_DOTPROD
/* BytePlanes, from registers. */
struct PlaneLayout : BytePlanes {
  template <ActivationFormat format>
  static void store(const int16x8_t (&words)[4], Byte* to) {
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i, to += 16) {
      const int16x8_t first = words[2 * i], second = words[2 * i + 1];
      const int8x16_t low = vcombine_s8(vmovn_s16(first), vmovn_s16(second));
      if constexpr (format == kInt16) {
        /* (code + 128) >> 8 */
        const int8x16_t high = vcombine_s8(vrshrn_n_s16(first, 8), vrshrn_n_s16(second, 8));
        vst1q_u8(to, vreinterpretq_u8_s8(high));
      }
      vst1q_u8(to + bytes<format>() - kBlock, vreinterpretq_u8_s8(low));
    }
  }
};

/* Are there products of unsigned with signed bytes? If not, codes of eight bits have to be centered. */
#ifdef __ARM_FEATURE_MATMUL_INT8
constexpr bool kMixesSigns = true;
#else
constexpr bool kMixesSigns = false;
#endif

/* Sums of products with the high bytes, of which each counts 256 times. */
inline int32x4_t from_high(int32x4_t sum) { return sum << 8; }

/* Dot products of each token by itself, four groups of columns at a time: their activations are one register. Of an
 * int16 format the high bytes come first; their sums become what the low bytes are added to. */
template <ActivationFormat format, int bits>
struct TokenDot {
  static constexpr int kChains = 1;
  static constexpr int kCodeBytes = BytePlanes::bytes<format>();
  static constexpr bool kTakesGroups = true, kCentersBytes = !kMixesSigns;

  template <int groups, int tokens>
  static void multiply(const EightCodes* codes, const Byte* x, int first, EightInts* products) {
    EightCodes weights[groups];
#pragma GCC unroll 8
    for (int i = 0; i < groups; ++i) weights[i] = centered(codes[first + i]);
    x += 4 * first;
    if constexpr (format == kInt16) {
      EightInts high[tokens] = {};
      add_plane<groups, tokens>(weights, x, high);
#pragma GCC unroll 16
      for (int m = 0; m < tokens; ++m)
        products[m] = {products[m].low + from_high(high[m].low), products[m].high + from_high(high[m].high)};
      x += kBlock;
    }
    add_plane<groups, tokens>(weights, x, products);
  }

 private:
  static EightCodes centered(EightCodes codes) {
    if constexpr (!kCentersBytes || bits < 8) return codes;
    return {veorq_u8(codes.low, vdupq_n_u8(128)), veorq_u8(codes.high, vdupq_n_u8(128))};
  }
  /* Always part of its caller, where sums and weights are in registers. */
  template <int groups, int tokens>
  __attribute__((always_inline)) static inline void add_plane(const EightCodes* codes, const Byte* x, EightInts* sums) {
#pragma GCC unroll 2
    for (int i = 0; i < groups; i += 4)
#pragma GCC unroll 16
      for (int m = 0; m < tokens; ++m) add_four(sums[m], codes + i, x + m * kCodeBytes + 4 * i);
  }
  static void add_four(EightInts& sum, const EightCodes* codes, const Byte* x) {
    const int8x16_t activations = vreinterpretq_s8_u8(vld1q_u8(x));
    add<0>(sum, codes[0], activations);
    add<1>(sum, codes[1], activations);
    add<2>(sum, codes[2], activations);
    add<3>(sum, codes[3], activations);
  }
  template <int group>
  static void add(EightInts& sum, EightCodes codes, int8x16_t activations) {
    sum = {dot<group>(sum.low, codes.low, activations), dot<group>(sum.high, codes.high, activations)};
  }
  template <int group>
  static int32x4_t dot(int32x4_t sum, uint8x16_t codes, int8x16_t activations) {
#ifdef __ARM_FEATURE_MATMUL_INT8
    return vusdotq_laneq_s32(sum, codes, activations, group);
#else
    return vdotq_laneq_s32(sum, vreinterpretq_s8_u8(codes), activations, group);
#endif
  }
};

#ifdef __ARM_FEATURE_MATMUL_INT8
/* Pairs of tokens side by side: eight bytes of the one, then of the other. */
struct PairLayout : PlaneLayout {
  static constexpr bool kPairsTokens = true;
  template <ActivationFormat format>
  static void pair_tokens(Byte* first) {
    constexpr int kBytes = bytes<format>();
    uint64x2_t both[2][kBytes / 16];
    std::memcpy(both, first, sizeof(both));
    for (int i = 0; i < kBytes / 16; ++i, first += 32) {
      vst1q_u8(first, vreinterpretq_u8_u64(vzip1q_u64(both[0][i], both[1][i])));
      vst1q_u8(first + 16, vreinterpretq_u8_u64(vzip2q_u64(both[0][i], both[1][i])));
    }
  }
};

/* Two tokens at a time: one instruction multiplies two rows with two tokens, eight columns. */
template <ActivationFormat format, int bits>
struct PairDot : TokenDot<format, bits> {
  static constexpr int kPairBytes = 2 * BytePlanes::bytes<format>(), kPlaneBytes = 2 * kBlock;

  template <int groups, int tokens>
  static void multiply(const EightCodes* codes, const Byte* x, int first, EightInts* products) {
    if constexpr (tokens == 1) {
      TokenDot<format, bits>::template multiply<groups, 1>(codes, x, first, products);
    } else {
      Squares squares[tokens / 2] = {};
      x += 8 * first;
      if constexpr (format == kInt16) {
        add_plane<groups, tokens / 2>(codes + first, x, squares);
#pragma GCC unroll 8
        for (Squares& square : squares) square.end_high();
        x += kPlaneBytes;
      }
      add_plane<groups, tokens / 2>(codes + first, x, squares);
#pragma GCC unroll 16
      for (int m = 0; m < tokens; ++m) {
        const EightInts product = squares[m / 2].of(m % 2);
        products[m] = {products[m].low + product.low, products[m].high + product.high};
      }
    }
  }

 private:
  /* Two rows in each register. */
  struct EightColumns {
    uint8x16_t rows[4];
    EightColumns(EightCodes first, EightCodes second)
        : rows{pairs<false>(first.low, second.low), pairs<true>(first.low, second.low),
               pairs<false>(first.high, second.high), pairs<true>(first.high, second.high)} {}
    template <bool last>
    static uint8x16_t pairs(uint8x16_t first, uint8x16_t second) {
      const uint32x4_t a = vreinterpretq_u32_u8(first), b = vreinterpretq_u32_u8(second);
      return vreinterpretq_u8_u32(last ? vzip2q_u32(a, b) : vzip1q_u32(a, b));
    }
  };
  /* Products of two rows with two tokens in each register. */
  struct Squares {
    int32x4_t rows[4];
    void add(const EightColumns& weights, const Byte* x) {
      const int8x16_t activations = vreinterpretq_s8_u8(vld1q_u8(x));
      rows[0] = vusmmlaq_s32(rows[0], weights.rows[0], activations);
      rows[1] = vusmmlaq_s32(rows[1], weights.rows[1], activations);
      rows[2] = vusmmlaq_s32(rows[2], weights.rows[2], activations);
      rows[3] = vusmmlaq_s32(rows[3], weights.rows[3], activations);
    }
    void end_high() {
#pragma GCC unroll 4
      for (int32x4_t& row : rows) row = from_high(row);
    }
    EightInts of(int token) const {
      if (token == 0) return {vuzp1q_s32(rows[0], rows[1]), vuzp1q_s32(rows[2], rows[3])};
      return {vuzp2q_s32(rows[0], rows[1]), vuzp2q_s32(rows[2], rows[3])};
    }
  };
  template <int groups, int pairs>
  __attribute__((always_inline)) static inline void add_plane(const EightCodes* codes, const Byte* x,
                                                              Squares* squares) {
#pragma GCC unroll 4
    for (int i = 0; i < groups; i += 2) {
      const EightColumns rows(codes[i], codes[i + 1]);
#pragma GCC unroll 8
      for (int pair = 0; pair < pairs; ++pair) squares[pair].add(rows, x + pair * kPairBytes + 8 * i);
    }
  }
};
#endif
#endif

/* What the instruction set is best served by. */
#if defined(__ARM_FEATURE_DOTPROD) && defined(__ARM_FEATURE_MATMUL_INT8)
using NeonLayout = PairLayout;
template <ActivationFormat format, int bits>
using NeonDot = PairDot<format, bits>;
#elif defined(__ARM_FEATURE_DOTPROD)
using NeonLayout = PlaneLayout;
template <ActivationFormat format, int bits>
using NeonDot = TokenDot<format, bits>;
#else
using NeonLayout = WordLayout;
template <ActivationFormat format, int bits>
using NeonDot = WordDot<format, bits>;
#endif

}  // namespace linear
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
