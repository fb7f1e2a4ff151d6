/* Elements at indices along an axis of x. The walk's operands: the result, x (without the axis), the indices.
 *
 * KIND is what an element is moved as, INDEX the dtype of the indices. An index counts from the end where it is
 * negative; one that is out of range is a fault. */

#include "elements.h"
#include "walk.h"

/* The index counted from the front, or -1 where it is out of range. Large numbers without sign are. */
#define FROM_FRONT(indices, place, size) \
  from_front((int64_t)LOAD(INDEX, indices, place), LOAD(INDEX, indices, place) > 0, size)

DEVICE int64_t from_front(int64_t index, int is_positive, int64_t size) {
  if (index < 0 && is_positive) return -1;
  if (index < 0) index += size;
  return index >= 0 && index < size ? index : -1;
}

KERNEL gather(OPERAND(STORAGE(KIND), out), CONST_OPERAND(STORAGE(KIND), x), CONST_OPERAND(STORAGE(INDEX), indices),
              Walk walk, int64_t columns, int rows, int tiles, int64_t size, int64_t stride, FAULT_PARAMETERS) {
  OPEN(STORAGE(KIND), out);
  OPEN_CONST(STORAGE(KIND), x);
  OPEN_CONST(STORAGE(INDEX), indices);
  int64_t column = (int64_t)(GROUP_ID(0) % tiles) * LOCAL_SIZE(0) + LOCAL_ID(0);
  int row = GROUP_ID(0) / tiles * LOCAL_SIZE(1) + LOCAL_ID(1);
  if (column >= columns || row >= rows) return;
  int64_t place = row_start(&walk, 2, row) + column * STEP(INDEX_STEP, 2);
  int64_t index = FROM_FRONT(indices, place, size);
  if (index < 0) {
    FAULT();
    return;
  }
  out[row_start(&walk, 0, row) + column * STEP(OUT_STEP, 0)] =
      x[row_start(&walk, 1, row) + column * STEP(X_STEP, 1) + index * stride];
}

/* Before rows are written: checks every index, and clears who writes the row that it names. */
KERNEL put_check(CONST_OPERAND(STORAGE(INDEX), indices), OPERAND(int, writers), int count, int64_t stride, int64_t rows,
                 FAULT_PARAMETERS) {
  OPEN_CONST(STORAGE(INDEX), indices);
  OPEN(int, writers);
  int place = GROUP_ID(0) * LOCAL_SIZE(0) + LOCAL_ID(0);
  if (place >= count) return;
  int64_t row = FROM_FRONT(indices, place * stride, rows);
  if (row < 0) {
    FAULT();
    return;
  }
  writers[row] = -1;
}

/* Of several that name a row the last writes it. */
KERNEL put_claim(CONST_OPERAND(STORAGE(INDEX), indices), OPERAND(int, writers), int count, int64_t stride, int64_t rows,
                 FAULT_PARAMETERS) {
  OPEN_CONST(STORAGE(INDEX), indices);
  OPEN(int, writers);
  int place = GROUP_ID(0) * LOCAL_SIZE(0) + LOCAL_ID(0);
  if (IS_FAULTY || place >= count) return;
  ATOMIC_MAX(writers + FROM_FRONT(indices, place * stride, rows), place);
}

/* The walk's operands: a row of the target (no stride along axis 1), the values. */
KERNEL put_rows(OPERAND(STORAGE(KIND), target), CONST_OPERAND(STORAGE(INDEX), indices),
                CONST_OPERAND(STORAGE(KIND), values), CONST_OPERAND(int, writers), int count, int columns, int tiles,
                int64_t stride, int64_t rows, int64_t target_row, int64_t target_column, int64_t value_row,
                int64_t value_column, FAULT_PARAMETERS) {
  OPEN(STORAGE(KIND), target);
  OPEN_CONST(STORAGE(INDEX), indices);
  OPEN_CONST(STORAGE(KIND), values);
  OPEN_CONST(int, writers);
  int column = GROUP_ID(0) % tiles * LOCAL_SIZE(0) + LOCAL_ID(0);
  int place = GROUP_ID(0) / tiles * LOCAL_SIZE(1) + LOCAL_ID(1);
  if (IS_FAULTY || column >= columns || place >= count) return;
  int64_t row = FROM_FRONT(indices, place * stride, rows);
  if (writers[row] == place)
    target[row * target_row + column * target_column] = values[place * value_row + column * value_column];
}
