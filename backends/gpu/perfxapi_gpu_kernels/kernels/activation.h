/* Activations of contiguous float32 arrays, one element a work-item; ACTIVATION names the function. */

DEVICE float gelu_tanh(float x) {
  float inner = 0.7978845608028654f * fma(0.044715f * x * x, x, x);
  return 0.5f * x * (1.0f + tanh(inner));
}

DEVICE float sigmoid(float x) { return 1.0f / (1.0f + exp(-x)); }

/* x * sigmoid(x), by a division that does not overflow before its time. */
DEVICE float silu(float x) { return x / (1.0f + exp(-x)); }

DEVICE float gelu(float x) { return 0.5f * x * (1.0f + erf(x * 0.7071067811865476f)); }

KERNEL unary(CONST_OPERAND(float, x), OPERAND(float, y), int64_t count) {
  OPEN_CONST(float, x);
  OPEN(float, y);
  int64_t first = (int64_t)GROUP_ID(0) * LOCAL_SIZE(0);
  int item = LOCAL_ID(0);
  x += first;
  y += first;
  if (item < count - first) y[item] = ACTIVATION(x[item]);
}

/* ACTIVATION(gate) * up, for rows of `columns` items; an operand's rows may have gaps between them. */
KERNEL gated(CONST_OPERAND(float, gate), CONST_OPERAND(float, up), OPERAND(float, y), int columns, int64_t gate_stride,
             int64_t up_stride) {
  OPEN_CONST(float, gate);
  OPEN_CONST(float, up);
  OPEN(float, y);
  int column = GROUP_ID(1) * LOCAL_SIZE(0) + LOCAL_ID(0);
  int64_t row = GROUP_ID(0);
  gate += row * gate_stride;
  up += row * up_stride;
  y += row * columns;
  if (column < columns) y[column] = ACTIVATION(gate[column]) * up[column];
}
