/* Formats in blocks of 128 columns and fewer, and floats. */
#ifndef PERFX_LINEAR_FORMATS_SIMPLE_HPP
#define PERFX_LINEAR_FORMATS_SIMPLE_HPP

#include "perfx/linear_format_parts.hpp"

namespace perfx {
namespace PERFX_VARIANT {
namespace linear {

template <>
struct Format<PX_Q8_0> {
  static void pack(const Byte* block, Byte* tile, int row) {
    copy16(block, tile + 2 * row);
    for (int g = 0; g < 8; ++g) store32(tile + 32 + 64 * g + 4 * row, load32(block + 2 + 4 * g) ^ kSignBits);
  }
  static void unpack(const Byte* tile, int row, Byte* block) {
    copy16(tile + 2 * row, block);
    for (int g = 0; g < 8; ++g) store32(block + 2 + 4 * g, load32(tile + 32 + 64 * g + 4 * row) ^ kSignBits);
  }
  static void values(const Byte* tile, int, int row, float* values) {
    Codes codes;
    for (int g = 0; g < 8; ++g) codes.group[g] = load32(tile + 32 + 64 * g + 4 * row);
    decode(codes, 0, 32, 128, load_float16(tile + 2 * row), 0.0f, values);
  }
};

/* A block is one or two float16 (a scale, a minimum), maybe 32 fifth bits, and nibbles. */
template <int floats, bool fifth>
struct NibbleFormat {
  static constexpr int kBits = 2 * floats, kNibbles = kBits + (fifth ? 4 : 0);      /* in a row's block */
  static constexpr int kTileNibbles = 32 * floats, kTilePlane = kTileNibbles + 256; /* in a tile's block */

  static void pack(const Byte* block, Byte* tile, int row) {
    for (int i = 0; i < floats; ++i) copy16(block + 2 * i, tile + 32 * i + 2 * row);
    pack_nibbles(block + kNibbles, tile + kTileNibbles, row);
    if (!fifth) return;
    const uint32_t bits = load32(block + kBits);
    for (int g = 0; g < 8; ++g) store_bits(bits >> 4 * g & 15, tile + kTilePlane, g, row);
  }
  static void unpack(const Byte* tile, int row, Byte* block) {
    for (int i = 0; i < floats; ++i) copy16(tile + 32 * i + 2 * row, block + 2 * i);
    restore_nibbles(tile + kTileNibbles, row, block + kNibbles);
    if (!fifth) return;
    uint32_t bits = 0;
    for (int g = 0; g < 8; ++g) bits |= load_bits(tile + kTilePlane, g, row) << 4 * g;
    store32(block + kBits, bits);
  }
  static Codes codes(const Byte* tile, int row) {
    Codes codes = load_nibbles(tile + kTileNibbles, row);
    for (int g = 0; fifth && g < 8; ++g) codes.group[g] |= spread_bits(load_bits(tile + kTilePlane, g, row)) << 4;
    return codes;
  }
};

/* With a scale, and an offset of the codes. */
template <bool fifth, int offset>
struct SymmetricFormat : NibbleFormat<1, fifth> {
  static void values(const Byte* tile, int, int row, float* values) {
    decode(NibbleFormat<1, fifth>::codes(tile, row), 0, 32, offset, load_float16(tile + 2 * row), 0.0f, values);
  }
};
template <>
struct Format<PX_Q4_0> : SymmetricFormat<false, 8> {};
template <>
struct Format<PX_Q5_0> : SymmetricFormat<true, 16> {};

/* With a scale, and a minimum that is added. */
template <bool fifth>
struct AsymmetricFormat : NibbleFormat<2, fifth> {
  static void values(const Byte* tile, int, int row, float* values) {
    const float scale = load_float16(tile + 2 * row), minimum = load_float16(tile + 32 + 2 * row);
    decode(NibbleFormat<2, fifth>::codes(tile, row), 0, 32, 0, scale, -minimum, values);
  }
};
template <>
struct Format<PX_Q4_1> : AsymmetricFormat<false> {};
template <>
struct Format<PX_Q5_1> : AsymmetricFormat<true> {};

template <>
struct Format<PX_IQ4_NL> : NibbleFormat<1, false> {
  static void values(const Byte* tile, int, int row, float* values) {
    Codes found = codes(tile, row);
    look_up_codes(kIq4Codes, found);
    decode(found, 0, 32, 128, load_float16(tile + 2 * row), 0.0f, values);
  }
};

template <>
struct Format<PX_MXFP4> {
  static void pack(const Byte* block, Byte* tile, int row) {
    tile[row] = block[0];
    pack_nibbles(block + 1, tile + 16, row);
  }
  static void unpack(const Byte* tile, int row, Byte* block) {
    block[0] = tile[row];
    restore_nibbles(tile + 16, row, block + 1);
  }
  static void values(const Byte* tile, int, int row, float* values) {
    Codes codes = load_nibbles(tile + 16, row);
    look_up_codes(kFp4Codes, codes);
    decode(codes, 0, 32, 16, power_of_two(tile[row]), 0.0f, values);
  }
};

template <>
struct Format<PX_INT4_G128> {
  static void pack(const Byte* block, Byte* tile, int row) {
    copy16(block, tile + 2 * row);
    tile[32 + row] = block[2];
    for (int part = 0; part < 4; ++part) pack_nibbles(block + 3 + 16 * part, tile + 48 + 256 * part, row);
  }
  static void unpack(const Byte* tile, int row, Byte* block) {
    copy16(tile + 2 * row, block);
    block[2] = tile[32 + row];
    for (int part = 0; part < 4; ++part) restore_nibbles(tile + 48 + 256 * part, row, block + 3 + 16 * part);
  }
  static void values(const Byte* tile, int part, int row, float* values) {
    const float scale = load_float16(tile + 2 * row);
    decode(load_nibbles(tile + 48 + 256 * part, row), 0, 32, 0, scale, scale * float(tile[32 + row]), values);
  }
};

/* PX_SPLIT16: one block of a row. The low halves have their place in `low`, 16 bytes. */
struct SplitBlock {
  Byte* high;
  Byte* scale;
  Byte* low;

