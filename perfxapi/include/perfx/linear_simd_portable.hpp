/* The vector layer of the tile kernels for any processor, four rows at a time, in the vector extensions of GCC and
 * Clang; and the definition of what such a layer is.
 *
 * `Simd` holds, beside what its comments here say:
 *
 *   kLanes            rows in a vector: 4, 8 or 16
 *   kMaxTokens        the largest group of tokens a tile kernel is compiled for: 4, 8 or 12
 *   kMaxChains        dot products in flight together: as many vectors as are free beside one for each token
 *   kHoldsCodes       has it registers for the codes of a part, eight groups? Else Dot unpacks group by group
 *   F32, I32, Codes   kLanes float32, int32, and four unsigned bytes a lane
 *   ActivationLayout  how codes of activations lie (linear_activations.hpp): what Dot wants to load
 *   code_bits(bits)   the number of bits that Dot is made for where codes have `bits`, the same for all where it is no
 *                     use
 *   Dot<format, bits> dot products of codes: kChains vectors to a product; start, add a group of four columns, finish.
 *                     kTakesGroups: instead, multiply<groups, tokens> does what multiply_groups (linear_sources.hpp)
 *                     promises. kCentersBytes: of codes of eight bits 128 is subtracted, so that nothing corrects it
 *
 * Loads and stores are of any alignment. Every operation is exact or rounds once, so all layers give the same bits.
 */
#ifndef PERFX_LINEAR_SIMD_PORTABLE_HPP
#define PERFX_LINEAR_SIMD_PORTABLE_HPP

#include "perfx/linear_activations.hpp"

namespace perfx {
namespace PERFX_VARIANT {
namespace linear {

struct Simd {
  static constexpr int kLanes = 4;
  static constexpr int kMaxTokens = 4;
  static constexpr int kMaxChains = 4;
  static constexpr bool kHoldsCodes = true;

  typedef float F32 __attribute__((vector_size(16)));
  typedef int32_t I32 __attribute__((vector_size(16)));
  typedef uint32_t Codes __attribute__((vector_size(16))); /* column c of a row is bits 8 c .. 8 c + 7 */
  using ActivationLayout = WordPairs;

  static F32 zero() { return F32{}; }
  static I32 zero_int() { return I32{}; }
  static F32 broadcast_float(float value) { return F32{value, value, value, value}; }
  static F32 broadcast(const Byte* from) { return broadcast_float(load_unaligned<float>(from)); }
  static I32 broadcast_int(const Byte* from) {
    const int32_t value = load_unaligned<int32_t>(from);
    return I32{value, value, value, value};
  }
  static F32 load(const void* from) { return load_unaligned<F32>(from); }
  static void store(void* to, F32 value) { std::memcpy(to, &value, sizeof(value)); }

  /* kLanes numbers in memory as float32 */
  static F32 widen_float16(const Byte* from) {
    return F32{load_float16(from), load_float16(from + 2), load_float16(from + 4), load_float16(from + 6)};
  }
  static F32 widen_bfloat16(const Byte* from) {
    const auto one = [&](int i) { return linear::widen_bfloat16(load_unaligned<uint16_t>(from + 2 * i)); };
    return F32{one(0), one(1), one(2), one(3)};
  }
  static F32 widen_uint8(const Byte* from) {
    return F32{float(from[0]), float(from[1]), float(from[2]), float(from[3])};
  }
  static F32 widen_int8(const Byte* from) {
    return F32{float(int8_t(from[0])), float(int8_t(from[1])), float(int8_t(from[2])), float(int8_t(from[3]))};
  }
  static F32 widen_low_nibble(const Byte* from) {
    return F32{float(from[0] & 15), float(from[1] & 15), float(from[2] & 15), float(from[3] & 15)};
  }
  static F32 widen_high_nibble(const Byte* from) {
    return F32{float(from[0] >> 4), float(from[1] >> 4), float(from[2] >> 4), float(from[3] >> 4)};
  }
  /* 2^(byte - 128), exactly */
  static F32 power_of_two(const Byte* from) {
    return F32{linear::power_of_two(from[0]), linear::power_of_two(from[1]), linear::power_of_two(from[2]),
               linear::power_of_two(from[3])};
  }

  static F32 broadcast_float16(const Byte* from) { return broadcast_float(load_float16(from)); }
  /* The low, then the high four bits of 16 bytes */
  static void widen_nibbles(const Byte* from, F32* numbers) {
    for (int i = 0; i < 16; ++i) {
      numbers[i / 4][i % 4] = float(from[i] & 15);
      numbers[4 + i / 4][i % 4] = float(from[i] >> 4);
    }
  }

