/* sample: one id for each row of logits, by temperature, min_p, top_k, top_p and a uniform number.
 *
 * `segment_bests` (of topk.h) comes first, then `weigh` with a work-group for each segment, then `draw` with one for
 * each row: it lists the few items that can be chosen, where top_k or top_p say so, and searches among them. */

#include "ranked.h"
#include "topk.h"

#define ROOM(columns) (((int64_t)(columns) + GROUP - 1) / GROUP * GROUP) /* of a list */
#define NUM_MASSES 5 /* sums over a segment: of all weights, and of those of the logits above each bound */

/* How logits of a row become weights: exp((x - largest) / temperature), 0 where below `least`. */
struct Weighing {
  float largest, temperature, inverse, least;
};

DEVICE struct Weighing weighing_of(float largest, float temperature, float least) {
  struct Weighing weighing;
  weighing.largest = largest;
  weighing.temperature = temperature;
  weighing.inverse = 1.0f / temperature;
  weighing.least = least;
  return weighing;
}

DEVICE float weight_of(struct Weighing weighing, float x) {
  float weight = exp((x - weighing.largest) * weighing.inverse);
  return weight >= weighing.least ? weight : 0;
}

/* Bounds, as logarithms of weights: top_p's items are looked for above the first with mass enough above it. */
#define BOUND_1 -1.0f
#define BOUND_2 -3.0f
#define BOUND_3 -6.0f
#define BOUND_4 -10.0f

/* The logit whose weight has that logarithm. */
DEVICE float logit_at(struct Weighing weighing, float bound) {
  return fma(bound, weighing.temperature, weighing.largest);
}

DEVICE void keep_sum(float value, LOCAL float* scratch, GLOBAL float* result) {
  float sum = group_sum(value, scratch);
  if (LOCAL_ID(0) == 0) *result = sum;
}

DEVICE uint64_t best_of_row(GLOBAL const uint64_t* bests, int segments, LOCAL uint64_t* scratch) {
  uint64_t best = 0;
  for (int segment = LOCAL_ID(0); segment < segments; segment += GROUP)
    if (bests[segment] > best) best = bests[segment];
  return group_first(best, scratch);
}

/* masses[row][segment][NUM_MASSES] */
KERNEL_OF(GROUP, 1, 1)
weigh(CONST_OPERAND(float, x), CONST_OPERAND(uint64_t, bests), CONST_OPERAND(float, temperature),
      CONST_OPERAND(float, min_p), OPERAND(float, masses), int columns, int64_t x_stride, int first_row) {
  OPEN_CONST(float, x);
  OPEN_CONST(uint64_t, bests);
  OPEN_CONST(float, temperature);
  OPEN_CONST(float, min_p);
  OPEN(float, masses);
  LOCAL_ARRAY(uint64_t, ranks, GROUP);
  LOCAL_ARRAY(float, scratch, GROUP);
  int64_t slot = GROUP_ID(0), row = first_row + slot;
  int segment = GROUP_ID(1), segments = NUM_GROUPS(1);
  x += row * x_stride;
  float largest = x[id_of(best_of_row(bests + slot * segments, segments, ranks))];
  struct Weighing weighing = weighing_of(largest, temperature[row], min_p[row]);
  float first = logit_at(weighing, BOUND_1), second = logit_at(weighing, BOUND_2);
  float third = logit_at(weighing, BOUND_3), fourth = logit_at(weighing, BOUND_4);
  float all = 0, above_1 = 0, above_2 = 0, above_3 = 0, above_4 = 0;
  int stop = min((segment + 1) * SEGMENT, columns);
  for (int id = segment * SEGMENT + LOCAL_ID(0); id < stop; id += GROUP) {
    float logit = x[id], weight = weight_of(weighing, logit);
    all += weight;
    above_1 += logit >= first ? weight : 0;
    above_2 += logit >= second ? weight : 0;
    above_3 += logit >= third ? weight : 0;
    above_4 += logit >= fourth ? weight : 0;
  }
  masses += (slot * segments + segment) * NUM_MASSES;
  keep_sum(all, scratch, masses);
  keep_sum(above_1, scratch, masses + 1);
  keep_sum(above_2, scratch, masses + 2);
  keep_sum(above_3, scratch, masses + 3);
  keep_sum(above_4, scratch, masses + 4);
}

DEVICE float mass_of_row(GLOBAL const float* masses, int segments, int index) {
  float mass = 0;
  for (int segment = 0; segment < segments; segment++) mass += masses[segment * NUM_MASSES + index];
  return mass;
}

/* A number that safely no logit of top_p's items is below. */
DEVICE float bound_of_mass(GLOBAL const float* masses, int segments, struct Weighing weighing, float share) {
  float wanted = share * mass_of_row(masses, segments, 0) * 1.0001f;
  if (mass_of_row(masses, segments, 1) >= wanted) return logit_at(weighing, BOUND_1);
  if (mass_of_row(masses, segments, 2) >= wanted) return logit_at(weighing, BOUND_2);
  if (mass_of_row(masses, segments, 3) >= wanted) return logit_at(weighing, BOUND_3);
  if (mass_of_row(masses, segments, 4) >= wanted) return logit_at(weighing, BOUND_4);
  return -INFINITY;
}

