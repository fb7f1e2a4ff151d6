/* The vector layer of the tile kernels for AVX-512 (F, BW, DQ, VL), with VNNI where the compiler's flags have it. */
#ifndef PERFX_CPU_LINEAR_SIMD_AVX512_HPP
#define PERFX_CPU_LINEAR_SIMD_AVX512_HPP

/* GCC 12 warns of the operands that its own intrinsics leave undefined on purpose. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop

#include "perfx/linear_activations.hpp"

namespace perfx {
namespace PERFX_VARIANT {
namespace linear {

struct Simd {
  static constexpr int kLanes = 16;
  static constexpr int kMaxTokens = 12;
  static constexpr int kMaxChains = 16; /* dot products in flight */
  static constexpr bool kHoldsCodes = true;

  using F32 = __m512;
  using I32 = __m512i;
  using Codes = __m512i;
  struct Quad {
    Byte byte[4];
  };

  static F32 zero() { return _mm512_setzero_ps(); }
  static I32 zero_int() { return _mm512_setzero_si512(); }
  static F32 broadcast_float(float value) { return _mm512_set1_ps(value); }
  static F32 broadcast(const Byte* from) { return _mm512_set1_ps(load_unaligned<float>(from)); }
  static I32 broadcast_int(const Byte* from) { return _mm512_set1_epi32(load_unaligned<int32_t>(from)); }
  static F32 load(const void* from) { return _mm512_loadu_ps(from); }
  static void store(void* to, F32 value) { _mm512_storeu_ps(to, value); }

  static F32 widen_float16(const Byte* from) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)from)); }
  static F32 widen_bfloat16(const Byte* from) {
    const __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
  }
  static F32 widen_uint8(const Byte* from) { return _mm512_cvtepi32_ps(load_bytes(from)); }
  static F32 widen_int8(const Byte* from) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)from)));
  }
  static F32 widen_low_nibble(const Byte* from) {
    return _mm512_cvtepi32_ps(_mm512_and_si512(load_bytes(from), _mm512_set1_epi32(15)));
  }
  static F32 widen_high_nibble(const Byte* from) { return _mm512_cvtepi32_ps(_mm512_srli_epi32(load_bytes(from), 4)); }
  static F32 power_of_two(const Byte* from) {
    const __m512i exponent = load_bytes(from), half = _mm512_srli_epi32(exponent, 1), bias = _mm512_set1_epi32(63);
    const __m512i first = _mm512_add_epi32(half, bias);
    const __m512i second = _mm512_add_epi32(_mm512_sub_epi32(exponent, half), bias);
    return _mm512_mul_ps(_mm512_castsi512_ps(_mm512_slli_epi32(first, 23)),
                         _mm512_castsi512_ps(_mm512_slli_epi32(second, 23)));
  }
  static I32 load_bytes(const Byte* from) { return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)from)); }

  static F32 broadcast_float16(const Byte* from) {
    return _mm512_cvtph_ps(_mm256_set1_epi16(load_unaligned<int16_t>(from)));
  }
  static void widen_nibbles(const Byte* from, F32* numbers) {
    const __m128i both = _mm_loadu_si128((const __m128i*)from), fifteen = _mm_set1_epi8(15);
    numbers[0] = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_and_si128(both, fifteen)));
    numbers[1] = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_and_si128(_mm_srli_epi16(both, 4), fifteen)));
  }

  static F32 add(F32 a, F32 b) { return _mm512_add_ps(a, b); }
  static F32 multiply(F32 a, F32 b) { return _mm512_mul_ps(a, b); }
  static F32 fused(F32 a, F32 b, F32 c) { return _mm512_fmadd_ps(a, b, c); }
  static F32 negate(F32 a) { return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f)); }
  static F32 absolute(F32 a) { return _mm512_abs_ps(a); }
  static F32 to_float(I32 a) { return _mm512_cvtepi32_ps(a); }

  static Codes load_codes(const Byte* from) { return _mm512_loadu_si512(from); }
  static void store_codes(Byte* to, Codes codes) { _mm512_storeu_si512(to, codes); }
  static Codes load_expanded(const Byte* from) { return load_codes(from); }
  static void store_expanded(Byte* to, Codes codes) { store_codes(to, codes); }
  static Codes low_nibbles(Codes both) { return _mm512_and_si512(both, _mm512_set1_epi8(15)); }
  static Codes high_nibbles(Codes both) { return low_nibbles(_mm512_srli_epi16(both, 4)); }
  static Codes join_nibbles(Codes high, Codes low) { return _mm512_or_si512(_mm512_slli_epi16(high, 4), low); }
  static void transpose(const Byte* rows, int64_t row_bytes, Codes* vectors) {
    __m512i pairs[16], fours[16], eights[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i += 2) {
      const __m512i even = load_codes(rows + i * row_bytes), odd = load_codes(rows + (i + 1) * row_bytes);
      pairs[i] = _mm512_unpacklo_epi32(even, odd);
      pairs[i + 1] = _mm512_unpackhi_epi32(even, odd);
    }
    /* fours[i + c]: of rows i .. i + 3, columns c, 4 + c, 8 + c, 12 + c, one in each quarter */
#pragma GCC unroll 16
    for (int i = 0; i < 16; i += 4)
      for (int j = 0; j < 2; ++j) {
        fours[i + 2 * j] = _mm512_unpacklo_epi64(pairs[i + j], pairs[i + 2 + j]);
        fours[i + 2 * j + 1] = _mm512_unpackhi_epi64(pairs[i + j], pairs[i + 2 + j]);
      }
    /* eights[i + c]: columns c, 8 + c of rows i .. i + 7; eights[i + 4 + c]: columns 4 + c, 12 + c */
#pragma GCC unroll 16
    for (int i = 0; i < 16; i += 8)
      for (int c = 0; c < 4; ++c) {
        eights[i + c] = _mm512_shuffle_i32x4(fours[i + c], fours[i + 4 + c], 0x88);
        eights[i + 4 + c] = _mm512_shuffle_i32x4(fours[i + c], fours[i + 4 + c], 0xdd);
      }
#pragma GCC unroll 16
    for (int c = 0; c < 8; ++c) {
      vectors[c] = _mm512_shuffle_i32x4(eights[c], eights[8 + c], 0x88);
      vectors[c + 8] = _mm512_shuffle_i32x4(eights[c], eights[8 + c], 0xdd);
    }
  }
  template <int value>
  static Codes add_bits(Codes codes, const Byte* bits) {
    return _mm512_mask_add_epi8(codes, load_unaligned<uint64_t>(bits), codes, _mm512_set1_epi8(value));
  }
  template <int index>
  static Codes add_crumbs(Codes codes, Codes crumbs) {
    constexpr int right = 2 * index - 4;
    const __m512i moved = right >= 0 ? _mm512_srli_epi16(crumbs, right >= 0 ? right : 0)
                                     : _mm512_slli_epi16(crumbs, right < 0 ? -right : 0);
    return _mm512_ternarylogic_epi32(codes, moved, _mm512_set1_epi8(0x30), 0xf8); /* codes | (moved & 0x30) */
  }
  template <int index, int base>
  static Codes low_crumbs(Codes crumbs) {
    const __m512i moved = _mm512_srli_epi16(crumbs, 2 * index); /* (moved & 3) | base */
    return _mm512_ternarylogic_epi32(moved, _mm512_set1_epi8(3), _mm512_set1_epi8(base), 0xea);
  }
  static Codes look_up(Codes codes, const Byte* table) {
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i*)table)), codes);
  }
  template <int column>
  static F32 column_of(Codes codes) {
    return _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srli_epi32(codes, 8 * column), _mm512_set1_epi32(255)));
  }

  static constexpr int code_bits(int) { return 8; }

  /* largest_bits and round_block do what portable_largest_bits and portable_round_block do. */
  static uint32_t largest_bits(const float* x) {
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    const __m512i bits0 = _mm512_and_si512(_mm512_castps_si512(_mm512_loadu_ps(x)), magnitude);
    const __m512i bits1 = _mm512_and_si512(_mm512_castps_si512(_mm512_loadu_ps(x + 16)), magnitude);
    return _mm512_reduce_max_epu32(_mm512_max_epu32(bits0, bits1));
  }
  template <ActivationFormat format>
  static void round_block(const float* x, float inverse, Byte* to, int32_t* sums) {
    const __m512i codes0 = round_codes(_mm512_loadu_ps(x), inverse, level_of<format>());
    const __m512i codes1 = round_codes(_mm512_loadu_ps(x + 16), inverse, level_of<format>());
    ActivationLayout::template store<format>(codes0, codes1, to);
    /* both sums in one tree of additions */
    const __m256i eight0 = _mm256_add_epi32(_mm512_castsi512_si256(codes0), _mm512_extracti64x4_epi64(codes0, 1));
    const __m256i eight1 = _mm256_add_epi32(_mm512_castsi512_si256(codes1), _mm512_extracti64x4_epi64(codes1, 1));
    const __m256i pairs =
        _mm256_add_epi32(_mm256_unpacklo_epi64(eight0, eight1), _mm256_unpackhi_epi64(eight0, eight1));
    const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1));
    _mm_storel_epi64((__m128i*)sums, _mm_shuffle_epi32(two, 0x08));
  }
  static __m512i round_codes(__m512 x, float inverse, float level) {
    const __m512 scaled = _mm512_mul_ps(x, _mm512_set1_ps(inverse));
    const __mmask16 ordered = _mm512_cmp_ps_mask(scaled, scaled, _CMP_ORD_Q);
    const __m512 bounded = _mm512_maskz_max_ps(ordered, scaled, _mm512_set1_ps(-level));
    return _mm512_cvtps_epi32(_mm512_min_ps(bounded, _mm512_set1_ps(level)));
  }

