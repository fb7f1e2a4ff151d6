/* Where a tile kernel gets weights from: packed tiles in each quantized format, and expanded tiles.
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
  return dtype == PX_Q4_0 ? 8 : dtype == PX_Q5_0 ? 16 : dtype == PX_Q6_K ? 32 : dtype == PX_Q8_0 ? 128 : 0;
}
constexpr Field correction_of(int32_t dtype) {
  const int offset = offset_of(dtype);
  return offset == 8     ? kCorrection8
         : offset == 16  ? kCorrection16
         : offset == 128 ? kCorrection128
                         : kCorrection32First; /* formats without an offset read none */
}

/* ---- sources of weights: a block's codes and scales for the lanes from `lane` on, 32 columns (a part) at a time.
 *
 * kParts        parts in a block
 * kScales       scales in a part: 1, or 2 for 16 columns each
 * kOffset       are codes minus a constant meant?
 * kMinimum      is minimum(part) added for every unit of activation?
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

/* Asks for what will be read kAhead bytes after `bytes` bytes at `from`: the hardware's own prefetching ends at each
 * page. */
inline void prefetch(const Byte* from, int bytes) {
  constexpr int kAhead = 2048;
  for (int i = 0; i < bytes; i += int(kCacheLine)) __builtin_prefetch(from + kAhead + i);
}

template <class Simd, int32_t dtype>
struct Source;

/* The formats with one float16 scale for a block of 32 columns. */
template <class Simd, int bytes>
struct SimpleSource {
  static constexpr int kBytes = bytes, kParts = 1, kScales = 1;
  static constexpr bool kIsPacked = true, kOffset = true, kMinimum = false;
  const Byte* block;
  int lane;

  SimpleSource(const Byte* block, int lane) : block(block), lane(lane) {}
  typename Simd::F32 scale(int, int) const { return Simd::widen_float16(block + 2 * lane); }
  typename Simd::F32 minimum(int) const { return Simd::zero(); }
};

template <class Simd>
struct Source<Simd, PX_Q8_0> : SimpleSource<Simd, 544> {
  using SimpleSource<Simd, 544>::SimpleSource;
  void codes(int, typename Simd::Codes* codes) const {
#pragma GCC unroll 16
    for (int g = 0; g < 8; ++g) codes[g] = Simd::load_codes(this->block + 32 + 64 * g + 4 * this->lane);
  }
};

template <class Simd>
struct Source<Simd, PX_Q5_0> : SimpleSource<Simd, 352> {
  using SimpleSource<Simd, 352>::SimpleSource;
  void codes(int, typename Simd::Codes* codes) const {
    unpack_nibbles<Simd>(this->block + 32 + 4 * this->lane, codes);
    const Byte* plane = this->block + 288 + this->lane / 2;
#pragma GCC unroll 16
    for (int g = 0; g < 8; ++g) codes[g] = Simd::add_fifth_bits(codes[g], plane + 8 * g);
  }
};

template <class Simd>
struct Source<Simd, PX_Q4_0> : SimpleSource<Simd, 288> {
  using SimpleSource<Simd, 288>::SimpleSource;
  void codes(int, typename Simd::Codes* codes) const { unpack_nibbles<Simd>(this->block + 32 + 4 * this->lane, codes); }
};

template <class Simd>
struct Source<Simd, PX_Q4_K> {
  static constexpr int kBytes = 2368, kParts = 8, kScales = 1;
  static constexpr bool kIsPacked = true, kOffset = false, kMinimum = true;
  const Byte* block;
  int lane;
  typename Simd::F32 d, negative_dmin;

  Source(const Byte* block, int lane)
      : block(block),
        lane(lane),
        d(Simd::widen_float16(block + 2 * lane)),
        negative_dmin(Simd::negate(Simd::widen_float16(block + 32 + 2 * lane))) {}
  void codes(int part, typename Simd::Codes* codes) const {
    unpack_nibbles<Simd>(block + 320 + 256 * part + 4 * lane, codes);
  }
  typename Simd::F32 scale(int part, int) const {
    return Simd::multiply(d, Simd::widen_uint8(block + 64 + 16 * part + lane));
  }
  typename Simd::F32 minimum(int part) const {
    return Simd::multiply(negative_dmin, Simd::widen_uint8(block + 192 + 16 * part + lane));
  }
};

