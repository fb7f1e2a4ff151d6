/* kv_write, and how kernels see the paged KV cache: k_cache [num_blocks, Hkv, D, block_size], v_cache [num_blocks, Hkv,
 * block_size, D], float32 or float16. The keys of a block are transposed, so that a vector holds one item of 16 keys.
 */
#ifndef PERFX_KERNELS_KV_CACHE_HPP
#define PERFX_KERNELS_KV_CACHE_HPP

#include "perfx/kernels/operands.hpp"

namespace perfx {
namespace PERFX_VARIANT {

inline F load_lanes(const float* p) { return load(p); }
inline F load_lanes(const uint16_t* p) { return load_half(p); }
inline void store_lanes(float* p, int n, F x) { store_n(p, n, x); }
inline void store_lanes(uint16_t* p, int n, F x) { n == kLanes ? store_half(p, x) : store_half_first(p, n, x); }

/* T is float or uint16_t (the bits of a float16). */
template <class T>
struct KvCache {
  KvCache(const PxTensor& k_cache, const PxTensor& v_cache)
      : keys(static_cast<T*>(k_cache.data)),
        values(static_cast<T*>(v_cache.data)),
        num_blocks(k_cache.shape[0]),
        num_heads(k_cache.shape[1]),
        head_size(k_cache.shape[2]),
        block_size(k_cache.shape[3]) {}

  int64_t block_offset(int64_t block, int64_t head) const {
    return (block * num_heads + head) * head_size * block_size;
  }
  /* Item 0 of the key at a place of a block; item d is d * block_size further. */
  T* key(int64_t block, int64_t head, int64_t place) const { return keys + block_offset(block, head) + place; }
  T* value(int64_t block, int64_t head, int64_t place) const {
    return values + block_offset(block, head) + place * head_size;
  }

  T* keys;
  T* values;
  int64_t num_blocks, num_heads, head_size, block_size;
};

inline bool is_kv_cache(const PxTensor& k, const PxTensor& v) {
  if (k.dtype != PX_FLOAT32 && k.dtype != PX_FLOAT16) return false;
  if (!is_dense(k, k.dtype, 4) || !is_dense(v, k.dtype, 4)) return false;
  return k.shape[0] == v.shape[0] && k.shape[1] == v.shape[1] && k.shape[2] == v.shape[3] && k.shape[3] == v.shape[2] &&
         k.shape[3] > 0 && k.shape[3] % kLanes == 0;
}

inline int32_t accepts_kv_write(const PxCall* call) {
  if (!has_signature(call, 5, 0, 0)) return PX_UNSUPPORTED;
  const PxTensor* t = call->operands;
  const bool ok = is_rows(t[0], PX_FLOAT32, 3) && is_rows(t[1], PX_FLOAT32, 3) && same_shape(t[0], t[1]) &&
                  is_dense(t[2], PX_INT32, 1) && t[2].shape[0] == t[0].shape[0] && is_kv_cache(t[3], t[4]) &&
                  t[3].shape[1] == t[0].shape[1] && t[3].shape[2] == t[0].shape[2];
  return ok ? PX_OK : PX_UNSUPPORTED;
}

template <class T>
inline void write_token(const KvCache<T>& cache, int64_t slot, int64_t head, const float* key, const float* value) {
  const int64_t block = slot / cache.block_size, place = slot % cache.block_size;
  T* key_out = cache.key(block, head, place);
  T* value_out = cache.value(block, head, place);
  for_each_vector(cache.head_size, [&](int64_t d, int n) {
    T items[kLanes];
    store_lanes(items, kLanes, load_n(key + d, n));
    for (int i = 0; i < n; ++i) key_out[(d + i) * cache.block_size] = items[i];
    store_lanes(value_out + d, n, load_n(value + d, n));
  });
}

template <class T>
inline void write_tokens(const PxCall* call, const PxThread* thread) {
  const PxTensor &k = call->operands[0], &v = call->operands[1];
  const int32_t* slots = ints(call->operands[2]);
  const KvCache<T> cache(call->operands[3], call->operands[4]);
  const Range items = share(k.shape[0] * cache.num_heads, 1, thread);
  for (int64_t item = items.begin; item < items.end; ++item) {
    const int64_t token = item / cache.num_heads, head = item % cache.num_heads;
    if (slots[token] < 0) continue;
    write_token(cache, slots[token], head, at<float>(k, token, head), at<float>(v, token, head));
  }
}

inline int32_t run_kv_write(const PxCall* call, const PxThread* thread) {
  const PxTensor& k_cache = call->operands[3];
  const int32_t* slots = ints(call->operands[2]);
  const int64_t num_slots = k_cache.shape[0] * k_cache.shape[3];
  for (int64_t t = 0; t < call->operands[2].shape[0]; ++t) {
    if (slots[t] < -1 || slots[t] >= num_slots) return PX_INVALID_ARGUMENT;
  }
  if (k_cache.dtype == PX_FLOAT16) {
    write_tokens<uint16_t>(call, thread);
  } else {
    write_tokens<float>(call, thread);
  }
  return PX_OK;
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
