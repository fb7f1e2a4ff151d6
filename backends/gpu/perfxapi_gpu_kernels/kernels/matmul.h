/* Products of matrices: a work-group computes a tile of the result, from tiles of the operands in local memory.
 *
 * Of the tile, work-item (x, y) has the rows y, y + GROUP_ROWS, ... (ITEM_ROWS of them) and the columns x,
 * x + GROUP_COLUMNS, ... (ITEM_COLUMNS). An element is one chain of multiplications and additions along the inner axis,
 * whatever the tile: it does not depend on how many rows or columns there are. */

#include "functions.h"
#include "product.h"
#include "walk.h"

#if IS_REAL
#define MULTIPLY_ADD(a, b, sum) fma(a, b, sum)
#else
#define MULTIPLY_ADD(a, b, sum) apply_add(apply_multiply(a, b), sum)
#endif

#define TILE_ROWS (GROUP_ROWS * ITEM_ROWS)
#define TILE_COLUMNS (GROUP_COLUMNS * ITEM_COLUMNS)

KERNEL_OF(GROUP_COLUMNS, GROUP_ROWS, 1)
matmul(OPERAND(STORAGE(RESULT), out), CONST_OPERAND(STORAGE(A), a), CONST_OPERAND(STORAGE(B), b), Walk batches,
       Product sizes) {
  OPEN(STORAGE(RESULT), out);
  OPEN_CONST(STORAGE(A), a);
  OPEN_CONST(STORAGE(B), b);
  LOCAL_ARRAY(number, a_tile, TILE_ROWS * DEPTH);
  LOCAL_ARRAY(number, b_tile, DEPTH * TILE_COLUMNS);
  int x = LOCAL_ID(0), y = LOCAL_ID(1), id = y * GROUP_COLUMNS + x;
  int tiles = sizes.row_tiles * sizes.column_tiles;
  int batch = GROUP_ID(0) / tiles, tile = GROUP_ID(0) % tiles;
  int row = tile / sizes.column_tiles * TILE_ROWS, column = tile % sizes.column_tiles * TILE_COLUMNS;
  out += place_of(&batches, 0, 0, batch);
  a += place_of(&batches, 1, 0, batch) + row * sizes.a_row;
  b += place_of(&batches, 2, 0, batch) + column * sizes.b_column;
  int rows = min(sizes.rows - row, TILE_ROWS), columns = min(sizes.columns - column, TILE_COLUMNS);

  number sums[ITEM_ROWS][ITEM_COLUMNS];
  for (int i = 0; i < ITEM_ROWS; i++)
    for (int j = 0; j < ITEM_COLUMNS; j++) sums[i][j] = 0;
  for (int first = 0; first < sizes.inner; first += DEPTH) {
    int depth = min(sizes.inner - first, DEPTH);
    /* neighbors in memory go to neighboring work-items; what is past an edge is 0 */
    for (int at = id; at < TILE_ROWS * DEPTH; at += GROUP_COLUMNS * GROUP_ROWS) {
      int i = A_BY_ROWS ? at / DEPTH : at % TILE_ROWS, k = A_BY_ROWS ? at % DEPTH : at / TILE_ROWS;
      a_tile[i * DEPTH + k] =
          i < rows && k < depth ? AS_NUMBER(LOAD(A, a, i * sizes.a_row + (first + k) * sizes.a_column)) : (number)0;
    }
    for (int at = id; at < DEPTH * TILE_COLUMNS; at += GROUP_COLUMNS * GROUP_ROWS) {
      int k = B_BY_ROWS ? at / TILE_COLUMNS : at % DEPTH, j = B_BY_ROWS ? at % TILE_COLUMNS : at / DEPTH;
      b_tile[k * TILE_COLUMNS + j] =
          k < depth && j < columns ? AS_NUMBER(LOAD(B, b, (first + k) * sizes.b_row + j * sizes.b_column)) : (number)0;
    }
    BARRIER();
    for (int k = 0; k < depth; k++) {
      number factors[ITEM_COLUMNS];
      for (int j = 0; j < ITEM_COLUMNS; j++) factors[j] = b_tile[k * TILE_COLUMNS + j * GROUP_COLUMNS + x];
      for (int i = 0; i < ITEM_ROWS; i++) {
        number factor = a_tile[(i * GROUP_ROWS + y) * DEPTH + k];
        for (int j = 0; j < ITEM_COLUMNS; j++) sums[i][j] = MULTIPLY_ADD(factor, factors[j], sums[i][j]);
      }
    }
    BARRIER();
  }

  for (int i = 0; i < ITEM_ROWS; i++)
    for (int j = 0; j < ITEM_COLUMNS; j++) {
      int y_place = i * GROUP_ROWS + y, x_place = j * GROUP_COLUMNS + x;
      if (y_place < rows && x_place < columns)
        STORE(RESULT, sums[i][j], out, (int64_t)(row + y_place) * sizes.columns + column + x_place);
    }
}
