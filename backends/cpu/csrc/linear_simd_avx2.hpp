/* The vector layer of the tile kernels for AVX2 with FMA and F16C: half a tile at a time. */
#ifndef PERFX_CPU_LINEAR_SIMD_AVX2_HPP
#define PERFX_CPU_LINEAR_SIMD_AVX2_HPP

#include <immintrin.h>

#include "perfx/linear_activations.hpp"

namespace perfx {
namespace PERFX_VARIANT {
namespace linear {

struct Simd {
  static constexpr int kLanes = 8;
  static constexpr int kMaxTokens = 8;
  static constexpr int kMaxChains = 4;
  static constexpr bool kHoldsCodes = true;

  using F32 = __m256;
  using I32 = __m256i;
  using Codes = __m256i;
  using ActivationLayout = WordPairs;

  static F32 zero() { return _mm256_setzero_ps(); }
  static I32 zero_int() { return _mm256_setzero_si256(); }
  static F32 broadcast_float(float value) { return _mm256_set1_ps(value); }
  static F32 broadcast(const Byte* from) { return _mm256_set1_ps(load_unaligned<float>(from)); }
  static I32 broadcast_int(const Byte* from) { return _mm256_set1_epi32(load_unaligned<int32_t>(from)); }
  static F32 load(const void* from) { return _mm256_loadu_ps(static_cast<const float*>(from)); }
  static void store(void* to, F32 value) { _mm256_storeu_ps(static_cast<float*>(to), value); }

