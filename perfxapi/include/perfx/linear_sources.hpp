/* Where a tile kernel gets weights from: packed tiles in each quantized format.
 *
 * `Simd` is the vector layer of linear_tile.hpp.
 */
#ifndef PERFX_LINEAR_SOURCES_HPP
#define PERFX_LINEAR_SOURCES_HPP

#include "perfx/linear_activations.hpp"

#ifdef __clang__
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wpass-failed" /* loops that were unrolled before the pragma was looked at */
#endif

namespace perfx {
namespace PERFX_VARIANT {
namespace linear {

/* The constant that is subtracted from a format's codes, and where the activations hold its correction. */
constexpr int offset_of(int32_t dtype) {
  switch (dtype) {
    case PX_Q4_0:
      return 8;
    case PX_Q5_0:
    case PX_MXFP4:
      return 16;
    case PX_Q3_K:
    case PX_Q6_K:
      return 32;
    case PX_Q8_0:
    case PX_Q8_K:
    case PX_IQ4_NL:
    case PX_IQ4_XS:
      return 128;
    default:
      return 0;
  }
}
constexpr Field correction_of(int32_t dtype) {
  const int offset = offset_of(dtype);
  return offset == 8     ? kCorrection8
         : offset == 16  ? kCorrection16
         : offset == 128 ? kCorrection128
                         : kCorrection32First; /* without an offset: for the sums of halves */
}

/* ---- codes of 32 columns, unpacked by the group of four columns as they are asked for: a machine that has registers
 * for a few groups multiplies one before the next is loaded. */

/* One byte each */
template <class Simd>
struct ByteGroups {
  const Byte* from;
  typename Simd::Codes operator[](int g) const { return Simd::load_codes(from + 64 * g); }
};

/* Two in a byte: groups g and g + 4 lie together. */
template <class Simd>
struct NibbleGroups {
  const Byte* from;
  typename Simd::Codes operator[](int g) const {
    const auto both = Simd::load_codes(from + 64 * (g % 4));
    return g < 4 ? Simd::low_nibbles(both) : Simd::high_nibbles(both);
  }
};

/* Four in a byte: groups 0 to 3, 4 to 7 lie together. `base`, a multiple of 4, is added. */
template <class Simd, int base>
struct CrumbGroups {
  const Byte* from;
  typename Simd::Codes operator[](int g) const {
    const auto four = Simd::load_codes(from + 64 * (g / 4));
    return g % 4 == 0   ? Simd::template low_crumbs<0, base>(four)
           : g % 4 == 1 ? Simd::template low_crumbs<1, base>(four)
           : g % 4 == 2 ? Simd::template low_crumbs<2, base>(four)
                        : Simd::template low_crumbs<3, base>(four);
  }
};

/* Other groups, and 16 times what crumbs say */
template <class Simd, class Groups>
struct GroupsAndCrumbs {
  Groups groups;
  const Byte* crumbs;
  typename Simd::Codes operator[](int g) const {
    const auto codes = groups[g], four = Simd::load_codes(crumbs + 64 * (g / 4));
    return g % 4 == 0   ? Simd::template add_crumbs<0>(codes, four)
           : g % 4 == 1 ? Simd::template add_crumbs<1>(codes, four)
           : g % 4 == 2 ? Simd::template add_crumbs<2>(codes, four)
                        : Simd::template add_crumbs<3>(codes, four);
  }
};

/* Other groups, and `value` where a bit is set */
template <class Simd, class Groups, int value>
struct GroupsAndBits {
  Groups groups;
  const Byte* bits;
  typename Simd::Codes operator[](int g) const { return Simd::template add_bits<value>(groups[g], bits + 8 * g); }
};

/* Indices into a table of 16 codes */
template <class Simd>
struct TableGroups {
  NibbleGroups<Simd> indices;
  const Byte* table;
  typename Simd::Codes operator[](int g) const { return Simd::look_up(indices[g], table); }
};

/* The number of the group that comes i-th: those whose nibbles lie together follow each other. */
constexpr int group_at(int i) { return i / 2 + i % 2 * 4; }

/* All of them, for a machine with registers enough. */
template <class Simd, class Groups>
inline __attribute__((always_inline)) void unpack(const Groups& groups, typename Simd::Codes* codes) {
#pragma GCC unroll 8
  for (int g = 0; g < 8; ++g) codes[g] = groups[g];
}

/* Asks for what will be read kAhead bytes after `bytes` bytes at `from`: the hardware's own prefetching ends at each
 * page. */
inline void prefetch(const Byte* from, int bytes) {
  constexpr int kAhead = 4096;
  for (int i = 0; i < bytes; i += int(kCacheLine)) __builtin_prefetch(from + kAhead + i);
}

/* The same for what comes a whole tile later, in `count` shares of a tile of `bytes`. */
inline void prefetch_share(const Byte* next_tile, int64_t share, int64_t bytes, int64_t count) {
  const int64_t lines = ceil_divide(ceil_divide(bytes, kCacheLine), count);
  for (int64_t i = share * lines; i < (share + 1) * lines; ++i) __builtin_prefetch(next_tile + i * kCacheLine);
}

/* ---- sources of weights: a block's codes and scales for the lanes from `lane` on, 32 columns (a part) at a time.
 *
 * kParts        parts in a block
 * kScales       scales in a part: 1, or 2 for 16 columns each
 * kBits         bits of a code; 8 where the offset is 128, fewer elsewhere
 * kOffset       are codes minus a constant meant?
 * kMinimum      is minimum(part, half) added for every unit of activation?
 * kIsPacked     is it read from memory, not from cache?
 * groups(part)  its codes, eight groups by []
 */
template <class Simd, int32_t dtype>
struct Source;

/* The formats with a scale, and maybe a minimum, for a block of 32 columns. */
template <class Simd, int bytes, bool offset = true>
struct SimpleSource {
  static constexpr int kBytes = bytes, kParts = 1, kScales = 1;
  static constexpr bool kIsPacked = true, kOffset = offset, kMinimum = !offset;
  const Byte* block;
  int lane;

