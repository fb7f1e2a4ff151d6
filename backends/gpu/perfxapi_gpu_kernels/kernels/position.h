/* Where the extreme of each line is: the first of equal ones; NaN is more extreme than any number.
 *
 * A line is cut into chunks of CHUNK elements; what is found in each is an index, and the best of these is found by
 * `best_of_parts`. IS_BEYOND(a, b) is `a > b` or `a < b`. */

#include "functions.h"
#include "walk.h"

/* Whether element `a`, at `a_index`, comes before `b` as the extreme. */
DEVICE int is_better(number a, int a_index, number b, int b_index) {
  if (IS_BEYOND(a, b) || (b == b && a != a)) return 1;
  return a_index < b_index && !IS_BEYOND(b, a) && (a == a) == (b == b);
}

#if WIDTH == LANES
/* The lanes are one vector: a work-item has a chunk. */
KERNEL position_rows(OPERAND(STORAGE(RESULT), out), CONST_OPERAND(float, a), Walk kept, int lines, int length,
                     int chunks, int64_t stride) {
  OPEN(STORAGE(RESULT), out);
  OPEN_CONST(float, a);
  int unit = GROUP_ID(0) * LOCAL_SIZE(0) + LOCAL_ID(0), line = unit / chunks, first = unit % chunks * CHUNK;
  if (line >= lines) return;
  int last = min(first + CHUNK, length);
  a += place_of(&kept, 1, 0, line);
  numbers best = read_numbers(a + first * stride, stride, min(last - first, LANES));
  truths steps = 0;
  for (int step = 1; step <= (last - first) / LANES - 1; step++) {
    numbers other = read_numbers(a + (first + step * LANES) * stride, stride, LANES);
    truths better = IS_BEYOND(other, best) || (best == best && other != other);
    best = better ? other : best;
    steps = better ? step : steps;
  }
  float values[LANES];
  int places[LANES], found = 0;
  STORE_NUMBERS(best, values);
  PERFX_JOIN(vstore, WIDTH)(steps, 0, places);
  for (int lane = 0; lane < LANES; lane++) places[lane] = first + places[lane] * LANES + lane;
  for (int lane = 1; lane < min(last - first, LANES); lane++)
    if (is_better(values[lane], places[lane], values[found], places[found])) found = lane;
  int place = places[found];
  number value = values[found];
  for (int index = max(first + (last - first) / LANES * LANES, first + LANES); index < last; index++)
    if (is_better(a[index * stride], index, value, place)) {
      value = a[index * stride];
      place = index;
    }
  STORE(RESULT, place, out, unit);
}
#else
KERNEL_OF(LANES, HEIGHT, 1)
position_rows(OPERAND(STORAGE(RESULT), out), CONST_OPERAND(STORAGE(A), a), Walk kept, int lines, int length, int chunks,
              int64_t stride) {
  OPEN(STORAGE(RESULT), out);
  OPEN_CONST(STORAGE(A), a);
  LOCAL_ARRAY(number, values, LANES * HEIGHT);
  LOCAL_ARRAY(int, places, LANES* HEIGHT);
  int lane = LOCAL_ID(0);
  int unit = GROUP_ID(0) * HEIGHT + LOCAL_ID(1);
  int line = unit / chunks, first = unit % chunks * CHUNK;
  int last = line < lines ? min(first + CHUNK, length) : 0;
  int mine = LOCAL_ID(1) * LANES + lane, best = min(first + lane, length - 1);
  if (last > 0) a += place_of(&kept, 1, 0, line);
  number value = AS_NUMBER(LOAD(A, a, last > 0 ? best * stride : 0));
  for (int index = first + lane + LANES; index < last; index += LANES) {
    number other = AS_NUMBER(LOAD(A, a, index * stride));
    if (is_better(other, index, value, best)) {
      value = other;
      best = index;
    }
  }
  values[mine] = value;
  places[mine] = best;
  BARRIER();
  for (int half_lanes = LANES / 2; half_lanes > 0; half_lanes /= 2) {
    if (lane < half_lanes) {
      int theirs = mine + half_lanes;
      if (is_better(values[theirs], places[theirs], values[mine], places[mine])) {
        values[mine] = values[theirs];
        places[mine] = places[theirs];
      }
    }
    BARRIER();
  }
  if (lane == 0 && line < lines) STORE(RESULT, places[mine], out, (int64_t)line * chunks + unit % chunks);
}

#endif

KERNEL position_columns(OPERAND(STORAGE(RESULT), out), CONST_OPERAND(STORAGE(A), a), Walk kept, int lines, int length,
                        int chunks, int64_t stride) {
  OPEN(STORAGE(RESULT), out);
  OPEN_CONST(STORAGE(A), a);
  int line = GROUP_ID(0) / chunks * LOCAL_SIZE(0) + LOCAL_ID(0);
  if (line >= lines) return;
  int chunk = GROUP_ID(0) % chunks, best = chunk * CHUNK;
  int last = min(best + CHUNK, length);
  a += place_of(&kept, 1, 0, line);
  number value = AS_NUMBER(LOAD(A, a, best * stride));
  for (int index = best + 1; index < last; index++) {
    number other = AS_NUMBER(LOAD(A, a, index * stride));
    if (is_better(other, index, value, best)) {
      value = other;
      best = index;
    }
  }
  STORE(RESULT, best, out, (int64_t)line * chunks + chunk);
}

KERNEL best_of_parts(OPERAND(int64_t, out), CONST_OPERAND(int, parts), CONST_OPERAND(STORAGE(A), a), Walk kept,
                     int lines, int chunks, int64_t stride) {
  OPEN(int64_t, out);
  OPEN_CONST(int, parts);
  OPEN_CONST(STORAGE(A), a);
  int line = GROUP_ID(0) * LOCAL_SIZE(0) + LOCAL_ID(0);
  if (line >= lines) return;
  a += place_of(&kept, 1, 0, line);
  parts += (int64_t)line * chunks;
  int best = parts[0];
  for (int chunk = 1; chunk < chunks; chunk++) {
    int index = parts[chunk];
    if (is_better(AS_NUMBER(LOAD(A, a, index * stride)), index, AS_NUMBER(LOAD(A, a, best * stride)), best))
      best = index;
  }
  out[line] = best;
}
