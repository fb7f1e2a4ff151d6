/* The parts of a tile's block, seen from one row.
 *
 * A row's part of a group of a tile is one 32-bit word, the codes of columns 4 g .. 4 g + 3, one a byte. So every
 * quantized block is handled 32 columns at a time as eight such words, and nibbles, crumbs and bits are split and
 * joined on whole words.
 */
#ifndef PERFX_LINEAR_FORMAT_PARTS_HPP
#define PERFX_LINEAR_FORMAT_PARTS_HPP

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
constexpr uint32_t kBit = 0x01010101;
constexpr uint32_t kSignBits = 0x80808080; /* int8 to the same number plus 128 */

struct Codes {
  uint32_t group[8];
};

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

/* Two bits of each code that is no more than them. */
inline void store_low_crumbs(const Codes& codes, Byte* crumbs, int row) {
  for (int v = 0; v < 2; ++v) {
    uint32_t word = 0;
    for (int j = 0; j < 4; ++j) word |= (codes.group[4 * v + j] & kCrumb) << 2 * j;
    store32(crumbs + 64 * v + 4 * row, word);
  }
}
inline Codes load_low_crumbs(const Byte* crumbs, int row) {
  Codes codes;
  for (int g = 0; g < 8; ++g) codes.group[g] = load32(crumbs + 64 * (g / 4) + 4 * row) >> 2 * (g % 4) & kCrumb;
  return codes;
}

/* One row's part of a word of a bit plane is four bits. */
inline void store_bits(uint32_t four, Byte* plane, int group, int row) {
  Byte& both = plane[8 * group + row / 2];
  both = static_cast<Byte>(both | four << (row & 1) * 4);
}
inline uint32_t load_bits(const Byte* plane, int group, int row) {
  return plane[8 * group + row / 2] >> (row & 1) * 4 & 15u;
}
/* Four bits to the lowest bit of each byte of a word, and back. */
inline uint32_t spread_bits(uint32_t four) { return four * 0x00204081u & kBit; }
inline uint32_t gather_bits(uint32_t word) { return (word | word >> 7 | word >> 14 | word >> 21) & 15; }

/* Nibbles of 32 columns as GGUF's simple formats have them, 16 bytes, byte j of which holds columns j and 16 + j. */
inline void pack_nibbles(const Byte* block, Byte* nibbles, int row) {
  for (int v = 0; v < 4; ++v) store32(nibbles + 64 * v + 4 * row, load32(block + 4 * v));
}
inline void restore_nibbles(const Byte* nibbles, int row, Byte* block) {
  for (int v = 0; v < 4; ++v) store32(block + 4 * v, load32(nibbles + 64 * v + 4 * row));
}

/* Replaces codes below 16 by what they stand for. */
inline void look_up_codes(const Byte* table, Codes& codes) {
  for (uint32_t& group : codes.group) {
    uint32_t word = 0;
    for (int i = 0; i < 4; ++i) word |= uint32_t(table[group >> 8 * i & 15]) << 8 * i;
    group = word;
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

}  // namespace linear
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
