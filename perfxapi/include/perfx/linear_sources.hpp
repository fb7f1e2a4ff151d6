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

/* ---- sources of weights: a block's codes and scales for the lanes from `lane` on, 32 columns (a part) at a time.
 *
 * kParts        parts in a block
 * kScales       scales in a part: 1, or 2 for 16 columns each
 * kBits         bits of a code; 8 where the offset is 128, fewer elsewhere
 * kOffset       are codes minus a constant meant?
 * kMinimum      is minimum(part, half) added for every unit of activation?
 * kIsPacked     is it read from memory, not from cache?
 */
template <class Simd>
inline void unpack_nibbles(const Byte* nibbles, typename Simd::Codes* codes) {
#pragma GCC unroll 16
  for (int v = 0; v < 4; ++v) {
    const auto both = Simd::load_codes(nibbles + 64 * v);
    codes[v] = Simd::low_nibbles(both);
    codes[v + 4] = Simd::high_nibbles(both);
  }
}

template <class Simd>
inline void unpack_crumbs(const Byte* crumbs, typename Simd::Codes* codes) {
  const auto low = Simd::load_codes(crumbs), high = Simd::load_codes(crumbs + 64);
  codes[0] = Simd::template add_crumbs<0>(codes[0], low);
  codes[1] = Simd::template add_crumbs<1>(codes[1], low);
  codes[2] = Simd::template add_crumbs<2>(codes[2], low);
  codes[3] = Simd::template add_crumbs<3>(codes[3], low);
  codes[4] = Simd::template add_crumbs<0>(codes[4], high);
  codes[5] = Simd::template add_crumbs<1>(codes[5], high);
  codes[6] = Simd::template add_crumbs<2>(codes[6], high);
  codes[7] = Simd::template add_crumbs<3>(codes[7], high);
}

/* Crumbs that are codes by themselves; `base`, a multiple of 4, is added. */
template <class Simd, int base>
inline void unpack_low_crumbs(const Byte* crumbs, typename Simd::Codes* codes) {
#pragma GCC unroll 2
  for (int v = 0; v < 2; ++v) {
    const auto four = Simd::load_codes(crumbs + 64 * v);
    codes[4 * v] = Simd::template low_crumbs<0, base>(four);
    codes[4 * v + 1] = Simd::template low_crumbs<1, base>(four);
    codes[4 * v + 2] = Simd::template low_crumbs<2, base>(four);
    codes[4 * v + 3] = Simd::template low_crumbs<3, base>(four);
  }
}

/* Adds `value` to the codes whose bit is set. */
template <class Simd, int value>
inline void add_plane(const Byte* plane, int lane, typename Simd::Codes* codes) {
#pragma GCC unroll 16
  for (int g = 0; g < 8; ++g) codes[g] = Simd::template add_bits<value>(codes[g], plane + 8 * g + lane / 2);
}

template <class Simd>
inline void look_up(const Byte* table, typename Simd::Codes* codes) {
#pragma GCC unroll 16
  for (int g = 0; g < 8; ++g) codes[g] = Simd::look_up(codes[g], table);
}

template <class Simd>
inline void load_groups(const Byte* groups, typename Simd::Codes* codes) {
#pragma GCC unroll 16
  for (int g = 0; g < 8; ++g) codes[g] = Simd::load_codes(groups + 64 * g);
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
  void codes(int, typename Simd::Codes* codes) const { load_groups<Simd>(this->block + 32 + 4 * this->lane, codes); }
};

template <class Simd>
struct Source<Simd, PX_Q5_0> : SimpleSource<Simd, 352> {
  static constexpr int kBits = 5;
  using SimpleSource<Simd, 352>::SimpleSource;
  void codes(int, typename Simd::Codes* codes) const {
    unpack_nibbles<Simd>(this->block + 32 + 4 * this->lane, codes);
    add_plane<Simd, 16>(this->block + 288, this->lane, codes);
  }
};

template <class Simd>
struct Source<Simd, PX_Q4_0> : SimpleSource<Simd, 288> {
  static constexpr int kBits = 4;
  using SimpleSource<Simd, 288>::SimpleSource;
  void codes(int, typename Simd::Codes* codes) const { unpack_nibbles<Simd>(this->block + 32 + 4 * this->lane, codes); }
};

template <class Simd>
struct Source<Simd, PX_Q5_1> : SimpleSource<Simd, 384, false> {
  static constexpr int kBits = 5;
  using SimpleSource<Simd, 384, false>::SimpleSource;
  void codes(int, typename Simd::Codes* codes) const {
    unpack_nibbles<Simd>(this->block + 64 + 4 * this->lane, codes);
    add_plane<Simd, 16>(this->block + 320, this->lane, codes);
  }
};

template <class Simd>
struct Source<Simd, PX_Q4_1> : SimpleSource<Simd, 320, false> {
  static constexpr int kBits = 4;
  using SimpleSource<Simd, 320, false>::SimpleSource;
  void codes(int, typename Simd::Codes* codes) const { unpack_nibbles<Simd>(this->block + 64 + 4 * this->lane, codes); }
};

