/* What kernels of products have in common: which tokens and tiles a work-group multiplies, and where its results go.
 *
 * Axis 0 of the groups is groups of TOKENS tokens, so that a tile stays in cache for all of them; axis 1 is groups of
 * TILES tiles. A work-group is a row of lanes (axis 0) for each of SLICES slices (axis 1). */
#include "linear_tile.h"

/* Where each token of a work-item lies. Those past the last are the last one again, and are not stored. */
DEVICE void open_tokens(GLOBAL const float* x, GLOBAL const float* sums, int tokens, int columns,
                        GLOBAL const float** x_rows, GLOBAL const float** sum_rows) {
#pragma unroll
  for (int token = 0; token < TOKENS; token++) {
    int64_t row = min(GROUP_ID(0) * TOKENS + token, tokens - 1);
    x_rows[token] = x + row * columns;
    sum_rows[token] = sums + row * (columns / SUM_COLUMNS);
  }
}

DEVICE void open_tiles(FORMAT_PARAMETERS, GLOBAL const uchar* packed, int rows, int columns, int first, Tile* tiles) {
  int num_tiles = (rows + LANES - 1) / LANES;
#pragma unroll
  for (int tile = 0; tile < TILES; tile++)
    tiles[tile] =
        tile_of(FORMAT_ARGUMENTS, packed, num_tiles, columns, min(first + tile, num_tiles - 1), LOCAL_ID(0) * WIDTH);
}

/* Adds up what the slices of a group found; true where this work-item has the sum. */
DEVICE int join_slices(LOCAL float* scratch, floats totals[TILES][TOKENS]) {
#if SLICES > 1
  int lane = LOCAL_ID(0), slice = LOCAL_ID(1);
  BARRIER();
  for (int tile = 0; tile < TILES; tile++)
    for (int token = 0; token < TOKENS; token++)
      scratch[((slice * TILES + tile) * TOKENS + token) * LANES + lane] = totals[tile][token];
  BARRIER();
  for (int other = 1; other < SLICES && slice == 0; other++)
    for (int tile = 0; tile < TILES; tile++)
      for (int token = 0; token < TOKENS; token++)
        totals[tile][token] += scratch[((other * TILES + tile) * TOKENS + token) * LANES + lane];
  return slice == 0;
#else
  return 1;
#endif
}

/* Stores what lies within [tokens, rows]. */
DEVICE void store_tiles(floats totals[TILES][TOKENS], GLOBAL float* y, int rows, int first_tile, int tokens) {
  int first = GROUP_ID(0) * TOKENS, row = first_tile * LANES + LOCAL_ID(0) * WIDTH;
  y += (int64_t)first * rows + row;
  if (first + TOKENS <= tokens && (first_tile + TILES) * LANES <= rows) {
#pragma unroll
    for (int token = 0; token < TOKENS; token++)
#pragma unroll
      for (int tile = 0; tile < TILES; tile++)
        STORE_LANES(totals[tile][token], y + (int64_t)token * rows + tile * LANES);
    return;
  }
  float numbers[TILES * TOKENS * WIDTH]; /* indexed by variables, as `totals` is not: so that those stay in registers */
#pragma unroll
  for (int tile = 0; tile < TILES; tile++)
#pragma unroll
    for (int token = 0; token < TOKENS; token++)
      STORE_LANES(totals[tile][token], numbers + (tile * TOKENS + token) * WIDTH);
  for (int tile = 0; tile < TILES; tile++)
    for (int token = 0; token < TOKENS && first + token < tokens; token++)
      for (int i = 0; i < WIDTH && row + tile * LANES + i < rows; i++)
        y[(int64_t)token * rows + tile * LANES + i] = numbers[(tile * TOKENS + token) * WIDTH + i];
}

#if SLICES > 1
#define SLICE_SCRATCH LOCAL_ARRAY(float, scratch, SLICES * TILES * TOKENS * LANES)
#else
#define SLICE_SCRATCH LOCAL float* scratch = 0
#endif

#define OPEN_ACTIVATIONS                                 \
  OPEN_CONST(float, x);                                  \
  OPEN_CONST(float, sums);                               \
  GLOBAL const float *x_rows[TOKENS], *sum_rows[TOKENS]; \
  open_tokens(x, sums, tokens, columns, x_rows, sum_rows)