template <class Simd>
struct Source<Simd, PX_Q6_K> {
  static constexpr int kBytes = 3360, kParts = 8, kScales = 2;
  static constexpr bool kIsPacked = true, kOffset = true, kMinimum = false;
  const Byte* block;
  int lane;
  typename Simd::F32 d;

  Source(const Byte* block, int lane) : block(block), lane(lane), d(Simd::widen_float16(block + 2 * lane)) {}
  void codes(int part, typename Simd::Codes* codes) const {
    const Byte* nibbles = block + 288 + 384 * part + 4 * lane;
    unpack_nibbles<Simd>(nibbles, codes);
    const auto low = Simd::load_codes(nibbles + 256), high = Simd::load_codes(nibbles + 320);
    codes[0] = Simd::template add_crumbs<0>(codes[0], low);
    codes[1] = Simd::template add_crumbs<1>(codes[1], low);
    codes[2] = Simd::template add_crumbs<2>(codes[2], low);
    codes[3] = Simd::template add_crumbs<3>(codes[3], low);
    codes[4] = Simd::template add_crumbs<0>(codes[4], high);
    codes[5] = Simd::template add_crumbs<1>(codes[5], high);
    codes[6] = Simd::template add_crumbs<2>(codes[6], high);
    codes[7] = Simd::template add_crumbs<3>(codes[7], high);
  }
  typename Simd::F32 scale(int part, int half) const {
    return Simd::multiply(d, Simd::widen_int8(block + 32 + 16 * (2 * part + half) + lane));
  }
  typename Simd::F32 minimum(int) const { return Simd::zero(); }
};

template <class Simd>
struct Source<Simd, PX_INT4_G128> {
  static constexpr int kBytes = 1072, kParts = 4, kScales = 1;
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
  typename Simd::F32 minimum(int) const { return negative_zero; }
};

/* PX_SPLIT16: 128 columns at a time, for the low halves of a row come 64 bytes together and have to change places. */
template <class Simd>
struct SplitSource {
  static constexpr int kBytes = 1024, kParts = 4, kScales = 1;
  static constexpr bool kIsPacked = true, kOffset = true, kMinimum = false;
  const Byte *high, *scales;
  typename Simd::Codes low[16]; /* vector i: bytes 4 i .. 4 i + 3 of each row's 64 */

  /* `tile` and `low_halves` are where a tile of `count` blocks begins. */
  SplitSource(const Byte* tile, const Byte* low_halves, int64_t count, int64_t block, int lane)
      : high(tile + kBytes * block + 4 * lane), scales(tile + kBytes * count + 128 * block + 2 * lane) {
    const Byte* rows = low_halves + 64 * (count * lane + block);
    Simd::transpose(rows, 64 * count, low);
    /* The next tile's low halves; its other parts are near enough to the present ones. */
    for (int row = 0; row < Simd::kLanes; ++row) __builtin_prefetch(rows + 64 * count * (kTileRows + row));
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
  typename Simd::F32 minimum(int) const { return Simd::zero(); }
};

/* An expanded block of 32 columns: 8 groups of codes, then float32 scales, then float32 minimums, each [16]. */
template <class Simd, int scales, bool offset, bool minimums>
struct Expanded {
  static constexpr int kBytes = 512 + 64 * (scales + minimums), kParts = 1, kScales = scales;
  static constexpr bool kIsPacked = false, kOffset = offset, kMinimum = minimums;
  const Byte* block;
  int lane;

  Expanded(const Byte* block, int lane) : block(block), lane(lane) {}
  void codes(int, typename Simd::Codes* codes) const {
#pragma GCC unroll 16
    for (int g = 0; g < 8; ++g) codes[g] = Simd::load_codes(block + 64 * g + 4 * lane);
  }
  typename Simd::F32 scale(int, int half) const { return Simd::load(block + 512 + 64 * half + 4 * lane); }
  typename Simd::F32 minimum(int) const { return Simd::load(block + 512 + 64 * scales + 4 * lane); }
};
template <class Simd, class Packed>
using ExpandedOf = Expanded<Simd, Packed::kScales, Packed::kOffset, Packed::kMinimum>;

/* ---- whole tiles, put into cache in the form that products with many tokens read */

/* Walks over the packed tiles of a weight: at(block, lane) is the source of a block. */
template <class Simd, int32_t dtype>
struct TileBlocks {
  using Packed = Source<Simd, dtype>;
  const Byte* tile;
  int64_t count;

