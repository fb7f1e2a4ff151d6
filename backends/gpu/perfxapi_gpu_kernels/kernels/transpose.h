/* Copies in which rows become columns. The walk's operands: the result, contiguous along axis 0; the source, contiguous
 * along axis 1. A work-group has a tile of TILE by TILE elements, and TILE by TILE_HEIGHT work-items. */

#include "elements.h"
#include "walk.h"

KERNEL_OF(TILE, TILE_HEIGHT, 1)
transpose(OPERAND(STORAGE(KIND), out), CONST_OPERAND(STORAGE(KIND), a), Walk walk, int column_tiles, int row_tiles) {
  OPEN(STORAGE(KIND), out);
  OPEN_CONST(STORAGE(KIND), a);
  LOCAL_ARRAY(STORAGE(KIND), tile, TILE * (TILE + 1)); /* one more for each row, so that a column lies in all banks */
  int group = GROUP_ID(0), x = LOCAL_ID(0);
  int column = group % column_tiles * TILE, row = group / column_tiles % row_tiles * TILE;
  int other = group / column_tiles / row_tiles;
  out += place_of(&walk, 0, 2, other) + column + row * walk.strides[0][1];
  a += place_of(&walk, 1, 2, other) + row + column * walk.strides[1][0];
  int columns = min(walk.sizes[0] - column, TILE), rows = min(walk.sizes[1] - row, TILE);
  for (int y = LOCAL_ID(1); y < TILE; y += TILE_HEIGHT)
    if (x < rows && y < columns) tile[y * (TILE + 1) + x] = a[x + y * walk.strides[1][0]];
  BARRIER();
  for (int y = LOCAL_ID(1); y < TILE; y += TILE_HEIGHT)
    if (x < columns && y < rows) out[x + y * walk.strides[0][1]] = tile[x * (TILE + 1) + y];
}
