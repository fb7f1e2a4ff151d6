/* The vector layer of the tile kernels for the RISC-V vector extension. See perfx/linear_simd_portable.hpp.
 *
 * There is no dot product of bytes. Products of 64 codes with four activations, spread over the 16 rows, are added as
 * 16-bit numbers (vwmaccsu.vv) for as many groups of columns as cannot overflow; then the four sums of each row are
 * added up, the first time as numbers of 32 bits.
 */
#ifndef PERFX_RISCV_LINEAR_SIMD_RVV_HPP
#define PERFX_RISCV_LINEAR_SIMD_RVV_HPP

#include "perfx/linear_sources.hpp"
#include "simd_rvv.hpp"

namespace perfx {
namespace PERFX_VARIANT {
namespace linear {

struct Simd {
  static constexpr int kLanes = 16;
  static constexpr int kMaxTokens = kVectorGroups == 8 ? 4 : kVectorGroups == 16 ? 8 : 12;
  static constexpr int kMaxChains = kMaxTokens;
  static constexpr bool kHoldsCodes = false;

  using F32 = FloatLanes;
  using I32 = IntLanes;
  typedef Byte Codes __attribute__((vector_size(64)));
  using ActivationLayout = BytePlanes;

  static F32 zero() { return F32{}; }
  static I32 zero_int() { return I32{}; }
  static F32 broadcast_float(float value) { return set(value).v; }
  static F32 broadcast(const Byte* from) { return broadcast_float(load_aligned<float>(from)); }
  static I32 broadcast_int(const Byte* from) { return set_int(load_aligned<int32_t>(from)).v; }
  static F32 load(const void* from) { return PERFX_VARIANT::load(static_cast<const float*>(from)).v; }
  static void store(void* to, F32 value) { PERFX_VARIANT::store(static_cast<float*>(to), {value}); }

  static F32 widen_float16(const Byte* from) { return load_half(reinterpret_cast<const uint16_t*>(from)).v; }
  static F32 widen_bfloat16(const Byte* from) {
    return F32(__builtin_convertvector(load_aligned<HalfLanes, 2>(from), WordLanes) << 16);
  }
  static F32 widen_uint8(const Byte* from) { return __builtin_convertvector(load_column(from), F32); }
  static F32 widen_int8(const Byte* from) {
    typedef int8_t SignedColumn __attribute__((vector_size(16)));
    return __builtin_convertvector(SignedColumn(load_column(from)), F32);
  }
  static F32 widen_low_nibble(const Byte* from) { return __builtin_convertvector(load_column(from) & 15, F32); }
  static F32 widen_high_nibble(const Byte* from) { return __builtin_convertvector(load_column(from) >> 4, F32); }
  static F32 power_of_two(const Byte* from) {
    const I32 exponent = __builtin_convertvector(load_column(from), I32), half = exponent >> 1;
    return F32((half + 63) << 23) * F32((exponent - half + 63) << 23);
  }

  static F32 broadcast_float16(const Byte* from) { return broadcast_float(load_float16(from)); }
  static void widen_nibbles(const Byte* from, F32* numbers) {
    numbers[0] = widen_low_nibble(from);
    numbers[1] = widen_high_nibble(from);
  }

  static F32 add(F32 a, F32 b) { return a + b; }
  static F32 multiply(F32 a, F32 b) { return a * b; }
  static F32 fused(F32 a, F32 b, F32 c) { return __builtin_elementwise_fma(a, b, c); }
  static F32 negate(F32 a) { return -a; }
  static F32 absolute(F32 a) { return __builtin_elementwise_abs(a); }
  static F32 to_float(I32 a) { return __builtin_convertvector(a, F32); }

