/* Activations as the tile kernels read them: quantized (or copied), and grouped by tokens.
 *
 * Tokens are taken in groups of 12, 8, 4, 2 or 1, the sizes for which a tile kernel is compiled. A group's memory
 * follows the kernel's walk over K: for each block of 32 columns the codes of every token of the group, then the
 * block's fields, each [tokens]. So every address inside the kernel is one pointer and a constant. Float activations
 * are [K][tokens].
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

/* The group that begins where `tokens` are left. */
template <class Target>
constexpr int group_size(int64_t tokens) {
  return tokens >= 12 && Target::kMaxTokens >= 12 ? 12
         : tokens >= 8 && Target::kMaxTokens >= 8 ? 8
         : tokens >= 4                            ? 4
         : tokens >= 2                            ? 2
                                                  : 1;
}

/* Codes for dot products of bytes: the int16 code is 256 * high + low, both int8. All high bytes, then all low ones. */
struct BytePlanes {
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

struct BlockScale {
  float scale, inverse;
};

/* From the largest magnitude's bit pattern. As bit patterns a NaN is larger than all numbers, so it makes the scale NaN. */
template <ActivationFormat format>
inline BlockScale block_scale(uint32_t largest) {
  const float amax = bit_cast<float>(largest);
  return {amax / level_of<format>(), amax > 0.0f ? level_of<format>() / amax : 0.0f};
}

/* Writes a block's fields, `stride` 32-bit words apart; `first` and `last` are the sums of its halves' codes. */
inline void put_fields(float scale, int32_t first, int32_t last, Byte* fields, int stride) {
  const int32_t sum = first + last;
  const auto put = [&](Field field, auto value) { std::memcpy(fields + 4 * field * stride, &value, 4); };
  put(kScale, scale);
  put(kScaledSum, scale * float(sum));
  put(kCorrection8, -8 * sum);
  put(kCorrection16, -16 * sum);
  put(kCorrection128, -128 * sum);
  put(kCorrection32First, -32 * first);
  put(kCorrection32Last, -32 * last);
}

/* Quantizes 32 values: codes to `to`, and the fields. What is NaN (also infinity * 0) gets the code 0; codes are rounded
 * half to even by adding 1.5 * 2^23. A vector layer may do the same in its own instructions. */
template <class Layout, ActivationFormat format>
inline void portable_quantize_block(const float* x, Byte* to, Byte* fields, int stride) {
  constexpr float level = level_of<format>(), rounder = 12582912.0f;
  uint32_t largest = 0;
  for (int i = 0; i < kBlock; ++i) largest = larger(largest, bit_cast<uint32_t>(x[i]) & 0x7fffffffu);
  const BlockScale scale = block_scale<format>(largest);
  int32_t codes[kBlock];
  for (int i = 0; i < kBlock; ++i) {
    float code = x[i] * scale.inverse;
    code = code == code ? code : 0.0f;
    code = code > -level ? code : -level;
    code = code < level ? code : level;
    codes[i] = bit_cast<int32_t>(code + rounder) - bit_cast<int32_t>(rounder);
  }
  Layout::template store<format>(codes, to);
  int32_t sums[2] = {0, 0};
  for (int i = 0; i < kBlock; ++i) sums[i / (kBlock / 2)] += codes[i];
  put_fields(scale.scale, sums[0], sums[1], fields, stride);
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
    return round_to_line(tokens * bytes_per_token(format, columns));
  }

  Activations(ActivationFormat format, const PxTensor& x, Byte* memory)
      : format_(format), x_(x), tokens_(x.shape[0]), columns_(x.shape[1]), memory_(memory) {}

  ActivationFormat format() const { return format_; }
  int64_t tokens() const { return tokens_; }
  const Byte* group(int64_t first_token) const { return memory_ + first_token * bytes_per_token(format_, columns_); }

  /* Prepares tokens first, ..., last - 1. */
  void prepare(int64_t first, int64_t last) const {
    for (int64_t begin = 0; begin < last;) {
      const int size = group_size<Target>(tokens_ - begin);
      for (int i = 0; i < size; ++i)
        if (begin + i >= first && begin + i < last) prepare_token(begin, i, size);
      begin += size;
    }
  }

 private:
  using Layout = typename Target::ActivationLayout;

  void prepare_token(int64_t begin, int index, int size) const {
    const float* x = row_of<const float>(x_, begin + index);
    Byte* to = memory_ + begin * bytes_per_token(format_, columns_);
    if (format_ == kInt16) {
      quantize<kInt16>(x, index, size, to);
    } else if (format_ == kInt8) {
      quantize<kInt8>(x, index, size, to);
    } else {
      for (int64_t k = 0; k < columns_; ++k) std::memcpy(to + 4 * (k * size + index), x + k, 4);
    }
  }
  template <ActivationFormat format>
  void quantize(const float* x, int index, int size, Byte* to) const {
    constexpr int code_bytes = Layout::template bytes<format>();
    for (int64_t k = 0; k < columns_; k += kBlock) {
      Target::template quantize_block<format>(x + k, to + index * code_bytes, to + size * code_bytes + 4 * index, size);
      to += size * (code_bytes + 4 * kNumFields);
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
