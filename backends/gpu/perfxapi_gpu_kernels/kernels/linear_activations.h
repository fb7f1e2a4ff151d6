/* Activations as products take them: rounded to codes of at most LEVELS (0: as they are) in blocks of 32 columns, rows
 * filled with zeros up to `padded` columns, a multiple of 32; and the sum of each 16 of them.
 *
 * On a processor (WIDTH 16) a work-item is a block, as two vectors; on a GPU a work-group is GROUP blocks, a work-item
 * a number. */
#include "vectors.h"

#define BLOCK 32
#define SUM_COLUMNS 16

/* Magnitudes as whole numbers, which have the order of the numbers: infinity, then NaN, are the largest. */
#define MAGNITUDES(values) (AS_UINTS(values) & 0x7fffffffu)

/* Numbers of a block, of which the largest magnitude is given, as codes times their scale. What is not a number has
 * code 0, and a scale that makes it one no more. */
DEVICE floats rounded_values(floats values, uint32_t magnitude) {
#if LEVELS
  float largest = AS_FLOAT(magnitude);
  float inverse = largest > 0 ? (float)LEVELS / largest : 0.0f, scale = largest / (float)LEVELS;
  floats codes = NUMBERS_OR_ZEROS(rint(values * inverse));
  return fmin(fmax(codes, (floats)(-(float)LEVELS)), (floats)((float)LEVELS)) * scale;
#else
  return values;
#endif
}

#if WIDTH == 16
DEVICE uint largest_of(uint16 values) {
  uint8 by_8 = max(values.lo, values.hi);
  uint4 by_4 = max(by_8.lo, by_8.hi);
  uint2 by_2 = max(by_4.lo, by_4.hi);
  return max(by_2.x, by_2.y);
}

DEVICE float sum_of(float16 values) {
  float8 by_8 = values.lo + values.hi;
  float4 by_4 = by_8.lo + by_8.hi;
  return (by_4.x + by_4.z) + (by_4.y + by_4.w);
}

/* Block number `place` of all tokens' blocks. */
DEVICE void prepare_block(GLOBAL const float* x, GLOBAL float* rounded, GLOBAL float* sums, int64_t place, int columns,
                          int blocks, int64_t row_stride, int64_t column_stride) {
  int begin = (int)(place % blocks) * BLOCK;
  x += place / blocks * row_stride;
  floats values[2];
  if (column_stride == 1 && begin + BLOCK <= columns) {
    values[0] = LOAD_LANES(x + begin);
    values[1] = LOAD_LANES(x + begin + 16);
  } else {
    float numbers[BLOCK];
    for (int i = 0; i < BLOCK; i++) numbers[i] = begin + i < columns ? x[(begin + i) * column_stride] : 0.0f;
    values[0] = LOAD_LANES(numbers);
    values[1] = LOAD_LANES(numbers + 16);
  }
  uint32_t magnitude = largest_of(max(MAGNITUDES(values[0]), MAGNITUDES(values[1])));
  for (int half_block = 0; half_block < 2; half_block++) {
    floats prepared = rounded_values(values[half_block], magnitude);
    STORE_LANES(prepared, rounded + place * BLOCK + half_block * 16);
    sums[place * 2 + half_block] = sum_of(prepared);
  }
}

KERNEL_OF(1, 1, 1)
prepare_activations(CONST_OPERAND(float, x), OPERAND(float, rounded), OPERAND(float, sums), int tokens, int columns,
                    int padded, int64_t row_stride, int64_t column_stride) {
  OPEN_CONST(float, x);
  OPEN(float, rounded);
  OPEN(float, sums);
  int blocks = padded / BLOCK;
  int64_t place = (int64_t)GROUP_ID(0) * GROUP, stop = min(place + GROUP, (int64_t)tokens * blocks);
  for (; place < stop; place++) prepare_block(x, rounded, sums, place, columns, blocks, row_stride, column_stride);
}
#else
KERNEL_OF(BLOCK, GROUP, 1)
prepare_activations(CONST_OPERAND(float, x), OPERAND(float, rounded), OPERAND(float, sums), int tokens, int columns,
                    int padded, int64_t row_stride, int64_t column_stride) {
  OPEN_CONST(float, x);
  OPEN(float, rounded);
  OPEN(float, sums);
  LOCAL_ARRAY(uint32_t, scratch, BLOCK* GROUP);
  LOCAL uint32_t* own = scratch + LOCAL_ID(1) * BLOCK;
  int64_t place = (int64_t)GROUP_ID(0) * GROUP + LOCAL_ID(1);
  int token = (int)(place / (padded / BLOCK)), lane = LOCAL_ID(0);
  int column = (int)(place % (padded / BLOCK)) * BLOCK + lane;
  float value = token < tokens && column < columns ? x[token * row_stride + column * column_stride] : 0.0f;
  own[lane] = MAGNITUDES(value);
  BARRIER();
  for (int step = BLOCK / 2; step > 0; step /= 2) {
    if (lane < step) own[lane] = max(own[lane], own[lane + step]);
    BARRIER();
  }
  float prepared = rounded_values(value, own[0]);
  BARRIER();
  own[lane] = AS_UINT(prepared);
  BARRIER();
  for (int step = SUM_COLUMNS / 2; step > 0; step /= 2) {
    if (lane % SUM_COLUMNS < step) own[lane] = AS_UINT(AS_FLOAT(own[lane]) + AS_FLOAT(own[lane + step]));
    BARRIER();
  }
  if (token >= tokens) return;
  rounded[place * BLOCK + lane] = prepared;
  if (lane % SUM_COLUMNS == 0) sums[(place * BLOCK + lane) / SUM_COLUMNS] = AS_FLOAT(own[lane]);
}
#endif
