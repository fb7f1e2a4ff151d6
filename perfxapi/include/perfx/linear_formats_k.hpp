/* Formats in blocks of 256 columns. */
#ifndef PERFX_LINEAR_FORMATS_K_HPP
#define PERFX_LINEAR_FORMATS_K_HPP

#include "perfx/linear_format_parts.hpp"

namespace perfx {
namespace PERFX_VARIANT {
namespace linear {

/* What Q4_K and Q5_K begin with: d, dmin, and 12 bytes of six-bit scales and minimums, one of each for 32 columns. */
struct SixBitScales {
  static void pack(const Byte* block, Byte* tile, int row) {
    copy16(block, tile + 2 * row);
    copy16(block + 2, tile + 32 + 2 * row);
    const Byte* six = block + 4;
    for (int s = 0; s < 4; ++s) {
      tile[64 + 16 * s + row] = six[s] & 63;
      tile[192 + 16 * s + row] = six[s + 4] & 63;
      tile[64 + 16 * (s + 4) + row] = static_cast<Byte>((six[s + 8] & 15) | six[s] >> 6 << 4);
      tile[192 + 16 * (s + 4) + row] = static_cast<Byte>(six[s + 8] >> 4 | six[s + 4] >> 6 << 4);
    }
  }
  static void unpack(const Byte* tile, int row, Byte* block) {
    copy16(tile + 2 * row, block);
    copy16(tile + 32 + 2 * row, block + 2);
    Byte* six = block + 4;
    for (int s = 0; s < 4; ++s) {
      const int scale = tile[64 + 16 * (s + 4) + row], minimum = tile[192 + 16 * (s + 4) + row];
      six[s] = static_cast<Byte>(tile[64 + 16 * s + row] | scale >> 4 << 6);
      six[s + 4] = static_cast<Byte>(tile[192 + 16 * s + row] | minimum >> 4 << 6);
      six[s + 8] = static_cast<Byte>((scale & 15) | (minimum & 15) << 4);
    }
  }
  static float scale(const Byte* tile, int part, int row) {
    return load_float16(tile + 2 * row) * float(tile[64 + 16 * part + row]);
  }
  static float minimum(const Byte* tile, int part, int row) {
    return load_float16(tile + 32 + 2 * row) * float(tile[192 + 16 * part + row]);
  }
};

/* After the scales come 4 x 32 bytes: the low nibbles of a run of 32 are one sub-block, its high nibbles the next. Q5_K
 * has 32 bytes before them: bit s of byte i is the fifth bit of column i of sub-block s. */
template <bool fifth>
struct SixBitFormat {
  static constexpr int kNibbles = fifth ? 48 : 16, kPartBytes = fifth ? 320 : 256;

