/* Reductions of lines: sums, products and extremes.
 *
 * A line is cut into chunks of CHUNK elements. Of a chunk, lane l of LANES (16) combines elements l, l + LANES, ... in
 * this order, and a tree combines the lanes; the chunks' results are a line that is reduced in turn. Both kernels do
 * just that, so that a result depends neither on which of them runs nor on the number of lines.
 *
 * `kept` walks over the lines (operand 0 the result, 1 the source), `reduced` along one. A is the source's dtype. */

#include "functions.h"
#include "walk.h"

/* Where an element of a line is: STRIDE is 1, 0 for a single stride, or -1 where lines go along several axes. */
#define ALONG(index) (STRIDE == 1 ? (index) : STRIDE == 0 ? (index) * walk.strides[1][0] : place_of(&walk, 1, 0, index))

#if WIDTH == LANES
/* The lanes are one vector: a work-item has a chunk. */
KERNEL reduce_rows(OPERAND(STORAGE(RESULT), out), CONST_OPERAND(float, a), Walk kept, Walk walk, int lines, int length,
                   int chunks) {
  OPEN(STORAGE(RESULT), out);
  OPEN_CONST(float, a);
  int unit = GROUP_ID(0) * LOCAL_SIZE(0) + LOCAL_ID(0), line = unit / chunks, first = unit % chunks * CHUNK;
  if (line >= lines) return;
  a += place_of(&kept, 1, 0, line);
  int count = min(length - first, CHUNK), index = 0;
  numbers result = IDENTITY;
  if (STRIDE == 1)
    for (; index + LANES <= count; index += LANES) result = FUNCTION(result, LOAD_NUMBERS(a + first + index));
  for (; index < count; index += LANES) {
    float values[LANES];
    for (int lane = 0; lane < LANES; lane++)
      values[lane] = index + lane < count ? a[ALONG(first + index + lane)] : (float)IDENTITY;
    result = FUNCTION(result, LOAD_NUMBERS(values));
  }
  float lanes[2 * LANES];
  for (int half_lanes = LANES / 2; half_lanes > 0; half_lanes /= 2) {
    STORE_NUMBERS(result, lanes);
    STORE_NUMBERS(result, lanes + LANES);
    result = FUNCTION(result, LOAD_NUMBERS(lanes + half_lanes));
  }
  STORE_NUMBERS(result, lanes);
  STORE(RESULT, lanes[0], out, unit);
}
#else
/* Lanes are work-items side by side, which suits lines whose elements are: each row of work-items has a chunk. */
KERNEL_OF(LANES, HEIGHT, 1)
reduce_rows(OPERAND(STORAGE(RESULT), out), CONST_OPERAND(STORAGE(A), a), Walk kept, Walk walk, int lines, int length,
            int chunks) {
  OPEN(STORAGE(RESULT), out);
  OPEN_CONST(STORAGE(A), a);
  LOCAL_ARRAY(number, scratch, LANES * HEIGHT);
  int lane = LOCAL_ID(0);
  int unit = GROUP_ID(0) * HEIGHT + LOCAL_ID(1);
  int line = unit / chunks, first = unit % chunks * CHUNK;
  int count = line < lines ? min(length - first, CHUNK) : 0;
  int steps = (min(length, CHUNK) + LANES - 1) / LANES;
  int mine = LOCAL_ID(1) * LANES + lane;
  number result = IDENTITY;
  if (count > 0) a += place_of(&kept, 1, 0, line);
  for (int step = 0; step < steps; step++) {
    int index = step * LANES + lane;
    if (index < count) result = FUNCTION(result, (number)LOAD(A, a, ALONG(first + index)));
  }
  scratch[mine] = result;
  BARRIER();
  for (int half_lanes = LANES / 2; half_lanes > 0; half_lanes /= 2) {
    if (lane < half_lanes) scratch[mine] = FUNCTION(scratch[mine], scratch[mine + half_lanes]);
    BARRIER();
  }
  if (lane == 0 && line < lines) STORE(RESULT, scratch[mine], out, (int64_t)line * chunks + unit % chunks);
}

#endif

#if WIDTH == 1
#define READ(place) AS_NUMBER(LOAD(A, a, place))
#else
#define READ(place) LOAD_NUMBERS(a + (place))
#endif

/* A work-item has the chunks of WIDTH lines to itself, which suits lines that lie side by side. The last ones may have
 * lines of their neighbor too, where WIDTH is not 1: the lines are at least that many then. */
KERNEL reduce_columns(OPERAND(STORAGE(RESULT), out), CONST_OPERAND(STORAGE(A), a), Walk kept, Walk walk, int columns,
                      int rows, int tiles, int length, int chunks) {
  OPEN(STORAGE(RESULT), out);
  OPEN_CONST(STORAGE(A), a);
  int group = GROUP_ID(0) / chunks, chunk = GROUP_ID(0) % chunks;
  int column = (group % tiles * LOCAL_SIZE(0) + LOCAL_ID(0)) * WIDTH;
  int row = group / tiles * LOCAL_SIZE(1) + LOCAL_ID(1);
  if (column >= columns || row >= rows) return;
  column = min(column, columns - WIDTH);
  a += row_start(&kept, 1, row) + (KEPT_STEP == 1 ? column : column * kept.strides[1][0]);
  int first = chunk * CHUNK, count = min(length - first, CHUNK);
  numbers lanes[LANES];
  for (int lane = 0; lane < LANES; lane++) lanes[lane] = IDENTITY;
  int index = 0;
  for (; index + LANES <= count; index += LANES)
#pragma unroll
    for (int lane = 0; lane < LANES; lane++) lanes[lane] = FUNCTION(lanes[lane], READ(ALONG(first + index + lane)));
  for (int lane = 0; lane < LANES; lane++)
    if (index + lane < count) lanes[lane] = FUNCTION(lanes[lane], READ(ALONG(first + index + lane)));
  for (int half_lanes = LANES / 2; half_lanes > 0; half_lanes /= 2)
    for (int lane = 0; lane < half_lanes; lane++) lanes[lane] = FUNCTION(lanes[lane], lanes[lane + half_lanes]);
  int64_t place = ((int64_t)row * columns + column) * chunks + chunk;
#if WIDTH == 1
  STORE(RESULT, lanes[0], out, place);
#else
  write_numbers(lanes[0], out + place, chunks, WIDTH);
#endif
}