/* The same for the k largest logits: the k-th largest of the segments' bests. `found` has room for a number. */
DEVICE float bound_of_count(GLOBAL const float* x, GLOBAL const uint64_t* bests, int segments, int k,
                            LOCAL float* found) {
  BARRIER();
  if (LOCAL_ID(0) == 0) found[0] = -INFINITY;
  BARRIER();
  for (int segment = LOCAL_ID(0); segment < segments && k <= segments; segment += GROUP) {
    int larger = 0;
    for (int other = 0; other < segments; other++) larger += bests[other] > bests[segment];
    if (larger == k - 1) found[0] = x[id_of(bests[segment])];
  }
  BARRIER();
  return found[0];
}

/* Lists the items with logits from `bound` on that have any weight; each work-item those of its lane. */
DEVICE void list_items(struct List* list, GLOBAL const float* x, int columns, GLOBAL const uint64_t* bests,
                       int segments, struct Weighing weighing, float bound) {
  int lane = LOCAL_ID(0), count = 0;
  for (int segment = 0; segment < segments; segment++) {
    if (!(x[id_of(bests[segment])] >= bound)) continue;
    int stop = min((segment + 1) * SEGMENT, columns);
    for (int id = segment * SEGMENT + lane; id < stop; id += GROUP) {
      if (!(x[id] >= bound)) continue;
      float weight = weight_of(weighing, x[id]);
      if (!(weight > 0)) continue;
      list->ranks[count * GROUP + lane] = rank_of(order_key(x[id]), id);
      list->weights[count * GROUP + lane] = weight;
      count++;
    }
  }
  list->count = count;
}

/* By one work-item, of all items: the first id at which the running sum of weights passes `uniform` of their sum. */
DEVICE int pick_of_all(GLOBAL const float* x, int columns, struct Weighing weighing, GLOBAL const float* masses,
                       int segments, float uniform) {
  float target = uniform * mass_of_row(masses, segments, 0), running = 0;
  int segment = 0, last = 0;
  while (segment < segments - 1 && running + masses[segment * NUM_MASSES] <= target)
    running += masses[segment++ * NUM_MASSES];
  /* rounding may leave the sum a hair below: then it is the last id with any weight */
  while (segment > 0 && masses[segment * NUM_MASSES] == 0) segment--;
  int stop = min((segment + 1) * SEGMENT, columns);
  for (int id = segment * SEGMENT; id < stop && running <= target; id++) {
    float weight = weight_of(weighing, x[id]);
    running += weight;
    if (weight > 0) last = id;
  }
  return last;
}

KERNEL_OF(GROUP, 1, 1)
draw(CONST_OPERAND(float, x), CONST_OPERAND(uint64_t, bests), CONST_OPERAND(float, masses), OPERAND(uint64_t, ranks),
     OPERAND(float, weights), CONST_OPERAND(float, temperature), CONST_OPERAND(int, top_k), CONST_OPERAND(float, top_p),
     CONST_OPERAND(float, min_p), CONST_OPERAND(float, uniform), OPERAND(int, ids), int columns, int64_t x_stride,
     int first_row, int segments, FAULT_PARAMETERS) {
  OPEN_CONST(float, x);
  OPEN_CONST(uint64_t, bests);
  OPEN_CONST(float, masses);
  OPEN(uint64_t, ranks);
  OPEN(float, weights);
  OPEN_CONST(float, temperature);
  OPEN_CONST(int, top_k);
  OPEN_CONST(float, top_p);
  OPEN_CONST(float, min_p);
  OPEN_CONST(float, uniform);
  OPEN(int, ids);
  LOCAL_ARRAY(uint64_t, scratch, GROUP);
  LOCAL_ARRAY(float, sums, 16 * GROUP);
  LOCAL_ARRAY(float, found, 2);
  int64_t slot = GROUP_ID(0), row = first_row + slot;
  int is_first = LOCAL_ID(0) == 0, k = top_k[row];
  float heat = temperature[row], share = top_p[row], point = uniform[row], least = min_p[row];
  int fits = heat >= 0 && heat < INFINITY && k >= 0 && share >= 0 && least >= 0 && least <= 1;
  if (!(fits && point >= 0 && point < 1)) {
    if (is_first) FAULT();
    return;
  }
  x += row * x_stride;
  bests += slot * segments;
  masses += slot * segments * NUM_MASSES;
  int best = id_of(best_of_row(bests, segments, scratch));
  struct Weighing weighing = weighing_of(x[best], heat, least);
  int is_limited = k > 0 && k < columns;
  if (weighing.inverse == INFINITY || !(fabs(x[best]) < INFINITY)) {
    if (is_first) ids[row] = best; /* an infinite logit takes all */
    return;
  }
  if (!is_limited && share >= 1) {
    if (is_first) ids[row] = pick_of_all(x, columns, weighing, masses, segments, point);
    return;
  }
  struct List list;
  list.ranks = ranks + slot * ROOM(columns);
  list.weights = weights + slot * ROOM(columns);
  list.sums = sums;
  list.found = found;
  float bound =
      is_limited ? bound_of_count(x, bests, segments, k, found) : bound_of_mass(masses, segments, weighing, share);
  list_items(&list, x, columns, bests, segments, weighing, bound);
  float total;
  if (is_limited) {
    uint64_t cut = find_rank(list, search_for(1, 0, 0, (float)k), columns);
    total = drop_below(&list, cut >> 32 << 32); /* equals of the k-th stay */
  } else {
    total = mass_of_row(masses, segments, 0);
  }
  if (share < 1) total = drop_below(&list, find_rank(list, search_for(0, 0, 0, share * total), columns));
  uint64_t chosen = find_rank(list, search_for(0, 1, !is_limited, point * total), columns);
  if (is_first) ids[row] = id_of(chosen);
}