  SimpleSource(const Byte* block, int lane) : block(block), lane(lane) {}
  typename Simd::F32 scale(int, int) const { return Simd::widen_float16(block + 2 * lane); }
  typename Simd::F32 minimum(int, int) const {
    return offset ? Simd::zero() : Simd::widen_float16(block + 32 + 2 * lane);
  }
};

template <class Simd>
struct Source<Simd, PX_Q8_0> : SimpleSource<Simd, 544> {
  static constexpr int kBits = 8;
  using SimpleSource<Simd, 544>::SimpleSource;
  ByteGroups<Simd> groups(int) const { return {this->block + 32 + 4 * this->lane}; }
};

template <class Simd>
struct Source<Simd, PX_Q5_0> : SimpleSource<Simd, 352> {
  static constexpr int kBits = 5;
  using SimpleSource<Simd, 352>::SimpleSource;
  GroupsAndBits<Simd, NibbleGroups<Simd>, 16> groups(int) const {
    return {{this->block + 32 + 4 * this->lane}, this->block + 288 + this->lane / 2};
  }
};

template <class Simd>
struct Source<Simd, PX_Q4_0> : SimpleSource<Simd, 288> {
  static constexpr int kBits = 4;
  using SimpleSource<Simd, 288>::SimpleSource;
  NibbleGroups<Simd> groups(int) const { return {this->block + 32 + 4 * this->lane}; }
};

template <class Simd>
struct Source<Simd, PX_Q5_1> : SimpleSource<Simd, 384, false> {
  static constexpr int kBits = 5;
  using SimpleSource<Simd, 384, false>::SimpleSource;
  GroupsAndBits<Simd, NibbleGroups<Simd>, 16> groups(int) const {
    return {{this->block + 64 + 4 * this->lane}, this->block + 320 + this->lane / 2};
  }
};

template <class Simd>
struct Source<Simd, PX_Q4_1> : SimpleSource<Simd, 320, false> {
  static constexpr int kBits = 4;
  using SimpleSource<Simd, 320, false>::SimpleSource;
  NibbleGroups<Simd> groups(int) const { return {this->block + 64 + 4 * this->lane}; }
};

template <class Simd>
struct Source<Simd, PX_IQ4_NL> : SimpleSource<Simd, 288> {
  static constexpr int kBits = 8;
  using SimpleSource<Simd, 288>::SimpleSource;
  TableGroups<Simd> groups(int) const { return {{this->block + 32 + 4 * this->lane}, kIq4Codes}; }
};

template <class Simd>
struct Source<Simd, PX_MXFP4> : SimpleSource<Simd, 272> {
  static constexpr int kBits = 5;
  using SimpleSource<Simd, 272>::SimpleSource;
  TableGroups<Simd> groups(int) const { return {{this->block + 16 + 4 * this->lane}, kFp4Codes}; }
  typename Simd::F32 scale(int, int) const { return Simd::power_of_two(this->block + this->lane); }
};

template <class Simd>
struct Source<Simd, PX_INT4_G128> {
  static constexpr int kBytes = 1072, kParts = 4, kScales = 1, kBits = 4;
  static constexpr bool kIsPacked = true, kOffset = false, kMinimum = true;
  const Byte* block;
  int lane;
  typename Simd::F32 d, negative_zero;

