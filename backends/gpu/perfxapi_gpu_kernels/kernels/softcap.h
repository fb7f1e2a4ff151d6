/* The bounding of logits (Gemma 2), of contiguous float32 arrays, one element a work-item. */

/* cap * tanh(x / cap); 0 stands for no cap. */
KERNEL softcap(CONST_OPERAND(float, x), OPERAND(float, y), int64_t count, float cap) {
  OPEN_CONST(float, x);
  OPEN(float, y);
  int64_t first = (int64_t)GROUP_ID(0) * LOCAL_SIZE(0);
  int item = LOCAL_ID(0);
  x += first;
  y += first;
  if (item < count - first) y[item] = cap == 0 ? x[item] : cap * tanh(x[item] / cap);
}