template <class Simd>
struct Source<Simd, PX_IQ4_NL> : SimpleSource<Simd, 288> {
  static constexpr int kBits = 8;
  using SimpleSource<Simd, 288>::SimpleSource;
  void codes(int, typename Simd::Codes* codes) const {
    unpack_nibbles<Simd>(this->block + 32 + 4 * this->lane, codes);
    look_up<Simd>(kIq4Codes, codes);
  }
};

template <class Simd>
struct Source<Simd, PX_MXFP4> : SimpleSource<Simd, 272> {
  static constexpr int kBits = 5;
  using SimpleSource<Simd, 272>::SimpleSource;
  void codes(int, typename Simd::Codes* codes) const {
    unpack_nibbles<Simd>(this->block + 16 + 4 * this->lane, codes);
    look_up<Simd>(kFp4Codes, codes);
  }
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
  void codes(int part, typename Simd::Codes* codes) const {
    unpack_nibbles<Simd>(block + 48 + 256 * part + 4 * lane, codes);
  }
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
  void codes(int part, typename Simd::Codes* codes) const {
    unpack_nibbles<Simd>(this->block + 320 + 256 * part + 4 * this->lane, codes);
  }
};

template <class Simd>
struct Source<Simd, PX_Q5_K> : SixBitSource<Simd, 320> {
  static constexpr int kBits = 5;
  using SixBitSource<Simd, 320>::SixBitSource;
  void codes(int part, typename Simd::Codes* codes) const {
    const Byte* nibbles = this->block + 320 + 320 * part;
    unpack_nibbles<Simd>(nibbles + 4 * this->lane, codes);
    add_plane<Simd, 16>(nibbles + 256, this->lane, codes);
  }
};

template <class Simd>
struct Source<Simd, PX_Q2_K> : MinimumSource<Simd, 1344, 2> {
  static constexpr int kBits = 2;
  using MinimumSource<Simd, 1344, 2>::MinimumSource;
  void codes(int part, typename Simd::Codes* codes) const {
    unpack_low_crumbs<Simd, 0>(this->block + 320 + 128 * part + 4 * this->lane, codes);
  }
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
  void codes(int part, typename Simd::Codes* codes) const {
    const Byte* crumbs = this->block + 288 + 192 * part;
    unpack_low_crumbs<Simd, 28>(crumbs + 4 * this->lane, codes);
    add_plane<Simd, 4>(crumbs + 128, this->lane, codes);
  }
};

template <class Simd>
struct Source<Simd, PX_Q6_K> : SignedScaleSource<Simd, 3360, 16> {
  static constexpr int kBits = 6;
  using SignedScaleSource<Simd, 3360, 16>::SignedScaleSource;
  void codes(int part, typename Simd::Codes* codes) const {
    const Byte* nibbles = this->block + 288 + 384 * part + 4 * this->lane;
    unpack_nibbles<Simd>(nibbles, codes);
    unpack_crumbs<Simd>(nibbles + 256, codes);
  }
};

template <class Simd>
struct Source<Simd, PX_IQ4_XS> : SignedScaleSource<Simd, 2208, 8> {
  static constexpr int kBits = 8;
  using SignedScaleSource<Simd, 2208, 8>::SignedScaleSource;
  void codes(int part, typename Simd::Codes* codes) const {
    unpack_nibbles<Simd>(this->block + 160 + 256 * part + 4 * this->lane, codes);
    look_up<Simd>(kIq4Codes, codes);
  }
};

template <class Simd>
struct Source<Simd, PX_Q8_K> {
  static constexpr int kBytes = 4672, kParts = 8, kScales = 1, kBits = 8;
  static constexpr bool kIsPacked = true, kOffset = true, kMinimum = false;
  const Byte* block;
  int lane;

  Source(const Byte* block, int lane) : block(block), lane(lane) {}
  void codes(int part, typename Simd::Codes* codes) const {
    load_groups<Simd>(block + 64 + 512 * part + 4 * lane, codes);
  }
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
  void codes(int part, typename Simd::Codes* codes) const {
#pragma GCC unroll 16
    for (int v = 0; v < 4; ++v) {
      const auto above = Simd::load_codes(high + 256 * part + 64 * v), below = low[4 * part + v];
      codes[v] = Simd::join_nibbles(Simd::low_nibbles(above), Simd::low_nibbles(below));
      codes[v + 4] = Simd::join_nibbles(Simd::high_nibbles(above), Simd::high_nibbles(below));
    }
  }
  typename Simd::F32 scale(int part, int) const { return Simd::widen_float16(scales + 32 * part); }
  typename Simd::F32 minimum(int, int) const { return Simd::zero(); }
};

/* Adds to each token's product, for kLanes rows, the dot products of its activations with the codes of some groups of
 * four columns, the first of which is number `first` of its block. `x` is the first token's block. */
template <class Simd, class Dot, int groups, int tokens, int code_bytes>
inline __attribute__((always_inline)) void multiply_groups(const typename Simd::Codes* codes, const Byte* x, int first,
                                                           typename Simd::I32* products) {
  if constexpr (Dot::kTakesGroups) {
    Dot::template multiply<groups, tokens>(codes, x, first, products);
  } else {
    typename Dot::Chain chains[tokens];
#pragma GCC unroll 16
    for (int m = 0; m < tokens; ++m) chains[m] = Dot::start(products[m]);
#pragma GCC unroll 8
    for (int i = 0; i < groups; ++i) {
      const auto weights = Simd::operand(codes[i]);
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
