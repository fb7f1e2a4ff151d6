/* The vector layer of the tile kernels in plain C++, four rows at a time: any processor, and the start of a new layer.
 */
#ifndef PERFX_CPU_LINEAR_SIMD_SCALAR_HPP
#define PERFX_CPU_LINEAR_SIMD_SCALAR_HPP

#include "perfx/linear_activations.hpp"

namespace perfx {
namespace PERFX_VARIANT {
namespace linear {

struct Simd {
  static constexpr int kLanes = 4;
  static constexpr int kMaxTokens = 4;
  static constexpr int kMaxChains = 4;

  struct F32 {
    float lane[kLanes];
  };
  struct I32 {
    int32_t lane[kLanes];
  };
  struct Codes {
    uint8_t byte[4 * kLanes];
  };
  using ActivationLayout = WordPairs;

  template <class Vector, class Function>
  static Vector make(Function function) {
    Vector result;
    for (int i = 0; i < kLanes; ++i) result.lane[i] = function(i);
    return result;
  }
  template <class Function>
  static Codes make_codes(Function function) {
    Codes result;
    for (int i = 0; i < 4 * kLanes; ++i) result.byte[i] = uint8_t(function(i));
    return result;
  }

  static F32 zero() { return broadcast_float(0.0f); }
  static I32 zero_int() { return I32{}; }
  static F32 broadcast_float(float value) {
    return make<F32>([=](int) { return value; });
  }
  static F32 broadcast(const Byte* from) { return broadcast_float(load_unaligned<float>(from)); }
  static I32 broadcast_int(const Byte* from) {
    const int32_t value = load_unaligned<int32_t>(from);
    return make<I32>([=](int) { return value; });
  }
  static F32 load(const void* from) { return load_unaligned<F32>(from); }
  static void store(void* to, F32 value) { std::memcpy(to, &value, sizeof(value)); }

  static F32 widen_float16(const Byte* from) {
    return make<F32>([=](int i) { return linear::load_float16(from + 2 * i); });
  }
  static F32 widen_bfloat16(const Byte* from) {
    return make<F32>([=](int i) { return linear::widen_bfloat16(load_unaligned<uint16_t>(from + 2 * i)); });
  }
  static F32 widen_uint8(const Byte* from) {
    return make<F32>([=](int i) { return float(from[i]); });
  }
  static F32 widen_int8(const Byte* from) {
    return make<F32>([=](int i) { return float(int8_t(from[i])); });
  }

  static F32 add(F32 a, F32 b) {
    return make<F32>([&](int i) { return a.lane[i] + b.lane[i]; });
  }
  static F32 multiply(F32 a, F32 b) {
    return make<F32>([&](int i) { return a.lane[i] * b.lane[i]; });
  }
  static F32 fused(F32 a, F32 b, F32 c) {
    return make<F32>([&](int i) { return __builtin_fmaf(a.lane[i], b.lane[i], c.lane[i]); });
  }
  static F32 negate(F32 a) {
    return make<F32>([&](int i) { return -a.lane[i]; });
  }
  static F32 to_float(I32 a) {
    return make<F32>([&](int i) { return float(a.lane[i]); });
  }

  static Codes load_codes(const Byte* from) { return load_unaligned<Codes>(from); }
  static void store_codes(Byte* to, Codes codes) { std::memcpy(to, &codes, sizeof(codes)); }
  static Codes low_nibbles(Codes both) {
    return make_codes([&](int i) { return both.byte[i] & 15; });
  }
  static Codes high_nibbles(Codes both) {
    return make_codes([&](int i) { return both.byte[i] >> 4; });
  }
  static Codes add_fifth_bits(Codes codes, const Byte* bits) {
    return make_codes([&](int i) { return codes.byte[i] | (bits[i / 8] >> i % 8 & 1) << 4; });
  }
  template <int index>
  static Codes add_crumbs(Codes codes, Codes crumbs) {
    return make_codes([&](int i) { return codes.byte[i] | (crumbs.byte[i] >> 2 * index & 3) << 4; });
  }
  template <int column>
  static F32 column_of(Codes codes) {
    return make<F32>([&](int i) { return float(codes.byte[4 * i + column]); });
  }

  static uint32_t largest_bits(const float* x) { return portable_largest_bits(x); }
  template <ActivationFormat format>
  static void round_block(const float* x, float inverse, Byte* to, int32_t* sums) {
    portable_round_block<ActivationLayout, format>(x, inverse, to, sums);
  }

  static Codes operand(Codes codes) { return codes; }

  template <ActivationFormat format>
  struct Dot {
    static constexpr int kChains = 1;
    static constexpr int kGroupBytes = 8;
    using Chain = I32;
    static Chain start(I32 correction) { return correction; }
    static void add(Chain& chain, const Codes& weights, const Byte* x) {
      int16_t codes[4]; /* of columns 0, 2, 1, 3 */
      std::memcpy(codes, x, sizeof(codes));
      for (int i = 0; i < kLanes; ++i) {
        const uint8_t* row = weights.byte + 4 * i;
        chain.lane[i] += row[0] * codes[0] + row[2] * codes[1] + row[1] * codes[2] + row[3] * codes[3];
      }
    }
    static I32 finish(Chain chain) { return chain; }
  };
};

}  // namespace linear
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
