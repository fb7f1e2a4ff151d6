/* sample: one id for each row of logits, by temperature, min_p, top_k, top_p and a uniform number.
 *
 * `segment_bests` (of topk.h) comes first, then `weigh` with a work-group for each segment, then `draw` with one for
 * each row. Where the order of values matters, nothing is sorted: the item at which a running sum in that order reaches
 * a number is found by its rank, four bits at a time, from the sums over all items with given leading bits. */

#include "topk.h"

DEVICE uint64_t best_of_row(GLOBAL const uint64_t* bests, int segments, LOCAL uint64_t* scratch) {
  uint64_t best = 0;
  for (int segment = LOCAL_ID(0); segment < segments; segment += GROUP)
    if (bests[segment] > best) best = bests[segment];
  return group_first(best, scratch);
}

/* weights = exp((x - largest) / temperature), 0 where below min_p; and their sums over segments. */
KERNEL_OF(GROUP, 1, 1)
weigh(CONST_OPERAND(float, x), CONST_OPERAND(uint64_t, bests), CONST_OPERAND(float, temperature),
      CONST_OPERAND(float, min_p), OPERAND(float, weights), OPERAND(float, masses), int columns, int64_t x_stride) {
  OPEN_CONST(float, x);
  OPEN_CONST(uint64_t, bests);
  OPEN_CONST(float, temperature);
  OPEN_CONST(float, min_p);
  OPEN(float, weights);
  OPEN(float, masses);
  LOCAL_ARRAY(uint64_t, ranks, GROUP);
  LOCAL_ARRAY(float, scratch, GROUP);
  int64_t row = GROUP_ID(0);
  int segment = GROUP_ID(1), segments = NUM_GROUPS(1);
  x += row * x_stride;
  weights += row * columns;
  float largest = x[id_of(best_of_row(bests + row * segments, segments, ranks))];
  float least = min_p[row], inverse = 1.0f / temperature[row], sum = 0;
  int stop = min((segment + 1) * SEGMENT, columns);
  for (int id = segment * SEGMENT + LOCAL_ID(0); id < stop; id += GROUP) {
    float weight = exp((x[id] - largest) * inverse);
    weight = weight >= least ? weight : 0;
    weights[id] = weight;
    sum += weight;
  }
  sum = group_sum(sum, scratch);
  if (LOCAL_ID(0) == 0) masses[row * segments + segment] = sum;
}

/* A row as the searches see it. */
struct Row {
  GLOBAL const float* x;
  GLOBAL float* weights;
  int columns;
  LOCAL float* sums;  /* [16][GROUP] */
  LOCAL float* found; /* [2] */
};

/* One step of a search, by the four bits from `shift` on of the ranks that begin with `prefix`: the digit at which the
 * running sum, highest digit first and from `above` on, reaches (or passes, where `passes`) the target. An item counts
 * as 1 where `counts`, else by its weight. Adds the sums of higher digits to `above`. */
DEVICE uint64_t next_digit(struct Row row, uint64_t prefix, int shift, int counts, int passes, float target,
                           float* above) {
  int lane = LOCAL_ID(0);
  BARRIER(); /* what was in `sums` has been read */
  for (int digit = 0; digit < 16; digit++) row.sums[digit * GROUP + lane] = 0;
  for (int id = lane; id < row.columns; id += GROUP) {
    uint64_t rank = rank_of(order_key(row.x[id]), id);
    float weight = row.weights[id];
    if (shift < 60 && rank >> (shift + 4) != prefix) continue;
    row.sums[(int)(rank >> shift & 15) * GROUP + lane] += counts ? 1.0f : weight;
  }
  BARRIER();
  for (int digit = lane; digit < 16; digit += GROUP) {
    float sum = 0;
    for (int other = 0; other < GROUP; other++) sum += row.sums[digit * GROUP + other];
    row.sums[digit * GROUP] = sum;
  }
  BARRIER();
  if (lane == 0) {
    float running = *above;
    int chosen = -1;
    for (int digit = 15; digit >= 0; digit--) {
      float sum = row.sums[digit * GROUP];
      if (sum == 0) continue;
      /* rounding may keep the sum below the target: then it is the last digit that has items */
      if (chosen >= 0) running += row.sums[chosen * GROUP];
      chosen = digit;
      float reached = running + sum;
      if (passes ? reached > target : reached >= target) break;
    }
    row.found[0] = (float)(chosen < 0 ? 0 : chosen);
    row.found[1] = running;
  }
  BARRIER();
  uint64_t digit = (uint64_t)row.found[0];
  *above = row.found[1];
  BARRIER();
  return prefix << 4 | digit;
}

/* The rank of the item, largest first, at which the running sum reaches or passes the target; bits of ids that are the
 * same in all are not searched. */
DEVICE uint64_t search(struct Row row, int counts, int passes, float target) {
  uint64_t prefix = 0;
  float above = 0;
  int shift = 60;
  for (; shift >= 32; shift -= 4) prefix = next_digit(row, prefix, shift, counts, passes, target, &above);
  int id_bits = 4;
  while (id_bits < 32 && (row.columns - 1) >> id_bits) id_bits += 4;
  prefix = (prefix << (32 - id_bits)) | (((uint64_t)1 << (32 - id_bits)) - 1);
  for (shift = id_bits - 4; shift >= 0; shift -= 4)
    prefix = next_digit(row, prefix, shift, counts, passes, target, &above);
  return prefix;
}