  Source(const Byte* block, int lane)
      : block(block),
        lane(lane),
        d(Simd::widen_float16(block + 2 * lane)),
        negative_zero(Simd::negate(Simd::multiply(d, Simd::widen_uint8(block + 32 + lane)))) {}
  NibbleGroups<Simd> groups(int part) const { return {block + 48 + 256 * part + 4 * lane}; }
  typename Simd::F32 scale(int, int) const { return d; }
  typename Simd::F32 minimum(int, int) const { return negative_zero; }
};

/* Blocks of 256 columns: d, dmin, then what they are multiplied by for each part, and the codes. */
template <class Simd, int bytes, int scales>
struct MinimumSource {
  static constexpr int kBytes = bytes, kParts = 8, kScales = scales;
  static constexpr bool kIsPacked = true, kOffset = false, kMinimum = true;
  const Byte* block;
  int lane;
  typename Simd::F32 d, negative_dmin;

  MinimumSource(const Byte* block, int lane)
      : block(block),
        lane(lane),
        d(Simd::widen_float16(block + 2 * lane)),
        negative_dmin(Simd::negate(Simd::widen_float16(block + 32 + 2 * lane))) {}
};

/* Scales and minimums of six bits for each 32 columns. */
template <class Simd, int part_bytes>
struct SixBitSource : MinimumSource<Simd, 320 + 8 * part_bytes, 1> {
  using MinimumSource<Simd, 320 + 8 * part_bytes, 1>::MinimumSource;
  typename Simd::F32 scale(int part, int) const {
    return Simd::multiply(this->d, Simd::widen_uint8(this->block + 64 + 16 * part + this->lane));
  }
  typename Simd::F32 minimum(int part, int) const {
    return Simd::multiply(this->negative_dmin, Simd::widen_uint8(this->block + 192 + 16 * part + this->lane));
  }
};

template <class Simd>
struct Source<Simd, PX_Q4_K> : SixBitSource<Simd, 256> {
  static constexpr int kBits = 4;
  using SixBitSource<Simd, 256>::SixBitSource;
  NibbleGroups<Simd> groups(int part) const { return {this->block + 320 + 256 * part + 4 * this->lane}; }
};

template <class Simd>
struct Source<Simd, PX_Q5_K> : SixBitSource<Simd, 320> {
  static constexpr int kBits = 5;
  using SixBitSource<Simd, 320>::SixBitSource;
  GroupsAndBits<Simd, NibbleGroups<Simd>, 16> groups(int part) const {
    const Byte* nibbles = this->block + 320 + 320 * part;
    return {{nibbles + 4 * this->lane}, nibbles + 256 + this->lane / 2};
  }
};

template <class Simd>
struct Source<Simd, PX_Q2_K> : MinimumSource<Simd, 1344, 2> {
  static constexpr int kBits = 2;
  using MinimumSource<Simd, 1344, 2>::MinimumSource;
  CrumbGroups<Simd, 0> groups(int part) const { return {this->block + 320 + 128 * part + 4 * this->lane}; }
  typename Simd::F32 scale(int part, int half) const {
    return Simd::multiply(this->d, Simd::widen_low_nibble(nibbles(part, half)));
  }
  typename Simd::F32 minimum(int part, int half) const {
    return Simd::multiply(this->negative_dmin, Simd::widen_high_nibble(nibbles(part, half)));
  }

 private:
  const Byte* nibbles(int part, int half) const { return this->block + 64 + 16 * (2 * part + half) + this->lane; }
};

/* Blocks of 256 columns: d, then a signed scale for each 256 / scales columns. */
template <class Simd, int bytes, int scales>
struct SignedScaleSource {
  static constexpr int kBytes = bytes, kParts = 8, kScales = scales / 8;
  static constexpr bool kIsPacked = true, kOffset = true, kMinimum = false;
  const Byte* block;
  int lane;
  typename Simd::F32 d;

