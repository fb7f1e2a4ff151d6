/* softmax, log_softmax and logsumexp of rows of float32, a work-group each. NaN goes through the sum to every result.
 */

#define BLOCK 32 /* a work-item's summands are added up in blocks of so many: long sums keep their digits */

DEVICE float row_maximum(GLOBAL const float* x, int columns, LOCAL float* scratch) {
  float largest = -INFINITY;
  for (int column = LOCAL_ID(0); column < columns; column += GROUP) largest = fmax(largest, x[column]);
  return group_max(largest, scratch);
}

/* The sum of exp(x - largest). */
DEVICE float row_sum(GLOBAL const float* x, int columns, float largest, LOCAL float* scratch) {
  float total = 0;
  for (int first = 0; first < columns; first += BLOCK * GROUP) {
    int stop = min(first + BLOCK * GROUP, columns);
    float sum = 0;
    for (int column = first + LOCAL_ID(0); column < stop; column += GROUP) sum += exp(x[column] - largest);
    total += sum;
  }
  return group_sum(total, scratch);
}

#define ROW_PARAMETERS CONST_OPERAND(float, x), OPERAND(float, y), int columns, int64_t x_stride

#define OPEN_ROW                                    \
  OPEN_CONST(float, x);                             \
  OPEN(float, y);                                   \
  LOCAL_ARRAY(float, scratch, GROUP);               \
  int64_t row = GROUP_ID(0);                        \
  x += row * x_stride;                              \
  float largest = row_maximum(x, columns, scratch); \
  float sum = row_sum(x, columns, largest, scratch)

KERNEL_OF(GROUP, 1, 1)
softmax(ROW_PARAMETERS) {
  OPEN_ROW;
  y += row * columns;
  for (int column = LOCAL_ID(0); column < columns; column += GROUP) y[column] = exp(x[column] - largest) / sum;
}

KERNEL_OF(GROUP, 1, 1)
log_softmax(ROW_PARAMETERS) {
  OPEN_ROW;
  y += row * columns;
  float log_sum = log(sum);
  for (int column = LOCAL_ID(0); column < columns; column += GROUP) y[column] = x[column] - largest - log_sum;
}

KERNEL_OF(GROUP, 1, 1)
logsumexp(ROW_PARAMETERS) {
  OPEN_ROW;
  if (LOCAL_ID(0) == 0) y[row] = log(sum) + largest;
}
