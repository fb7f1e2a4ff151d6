/* The storage formats of weights, one row at a time: GGUF blocks, their places in PX_TILE16, their values.
 *
 * A row's part of a group of a tile is one 32-bit word, the codes of columns 4 g .. 4 g + 3, one a byte. So every
 * quantized block is handled 32 columns at a time as eight such words, and nibbles and crumbs are split and joined on
 * whole words.
 */
#ifndef PERFX_LINEAR_FORMATS_HPP
#define PERFX_LINEAR_FORMATS_HPP

#include "perfx/linear_common.hpp"

namespace perfx {
namespace PERFX_VARIANT {
namespace linear {

inline uint32_t load32(const Byte* from) {
  uint32_t word;
  std::memcpy(&word, from, 4);
  return word;
}
inline void store32(Byte* to, uint32_t word) { std::memcpy(to, &word, 4); }
inline void copy16(const Byte* from, Byte* to) { std::memcpy(to, from, 2); }

constexpr uint32_t kNibble = 0x0f0f0f0f;
constexpr uint32_t kCrumb = 0x03030303;

struct Codes {
  uint32_t group[8];
};

/* ---- the parts of a tile's block, seen from one row */

inline void store_nibbles(const Codes& codes, Byte* nibbles, int row) {
  for (int v = 0; v < 4; ++v) {
    const uint32_t low = codes.group[v] & kNibble, high = codes.group[v + 4] & kNibble;
    store32(nibbles + 64 * v + 4 * row, low | high << 4);
  }
}
inline Codes load_nibbles(const Byte* nibbles, int row) {
  Codes codes;
  for (int v = 0; v < 4; ++v) {
    const uint32_t both = load32(nibbles + 64 * v + 4 * row);
    codes.group[v] = both & kNibble;
    codes.group[v + 4] = both >> 4 & kNibble;
  }
  return codes;
}

inline void store_crumbs(const Codes& codes, Byte* crumbs, int row) {
  for (int v = 0; v < 2; ++v) {
    uint32_t word = 0;
    for (int j = 0; j < 4; ++j) word |= (codes.group[4 * v + j] >> 4 & kCrumb) << 2 * j;
    store32(crumbs + 64 * v + 4 * row, word);
  }
}
inline void add_crumbs(const Byte* crumbs, int row, Codes& codes) {
  for (int v = 0; v < 2; ++v) {
    const uint32_t word = load32(crumbs + 64 * v + 4 * row);
    for (int j = 0; j < 4; ++j) codes.group[4 * v + j] |= (word >> 2 * j & kCrumb) << 4;
  }
}

/* values[i] = (code i - offset) * scale - minimum. */
inline void decode(const Codes& codes, int first, int count, int offset, float scale, float minimum, float* values) {
  for (int i = first; i < first + count; ++i) {
    const int code = int(codes.group[i / 4] >> 8 * (i % 4) & 255);
    values[i] = float(code - offset) * scale - minimum;
  }
}

/* ---- the formats
 *
 * pack      one block of a row to its place in a tile's block, whose bytes are zero before
 * unpack    and back
 * values    32 columns (a part of the block) as float32; floats: one column
 */
template <int32_t dtype>
struct Format;

template <>
struct Format<PX_Q8_0> {
  static constexpr uint32_t kSign = 0x80808080; /* int8 to the same number plus 128 */

