/* Products of activations with up to three packed weights: y [tokens, rows] = x [tokens, columns] times the transpose
 * of each. The tiles of the weights are numbered one after another. */
#include "linear_group.h"

#define WEIGHT_PARAMETERS(n) , CONST_OPERAND(uchar, packed##n), OPERAND(float, y##n), int rows##n
#define MULTIPLY_WEIGHT(n)                                                                       \
  if (group >= 0 && group < (rows##n + LANES * TILES - 1) / (LANES * TILES)) {                   \
    OPEN_CONST(uchar, packed##n);                                                                \
    OPEN(float, y##n);                                                                           \
    open_tiles(FORMAT##n, packed##n, rows##n, columns, group * TILES, tiles);                    \
    multiply_tiles(FORMAT##n, tiles, x_rows, sum_rows, columns, LOCAL_ID(1), totals);            \
    if (join_slices(scratch, totals)) store_tiles(totals, y##n, rows##n, group * TILES, tokens); \
  }                                                                                              \
  group -= (rows##n + LANES * TILES - 1) / (LANES * TILES);

KERNEL_OF(LANES / WIDTH, SLICES, 1)
linear(CONST_OPERAND(float, x), CONST_OPERAND(float, sums), int tokens,
       int columns WEIGHT_PARAMETERS(0)
#if WEIGHTS > 1
           WEIGHT_PARAMETERS(1)
#endif
#if WEIGHTS > 2
               WEIGHT_PARAMETERS(2)
#endif
) {
  SLICE_SCRATCH;
  OPEN_ACTIVATIONS;
  int group = GROUP_ID(1);
  Tile tiles[TILES];
  floats totals[TILES][TOKENS];
  MULTIPLY_WEIGHT(0)
#if WEIGHTS > 1
  MULTIPLY_WEIGHT(1)
#endif
#if WEIGHTS > 2
  MULTIPLY_WEIGHT(2)
#endif
}
