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
  static constexpr int kBatch = 4; /* tokens whose dot products are in flight together */

  using F32 = __m512;
  using I32 = __m512i;
  using Codes = __m512i;

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
  static F32 widen_uint8(const Byte* from) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)from)));
  }
  static F32 widen_int8(const Byte* from) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)from)));
  }

  static F32 add(F32 a, F32 b) { return _mm512_add_ps(a, b); }
  static F32 multiply(F32 a, F32 b) { return _mm512_mul_ps(a, b); }
  static F32 fused(F32 a, F32 b, F32 c) { return _mm512_fmadd_ps(a, b, c); }
  static F32 negate(F32 a) { return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f)); }
  static F32 to_float(I32 a) { return _mm512_cvtepi32_ps(a); }

  static Codes load_codes(const Byte* from) { return _mm512_loadu_si512(from); }
  static void store_codes(Byte* to, Codes codes) { _mm512_storeu_si512(to, codes); }
  static Codes low_nibbles(Codes both) { return _mm512_and_si512(both, _mm512_set1_epi8(15)); }
  static Codes high_nibbles(Codes both) { return low_nibbles(_mm512_srli_epi16(both, 4)); }
  static Codes add_fifth_bits(Codes codes, const Byte* bits) {
    return _mm512_mask_add_epi8(codes, load_unaligned<uint64_t>(bits), codes, _mm512_set1_epi8(16));
  }
  template <int index>
  static Codes add_crumbs(Codes codes, Codes crumbs) {
    constexpr int right = 2 * index - 4;
    const __m512i moved = right >= 0 ? _mm512_srli_epi16(crumbs, right >= 0 ? right : 0)
                                     : _mm512_slli_epi16(crumbs, right < 0 ? -right : 0);
    return _mm512_ternarylogic_epi32(codes, moved, _mm512_set1_epi8(0x30), 0xf8); /* codes | (moved & 0x30) */
  }
  template <int column>
  static F32 column_of(Codes codes) {
    return _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srli_epi32(codes, 8 * column), _mm512_set1_epi32(255)));
  }

  static I32 quad(const Byte* x, int index) { return broadcast_int(x + 4 * index); }

#ifdef __AVX512VNNI__
  using ActivationLayout = BytePlanes;
  static Codes operand(Codes codes) { return codes; }

  template <ActivationFormat format>
  struct Dot {
    struct Chain {
      I32 high, low;
    };
    static Chain start(I32 correction) { return {zero_int(), correction}; }
    static void add(Chain& chain, Codes weights, const Byte* x, int group) {
      if constexpr (format == kInt16) chain.high = _mm512_dpbusd_epi32(chain.high, weights, quad(x, group));
      chain.low = _mm512_dpbusd_epi32(chain.low, weights, quad(x, group + (format == kInt16 ? 8 : 0)));
    }
    static I32 finish(Chain chain) {
      if constexpr (format == kInt8) return chain.low;
      return _mm512_add_epi32(_mm512_slli_epi32(chain.high, 8), chain.low);
    }
  };
#else
  using ActivationLayout = WordPairs;
  struct Operand {
    __m512i even, odd;
  };
  static Operand operand(Codes codes) {
    return {_mm512_and_si512(codes, _mm512_set1_epi16(255)), _mm512_srli_epi16(codes, 8)};
  }

  template <ActivationFormat format>
  struct Dot {
    using Chain = I32;
    static Chain start(I32 correction) { return correction; }
    static void add(Chain& chain, Operand weights, const Byte* x, int group) {
      const __m512i even = _mm512_madd_epi16(weights.even, quad(x, 2 * group));
      const __m512i odd = _mm512_madd_epi16(weights.odd, quad(x, 2 * group + 1));
      chain = _mm512_add_epi32(chain, _mm512_add_epi32(even, odd));
    }
    static I32 finish(Chain chain) { return chain; }
  };
#endif
};

}  // namespace linear
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
