/* adjust_logits: penalties and biases, in place, for rows of float32 logits: a check, then penalties, then biases. */

/* Every id in its vocabulary, every row in the logits, and `starts` ascending from 0. */
KERNEL check_adjustment(CONST_OPERAND(int, ids), CONST_OPERAND(int, starts), CONST_OPERAND(int, bias_rows),
                        CONST_OPERAND(int, bias_ids), int rows, int columns, int num_ids, int num_biases,
                        FAULT_PARAMETERS) {
  OPEN_CONST(int, ids);
  OPEN_CONST(int, starts);
  OPEN_CONST(int, bias_rows);
  OPEN_CONST(int, bias_ids);
  int item = GLOBAL_ID(0);
  int wrong = item == 0 && starts[0] != 0;
  if (item < rows) wrong |= starts[item] > starts[item + 1] || starts[item + 1] > num_ids;
  if (item < num_ids) wrong |= ids[item] < 0 || ids[item] >= columns;
  if (item < num_biases) {
    wrong |= bias_rows[item] < 0 || bias_rows[item] >= rows;
    wrong |= bias_ids[item] < 0 || bias_ids[item] >= columns;
  }
  if (wrong) FAULT();
}

/* A work-group does a row; an id stands once in a row. */
KERNEL penalize(OPERAND(float, logits), CONST_OPERAND(int, ids), CONST_OPERAND(int, starts), CONST_OPERAND(int, counts),
                CONST_OPERAND(float, repetition), CONST_OPERAND(float, frequency), CONST_OPERAND(float, presence),
                int64_t row_stride, FAULT_PARAMETERS) {
  OPEN(float, logits);
  OPEN_CONST(int, ids);
  OPEN_CONST(int, starts);
  OPEN_CONST(int, counts);
  OPEN_CONST(float, repetition);
  OPEN_CONST(float, frequency);
  OPEN_CONST(float, presence);
  if (IS_FAULTY) return;
  int row = GROUP_ID(0);
  logits += row * row_stride;
  for (int item = starts[row] + LOCAL_ID(0); item < starts[row + 1]; item += LOCAL_SIZE(0)) {
    float value = logits[ids[item]];
    value = value > 0 ? value / repetition[row] : value * repetition[row];
    value -= frequency[row] * (float)counts[item];
    logits[ids[item]] = counts[item] > 0 ? value - presence[row] : value;
  }
}

/* A work-item adds a bias; several of one logit meet by compare and swap. Minus infinity forbids an infinite logit too.
 */
KERNEL add_biases(OPERAND(int, logits), CONST_OPERAND(int, bias_rows), CONST_OPERAND(int, bias_ids),
                  CONST_OPERAND(float, bias_values), int num_biases, int64_t row_stride, FAULT_PARAMETERS) {
  OPEN(int, logits);
  OPEN_CONST(int, bias_rows);
  OPEN_CONST(int, bias_ids);
  OPEN_CONST(float, bias_values);
  int item = GLOBAL_ID(0);
  if (IS_FAULTY || item >= num_biases) return;
  float bias = bias_values[item];
  GLOBAL int* logit = logits + bias_rows[item] * row_stride + bias_ids[item];
  int before, found = *logit;
  do {
    before = found;
    float sum = bias == -INFINITY ? bias : AS_FLOAT(before) + bias;
    found = ATOMIC_CAS(logit, before, (int)AS_UINT(sum));
  } while (found != before);
}
