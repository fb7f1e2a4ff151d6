/* RMS normalization, alone and with residual additions: one work-group a row. Rows are float32, columns contiguous. */

#include "lanes.h"

DEVICE float inverse_rms(float sum_of_squares, int columns, float eps) {
  return 1.0f / sqrt(sum_of_squares / (float)columns + eps);
}

#define FOR_COLUMNS(column) for (int column = FIRST_LANE; column < columns; column += LANES)
#define ROW(pointer) LOAD_PART(float32, pointer, column, columns)
#define SET_ROW(pointer, values) STORE_PART(values, pointer, column, columns)

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
  floats sum = BROADCAST(0.0f);
  FOR_COLUMNS(column) {
    floats value = ROW(x);
    sum = fma(value, value, sum);
  }
  float factor = inverse_rms(TOTAL(sum, scratch), columns, eps);
  FOR_COLUMNS(column) SET_ROW(y, ROW(x) * factor * LOAD_PART(WEIGHT, weight, column, columns));
}

/* total = x + y; normed = rms_norm(total) * weight. */
KERNEL_OF(GROUP, 1, 1)
add_rms_norm(CONST_OPERAND(float, x), CONST_OPERAND(float, y), CONST_OPERAND(STORAGE(WEIGHT), weight),
             OPERAND(float, total), OPERAND(float, normed), int columns, int64_t x_stride, int64_t y_stride,
             float eps) {
  OPEN_CONST(float, x);
  OPEN_CONST(float, y);
  OPEN_CONST(STORAGE(WEIGHT), weight);
  OPEN(float, total);
  OPEN(float, normed);
  LOCAL_ARRAY(float, scratch, GROUP);
  int64_t row = GROUP_ID(0);
  x += row * x_stride;
  y += row * y_stride;
  total += row * columns;
  normed += row * columns;
  floats sum = BROADCAST(0.0f);
  FOR_COLUMNS(column) {
    floats value = ROW(x) + ROW(y);
    SET_ROW(total, value);
    sum = fma(value, value, sum);
  }
  float factor = inverse_rms(TOTAL(sum, scratch), columns, eps);
  FOR_COLUMNS(column) SET_ROW(normed, ROW(total) * factor * LOAD_PART(WEIGHT, weight, column, columns));
}

/* total = x + rms_norm(y) * post; normed = rms_norm(total) * pre. */
KERNEL_OF(GROUP, 1, 1)
norm_add_rms_norm(CONST_OPERAND(float, y), CONST_OPERAND(STORAGE(WEIGHT), post), CONST_OPERAND(float, x),
                  CONST_OPERAND(STORAGE(WEIGHT), pre), OPERAND(float, total), OPERAND(float, normed), int columns,
                  int64_t y_stride, int64_t x_stride, float eps) {
  OPEN_CONST(float, y);
  OPEN_CONST(STORAGE(WEIGHT), post);
  OPEN_CONST(float, x);
  OPEN_CONST(STORAGE(WEIGHT), pre);
  OPEN(float, total);
  OPEN(float, normed);
  LOCAL_ARRAY(float, scratch, GROUP);
  int64_t row = GROUP_ID(0);
  y += row * y_stride;
  x += row * x_stride;
  total += row * columns;
  normed += row * columns;
  floats sum = BROADCAST(0.0f);
  FOR_COLUMNS(column) {
    floats value = ROW(y);
    sum = fma(value, value, sum);
  }
  float factor = inverse_rms(TOTAL(sum, scratch), columns, eps);
  sum = BROADCAST(0.0f);
  FOR_COLUMNS(column) {
    floats value = ROW(x) + ROW(y) * factor * LOAD_PART(WEIGHT, post, column, columns);
    SET_ROW(total, value);
    sum = fma(value, value, sum);
  }
  factor = inverse_rms(TOTAL(sum, scratch), columns, eps);
  FOR_COLUMNS(column) SET_ROW(normed, ROW(total) * factor * LOAD_PART(WEIGHT, pre, column, columns));
}