  static void pack(const Byte* block, Byte* tile, int row) {
    SixBitScales::pack(block, tile, row);
    for (int s = 0; s < 8; ++s) {
      Byte* part = tile + 320 + kPartBytes * s;
      Codes codes;
      for (int g = 0; g < 8; ++g) {
        codes.group[g] = load32(block + kNibbles + 32 * (s / 2) + 4 * g) >> 4 * (s & 1) & kNibble;
        if (fifth) store_bits(gather_bits(load32(block + 16 + 4 * g) >> s & kBit), part + 256, g, row);
      }
      store_nibbles(codes, part, row);
    }
  }
  static void unpack(const Byte* tile, int row, Byte* block) {
    SixBitScales::unpack(tile, row, block);
    for (int g = 0; fifth && g < 8; ++g) {
      uint32_t bits = 0;
      for (int s = 0; s < 8; ++s) bits |= spread_bits(load_bits(tile + 576 + kPartBytes * s, g, row)) << s;
      store32(block + 16 + 4 * g, bits);
    }
    for (int s = 0; s < 8; s += 2) {
      const Codes low = load_nibbles(tile + 320 + kPartBytes * s, row);
      const Codes high = load_nibbles(tile + 320 + kPartBytes * (s + 1), row);
      for (int g = 0; g < 8; ++g) store32(block + kNibbles + 16 * s + 4 * g, low.group[g] | high.group[g] << 4);
    }
  }
  static void values(const Byte* tile, int part, int row, float* values) {
    const Byte* nibbles = tile + 320 + kPartBytes * part;
    Codes codes = load_nibbles(nibbles, row);
    for (int g = 0; fifth && g < 8; ++g) codes.group[g] |= spread_bits(load_bits(nibbles + 256, g, row)) << 4;
    decode(codes, 0, 32, 0, SixBitScales::scale(tile, part, row), SixBitScales::minimum(tile, part, row), values);
  }
};

template <>
struct Format<PX_Q4_K> : SixBitFormat<false> {};
template <>
struct Format<PX_Q5_K> : SixBitFormat<true> {};

/* Sub-block s of 32 two-bit codes in 64 bytes: a run of 32 bytes for each half s / 4, of which s % 4 picks the crumb.
 */
inline uint32_t load_pairs(const Byte* pairs, int s, int g) {
  return load32(pairs + 32 * (s / 4) + 4 * g) >> 2 * (s % 4) & kCrumb;
}
inline void or_pairs(uint32_t word, int s, int g, Byte* pairs) {
  Byte* place = pairs + 32 * (s / 4) + 4 * g;
  store32(place, load32(place) | (word & kCrumb) << 2 * (s % 4));
}

/* A GGUF block is 16 bytes of scales (low nibbles) and minimums (high ones), 64 bytes of codes, d, dmin. */
template <>
struct Format<PX_Q2_K> {
  static void pack(const Byte* block, Byte* tile, int row) {
    copy16(block + 80, tile + 2 * row);
    copy16(block + 82, tile + 32 + 2 * row);
    for (int i = 0; i < 16; ++i) tile[64 + 16 * i + row] = block[i];
    for (int s = 0; s < 8; ++s) {
      Codes codes;
      for (int g = 0; g < 8; ++g) codes.group[g] = load_pairs(block + 16, s, g);
      store_low_crumbs(codes, tile + 320 + 128 * s, row);
    }
  }
  static void unpack(const Byte* tile, int row, Byte* block) {
    copy16(tile + 2 * row, block + 80);
    copy16(tile + 32 + 2 * row, block + 82);
    for (int i = 0; i < 16; ++i) block[i] = tile[64 + 16 * i + row];
    std::memset(block + 16, 0, 64);
    for (int s = 0; s < 8; ++s) {
      const Codes codes = load_low_crumbs(tile + 320 + 128 * s, row);
      for (int g = 0; g < 8; ++g) or_pairs(codes.group[g], s, g, block + 16);
    }
  }
  static void values(const Byte* tile, int part, int row, float* values) {
    const float d = load_float16(tile + 2 * row), dmin = load_float16(tile + 32 + 2 * row);
    const Codes codes = load_low_crumbs(tile + 320 + 128 * part, row);
    for (int half = 0; half < 2; ++half) {
      const Byte both = tile[64 + 16 * (2 * part + half) + row];
      decode(codes, 16 * half, 16, 0, d * float(both & 15), dmin * float(both >> 4), values);
    }
  }
};

/* A GGUF block is 32 bytes of third bits (bit s of byte i: column i of sub-block s), 64 bytes of codes, 12 bytes of
 * scales, d. Scale i, less 32, is nibble i / 8 of byte i % 8, and crumb i / 4 of byte 8 + i % 4. */
template <>
struct Format<PX_Q3_K> {
  static void pack(const Byte* block, Byte* tile, int row) {
    copy16(block + 108, tile + 2 * row);
    const Byte* six = block + 96;
    for (int i = 0; i < 16; ++i) {
      const int scale = (six[i % 8] >> 4 * (i / 8) & 15) | (six[8 + i % 4] >> 2 * (i / 4) & 3) << 4;
      tile[32 + 16 * i + row] = static_cast<Byte>(scale - 32);
    }
    for (int s = 0; s < 8; ++s) {
      Byte* part = tile + 288 + 192 * s;
      Codes codes;
      for (int g = 0; g < 8; ++g) {
        codes.group[g] = load_pairs(block + 32, s, g);
        store_bits(gather_bits(load32(block + 4 * g) >> s & kBit), part + 128, g, row);
      }
      store_low_crumbs(codes, part, row);
    }
  }
  static void unpack(const Byte* tile, int row, Byte* block) {
    std::memset(block, 0, 108);
    copy16(tile + 2 * row, block + 108);
    Byte* six = block + 96;
    for (int i = 0; i < 16; ++i) {
      const int scale = int8_t(tile[32 + 16 * i + row]) + 32;
      six[i % 8] = static_cast<Byte>(six[i % 8] | (scale & 15) << 4 * (i / 8));
      six[8 + i % 4] = static_cast<Byte>(six[8 + i % 4] | scale >> 4 << 2 * (i / 4));
    }
    for (int s = 0; s < 8; ++s) {
      const Byte* part = tile + 288 + 192 * s;
      const Codes codes = load_low_crumbs(part, row);
      for (int g = 0; g < 8; ++g) {
        or_pairs(codes.group[g], s, g, block + 32);
        store32(block + 4 * g, load32(block + 4 * g) | spread_bits(load_bits(part + 128, g, row)) << s);
      }
    }
  }
  static void values(const Byte* tile, int part, int row, float* values) {
    const float d = load_float16(tile + 2 * row);
    const Byte* crumbs = tile + 288 + 192 * part;
    Codes codes = load_low_crumbs(crumbs, row);
    for (int g = 0; g < 8; ++g) codes.group[g] |= spread_bits(load_bits(crumbs + 128, g, row)) << 2;
    const Byte* scales = tile + 32 + 32 * part + row;
    decode(codes, 0, 16, 4, d * float(int8_t(scales[0])), 0.0f, values);
    decode(codes, 16, 16, 4, d * float(int8_t(scales[16])), 0.0f, values);
  }
};

/* A GGUF block is 128 bytes of low nibbles, 64 bytes of high crumbs, 16 scales, d. Sub-block s of 32 columns lies in
 * half s / 4, where p = s % 4 picks the run of 32 nibble bytes (p & 1), the nibble (p >> 1) and the crumb (p). */
template <>
struct Format<PX_Q6_K> {
  static void pack(const Byte* block, Byte* tile, int row) {
    copy16(block + 208, tile + 2 * row);
    for (int i = 0; i < 16; ++i) tile[32 + 16 * i + row] = block[192 + i];
    for (int s = 0; s < 8; ++s) {
      const Byte* low = block + 64 * (s / 4) + 32 * (s & 1);
      Codes codes;
      for (int g = 0; g < 8; ++g) {
        const uint32_t nibbles = load32(low + 4 * g) >> 2 * (s & 2) & kNibble;
        codes.group[g] = nibbles | load_pairs(block + 128, s, g) << 4;
      }
      store_nibbles(codes, tile + 288 + 384 * s, row);
      store_crumbs(codes, tile + 544 + 384 * s, row);
    }
  }
  static void unpack(const Byte* tile, int row, Byte* block) {
    copy16(tile + 2 * row, block + 208);
    for (int i = 0; i < 16; ++i) block[192 + i] = tile[32 + 16 * i + row];
    std::memset(block, 0, 192);
    for (int s = 0; s < 8; ++s) {
      Codes codes = load_nibbles(tile + 288 + 384 * s, row);
      add_crumbs(tile + 544 + 384 * s, row, codes);
      Byte* low = block + 64 * (s / 4) + 32 * (s & 1);
      for (int g = 0; g < 8; ++g) {
        store32(low + 4 * g, load32(low + 4 * g) | (codes.group[g] & kNibble) << 2 * (s & 2));
        or_pairs(codes.group[g] >> 4, s, g, block + 128);
      }
    }
  }
  static void values(const Byte* tile, int part, int row, float* values) {
    const float d = load_float16(tile + 2 * row);
    Codes codes = load_nibbles(tile + 288 + 384 * part, row);
    add_crumbs(tile + 544 + 384 * part, row, codes);
    const Byte* scales = tile + 32 + 32 * part + row;
    decode(codes, 0, 16, 32, d * float(int8_t(scales[0])), 0.0f, values);
    decode(codes, 16, 16, 32, d * float(int8_t(scales[16])), 0.0f, values);
  }
};

/* A GGUF block is d, 8 high crumbs of scales, 8 low nibbles of scales, then 16 bytes of nibbles for each 32 columns. A
 * scale is a number of six bits, less 32. */
template <>
struct Format<PX_IQ4_XS> {
  static void pack(const Byte* block, Byte* tile, int row) {
    copy16(block, tile + 2 * row);
    for (int s = 0; s < 8; ++s) {
      const int scale = (block[4 + s / 2] >> 4 * (s & 1) & 15) | (block[2 + s / 4] >> 2 * (s % 4) & 3) << 4;
      tile[32 + 16 * s + row] = static_cast<Byte>(scale - 32);
      pack_nibbles(block + 8 + 16 * s, tile + 160 + 256 * s, row);
    }
  }
  static void unpack(const Byte* tile, int row, Byte* block) {
    std::memset(block, 0, 8);
    copy16(tile + 2 * row, block);
    for (int s = 0; s < 8; ++s) {
      const int scale = int8_t(tile[32 + 16 * s + row]) + 32;
      block[4 + s / 2] = static_cast<Byte>(block[4 + s / 2] | (scale & 15) << 4 * (s & 1));
      block[2 + s / 4] = static_cast<Byte>(block[2 + s / 4] | scale >> 4 << 2 * (s % 4));
      restore_nibbles(tile + 160 + 256 * s, row, block + 8 + 16 * s);
    }
  }
  static void values(const Byte* tile, int part, int row, float* values) {
    Codes codes = load_nibbles(tile + 160 + 256 * part, row);
    look_up_codes(kIq4Codes, codes);
    const float scale = load_float16(tile + 2 * row) * float(int8_t(tile[32 + 16 * part + row]));
    decode(codes, 0, 32, 128, scale, 0.0f, values);
  }
};

/* A GGUF block is d as float32, 256 codes, and the sums of each 16 codes, which are kept but not read. */
template <>
struct Format<PX_Q8_K> {
  static void pack(const Byte* block, Byte* tile, int row) {
    store32(tile + 4 * row, load32(block));
    for (int g = 0; g < 64; ++g) store32(tile + 64 + 64 * g + 4 * row, load32(block + 4 + 4 * g) ^ kSignBits);
    for (int i = 0; i < 16; ++i) copy16(block + 260 + 2 * i, tile + 4160 + 32 * i + 2 * row);
  }
  static void unpack(const Byte* tile, int row, Byte* block) {
    store32(block, load32(tile + 4 * row));
    for (int g = 0; g < 64; ++g) store32(block + 4 + 4 * g, load32(tile + 64 + 64 * g + 4 * row) ^ kSignBits);
    for (int i = 0; i < 16; ++i) copy16(tile + 4160 + 32 * i + 2 * row, block + 260 + 2 * i);
  }
  static void values(const Byte* tile, int part, int row, float* values) {
    Codes codes;
    for (int g = 0; g < 8; ++g) codes.group[g] = load32(tile + 64 + 512 * part + 64 * g + 4 * row);
    decode(codes, 0, 32, 128, load_unaligned<float>(tile + 4 * row), 0.0f, values);
  }
};

}  // namespace linear
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
