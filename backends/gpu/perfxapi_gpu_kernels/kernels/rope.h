/* Rotary embedding: the table of cosines and sines, the rotation, and the rotation of normalized heads.
 *
 * x is [tokens, heads, dim] with contiguous dim; a row of the table holds the cosines, then the sines, of `half`
 * angles. Pair p is the elements p and p + half of a head, or where INTERLEAVED 2p and 2p + 1. */

#include "lanes.h"

#if INTERLEAVED /* WIDTH 1 alone */
#define FIRST_OF(pair) (2 * (pair))
#define SECOND 1
#else
#define FIRST_OF(pair) (pair)
#define SECOND half_size
#endif
#define FOR_PAIRS(pair) for (int pair = FIRST_LANE; pair < half_size; pair += LANES)
#define LEFT(dtype, pointer) LOAD_PART(dtype, pointer, FIRST_OF(pair), half_size)
#define RIGHT(dtype, pointer) LOAD_PART(dtype, (pointer) + SECOND, FIRST_OF(pair), half_size)

/* Turns a pair by its angle in the table and writes it. */
#define TURN(left, right)                                                               \
  {                                                                                     \
    floats cosine = LOAD_PART(float32, table, pair, half_size);                         \
    floats sine = LOAD_PART(float32, table + half_size, pair, half_size);               \
    STORE_PART(fma(left, cosine, -(right * sine)), y, FIRST_OF(pair), half_size);       \
    STORE_PART(fma(right, cosine, left * sine), y + SECOND, FIRST_OF(pair), half_size); \
  }

KERNEL rope_table(CONST_OPERAND(int, positions), CONST_OPERAND(float, frequencies), OPERAND(float, table),
                  int half_size, float scale) {
  OPEN_CONST(int, positions);
  OPEN_CONST(float, frequencies);
  OPEN(float, table);
  int item = GROUP_ID(1) * LOCAL_SIZE(0) + LOCAL_ID(0);
  int64_t token = GROUP_ID(0);
  if (item >= half_size) return;
  float angle = (float)positions[token] * frequencies[item];
  table += token * 2 * half_size;
  table[item] = cos(angle) * scale;
  table[half_size + item] = sin(angle) * scale;
}

/* A work-group is one head of one token. */
KERNEL_OF(GROUP, 1, 1)
rope(CONST_OPERAND(float, x), CONST_OPERAND(float, table), OPERAND(float, y), int dim, int half_size,
     int64_t token_stride, int64_t head_stride, int64_t table_stride) {
  OPEN_CONST(float, x);
  OPEN_CONST(float, table);
  OPEN(float, y);
  int64_t token = GROUP_ID(0), head = GROUP_ID(1);
  x += token * token_stride + head * head_stride;
  y += (token * NUM_GROUPS(1) + head) * dim;
  table += token * table_stride;
  FOR_PAIRS(pair) {
    floats left = LEFT(float32, x), right = RIGHT(float32, x);
    TURN(left, right);
  }
  for (int item = 2 * half_size + LOCAL_ID(0); item < dim; item += GROUP) y[item] = x[item];
}

/* rope(rms_norm(x) * weight): a work-group is one head of one token, and all of it is rotated. */
KERNEL_OF(GROUP, 1, 1)
norm_rope(CONST_OPERAND(float, x), CONST_OPERAND(STORAGE(WEIGHT), weight), CONST_OPERAND(float, table),
          OPERAND(float, y), int half_size, int64_t token_stride, int64_t head_stride, int64_t table_stride,
          float eps) {
  OPEN_CONST(float, x);
  OPEN_CONST(STORAGE(WEIGHT), weight);
  OPEN_CONST(float, table);
  OPEN(float, y);
  LOCAL_ARRAY(float, scratch, GROUP);
  int64_t token = GROUP_ID(0), head = GROUP_ID(1);
  x += token * token_stride + head * head_stride;
  y += (token * NUM_GROUPS(1) + head) * 2 * half_size;
  table += token * table_stride;
  floats sum = BROADCAST(0.0f);
  FOR_PAIRS(pair) {
    floats left = LEFT(float32, x), right = RIGHT(float32, x);
    sum = fma(left, left, sum);
    sum = fma(right, right, sum);
  }
  float factor = 1.0f / sqrt(TOTAL(sum, scratch) / (float)(2 * half_size) + eps);
  FOR_PAIRS(pair) {
    floats left = LEFT(float32, x) * factor * LEFT(WEIGHT, weight);
    floats right = RIGHT(float32, x) * factor * RIGHT(WEIGHT, weight);
    TURN(left, right);
  }
}
