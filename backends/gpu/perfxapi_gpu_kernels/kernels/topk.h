/* topk: the k largest items of each row of float32, in order: first the best of each segment, by many work-groups; then
 * a work-group a row takes the best of them k times, and each time looks for the next best of its segment. */

#include "order.h"

KERNEL_OF(GROUP, 1, 1)
segment_bests(CONST_OPERAND(float, x), OPERAND(uint64_t, bests), int columns, int64_t x_stride, int first_row) {
  OPEN_CONST(float, x);
  OPEN(uint64_t, bests);
  LOCAL_ARRAY(uint64_t, scratch, GROUP);
  int64_t row = GROUP_ID(0);
  int segment = GROUP_ID(1);
  uint64_t best = first_in_segment(x + (first_row + row) * x_stride, segment, columns, ~(uint64_t)0, scratch);
  if (LOCAL_ID(0) == 0) bests[row * NUM_GROUPS(1) + segment] = best;
}

KERNEL_OF(GROUP, 1, 1)
take_bests(CONST_OPERAND(float, x), OPERAND(uint64_t, bests), OPERAND(float, values), OPERAND(int, indices),
           int columns, int64_t x_stride, int segments, int k) {
  OPEN_CONST(float, x);
  OPEN(uint64_t, bests);
  OPEN(float, values);
  OPEN(int, indices);
  LOCAL_ARRAY(uint64_t, scratch, GROUP);
  int64_t row = GROUP_ID(0);
  x += row * x_stride;
  bests += row * segments;
  for (int place = 0; place < k; place++) {
    uint64_t best = 0;
    for (int segment = LOCAL_ID(0); segment < segments; segment += GROUP)
      if (bests[segment] > best) best = bests[segment];
    best = group_first(best, scratch);
    int id = id_of(best), segment = id / SEGMENT;
    uint64_t next = first_in_segment(x, segment, columns, best, scratch);
    if (LOCAL_ID(0) == 0) {
      values[row * k + place] = x[id];
      indices[row * k + place] = id;
      bests[segment] = next;
    }
    BARRIER_GLOBAL();
  }
}
