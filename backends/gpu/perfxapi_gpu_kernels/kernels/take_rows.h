/* take_rows: y[i] = x[indices[i]], in words of the type WORD. A work-group copies a part of a row. */

KERNEL take_rows(CONST_OPERAND(WORD, x), CONST_OPERAND(int, indices), OPERAND(WORD, y), int columns, int64_t x_stride,
                 int num_rows, FAULT_PARAMETERS) {
  OPEN_CONST(WORD, x);
  OPEN_CONST(int, indices);
  OPEN(WORD, y);
  int column = GROUP_ID(1) * LOCAL_SIZE(0) + LOCAL_ID(0);
  int64_t row = GROUP_ID(0);
  int64_t source = indices[row];
  if (source < 0 || source >= num_rows) {
    if (LOCAL_ID(0) == 0) FAULT();
  } else if (column < columns) {
    y[row * columns + column] = x[source * x_stride + column];
  }
}