  SplitBlock(const Weight& weight, int64_t row, int64_t block)
      : high(const_cast<Byte*>(weight.tile(row / kTileRows)) + 256 * block + 4 * (row % kTileRows)),
        scale(const_cast<Byte*>(weight.scales(row / kTileRows)) + 32 * block + 2 * (row % kTileRows)),
        low(const_cast<Byte*>(weight.low_halves(row)) + 16 * block) {}

  void pack(const Byte* block) const {
    copy16(block, scale);
    for (int v = 0; v < 4; ++v) {
      const uint32_t first = load32(block + 2 + 4 * v) ^ kSignBits;
      const uint32_t last = load32(block + 18 + 4 * v) ^ kSignBits;
      store32(high + 64 * v, (first >> 4 & kNibble) | (last & ~kNibble));
      store32(low + 4 * v, (first & kNibble) | (last & kNibble) << 4);
    }
  }
  void unpack(Byte* block) const {
    copy16(scale, block);
    for (int v = 0; v < 4; ++v) {
      const uint32_t above = load32(high + 64 * v), below = load32(low + 4 * v);
      store32(block + 2 + 4 * v, ((above & kNibble) << 4 | (below & kNibble)) ^ kSignBits);
      store32(block + 18 + 4 * v, ((above & ~kNibble) | (below >> 4 & kNibble)) ^ kSignBits);
    }
  }
  /* Four times the squared norm of (low half - 7.5). */
  int32_t squared_norm() const {
    int32_t sum = 0;
    for (int i = 0; i < 16; ++i) {
      const int32_t first = 2 * (low[i] & 15) - 15, last = 2 * (low[i] >> 4) - 15;
      sum += first * first + last * last;
    }
    return sum;
  }
};

template <int bytes>
struct FloatFormat {
  static void pack(const Byte* block, Byte* tile, int row) { std::memcpy(tile + bytes * row, block, bytes); }
  static void unpack(const Byte* tile, int row, Byte* block) { std::memcpy(block, tile + bytes * row, bytes); }
};
template <>
struct Format<PX_FLOAT32> : FloatFormat<4> {
  static void values(const Byte* tile, int, int row, float* values) { std::memcpy(values, tile + 4 * row, 4); }
};
template <>
struct Format<PX_FLOAT16> : FloatFormat<2> {
  static void values(const Byte* tile, int, int row, float* values) { *values = load_float16(tile + 2 * row); }
};
template <>
struct Format<PX_BFLOAT16> : FloatFormat<2> {
  static void values(const Byte* tile, int, int row, float* values) {
    *values = widen_bfloat16(load_unaligned<uint16_t>(tile + 2 * row));
  }
};

}  // namespace linear
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
