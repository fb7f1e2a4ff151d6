/* Activations as products take them: rounded to codes of at most LEVELS (0: as they are) in blocks of 32 columns, rows
 * filled with zeros up to `padded` columns, a multiple of 32; and the sum of each SUM_COLUMNS of them. */
KERNEL_OF(GROUP, 1, 1)
prepare_activations(CONST_OPERAND(float, x), OPERAND(float, rounded), OPERAND(float, sums), int tokens, int columns,
                    int padded, int64_t row_stride, int64_t column_stride) {
  OPEN_CONST(float, x);
  OPEN(float, rounded);
  OPEN(float, sums);
  int64_t place = GLOBAL_ID(0);
  int token = (int)(place / (padded / 32)), begin = (int)(place % (padded / 32)) * 32;
  if (token >= tokens) return;
  float values[32];
  for (int i = 0; i < 32; i++)
    values[i] = begin + i < columns ? x[token * row_stride + (begin + i) * column_stride] : 0.0f;
#if LEVELS
  float largest = 0;
  for (int i = 0; i < 32; i++) {
    float magnitude = fabs(values[i]);
    if (!(magnitude <= largest)) largest = magnitude; /* NaN comes in and stays */
    if (isnan(magnitude)) break;
  }
  float inverse = largest > 0 ? (float)LEVELS / largest : 0.0f, scale = largest / (float)LEVELS;
  for (int i = 0; i < 32; i++) {
    float code = rint(values[i] * inverse);
    values[i] = (isnan(code) ? 0.0f : fmin(fmax(code, -(float)LEVELS), (float)LEVELS)) * scale;
  }
#endif
  int64_t first = (int64_t)token * padded + begin;
  for (int part = 0; part < 32 / SUM_COLUMNS; part++) {
    float sum = 0;
    for (int i = 0; i < SUM_COLUMNS; i++) sum += values[part * SUM_COLUMNS + i];
    sums[first / SUM_COLUMNS + part] = sum;
  }
  for (int i = 0; i < 32; i++) rounded[first + i] = values[i];
}
