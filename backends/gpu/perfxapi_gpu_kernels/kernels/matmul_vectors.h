/* Products of matrices of float32 on processors: a work-item computes a tile of the result, ITEM_ROWS rows at a time,
 * from a part of b that it first lays out as it is read (Goto and van de Geijn, "Anatomy of High-Performance Matrix
 * Multiplication", 2008). The sums wait in the result between parts of the inner axis.
 *
 * As in matmul.h an element is one chain of multiplications and additions along the inner axis. */

#include "functions.h"
#include "product.h"
#include "walk.h"

#define TILE_COLUMNS (2 * WIDTH)

/* Numbers of b from row `first` on, `depth` rows of TILE_COLUMNS; what is past the last column is 0. */
DEVICE void lay_out(LOCAL float* tile, GLOBAL const float* b, Product sizes, int depth, int columns) {
  if (sizes.b_column == 1 && columns == TILE_COLUMNS) {
    for (int k = 0; k < depth; k++)
      for (int j = 0; j < TILE_COLUMNS; j += WIDTH)
        STORE_NUMBERS(LOAD_NUMBERS(b + k * sizes.b_row + j), tile + k * TILE_COLUMNS + j);
    return;
  }
  for (int j = 0; j < TILE_COLUMNS; j++)
    for (int k = 0; k < depth; k++)
      tile[k * TILE_COLUMNS + j] = j < columns ? b[k * sizes.b_row + j * sizes.b_column] : 0.0f;
}

KERNEL_OF(1, 1, 1)
matmul(OPERAND(float, out), CONST_OPERAND(float, a), CONST_OPERAND(float, b), Walk batches, Product sizes) {
  OPEN(float, out);
  OPEN_CONST(float, a);
  OPEN_CONST(float, b);
  LOCAL_ARRAY(float, b_tile, DEPTH* TILE_COLUMNS);
  int tiles = sizes.row_tiles * sizes.column_tiles;
  int batch = GROUP_ID(0) / tiles, tile = GROUP_ID(0) % tiles;
  int row = tile % sizes.row_tiles * TILE_ROWS, column = tile / sizes.row_tiles * TILE_COLUMNS;
  int rows = min(sizes.rows - row, TILE_ROWS), columns = min(sizes.columns - column, TILE_COLUMNS);
  out += place_of(&batches, 0, 0, batch) + (int64_t)row * sizes.columns + column;
  a += place_of(&batches, 1, 0, batch) + row * sizes.a_row;
  b += place_of(&batches, 2, 0, batch) + column * sizes.b_column;
  float parts[ITEM_ROWS * TILE_COLUMNS]; /* sums as they lie in the result; past its edges anything */

  for (int first = 0; first == 0 || first < sizes.inner; first += DEPTH) {
    int depth = min(sizes.inner - first, DEPTH);
    lay_out(b_tile, b + first * sizes.b_row, sizes, depth, columns);
    for (int block = 0; block < rows; block += ITEM_ROWS) {
      int present = min(rows - block, ITEM_ROWS);
      GLOBAL const float* factors[ITEM_ROWS]; /* the last row once more in place of those that are lacking */
      for (int i = 0; i < ITEM_ROWS; i++)
        factors[i] = a + (block + min(i, present - 1)) * sizes.a_row + first * sizes.a_column;
      GLOBAL float* corner = out + (int64_t)block * sizes.columns;
      if (first > 0)
        for (int i = 0; i < present; i++)
          for (int j = 0; j < columns; j++) parts[i * TILE_COLUMNS + j] = corner[(int64_t)i * sizes.columns + j];
      numbers sums[ITEM_ROWS][2];
      for (int i = 0; i < ITEM_ROWS; i++)
        for (int j = 0; j < 2; j++)
          sums[i][j] = first > 0 ? LOAD_NUMBERS(parts + i * TILE_COLUMNS + j * WIDTH) : (numbers)0;
      for (int k = 0; k < depth; k++) {
        numbers low = LOAD_NUMBERS(b_tile + k * TILE_COLUMNS), high = LOAD_NUMBERS(b_tile + k * TILE_COLUMNS + WIDTH);
        for (int i = 0; i < ITEM_ROWS; i++) {
          numbers factor = factors[i][k * sizes.a_column];
          sums[i][0] = fma(factor, low, sums[i][0]);
          sums[i][1] = fma(factor, high, sums[i][1]);
        }
      }
      for (int i = 0; i < ITEM_ROWS; i++)
        for (int j = 0; j < 2; j++) STORE_NUMBERS(sums[i][j], parts + i * TILE_COLUMNS + j * WIDTH);
      for (int i = 0; i < present; i++)
        for (int j = 0; j < columns; j++) corner[(int64_t)i * sizes.columns + j] = parts[i * TILE_COLUMNS + j];
    }
  }
}