  static F32 widen_float16(const Byte* from) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)from)); }
  static F32 widen_bfloat16(const Byte* from) {
    const __m256i words = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)from));
    return _mm256_castsi256_ps(_mm256_slli_epi32(words, 16));
  }
  static F32 widen_uint8(const Byte* from) { return _mm256_cvtepi32_ps(load_bytes(from)); }
  static F32 widen_int8(const Byte* from) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)from)));
  }
  static F32 widen_low_nibble(const Byte* from) {
    return _mm256_cvtepi32_ps(_mm256_and_si256(load_bytes(from), _mm256_set1_epi32(15)));
  }
  static F32 widen_high_nibble(const Byte* from) { return _mm256_cvtepi32_ps(_mm256_srli_epi32(load_bytes(from), 4)); }
  static F32 power_of_two(const Byte* from) {
    const __m256i exponent = load_bytes(from), half = _mm256_srli_epi32(exponent, 1), bias = _mm256_set1_epi32(63);
    const __m256i first = _mm256_add_epi32(half, bias);
    const __m256i second = _mm256_add_epi32(_mm256_sub_epi32(exponent, half), bias);
    return _mm256_mul_ps(_mm256_castsi256_ps(_mm256_slli_epi32(first, 23)),
                         _mm256_castsi256_ps(_mm256_slli_epi32(second, 23)));
  }
  static I32 load_bytes(const Byte* from) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)from)); }

  static F32 broadcast_float16(const Byte* from) {
    return _mm256_cvtph_ps(_mm_set1_epi16(load_unaligned<int16_t>(from)));
  }
  static void widen_nibbles(const Byte* from, F32* numbers) {
    const __m128i both = _mm_loadu_si128((const __m128i*)from), fifteen = _mm_set1_epi8(15);
    const __m128i low = _mm_and_si128(both, fifteen), high = _mm_and_si128(_mm_srli_epi16(both, 4), fifteen);
    numbers[0] = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(low));
    numbers[1] = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(low, 8)));
    numbers[2] = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(high));
    numbers[3] = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(high, 8)));
  }

  static F32 add(F32 a, F32 b) { return _mm256_add_ps(a, b); }
  static F32 multiply(F32 a, F32 b) { return _mm256_mul_ps(a, b); }
  static F32 fused(F32 a, F32 b, F32 c) { return _mm256_fmadd_ps(a, b, c); }
  static F32 negate(F32 a) { return _mm256_xor_ps(a, _mm256_set1_ps(-0.0f)); }
  static F32 absolute(F32 a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
  static F32 to_float(I32 a) { return _mm256_cvtepi32_ps(a); }

  static Codes load_codes(const Byte* from) { return _mm256_loadu_si256((const __m256i*)from); }
  static void store_codes(Byte* to, Codes codes) { _mm256_storeu_si256((__m256i*)to, codes); }
  static Codes load_expanded(const Byte* from) { return load_codes(from); }
  static void store_expanded(Byte* to, Codes codes) { store_codes(to, codes); }
  static Codes low_nibbles(Codes both) { return _mm256_and_si256(both, _mm256_set1_epi8(15)); }
  static Codes high_nibbles(Codes both) { return low_nibbles(_mm256_srli_epi16(both, 4)); }
  static Codes join_nibbles(Codes high, Codes low) { return _mm256_or_si256(_mm256_slli_epi16(high, 4), low); }
  static void transpose(const Byte* rows, int64_t row_bytes, Codes* vectors) {
    for (int half = 0; half < 2; ++half, rows += 32, vectors += 8) {
      __m256i pairs[8], fours[8];
      for (int i = 0; i < 8; i += 2) {
        const __m256i even = load_codes(rows + i * row_bytes), odd = load_codes(rows + (i + 1) * row_bytes);
        pairs[i] = _mm256_unpacklo_epi32(even, odd);
        pairs[i + 1] = _mm256_unpackhi_epi32(even, odd);
      }
      for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; ++j) {
          fours[i + 2 * j] = _mm256_unpacklo_epi64(pairs[i + j], pairs[i + 2 + j]);
          fours[i + 2 * j + 1] = _mm256_unpackhi_epi64(pairs[i + j], pairs[i + 2 + j]);
        }
      for (int i = 0; i < 4; ++i) {
        vectors[i] = _mm256_permute2x128_si256(fours[i], fours[i + 4], 0x20);
        vectors[i + 4] = _mm256_permute2x128_si256(fours[i], fours[i + 4], 0x31);
      }
    }
  }
  template <int value>
  static Codes add_bits(Codes codes, const Byte* bits) {
    /* Each byte of the 32 bits goes to eight bytes, each of which keeps its own bit. */
    const __m256i spread = _mm256_shuffle_epi8(
        broadcast_int(bits), _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303));
    const __m256i mask = _mm256_set1_epi64x(int64_t(0x8040201008040201));
    const __m256i present = _mm256_cmpeq_epi8(_mm256_and_si256(spread, mask), mask);
    return _mm256_add_epi8(codes, _mm256_and_si256(present, _mm256_set1_epi8(value)));
  }
  template <int index>
  static Codes add_crumbs(Codes codes, Codes crumbs) {
    constexpr int right = 2 * index - 4;
    const __m256i moved = right >= 0 ? _mm256_srli_epi16(crumbs, right >= 0 ? right : 0)
                                     : _mm256_slli_epi16(crumbs, right < 0 ? -right : 0);
    return _mm256_or_si256(codes, _mm256_and_si256(moved, _mm256_set1_epi8(0x30)));
  }
  template <int index, int base>
  static Codes low_crumbs(Codes crumbs) {
    const __m256i low = _mm256_and_si256(_mm256_srli_epi16(crumbs, 2 * index), _mm256_set1_epi8(3));
    return base == 0 ? low : _mm256_or_si256(low, _mm256_set1_epi8(base));
  }
  static Codes look_up(Codes codes, const Byte* table) {
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)table)), codes);
  }
  template <int column>
  static F32 column_of(Codes codes) {
    return _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srli_epi32(codes, 8 * column), _mm256_set1_epi32(255)));
  }

  static constexpr int code_bits(int) { return 8; }

  /* largest_bits and round_block do what portable_largest_bits and portable_round_block do. */
  static uint32_t largest_bits(const float* x) {
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256i largest = _mm256_setzero_si256();
    for (int i = 0; i < kBlock; i += 8)
      largest = _mm256_max_epu32(largest, _mm256_and_si256(_mm256_castps_si256(_mm256_loadu_ps(x + i)), magnitude));
    __m128i four = _mm_max_epu32(_mm256_castsi256_si128(largest), _mm256_extracti128_si256(largest, 1));
    four = _mm_max_epu32(four, _mm_shuffle_epi32(four, 0x4e));
    return uint32_t(_mm_cvtsi128_si32(_mm_max_epu32(four, _mm_shuffle_epi32(four, 0xb1))));
  }
  template <ActivationFormat format>
  static void round_block(const float* x, float inverse, Byte* to, int32_t* sums) {
    for (int half = 0; half < 2; ++half) {
      const __m256i codes0 = round_codes(_mm256_loadu_ps(x + 16 * half), inverse, level_of<format>());
      const __m256i codes1 = round_codes(_mm256_loadu_ps(x + 16 * half + 8), inverse, level_of<format>());
      sums[half] = sum_of(_mm256_add_epi32(codes0, codes1));
      /* columns 0, 2, 1, 3 of each four; the packing works on 128-bit halves, which are put right afterwards */
      const __m256i words = _mm256_packs_epi32(_mm256_shuffle_epi32(codes0, 0xd8), _mm256_shuffle_epi32(codes1, 0xd8));
      _mm256_storeu_si256((__m256i*)(to + 32 * half), _mm256_permute4x64_epi64(words, 0xd8));
    }
  }
  static __m256i round_codes(__m256 x, float inverse, float level) {
    const __m256 scaled = _mm256_mul_ps(x, _mm256_set1_ps(inverse));
    const __m256 ordered = _mm256_and_ps(scaled, _mm256_cmp_ps(scaled, scaled, _CMP_ORD_Q));
    return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(ordered, _mm256_set1_ps(-level)), _mm256_set1_ps(level)));
  }
  static int32_t sum_of(__m256i values) {
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(values), _mm256_extracti128_si256(values, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
  }

  struct Operand {
    __m256i even, odd;
  };
  static Operand operand(Codes codes) {
    return {_mm256_and_si256(codes, _mm256_set1_epi16(255)), _mm256_srli_epi16(codes, 8)};
  }

  template <ActivationFormat format, int bits>
  struct Dot {
    static constexpr int kChains = 1;
    static constexpr bool kTakesGroups = false, kCentersBytes = false;
    static constexpr int kGroupBytes = 8;
    using Chain = I32;
    static Chain start(I32 correction) { return correction; }
    static void add(Chain& chain, Operand weights, const Byte* x) {
      const __m256i even = _mm256_madd_epi16(weights.even, broadcast_int(x));
      const __m256i odd = _mm256_madd_epi16(weights.odd, broadcast_int(x + 4));
      chain = _mm256_add_epi32(chain, _mm256_add_epi32(even, odd));
      asm(""
          : "+x"(chain)); /* or GCC collects the products of a block before it adds them, and runs out of registers */
    }
    static I32 finish(Chain chain) { return chain; }
  };
};

}  // namespace linear
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