  static F32 add(F32 a, F32 b) { return a + b; }
  static F32 multiply(F32 a, F32 b) { return a * b; }
  static F32 negate(F32 a) { return -a; }
  static F32 absolute(F32 a) {
    return F32{__builtin_fabsf(a[0]), __builtin_fabsf(a[1]), __builtin_fabsf(a[2]), __builtin_fabsf(a[3])};
  }
  static F32 to_float(I32 a) { return __builtin_convertvector(a, F32); }
  /* a * b + c, rounded once */
  static F32 fused(F32 a, F32 b, F32 c) {
    return F32{__builtin_fmaf(a[0], b[0], c[0]), __builtin_fmaf(a[1], b[1], c[1]), __builtin_fmaf(a[2], b[2], c[2]),
               __builtin_fmaf(a[3], b[3], c[3])};
  }

  static Codes load_codes(const Byte* from) { return load_unaligned<Codes>(from); }
  static void store_codes(Byte* to, Codes codes) { std::memcpy(to, &codes, sizeof(codes)); }
  /* Codes of an expanded tile, which this layer alone reads */
  static Codes load_expanded(const Byte* from) { return load_codes(from); }
  static void store_expanded(Byte* to, Codes codes) { store_codes(to, codes); }
  static Codes low_nibbles(Codes both) { return both & 0x0f0f0f0f; }
  static Codes high_nibbles(Codes both) { return both >> 4 & 0x0f0f0f0f; }
  /* 16 * high + low, of nibbles */
  static Codes join_nibbles(Codes high, Codes low) { return high << 4 | low; }
  /* Bytes 4 i .. 4 i + 3 of kLanes rows, `row_bytes` apart, to vector i, for i < 16. */
  static void transpose(const Byte* rows, int64_t row_bytes, Codes* vectors) {
    for (int i = 0; i < 16; ++i)
      for (int lane = 0; lane < kLanes; ++lane)
        vectors[i][lane] = load_unaligned<uint32_t>(rows + lane * row_bytes + 4 * i);
  }
  /* Adds `value` where a bit is set: bit i of `bits` belongs to byte i. */
  template <int value>
  static Codes add_bits(Codes codes, const Byte* bits) {
    const uint32_t rows = load_unaligned<uint16_t>(bits);
    const Codes four = Codes{rows, rows >> 4, rows >> 8, rows >> 12} & 15;
    return codes + (four * 0x00204081 & 0x01010101) * value; /* bit i of four goes to bit 0 of byte i */
  }
  /* Adds 16 * (bits 2 index, 2 index + 1 of each byte of `crumbs`). */
  template <int index>
  static Codes add_crumbs(Codes codes, Codes crumbs) {
    return codes | (crumbs >> 2 * index & 0x03030303) << 4;
  }
  /* Bits 2 index, 2 index + 1 of each byte of `crumbs`, and `base`, a multiple of 4. */
  template <int index, int base>
  static Codes low_crumbs(Codes crumbs) {
    return (crumbs >> 2 * index & 0x03030303) | base * 0x01010101;
  }
  /* table[code] of each code, which is below 16. */
  static Codes look_up(Codes codes, const Byte* table) {
    Byte bytes[sizeof(Codes)];
    store_codes(bytes, codes);
    for (Byte& byte : bytes) byte = table[byte];
    return load_codes(bytes);
  }
  template <int column>
  static I32 column_int(Codes codes) {
    return I32(codes >> 8 * column & 255);
  }
  /* One column of each row as float32 */
  template <int column>
  static F32 column_of(Codes codes) {
    return to_float(column_int<column>(codes));
  }

  /* Of 32 activations: the largest magnitude's bits; the codes, and the sums of each half's codes */
  static uint32_t largest_bits(const float* x) { return portable_largest_bits(x); }
  template <ActivationFormat format>
  static void round_block(const float* x, float inverse, Byte* to, int32_t* sums) {
    portable_round_block<ActivationLayout, format>(x, inverse, to, sums);
  }

  /* Codes as Dot multiplies them, made once for all tokens */
  struct Operand {
    I32 columns[4];
  };
  static Operand operand(Codes codes) {
    return {{column_int<0>(codes), column_int<1>(codes), column_int<2>(codes), column_int<3>(codes)}};
  }

  static constexpr int code_bits(int) { return 8; }

  template <ActivationFormat format, int bits>
  struct Dot {
    static constexpr int kChains = 1;
    static constexpr bool kTakesGroups = false, kCentersBytes = false;
    static constexpr int kGroupBytes = 8; /* of activations, from one group of four columns to the next */
    using Chain = I32;
    static Chain start(I32 correction) { return correction; }
    static void add(Chain& chain, const Operand& weights, const Byte* x) {
      int16_t codes[4]; /* of columns 0, 2, 1, 3 */
      std::memcpy(codes, x, sizeof(codes));
      chain += weights.columns[0] * codes[0] + weights.columns[2] * codes[1];
      chain += weights.columns[1] * codes[2] + weights.columns[3] * codes[3];
    }
    static I32 finish(Chain chain) { return chain; }
  };
};

}  // namespace linear
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
