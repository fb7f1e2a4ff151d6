/* Where values belong among sorted edges, of which NaN is the largest. The walk's operands: the result, the values. */

#include "elements.h"
#include "walk.h"

DEVICE int is_below(number a, number b) { return a < b || (b != b && a == a); }

KERNEL searchsorted(OPERAND(int64_t, out), CONST_OPERAND(STORAGE(A), edges), CONST_OPERAND(STORAGE(B), values),
                    Walk walk, int64_t columns, int rows, int tiles, int64_t count, int64_t stride) {
  OPEN(int64_t, out);
  OPEN_CONST(STORAGE(A), edges);
  OPEN_CONST(STORAGE(B), values);
  int64_t column = (int64_t)(GROUP_ID(0) % tiles) * LOCAL_SIZE(0) + LOCAL_ID(0);
  int row = GROUP_ID(0) / tiles * LOCAL_SIZE(1) + LOCAL_ID(1);
  if (column >= columns || row >= rows) return;
  number value = AS_NUMBER(LOAD(B, values, row_start(&walk, 1, row) + column * walk.strides[1][0]));
  int64_t low = 0, high = count;
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    number edge = AS_NUMBER(LOAD(A, edges, middle * stride));
    if (FROM_RIGHT ? !is_below(value, edge) : is_below(edge, value))
      low = middle + 1;
    else
      high = middle;
  }
  out[row_start(&walk, 0, row) + column * walk.strides[0][0]] = low;
}