#ifdef __AVX512VNNI__
  /* BytePlanes, from registers: packing to words and to bytes works on 128-bit lanes, so that a lane ends as four
   * quads, of the high bytes of codes0 and codes1 and of their low bytes; the permutation collects each kind. */
  struct ActivationLayout : BytePlanes {
    template <ActivationFormat format>
    static void store(__m512i codes0, __m512i codes1, Byte* to) {
      const __m512i quads = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
      const __m512i words = _mm512_packs_epi32(codes0, codes1), low_byte = _mm512_set1_epi16(255);
      if constexpr (format == kInt16) {
        const __m512i high = _mm512_srli_epi16(_mm512_add_epi16(words, _mm512_set1_epi16(128)), 8);
        const __m512i bytes = _mm512_packus_epi16(high, _mm512_and_si512(words, low_byte));
        _mm512_storeu_si512(to, _mm512_permutexvar_epi32(quads, bytes));
      } else {
        const __m512i bytes = _mm512_permutexvar_epi32(quads, _mm512_packs_epi16(words, words));
        _mm256_storeu_si256((__m256i*)to, _mm512_castsi512_si256(bytes));
      }
    }
  };
  static Codes operand(Codes codes) { return codes; }

  /* sums + weights times the four signed bytes at `x`, the same for all rows. Written out because GCC 12 does not
   * broadcast in the instruction itself, and the extra instructions would cost half of the speed. */
  static I32 multiply_quad(I32 sums, Codes weights, const Byte* x) {
    asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sums) : "v"(weights), "m"(*reinterpret_cast<const Quad*>(x)));
    return sums;
  }

  template <ActivationFormat format, int bits>
  struct Dot {
    static constexpr int kChains = format == kInt16 ? 2 : 1;
    static constexpr bool kTakesGroups = false, kCentersBytes = false;
    static constexpr int kGroupBytes = 4; /* of activations, from one group of columns to the next */
    struct Chain {
      I32 high, low;
    };
    static Chain start(I32 correction) { return {zero_int(), correction}; }
    static void add(Chain& chain, Codes weights, const Byte* x) {
      if constexpr (format == kInt16) chain.high = multiply_quad(chain.high, weights, x);
      chain.low = multiply_quad(chain.low, weights, x + (format == kInt16 ? kBlock : 0));
    }
    static I32 finish(Chain chain) {
      if constexpr (format == kInt8) return chain.low;
      return _mm512_add_epi32(_mm512_slli_epi32(chain.high, 8), chain.low);
    }
  };
