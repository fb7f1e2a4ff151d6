/* random_bits: Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011). Lanes are blocks of the counter. */
#ifndef PERFX_KERNELS_RANDOM_BITS_HPP
#define PERFX_KERNELS_RANDOM_BITS_HPP

#include "perfx/kernels/operands.hpp"

namespace perfx {
namespace PERFX_VARIANT {

constexpr int64_t kBlocksAtOnce = 16, kWordsPerBlock = 4;

/* The words of kBlocksAtOnce blocks from counter `first` on, block by block. */
inline void philox_blocks(uint64_t seed, uint64_t stream, uint64_t first, uint32_t* words) {
  uint32_t a[kBlocksAtOnce], b[kBlocksAtOnce], c[kBlocksAtOnce], d[kBlocksAtOnce];
  for (int64_t i = 0; i < kBlocksAtOnce; ++i) {
    const uint64_t counter = first + uint64_t(i);
    a[i] = uint32_t(counter), b[i] = uint32_t(counter >> 32);
    c[i] = uint32_t(stream), d[i] = uint32_t(stream >> 32);
  }
  uint32_t low = uint32_t(seed), high = uint32_t(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    for (int64_t i = 0; i < kBlocksAtOnce; ++i) {
      const uint64_t x = uint64_t(a[i]) * 0xD2511F53u, y = uint64_t(c[i]) * 0xCD9E8D57u;
      a[i] = uint32_t(y >> 32) ^ b[i] ^ low, b[i] = uint32_t(y);
      c[i] = uint32_t(x >> 32) ^ d[i] ^ high, d[i] = uint32_t(x);
    }
    low += 0x9E3779B9u, high += 0xBB67AE85u;
  }
  for (int64_t i = 0; i < kBlocksAtOnce; ++i) {
    uint32_t* block = words + kWordsPerBlock * i;
    block[0] = a[i], block[1] = b[i], block[2] = c[i], block[3] = d[i];
  }
}

inline int32_t accepts_random_bits(const PxCall* call) {
  if (!has_signature(call, 1, 1, 1)) return PX_UNSUPPORTED;
  const PxTensor &key = call->operands[0], &words = call->operands[1];
  return is_dense(key, PX_UINT64, 1) && is_dense(words, PX_UINT32, 1) ? PX_OK : PX_UNSUPPORTED;
}

inline int32_t run_random_bits(const PxCall* call, const PxThread* thread) {
  constexpr int64_t kWords = kBlocksAtOnce * kWordsPerBlock;
  const uint64_t* key = static_cast<const uint64_t*>(call->operands[0].data);
  uint32_t* out = static_cast<uint32_t*>(call->operands[1].data);
  const int64_t count = num_elements(call->operands[1]);
  const Range range = share(divide_up(count, kWords), 16, thread);
  for (int64_t piece = range.begin; piece < range.end; ++piece) {
    uint32_t words[kWords];
    philox_blocks(key[0], key[1], key[2] + uint64_t(piece * kBlocksAtOnce), words);
    const int64_t begin = piece * kWords, size = smaller(kWords, count - begin);
    for (int64_t i = 0; i < size; ++i) out[begin + i] = words[i];
  }
  return PX_OK;
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