  static Codes load_codes(const Byte* from) { return load_aligned<Codes, 1>(from); }
  static Codes load_expanded(const Byte* from) { return load_codes(from); }
  static void store_expanded(Byte* to, Codes codes) { std::memcpy(to, &codes, sizeof(codes)); }
  static Codes low_nibbles(Codes both) { return both & 15; }
  static Codes high_nibbles(Codes both) { return both >> 4; }
  static Codes join_nibbles(Codes high, Codes low) { return high << 4 | low; }
  static void transpose(const Byte* rows, int64_t row_bytes, Codes* vectors) {
    F square[16];
#pragma GCC unroll 16
    for (int row = 0; row < 16; ++row) square[row] = {load_aligned<F32, 4>(rows + row * row_bytes)};
    PERFX_VARIANT::transpose(square);
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) vectors[i] = Codes(square[i].v);
  }
  template <int value>
  static Codes add_bits(Codes codes, const Byte* bits) {
    typedef bool Truths __attribute__((ext_vector_type(64)));
    typedef int8_t SignedCodes __attribute__((vector_size(64)));
    const auto set = __builtin_convertvector(load_aligned<Truths, 1>(bits), SignedCodes);
    return set != 0 ? codes + Byte(value) : codes;
  }
  template <int index>
  static Codes add_crumbs(Codes codes, Codes crumbs) {
    return codes | (crumbs >> 2 * index & 3) << 4;
  }
  template <int index, int base>
  static Codes low_crumbs(Codes crumbs) {
    return (crumbs >> 2 * index & 3) | Byte(base);
  }
  static Codes look_up(Codes codes, const Byte* table) {
    alignas(16) Byte bytes[64];
    store_expanded(bytes, codes);
    const vuint8m1_t values = __riscv_vle8_v_u8m1(table, 16);
    for (int i = 0; i < 64; i += 16)
      __riscv_vse8_v_u8m1(bytes + i, __riscv_vrgather_vv_u8m1(values, __riscv_vle8_v_u8m1(bytes + i, 16), 16), 16);
    return load_codes(bytes);
  }
  template <int column>
  static F32 column_of(Codes codes) {
    return __builtin_convertvector(WordLanes(codes) >> 8 * column & 255, F32);
  }

  /* largest_bits and round_block do what portable_largest_bits and portable_round_block do. */
  static uint32_t largest_bits(const float* x) {
    const WordLanes first = WordLanes(load(x)) & 0x7fffffff, last = WordLanes(load(x + 16)) & 0x7fffffff;
    return __builtin_reduce_max(__builtin_elementwise_max(first, last));
  }
  template <ActivationFormat format>
  static void round_block(const float* x, float inverse, Byte* to, int32_t* sums) {
    for (int half = 0; half < 2; ++half, to += 16) {
      const I32 codes = round_codes(load(x + 16 * half), inverse, level_of<format>());
      store_bytes(format == kInt16 ? (codes + 128) >> 8 : codes, to);
      if (format == kInt16) store_bytes(codes, to + kBlock);
      sums[half] = __builtin_reduce_add(codes);
    }
  }

  /* The products of how many groups are added as 16-bit numbers: with codes of five bits at most 8 * 31 * 128, of six
   * bits 4 * 63 * 128. With codes of eight bits, from which 128 is subtracted, 2 * 128 * 127 for activations above
   * -128, and without that a single one. */
  static constexpr int code_bits(int bits) { return bits <= 5 ? 5 : bits; }

  template <ActivationFormat format, int bits>
  struct Dot {
    static constexpr bool kTakesGroups = true, kCentersBytes = true;
    static constexpr int kChains = 1;
    static constexpr int kGroupBytes = 4;

    template <int groups, int tokens, class Groups>
    static inline __attribute__((always_inline)) void multiply(const Groups& codes, const Byte* x, int first,
                                                               I32* products) {
      constexpr int code_bytes = ActivationLayout::bytes<format>();
#pragma GCC unroll 16
      for (int m = 0; m < tokens; ++m, x += code_bytes) {
        if constexpr (format == kInt8) {
          products[m] += multiply_plane<groups, bits, true>(codes, x, first);
        } else {
          products[m] += multiply_plane<groups, bits, true>(codes, x, first) << 8;
          products[m] += multiply_plane<groups, bits, false>(codes, x + kBlock, first);
        }
      }
    }
  };