  TileBlocks(const Weight& weight, int64_t index)
      : tile(weight.tile(index)), count(weight.columns / perfx_block(dtype).columns) {}
  Packed at(int64_t block, int lane) const {
    const Byte* from = tile + block * Packed::kBytes;
    if (lane == 0) prefetch(from, Packed::kBytes);
    return {from, lane};
  }
};
template <class Simd>
struct SplitBlocks {
  using Packed = SplitSource<Simd>;
  const Byte *tile, *low_halves;
  int64_t count;

  SplitBlocks(const Weight& weight, int64_t index)
      : tile(weight.tile(index)),
        low_halves(weight.low_halves(index * kTileRows)),
        count(weight.columns / PERFX_SPLIT_COLUMNS) {}
  Packed at(int64_t block, int lane) const {
    if (lane == 0) prefetch(tile + block * Packed::kBytes, Packed::kBytes);
    return {tile, low_halves, count, block, lane};
  }
};

template <class Simd, class Blocks>
void expand_tile(const Weight& weight, int64_t index, Byte* expanded) {
  using Packed = typename Blocks::Packed;
  const Blocks blocks(weight, index);
  for (int64_t b = 0; b < blocks.count; ++b) {
    for (int lane = 0; lane < kTileRows; lane += Simd::kLanes) {
      const Packed source = blocks.at(b, lane);
      for (int part = 0; part < Packed::kParts; ++part) {
        Byte* to = expanded + (b * Packed::kParts + part) * ExpandedOf<Simd, Packed>::kBytes + 4 * lane;
        typename Simd::Codes codes[8];
        source.codes(part, codes);
#pragma GCC unroll 16
        for (int g = 0; g < 8; ++g) Simd::store_codes(to + 64 * g, codes[g]);
        for (int half = 0; half < Packed::kScales; ++half) Simd::store(to + 512 + 64 * half, source.scale(part, half));
        if (Packed::kMinimum) Simd::store(to + 512 + 64 * Packed::kScales, source.minimum(part));
      }
    }
  }
}

/* The float32 values of a tile of quantized weights, [columns][16]: what a product with float32 activations reads. */
template <class Simd, class Blocks>
void dequantize_tile(const Weight& weight, int64_t index, Byte* values) {
  using Packed = typename Blocks::Packed;
  const Blocks blocks(weight, index);
  const auto offset = Simd::broadcast_float(-float(offset_of(weight.dtype)));
  for (int64_t b = 0; b < blocks.count * Packed::kParts; ++b, values += kBlock * kTileRows * 4) {
    const int part = int(b % Packed::kParts);
    for (int lane = 0; lane < kTileRows; lane += Simd::kLanes) {
      const Packed source = blocks.at(b / Packed::kParts, lane);
      typename Simd::Codes codes[8];
      source.codes(part, codes);
      const auto minimum = source.minimum(part);
      for (int g = 0; g < 8; ++g) {
        const auto scale = source.scale(part, g * Packed::kScales / 8);
        const auto put = [&](int column, typename Simd::F32 code) {
          const auto value = Simd::fused(Simd::add(code, offset), scale, minimum);
          Simd::store(values + 4 * (kTileRows * (4 * g + column) + lane), value);
        };
        put(0, Simd::template column_of<0>(codes[g]));
        put(1, Simd::template column_of<1>(codes[g]));
        put(2, Simd::template column_of<2>(codes[g]));
        put(3, Simd::template column_of<3>(codes[g]));
      }
    }
  }
}

}  // namespace linear
}  // namespace PERFX_VARIANT
}  // namespace perfx

#ifdef __clang__
#pragma clang diagnostic pop
#endif
#endif
