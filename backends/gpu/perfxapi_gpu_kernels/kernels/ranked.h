/* Lists of a row's items with their ranks (order.h) and weights, and searches in them. Nothing is sorted: the item at
 * which a running sum, largest rank first, reaches a number is found by its rank, four bits at a time, from the sums
 * over all items with given leading bits. Each work-item has the items of its own lane, `count` of them, GROUP apart.
 */

#include "order.h"

struct List {
  GLOBAL uint64_t* ranks;
  GLOBAL float* weights;
  int count;
  LOCAL float* sums;  /* [16][GROUP] */
  LOCAL float* found; /* [2] */
};

/* What a search is for: the item at which the sum reaches `target`, or passes it where `passes`. An item counts as 1
 * where `counts`, else by its weight; the first are those of the lowest ids where `by_id`, else of the largest ranks.
 */
struct Search {
  int counts, passes, by_id;
  float target;
};

DEVICE struct Search search_for(int counts, int passes, int by_id, float target) {
  struct Search search;
  search.counts = counts;
  search.passes = passes;
  search.by_id = by_id;
  search.target = target;
  return search;
}

/* By one work-item: the digit at which the sum of `sums`, highest digit first, reaches the target; `above` is what
 * stands before it. Rounding may keep the sum below the target: then it is the last digit that has items. */
DEVICE int choose_digit(struct Search search, LOCAL const float* sums, float* above) {
  int chosen = -1;
  float reached = *above;
  for (int digit = 15; digit >= 0; digit--) {
    float sum = sums[digit * GROUP];
    if (sum == 0) continue;
    *above = reached;
    chosen = digit;
    reached += sum;
    if (search.passes ? reached > search.target : reached >= search.target) break;
  }
  return max(chosen, 0);
}

/* One step of a search: decides the four bits from `shift` on of ranks that begin with `prefix`. */
DEVICE uint64_t next_digit(struct List list, struct Search search, uint64_t prefix, int shift, float* above) {
  int lane = LOCAL_ID(0);
  BARRIER(); /* what was in `sums` has been read */
  for (int digit = 0; digit < 16; digit++) list.sums[digit * GROUP + lane] = 0;
  for (int item = 0; item < list.count; item++) {
    uint64_t rank = list.ranks[item * GROUP + lane];
    if (search.by_id) rank &= 0xffffffffu;
    if (shift < 60 && rank >> (shift + 4) != prefix) continue;
    list.sums[(int)(rank >> shift & 15) * GROUP + lane] += search.counts ? 1.0f : list.weights[item * GROUP + lane];
  }
  BARRIER();
  for (int digit = lane; digit < 16; digit += GROUP) {
    float sum = 0;
    for (int other = 0; other < GROUP; other++) sum += list.sums[digit * GROUP + other];
    list.sums[digit * GROUP] = sum;
  }
  BARRIER();
  if (lane == 0) {
    float running = *above;
    list.found[0] = (float)choose_digit(search, list.sums, &running);
    list.found[1] = running;
  }
  BARRIER();
  uint64_t digit = (uint64_t)list.found[0];
  *above = list.found[1];
  return prefix << 4 | digit;
}

/* The rank of the item that is searched for; where `by_id`, only the part of it that tells the id. Bits that are the
 * same in the ids of all `columns` items are not searched. */
DEVICE uint64_t find_rank(struct List list, struct Search search, int columns) {
  uint64_t prefix = 0;
  float above = 0;
  for (int shift = 60; shift >= 32 && !search.by_id; shift -= 4)
    prefix = next_digit(list, search, prefix, shift, &above);
  int bits = 4;
  while (bits < 32 && (columns - 1) >> bits) bits += 4;
  prefix = prefix << (32 - bits) | (((uint64_t)1 << (32 - bits)) - 1);
  for (int shift = bits - 4; shift >= 0; shift -= 4) prefix = next_digit(list, search, prefix, shift, &above);
  return prefix;
}

/* Drops the items of a lower rank than `cut`. Returns the sum of the weights of the others. */
DEVICE float drop_below(struct List* list, uint64_t cut) {
  int lane = LOCAL_ID(0), kept = 0;
  float total = 0;
  for (int first = 0; first < list->count; first += 64) {
    float sum = 0;
    for (int item = first; item < min(first + 64, list->count); item++) {
      uint64_t rank = list->ranks[item * GROUP + lane];
      if (rank < cut) continue;
      float weight = list->weights[item * GROUP + lane];
      list->ranks[kept * GROUP + lane] = rank;
      list->weights[kept * GROUP + lane] = weight;
      sum += weight;
      kept++;
    }
    total += sum;
  }
  list->count = kept;
  return group_sum(total, list->sums);
}