/* Drops the items of a lower rank than `cut`: their weights become 0. Returns the sum of the others. */
DEVICE float drop_below(struct Row row, uint64_t cut, LOCAL float* scratch) {
  float total = 0;
  for (int first = 0; first < row.columns; first += SEGMENT) {
    int stop = min(first + SEGMENT, row.columns);
    float sum = 0;
    for (int id = first + LOCAL_ID(0); id < stop; id += GROUP) {
      float weight = rank_of(order_key(row.x[id]), id) < cut ? 0 : row.weights[id];
      row.weights[id] = weight;
      sum += weight;
    }
    total += sum;
  }
  return group_sum(total, scratch);
}

/* The sums of weights over segments, anew. */
DEVICE void sum_segments(struct Row row, GLOBAL float* masses, int segments, LOCAL float* scratch) {
  for (int segment = 0; segment < segments; segment++) {
    int stop = min((segment + 1) * SEGMENT, row.columns);
    float sum = 0;
    for (int id = segment * SEGMENT + LOCAL_ID(0); id < stop; id += GROUP) sum += row.weights[id];
    sum = group_sum(sum, scratch);
    if (LOCAL_ID(0) == 0) masses[segment] = sum;
  }
  BARRIER_GLOBAL();
}

/* By one work-item: the first id at which the running sum of weights passes `uniform` of their sum. */
DEVICE int pick_by_id(struct Row row, GLOBAL const float* masses, int segments, float uniform) {
  float total = 0, running = 0;
  for (int segment = 0; segment < segments; segment++) total += masses[segment];
  float target = uniform * total;
  int segment = 0, last = 0;
  while (segment < segments - 1 && running + masses[segment] <= target) running += masses[segment++];
  /* rounding may leave the sum a hair below: then it is the last id with any weight */
  while (segment > 0 && masses[segment] == 0) segment--;
  int stop = min((segment + 1) * SEGMENT, row.columns);
  for (int id = segment * SEGMENT; id < stop && running <= target; id++) {
    running += row.weights[id];
    if (row.weights[id] > 0) last = id;
  }
  return last;
}

KERNEL_OF(GROUP, 1, 1)
draw(CONST_OPERAND(float, x), CONST_OPERAND(uint64_t, bests), OPERAND(float, weights), OPERAND(float, masses),
     CONST_OPERAND(float, temperature), CONST_OPERAND(int, top_k), CONST_OPERAND(float, top_p),
     CONST_OPERAND(float, min_p), CONST_OPERAND(float, uniform), OPERAND(int, ids), int columns, int64_t x_stride,
     int segments, FAULT_PARAMETERS) {
  OPEN_CONST(float, x);
  OPEN_CONST(uint64_t, bests);
  OPEN(float, weights);
  OPEN(float, masses);
  OPEN_CONST(float, temperature);
  OPEN_CONST(int, top_k);
  OPEN_CONST(float, top_p);
  OPEN_CONST(float, min_p);
  OPEN_CONST(float, uniform);
  OPEN(int, ids);
  LOCAL_ARRAY(uint64_t, ranks, GROUP);
  LOCAL_ARRAY(float, sums, 16 * GROUP);
  LOCAL_ARRAY(float, found, 2);
  int64_t index = GROUP_ID(0);
  int is_first = LOCAL_ID(0) == 0, k = top_k[index];
  float heat = temperature[index], share = top_p[index], point = uniform[index];
  masses += index * segments;
  struct Row row;
  row.x = x + index * x_stride;
  row.weights = weights + index * columns;
  row.columns = columns;
  row.sums = sums;
  row.found = found;
  int fits = heat >= 0 && heat < INFINITY && k >= 0 && share >= 0 && min_p[index] >= 0 && min_p[index] <= 1;
  if (!(fits && point >= 0 && point < 1)) {
    if (is_first) FAULT();
    return;
  }
  int best = id_of(best_of_row(bests + index * segments, segments, ranks));
  if (heat == 0 || !(fabs(row.x[best]) < INFINITY)) {
    /* an infinite logit takes all */
    if (is_first) ids[index] = best;
    return;
  }
  int is_limited = k > 0 && k < columns;
  float total = 0;
  if (is_limited) {
    uint64_t cut = search(row, 1, 0, (float)k);
    total = drop_below(row, cut >> 32 << 32, sums); /* equals of the k-th stay */
  } else {
    for (int segment = 0; segment < segments; segment++) total += masses[segment];
  }
  if (share < 1) {
    total = drop_below(row, search(row, 0, 0, share * total), sums);
    if (!is_limited) sum_segments(row, masses, segments, sums);
  }
  int chosen = 0;
  if (is_limited) {
    chosen = id_of(search(row, 0, 1, point * total));
  } else if (is_first) {
    chosen = pick_by_id(row, masses, segments, point);
  }
  if (is_first) ids[index] = chosen;
}
