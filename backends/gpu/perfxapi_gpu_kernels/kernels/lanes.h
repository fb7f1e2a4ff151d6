/* Lanes: neighbors that one instruction works on. On a processor a work-item is alone in its group (GROUP 1) and
 * computes on vectors of WIDTH lanes; elsewhere each of GROUP work-items is a lane (WIDTH 1). Code that counts by LANES
 * from FIRST_LANE, and works on operands of WIDTH neighbors, is the same for both. */

#include "vectors.h"

#define LANES (GROUP * WIDTH)
#define BROADCAST(number) ((floats)(number))
#define LOAD_ITEMS(dtype, pointer) PERFX_JOIN(LOAD_ITEMS_, dtype)(pointer)
#define LOAD_ITEMS_float32(pointer) LOAD_LANES(pointer)
#define LOAD_ITEMS_float16(pointer) LOAD_HALF_LANES(pointer)
#define LOAD_ITEMS_bfloat16(pointer) AS_FLOATS(TO_UINTS(LOAD_LANES(pointer)) << 16)

/* Rows of any length: LOAD_PART has the items of a row of `count` from `item` on, 0 past its end, and STORE_PART writes
 * those that are there. TOTAL is the sum over all lanes of a group. */

#if WIDTH == 1
#define FIRST_LANE LOCAL_ID(0)
#define LANE_NUMBERS 0
#define LANES_BARRIER() BARRIER()
#define TO_INTS(values) ((int)(values))
#define TO_UINTS(values) ((uint32_t)(values))
#define FIRST_OF_LANES(values) (values)
#define LOAD_PART(dtype, pointer, item, count) LOAD(dtype, pointer, item)
#define STORE_PART(values, pointer, item, count) ((pointer)[item] = (values))
#define TOTAL(values, scratch) group_sum(values, scratch)
#define STORE_ITEMS(dtype, values, pointer, step) STORE(dtype, values, pointer, 0)
#else /* 16 */
#define FIRST_LANE 0
#define LANE_NUMBERS ((int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15))
#define LANES_BARRIER()
#define TO_INTS(values) convert_int16(values)
#define TO_UINTS(values) convert_uint16(values)
#define FIRST_OF_LANES(values) ((values).s0)
#define LOAD_PART(dtype, pointer, item, count) PERFX_JOIN(load_part_, dtype)(pointer, item, count)
#define STORE_PART(values, pointer, item, count) store_part(values, pointer, item, count)
#define TOTAL(values, scratch) sum_of_lanes(values)
#define STORE_ITEMS(dtype, values, pointer, step) PERFX_JOIN(store_items_, dtype)(values, pointer, step)

/* Neighbors to places `step` elements apart. */
DEVICE void store_items_float32(float16 values, GLOBAL float* pointer, int64_t step) {
  float items[16];
  vstore16(values, 0, items);
  for (int lane = 0; lane < 16; lane++) pointer[lane * step] = items[lane];
}

DEVICE void store_items_float16(float16 values, GLOBAL uint16_t* pointer, int64_t step) {
  uint16_t items[16];
  vstore_half16_rte(values, 0, (half*)items);
  for (int lane = 0; lane < 16; lane++) pointer[lane * step] = items[lane];
}

#define DEFINE_LOAD_PART(dtype)                                                                                       \
  DEVICE float16 load_part_##dtype(GLOBAL const STORAGE_##dtype* pointer, int item, int count) {                      \
    if (item + 16 <= count) return LOAD_ITEMS_##dtype(pointer + item);                                                \
    float items[16];                                                                                                  \
    for (int lane = 0; lane < 16; lane++) items[lane] = item + lane < count ? LOAD_##dtype(pointer, item + lane) : 0; \
    return vload16(0, items);                                                                                         \
  }
DEFINE_LOAD_PART(float32)
DEFINE_LOAD_PART(float16)
DEFINE_LOAD_PART(bfloat16)

DEVICE void store_part(float16 values, GLOBAL float* pointer, int item, int count) {
  float items[16];
  if (item + 16 <= count) {
    vstore16(values, 0, pointer + item);
    return;
  }
  vstore16(values, 0, items);
  for (int lane = 0; item + lane < count; lane++) pointer[item + lane] = items[lane];
}

DEVICE float sum_of_lanes(float16 values) {
  float8 by_8 = values.lo + values.hi;
  float4 by_4 = by_8.lo + by_8.hi;
  return (by_4.x + by_4.z) + (by_4.y + by_4.w);
}

DEVICE float max_of_lanes(float16 values) {
  float8 by_8 = fmax(values.lo, values.hi);
  float4 by_4 = fmax(by_8.lo, by_8.hi);
  return fmax(fmax(by_4.x, by_4.z), fmax(by_4.y, by_4.w));
}
#endif

/* exp(x) for x <= 0, the same bits everywhere; 0 where it would be less than the least normal number. */
DEVICE floats exp_of_negative(floats x) {
  floats n = rint(x * 1.4426950408889634f);
  floats r = fma(n, BROADCAST(-0.693145751953125f), x);
  r = fma(n, BROADCAST(-1.428606765330187e-6f), r);
  floats p = fma(r, BROADCAST(1.9875691500e-4f), BROADCAST(1.3981999507e-3f));
  p = fma(p, r, BROADCAST(8.3334519073e-3f));
  p = fma(p, r, BROADCAST(4.1665795894e-2f));
  p = fma(p, r, BROADCAST(1.6666665459e-1f));
  p = fma(p, r, BROADCAST(5.0000001201e-1f));
  p = fma(p, r * r, r) + 1.0f;
  floats power = AS_FLOATS((TO_INTS(fmax(n, BROADCAST(-127.0f))) + 127) << 23);
  return x < -87.0f ? BROADCAST(0.0f) : p * power;
}
