/* Activations as the tile kernels read them: quantized (or copied), and grouped by tokens.
 *
 * Tokens are taken in groups of 12, 8, 4, 2 or 1, the sizes for which a tile kernel is compiled; in the last group
 * places may be empty, which count as zeros. A group's memory follows the kernel's walk over K: for each block of 32
 * columns the codes of every token of the group, then the block's fields, each [tokens]. So every address inside the
 * kernel is one pointer and a constant. Float activations are [K][tokens].
 */
#ifndef PERFX_LINEAR_ACTIVATIONS_HPP
#define PERFX_LINEAR_ACTIVATIONS_HPP

#include "perfx/linear_common.hpp"

namespace perfx {
namespace PERFX_VARIANT {
namespace linear {

constexpr int kBlock = 32; /* columns that share a scale */

/* What is stored with a block of codes, 32 bits each. A correction is -offset * (sum of the codes): where accumulation
 * starts so that a weight's unsigned codes count as code - offset. */
enum Field : int {
  kScale,             /* float32 */
  kScaledSum,         /* scale * float32(sum of the codes) */
  kCorrection8,       /* int32; Q4_0 */
  kCorrection16,      /* Q5_0 */
  kCorrection128,     /* Q8_0 */
  kCorrection32First, /* Q6_K: columns 0-15 */
  kCorrection32Last,  /* columns 16-31 */
  kNumFields
};

/* The group that begins where `left` of all tokens are left: the largest, or the smallest that holds what is left,
 * empty places included. Reading weights once for a group with an empty place is quicker than reading them for two
 * groups. With few tokens groups are of at most 8: so many can be multiplied with packed tiles. */
template <class Target>
constexpr int group_size(int64_t left, int64_t tokens) {
  const int largest = Target::kMaxTokens >= 12 && tokens > Target::kFewTokens ? 12 : smaller(8, Target::kMaxTokens);
  return left >= largest ? largest : left > 8 ? 12 : left > 4 ? 8 : left > 2 ? 4 : int(left);
}

/* Layouts of the codes of a block: bytes<format>() of each token, which store() writes. Where kPairsTokens, groups of
 * more than one token are made of pairs, and pair_tokens() puts the codes of a pair side by side once both are stored.
 */

/* Codes for dot products of bytes: the int16 code is 256 * high + low, both int8. All high bytes, then all low ones. */
struct BytePlanes {
  static constexpr bool kPairsTokens = false;
  template <ActivationFormat format>
  static constexpr int bytes() {
    return format == kInt16 ? 2 * kBlock : kBlock;
  }
  template <ActivationFormat format>
  static void store(const int32_t* codes, Byte* to) {
    if (format == kInt8) {
      for (int i = 0; i < kBlock; ++i) to[i] = Byte(codes[i]);
      return;
    }
    for (int i = 0; i < kBlock; ++i) {
      to[i] = Byte((codes[i] + 128) >> 8);
      to[kBlock + i] = Byte(codes[i]);
    }
  }
};

/* Codes for products of int16 pairs: each four columns in the order 0, 2, 1, 3, because the even and the odd bytes of a
 * 32-bit word are what a shift and a mask widen to 16 bits. */
struct WordPairs {
  static constexpr bool kPairsTokens = false;
  template <ActivationFormat format>
  static constexpr int bytes() {
    return 2 * kBlock;
  }
  template <ActivationFormat format>
  static void store(const int32_t* codes, Byte* to) {
    int16_t words[kBlock];
    for (int i = 0; i < kBlock; i += 4) {
      words[i] = int16_t(codes[i]);
      words[i + 1] = int16_t(codes[i + 2]);
      words[i + 2] = int16_t(codes[i + 1]);
      words[i + 3] = int16_t(codes[i + 3]);
    }
    std::memcpy(to, words, sizeof(words));
  }
};

/* The largest code of a format. */
template <ActivationFormat format>
constexpr float level_of() {
  return format == kInt8 ? 127.0f : 32512.0f;
}

/* The bit pattern of the largest magnitude of 32 values. As bit patterns a NaN is larger than all numbers. */
inline uint32_t portable_largest_bits(const float* x) {
  uint32_t largest = 0;
  for (int i = 0; i < kBlock; ++i) largest = larger(largest, bit_cast<uint32_t>(x[i]) & 0x7fffffffu);
  return largest;
}

/* Writes the codes of 32 values to `to`, and the sums of the codes of each half. What is NaN (also infinity * 0) gets
 * the code 0; codes are rounded half to even by adding 1.5 * 2^23. */
template <class Layout, ActivationFormat format>
inline void portable_round_block(const float* x, float inverse, Byte* to, int32_t* sums) {
  constexpr float level = level_of<format>(), rounder = 12582912.0f;
  int32_t codes[kBlock];
  for (int i = 0; i < kBlock; ++i) {
    float code = x[i] * inverse;
    code = code == code ? code : 0.0f;
    code = code > -level ? code : -level;
    code = code < level ? code : level;
    codes[i] = bit_cast<int32_t>(code + rounder) - bit_cast<int32_t>(rounder);
  }
  Layout::template store<format>(codes, to);
  sums[0] = sums[1] = 0;
  for (int i = 0; i < kBlock; ++i) sums[i / (kBlock / 2)] += codes[i];
}

/* Where the activations of a call lie in the workspace. */
template <class Target>
class Activations {
 public:
  static int64_t bytes_per_token(ActivationFormat format, int64_t columns) {
    if (format == kFloat32) return 4 * columns;
    const int codes = format == kInt8 ? Layout::template bytes<kInt8>() : Layout::template bytes<kInt16>();
    return columns / kBlock * (codes + 4 * kNumFields);
  }
  static int64_t bytes(ActivationFormat format, int64_t tokens, int64_t columns) {
    int64_t places = 0;
    while (places < tokens) places += group_size<Target>(tokens - places, tokens);
    return round_to_line(places * bytes_per_token(format, columns));
  }