#else
  /* WordPairs, from registers: the order 0, 2, 1, 3 of each four columns is a shuffle. */
  struct ActivationLayout : WordPairs {
    template <ActivationFormat>
    static void store(__m512i codes0, __m512i codes1, Byte* to) {
      _mm256_storeu_si256((__m256i*)to, _mm512_cvtepi32_epi16(_mm512_shuffle_epi32(codes0, _MM_PERM_DBCA)));
      _mm256_storeu_si256((__m256i*)(to + 32), _mm512_cvtepi32_epi16(_mm512_shuffle_epi32(codes1, _MM_PERM_DBCA)));
    }
  };
  struct Operand {
    __m512i even, odd;
  };
  static Operand operand(Codes codes) {
    return {_mm512_and_si512(codes, _mm512_set1_epi16(255)), _mm512_srli_epi16(codes, 8)};
  }

  template <ActivationFormat format, int bits>
  struct Dot {
    static constexpr int kChains = 1;
    static constexpr bool kTakesGroups = false, kCentersBytes = false;
    static constexpr int kGroupBytes = 8;
    using Chain = I32;
    static Chain start(I32 correction) { return correction; }
    static void add(Chain& chain, Operand weights, const Byte* x) {
      const __m512i even = _mm512_madd_epi16(weights.even, broadcast_int(x));
      const __m512i odd = _mm512_madd_epi16(weights.odd, broadcast_int(x + 4));
      chain = _mm512_add_epi32(chain, _mm512_add_epi32(even, odd));
      asm(""
          : "+v"(chain)); /* or GCC collects the products of a block before it adds them, and runs out of registers */
    }
    static I32 finish(Chain chain) { return chain; }
  };
#endif
};

}  // namespace linear
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
