/* The order of a row's items: the largest first, NaN last, and of equal ones the first. An item's place in it is one
 * number, its rank, which no two items share: the largest rank comes first. */

#define SEGMENT 1024 /* items that are looked through together */

/* Floats as numbers of the same order; both zeros are one, NaN is 0 and less than all. */
DEVICE uint32_t order_key(float value) {
  uint32_t bits = AS_UINT(value + 0.0f);
  return isnan(value) ? 0u : (bits & 0x80000000u) ? ~bits : bits | 0x80000000u;
}

DEVICE uint64_t rank_of(uint32_t key, int id) { return (uint64_t)key << 32 | (uint32_t)~id; }

DEVICE int id_of(uint64_t rank) { return (int)~(uint32_t)rank; }

/* The largest of the work-items' ranks, in all of them. */
DEVICE uint64_t group_first(uint64_t rank, LOCAL uint64_t* scratch) {
  int id = LOCAL_ID(0);
  BARRIER();
  scratch[id] = rank;
  BARRIER();
  if (GROUP <= PERFX_FEW) {
    for (int other = 0; other < GROUP; other++) rank = scratch[other] > rank ? scratch[other] : rank;
    return rank;
  }
  for (int half_size = GROUP / 2; half_size > 0; half_size /= 2) {
    if (id < half_size && scratch[id + half_size] > scratch[id]) scratch[id] = scratch[id + half_size];
    BARRIER();
  }
  return scratch[0];
}

/* The largest rank below `limit` in a segment of x, in all work-items; 0 where there is none. */
DEVICE uint64_t first_in_segment(GLOBAL const float* x, int segment, int columns, uint64_t limit,
                                 LOCAL uint64_t* scratch) {
  int stop = min((segment + 1) * SEGMENT, columns);
  uint64_t best = 0;
  for (int id = segment * SEGMENT + LOCAL_ID(0); id < stop; id += GROUP) {
    uint64_t rank = rank_of(order_key(x[id]), id);
    if (rank > best && rank < limit) best = rank;
  }
  return group_first(best, scratch);
}