  Activations(ActivationFormat format, const PxTensor& x, Byte* memory)
      : format_(format), x_(x), tokens_(x.shape[0]), columns_(x.shape[1]), memory_(memory) {}

  ActivationFormat format() const { return format_; }
  int64_t tokens() const { return tokens_; }
  const Byte* group(int64_t first_token) const { return memory_ + first_token * bytes_per_token(format_, columns_); }

  int64_t group_bytes(int size) const { return size * bytes_per_token(format_, columns_); }

  /* The work of preparing is cut into units: the columns of one strip for the tokens of one group. */
  int64_t num_units() const { return num_groups() * num_strips(); }
  void prepare(int64_t first_unit, int64_t last_unit) const {
    int64_t begin = 0;
    for (int64_t unit = 0; unit < last_unit; unit += num_strips()) {
      const int size = group_size<Target>(tokens_ - begin, tokens_);
      const int64_t first = larger<int64_t>(first_unit - unit, 0), last = smaller(last_unit - unit, num_strips());
      for (int64_t strip = first; strip < last; ++strip) prepare_strip(begin, size, strip);
      begin += size;
    }
  }

 private:
  using Layout = typename Target::ActivationLayout;
  static constexpr int kStrip = 16; /* blocks quantized together, so that none waits for its own scale */

  int64_t num_strips() const { return ceil_divide(columns_, kStrip * kBlock); }
  int64_t num_groups() const {
    int64_t count = 0;
    for (int64_t begin = 0; begin < tokens_; ++count) begin += group_size<Target>(tokens_ - begin, tokens_);
    return count;
  }

  void prepare_strip(int64_t begin, int size, int64_t strip) const {
    const int64_t column = strip * kStrip * kBlock;
    const int64_t count = smaller<int64_t>(kStrip * kBlock, columns_ - column);
    Byte* to = memory_ + begin * bytes_per_token(format_, columns_) + size * bytes_per_token(format_, column);
    static const float zeros[kStrip * kBlock] = {};
    for (int i = 0; i < size; ++i) {
      const float* x = begin + i < tokens_ ? row_of<const float>(x_, begin + i) + column : zeros;
      if (format_ == kInt16) {
        quantize_strip<kInt16>(x, int(count / kBlock), i, size, to);
      } else if (format_ == kInt8) {
        quantize_strip<kInt8>(x, int(count / kBlock), i, size, to);
      } else {
        for (int64_t k = 0; k < count; ++k) std::memcpy(to + 4 * (k * size + i), x + k, 4);
      }
    }
    if constexpr (Layout::kPairsTokens) {
      if (format_ == kInt16) pair_strip<kInt16>(int(count / kBlock), size, to);
      if (format_ == kInt8) pair_strip<kInt8>(int(count / kBlock), size, to);
    }
  }

  template <ActivationFormat format>
  static void pair_strip(int count, int size, Byte* to) {
    for (int b = 0; b < count; ++b, to += size * block_bytes<format>())
      for (int i = 0; i + 1 < size; i += 2)
        Layout::template pair_tokens<format>(to + i * Layout::template bytes<format>());
  }

  template <ActivationFormat format>
  static constexpr int block_bytes() {
    return Layout::template bytes<format>() + 4 * kNumFields;
  }

  template <ActivationFormat format>
  static void quantize_strip(const float* x, int count, int index, int size, Byte* to) {
    constexpr int code_bytes = Layout::template bytes<format>();
    constexpr float level = level_of<format>();
    uint32_t largest[kStrip] = {};
    float scales[kStrip], inverses[kStrip];
    int32_t sums[kStrip][2] = {};
    int32_t fields[kNumFields][kStrip];
    for (int b = 0; b < count; ++b) largest[b] = Target::largest_bits(x + b * kBlock);
    for (int b = 0; b < kStrip; ++b) {
      const float amax = bit_cast<float>(largest[b]);
      scales[b] = amax / level;
      inverses[b] = amax > 0.0f ? level / amax : 0.0f;
    }
    for (int b = 0; b < count; ++b) {
      Byte* codes = to + b * size * block_bytes<format>() + index * code_bytes;
      Target::template round_block<format>(x + b * kBlock, inverses[b], codes, sums[b]);
    }
    for (int b = 0; b < kStrip; ++b) {
      const int32_t first = sums[b][0], last = sums[b][1];
      fields[kScale][b] = bit_cast<int32_t>(scales[b]);
      fields[kScaledSum][b] = bit_cast<int32_t>(scales[b] * float(first + last));
      fields[kCorrection8][b] = -8 * (first + last);
      fields[kCorrection16][b] = -16 * (first + last);
      fields[kCorrection128][b] = -128 * (first + last);
      fields[kCorrection32First][b] = -32 * first;
      fields[kCorrection32Last][b] = -32 * last;
    }
    for (int b = 0; b < count; ++b) {
      Byte* place = to + size * (b * block_bytes<format>() + code_bytes) + 4 * index;
      for (int field = 0; field < kNumFields; ++field) std::memcpy(place + 4 * field * size, &fields[field][b], 4);
    }
  }

  ActivationFormat format_;
  const PxTensor& x_;
  int64_t tokens_;
  int64_t columns_;
  Byte* memory_;
};

}  // namespace linear
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