 private:
  typedef Byte Column __attribute__((vector_size(16)));
  typedef int8_t Bytes __attribute__((vector_size(64)));
  typedef int16_t Shorts __attribute__((vector_size(128)));
  typedef int16_t HalfShorts __attribute__((vector_size(64)));
  typedef int32_t Pairs __attribute__((vector_size(128)));
  typedef int64_t Quads __attribute__((vector_size(128)));

  /* The dot products with one plane of bytes; `is_symmetric`: none of them is -128. Activations of two groups are
   * spread over registers together, for that needs elements of another size; more groups would not fit beside the sums
   * where registers have 128 bits. */
  template <int groups, int bits, bool is_symmetric, class Groups>
  static inline __attribute__((always_inline)) I32 multiply_plane(const Groups& codes, const Byte* x, int first) {
    constexpr int run = smaller(groups, bits <= 5 ? 8 : bits == 6 ? 4 : is_symmetric ? 2 : 1);
    constexpr int together = smaller(run, 2);
    const auto group = [first](int i) { return first + (groups == 8 ? group_at(i) : i); };
    Pairs pairs = {};
#pragma GCC unroll 8
    for (int begin = 0; begin < groups; begin += run) {
      Shorts sums = {};
#pragma GCC unroll 8
      for (int i = begin; i < begin + run; i += together) {
        Bytes fours[together];
#pragma GCC unroll 2
        for (int j = 0; j < together; ++j) fours[j] = Bytes(broadcast_int(x + 4 * group(i + j)));
#pragma GCC unroll 2
        for (int j = 0; j < together; ++j) sums += multiply_codes<bits>(codes[group(i + j)], fours[j]);
      }
      pairs += __builtin_convertvector(every_second<0>(sums), Pairs);
      pairs += __builtin_convertvector(every_second<1>(sums), Pairs);
    }
    const Quads both = Quads(pairs);
    return __builtin_convertvector(both, I32) + __builtin_convertvector(both >> 32, I32);
  }
  template <int bits>
  static inline __attribute__((always_inline)) Shorts multiply_codes(Codes codes, Bytes fours) {
    const Shorts x = __builtin_convertvector(fours, Shorts);
    if constexpr (bits == 8) return __builtin_convertvector(Bytes(codes ^ 128), Shorts) * x;
    return __builtin_convertvector(codes, Shorts) * x;
  }
  template <int i>
  static inline __attribute__((always_inline)) HalfShorts every_second(Shorts x) {
    return __builtin_shufflevector(x, x, i, i + 2, i + 4, i + 6, i + 8, i + 10, i + 12, i + 14, i + 16, i + 18, i + 20,
                                   i + 22, i + 24, i + 26, i + 28, i + 30, i + 32, i + 34, i + 36, i + 38, i + 40,
                                   i + 42, i + 44, i + 46, i + 48, i + 50, i + 52, i + 54, i + 56, i + 58, i + 60,
                                   i + 62);
  }

  static void store_bytes(I32 numbers, Byte* to) {
    const Column bytes = __builtin_convertvector(numbers, Column);
    std::memcpy(to, &bytes, sizeof(bytes));
  }
  /* From memory aligned for T, or as said. Bytes one by one are what a compiler takes what may be unaligned for. */
  template <class T, int alignment = alignof(T)>
  static T load_aligned(const Byte* from) {
    T value;
    std::memcpy(&value, __builtin_assume_aligned(from, alignment), sizeof(T));
    return value;
  }
  static Column load_column(const Byte* from) { return load_aligned<Column, 1>(from); }

  static I32 round_codes(F32 x, float inverse, float level) {
    const F32 rounder = broadcast_float(12582912.0f), top = broadcast_float(level);
    F32 code = x * broadcast_float(inverse);
    code = code == code ? code : zero();
    code = code > -top ? code : -top;
    code = code < top ? code : top;
    return I32(code + rounder) - I32(rounder);
  }
};

}  // namespace linear
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