  SignedScaleSource(const Byte* block, int lane) : block(block), lane(lane), d(Simd::widen_float16(block + 2 * lane)) {}
  typename Simd::F32 scale(int part, int half) const {
    return Simd::multiply(d, Simd::widen_int8(block + 32 + 16 * (kScales * part + half) + lane));
  }
  typename Simd::F32 minimum(int, int) const { return Simd::zero(); }
};

template <class Simd>
struct Source<Simd, PX_Q3_K> : SignedScaleSource<Simd, 1824, 16> {
  static constexpr int kBits = 6;
  using SignedScaleSource<Simd, 1824, 16>::SignedScaleSource;
  GroupsAndBits<Simd, CrumbGroups<Simd, 28>, 4> groups(int part) const {
    const Byte* crumbs = this->block + 288 + 192 * part;
    return {{crumbs + 4 * this->lane}, crumbs + 128 + this->lane / 2};
  }
};

template <class Simd>
struct Source<Simd, PX_Q6_K> : SignedScaleSource<Simd, 3360, 16> {
  static constexpr int kBits = 6;
  using SignedScaleSource<Simd, 3360, 16>::SignedScaleSource;
  GroupsAndCrumbs<Simd, NibbleGroups<Simd>> groups(int part) const {
    const Byte* nibbles = this->block + 288 + 384 * part + 4 * this->lane;
    return {{nibbles}, nibbles + 256};
  }
};

template <class Simd>
struct Source<Simd, PX_IQ4_XS> : SignedScaleSource<Simd, 2208, 8> {
  static constexpr int kBits = 8;
  using SignedScaleSource<Simd, 2208, 8>::SignedScaleSource;
  TableGroups<Simd> groups(int part) const { return {{this->block + 160 + 256 * part + 4 * this->lane}, kIq4Codes}; }
};

template <class Simd>
struct Source<Simd, PX_Q8_K> {
  static constexpr int kBytes = 4672, kParts = 8, kScales = 1, kBits = 8;
  static constexpr bool kIsPacked = true, kOffset = true, kMinimum = false;
  const Byte* block;
  int lane;

  Source(const Byte* block, int lane) : block(block), lane(lane) {}
  ByteGroups<Simd> groups(int part) const { return {block + 64 + 512 * part + 4 * lane}; }
  typename Simd::F32 scale(int, int) const { return Simd::load(block + 4 * lane); }
  typename Simd::F32 minimum(int, int) const { return Simd::zero(); }
};

/* PX_SPLIT16: 128 columns at a time, for the low halves of a row come 64 bytes together and have to change places. Its
 * parts lie apart: it asks itself for those of the next tile. */
template <class Simd>
struct SplitSource {
  static constexpr int kBytes = 1024, kParts = 4, kScales = 1, kBits = 8;
  static constexpr bool kIsPacked = true, kOffset = true, kMinimum = false;
  const Byte *high, *scales;
  typename Simd::Codes low[16]; /* vector i: bytes 4 i .. 4 i + 3 of each row's 64 */

  /* `tile` and `low_halves` are where a tile of `count` blocks begins. */
  SplitSource(const Byte* tile, const Byte* low_halves, int64_t count, int64_t block, int lane)
      : high(tile + kBytes * block + 4 * lane), scales(tile + kBytes * count + 128 * block + 2 * lane) {
    const Byte* rows = low_halves + 64 * (count * lane + block);
    Simd::transpose(rows, 64 * count, low);
    for (int row = 0; row < Simd::kLanes; ++row) __builtin_prefetch(rows + 64 * count * (kTileRows + row));
    const int64_t tile_bytes = perfx_split_tile_bytes(count * PERFX_SPLIT_COLUMNS);
    if (lane == 0) prefetch_share(tile + tile_bytes, block, tile_bytes, count);
  }
  struct JoinedGroups {
    NibbleGroups<Simd> high;
    const typename Simd::Codes* low;
    typename Simd::Codes operator[](int g) const {
      const auto below = low[g % 4];
      return Simd::join_nibbles(high[g], g < 4 ? Simd::low_nibbles(below) : Simd::high_nibbles(below));
    }
  };
  JoinedGroups groups(int part) const { return {{high + 256 * part}, low + 4 * part}; }
  typename Simd::F32 scale(int part, int) const { return Simd::widen_float16(scales + 32 * part); }
  typename Simd::F32 minimum(int, int) const { return Simd::zero(); }
};

/* Adds to each token's product, for kLanes rows, the dot products of its activations with the codes of some groups of
 * four columns, from number `first` on. `codes` has all groups of the block by []; `x` is the first token's block. */
template <class Simd, class Dot, int groups, int tokens, int code_bytes, class Groups>
inline __attribute__((always_inline)) void multiply_groups(const Groups& codes, const Byte* x, int first,
                                                           typename Simd::I32* products) {
  if constexpr (Dot::kTakesGroups) {
    Dot::template multiply<groups, tokens>(codes, x, first, products);
  } else {
    typename Dot::Chain chains[tokens];
#pragma GCC unroll 16
    for (int m = 0; m < tokens; ++m) chains[m] = Dot::start(products[m]);
#pragma GCC unroll 8
    for (int i = 0; i < groups; ++i) {
      const auto weights = Simd::operand(codes[first + i]);
#pragma GCC unroll 16
      for (int m = 0; m < tokens; ++m)
        Dot::add(chains[m], weights, x + m * code_bytes + (first + i) * Dot::kGroupBytes);
    }
#pragma GCC unroll 16
    for (int m = 0; m < tokens; ++m) products[m] = Dot::finish(chains[m]);
  }
}

}  // namespace linear
}  // namespace PERFX_VARIANT
}  // namespace perfx

#ifdef __clang__
#pragma clang diagnostic pop
#endif
#endif
