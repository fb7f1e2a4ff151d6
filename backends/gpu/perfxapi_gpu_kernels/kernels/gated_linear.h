/* activation(x times the transpose of `gate`) * (x times the transpose of `up`), for weights of the same shape. */
#include "linear_group.h"

/* gelu_tanh(x) = x * sigmoid(2 t) with t = sqrt(2 / pi) (x + 0.044715 x^3); silu(x) = x * sigmoid(x). */
DEVICE floats gelu_tanh(floats x) { return x / (1.0f + exp(-1.5957691216f * fma(0.044715f * x * x, x, x))); }
DEVICE floats silu(floats x) { return x / (1.0f + exp(-x)); }

KERNEL_OF(LANES / WIDTH, SLICES, 1)
gated_linear(CONST_OPERAND(float, x), CONST_OPERAND(float, sums), int tokens, int columns, CONST_OPERAND(uchar, gate),
             CONST_OPERAND(uchar, up), OPERAND(float, y), int rows) {
  SLICE_SCRATCH;
  OPEN_ACTIVATIONS;
  OPEN_CONST(uchar, gate);
  OPEN_CONST(uchar, up);
  OPEN(float, y);
  int first = GROUP_ID(1) * TILES;
  Tile tiles[TILES];
  floats gates[TILES][TOKENS], ups[TILES][TOKENS];
  open_tiles(FORMAT0, gate, rows, columns, first, tiles);
  multiply_tiles(FORMAT0, tiles, x_rows, sum_rows, columns, LOCAL_ID(1), gates);
  open_tiles(FORMAT1, up, rows, columns, first, tiles);
  multiply_tiles(FORMAT1, tiles, x_rows, sum_rows, columns, LOCAL_ID(1), ups);
  join_slices(scratch, gates);
  if (!join_slices(scratch, ups)) return;
#pragma unroll
  for (int tile = 0; tile < TILES; tile++)
#pragma unroll
    for (int token = 0; token < TOKENS; token++) gates[tile][token] = ACTIVATION(gates[tile][token]) * ups[tile][token];
  store_tiles(gates, y, rows, first, tokens);
}