  static void pack(const Byte* block, Byte* tile, int row) {
    copy16(block, tile + 2 * row);
    for (int g = 0; g < 8; ++g) store32(tile + 32 + 64 * g + 4 * row, load32(block + 2 + 4 * g) ^ kSign);
  }
  static void unpack(const Byte* tile, int row, Byte* block) {
    copy16(tile + 2 * row, block);
    for (int g = 0; g < 8; ++g) store32(block + 2 + 4 * g, load32(tile + 32 + 64 * g + 4 * row) ^ kSign);
  }
  static void values(const Byte* tile, int, int row, float* values) {
    Codes codes;
    for (int g = 0; g < 8; ++g) codes.group[g] = load32(tile + 32 + 64 * g + 4 * row);
    decode(codes, 0, 32, 128, load_float16(tile + 2 * row), 0.0f, values);
  }
};

template <>
struct Format<PX_Q5_0> {
  static void pack(const Byte* block, Byte* tile, int row) {
    copy16(block, tile + 2 * row);
    const uint32_t high = load32(block + 2);
    for (int v = 0; v < 4; ++v) store32(tile + 32 + 64 * v + 4 * row, load32(block + 6 + 4 * v));
    for (int g = 0; g < 8; ++g) {
      Byte& both = tile[288 + 8 * g + row / 2];
      both = static_cast<Byte>(both | (high >> 4 * g & 15) << (row & 1) * 4);
    }
  }
  static void unpack(const Byte* tile, int row, Byte* block) {
    copy16(tile + 2 * row, block);
    uint32_t high = 0;
    for (int g = 0; g < 8; ++g) high |= (tile[288 + 8 * g + row / 2] >> (row & 1) * 4 & 15u) << 4 * g;
    store32(block + 2, high);
    for (int v = 0; v < 4; ++v) store32(block + 6 + 4 * v, load32(tile + 32 + 64 * v + 4 * row));
  }
  static void values(const Byte* tile, int, int row, float* values) {
    Codes codes = load_nibbles(tile + 32, row);
    for (int g = 0; g < 8; ++g) {
      const uint32_t bits = tile[288 + 8 * g + row / 2] >> (row & 1) * 4 & 15u;
      codes.group[g] |= (bits * 0x00204081u & 0x01010101u) << 4; /* bit i to bit 4 of byte i */
    }
    decode(codes, 0, 32, 16, load_float16(tile + 2 * row), 0.0f, values);
  }
};

template <>
struct Format<PX_Q4_0> {
  static void pack(const Byte* block, Byte* tile, int row) {
    copy16(block, tile + 2 * row);
    for (int v = 0; v < 4; ++v) store32(tile + 32 + 64 * v + 4 * row, load32(block + 2 + 4 * v));
  }
  static void unpack(const Byte* tile, int row, Byte* block) {
    copy16(tile + 2 * row, block);
    for (int v = 0; v < 4; ++v) store32(block + 2 + 4 * v, load32(tile + 32 + 64 * v + 4 * row));
  }
  static void values(const Byte* tile, int, int row, float* values) {
    decode(load_nibbles(tile + 32, row), 0, 32, 8, load_float16(tile + 2 * row), 0.0f, values);
  }
};

/* A GGUF block is d, dmin, 12 bytes of six-bit scales and minimums, then 4 x 32 bytes: the low nibbles of a run of 32
 * are one sub-block, its high nibbles the next. */
template <>
struct Format<PX_Q4_K> {
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
    for (int s = 0; s < 8; ++s) {
      Codes codes;
      for (int g = 0; g < 8; ++g) codes.group[g] = load32(block + 16 + 32 * (s / 2) + 4 * g) >> 4 * (s & 1) & kNibble;
      store_nibbles(codes, tile + 320 + 256 * s, row);
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
    for (int s = 0; s < 8; s += 2) {
      const Codes low = load_nibbles(tile + 320 + 256 * s, row), high = load_nibbles(tile + 576 + 256 * s, row);
      for (int g = 0; g < 8; ++g) store32(block + 16 + 16 * s + 4 * g, low.group[g] | high.group[g] << 4);
    }
  }
  static void values(const Byte* tile, int part, int row, float* values) {
    const float scale = load_float16(tile + 2 * row) * float(tile[64 + 16 * part + row]);
    const float minimum = load_float16(tile + 32 + 2 * row) * float(tile[192 + 16 * part + row]);
    decode(load_nibbles(tile + 320 + 256 * part, row), 0, 32, 0, scale, minimum, values);
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
      const Byte* high = block + 128 + 32 * (s / 4);
      Codes codes;
      for (int g = 0; g < 8; ++g) {
        const uint32_t nibbles = load32(low + 4 * g) >> 2 * (s & 2) & kNibble;
        codes.group[g] = nibbles | (load32(high + 4 * g) >> 2 * (s % 4) & kCrumb) << 4;
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
      Byte* high = block + 128 + 32 * (s / 4);
      for (int g = 0; g < 8; ++g) {
        store32(low + 4 * g, load32(low + 4 * g) | (codes.group[g] & kNibble) << 2 * (s & 2));
        store32(high + 4 * g, load32(high + 4 * g) | (codes.group[g] >> 4 & kCrumb) << 2 * (s % 4));
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

template <>
struct Format<PX_INT4_G128> {
  static void pack(const Byte* block, Byte* tile, int row) {
    copy16(block, tile + 2 * row);
    tile[32 + row] = block[2];
    for (int v = 0; v < 16; ++v) store32(tile + 48 + 64 * v + 4 * row, load32(block + 3 + 4 * v));
  }
  static void unpack(const Byte* tile, int row, Byte* block) {
    copy16(tile + 2 * row, block);
    block[2] = tile[32 + row];
    for (int v = 0; v < 16; ++v) store32(block + 3 + 4 * v, load32(tile + 48 + 64 * v + 4 * row));
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
      const uint32_t first = load32(block + 2 + 4 * v) ^ Format<PX_Q8_0>::kSign;
      const uint32_t last = load32(block + 18 + 4 * v) ^ Format<PX_Q8_0>::kSign;
      store32(high + 64 * v, (first >> 4 & kNibble) | (last & ~kNibble));
      store32(low + 4 * v, (first & kNibble) | (last & kNibble) << 4);
    }
  }
  void unpack(Byte* block) const {
    copy16(scale, block);
    for (int v = 0; v < 4; ++v) {
      const uint32_t above = load32(high + 64 * v), below = load32(low + 4 * v);
      store32(block + 2 + 4 * v, ((above & kNibble) << 4 | (below & kNibble)) ^ Format<PX_Q8_0>::kSign);
      store32(block + 18 + 4 * v, ((above & ~kNibble) | (below >> 4 & kNibble)) ^ Format<PX_Q8_0>::kSign);
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
