/* y[i] = scale * table[tokens[i]], out of a packed table. A work-item decodes a word of a row. */
#include "linear_tile.h"

KERNEL_OF(GROUP, 1, 1)
embedding(CONST_OPERAND(int, tokens), CONST_OPERAND(uchar, packed), OPERAND(float, y), int rows, int columns,
          int padded, float scale, FAULT_PARAMETERS) {
  OPEN_CONST(int, tokens);
  OPEN_CONST(uchar, packed);
  OPEN(float, y);
  int row = tokens[GROUP_ID(0)], word = GROUP_ID(1) * GROUP + LOCAL_ID(0);
  const int in_word = columns_of_format(FORMAT0);
  if (row < 0 || row >= rows) {
    if (LOCAL_ID(0) == 0) FAULT();
    return;
  }
  int first = word * in_word;
  if (first >= columns) return;
  Tile tile = tile_of(FORMAT0, packed, (rows + LANES - 1) / LANES, padded, row / LANES, row % LANES);
  y += (int64_t)GROUP_ID(0) * columns + first;
  for (int column = 0; column < in_word && first + column < columns; column++)
    y[column] = scale * number_at(FORMAT0, &tile, word, column);
}
