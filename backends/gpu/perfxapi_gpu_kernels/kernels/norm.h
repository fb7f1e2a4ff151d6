/* RMS normalization, alone and with residual additions: one work-group a row. Rows are float32, columns contiguous. */

DEVICE float inverse_rms(float sum_of_squares, int columns, float eps) {
  return 1.0f / sqrt(sum_of_squares / (float)columns + eps);
}

KERNEL_OF(GROUP, 1, 1)
rms_norm(CONST_OPERAND(float, x), CONST_OPERAND(STORAGE(WEIGHT), weight), OPERAND(float, y), int columns,
         int64_t x_stride, float eps) {
  OPEN_CONST(float, x);
  OPEN_CONST(STORAGE(WEIGHT), weight);
  OPEN(float, y);
  LOCAL_ARRAY(float, scratch, GROUP);
  int64_t row = GROUP_ID(0);
  x += row * x_stride;
  y += row * columns;
  float sum = 0;
  for (int column = LOCAL_ID(0); column < columns; column += GROUP) sum = fma(x[column], x[column], sum);
  float factor = inverse_rms(group_sum(sum, scratch), columns, eps);
  for (int column = LOCAL_ID(0); column < columns; column += GROUP)
    y[column] = x[column] * factor * LOAD(WEIGHT, weight, column);
}
