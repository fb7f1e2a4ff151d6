/* Several functions of float32 elements, one after another, of operands that are broadcast together: nothing between
 * them goes to memory. What is compiled is this after the chain's own text, which defines
 *
 *   CHAIN_OPERANDS   the operands, as parameters x0, x1 ...
 *   CHAIN_STEPS      statements that make the numbers v0, v1 ... of operands (READ_OPERAND), constants and functions
 *   CHAIN_RESULT     the last of them
 *
 * and MAX_WALKED, which is one more than there are operands. */

#include "functions.h"
#include "walk.h"

DEVICE numbers apply_sigmoid(numbers x) { return 1.0f / (1.0f + exp(-x)); }
DEVICE numbers apply_silu(numbers x) { return x / (1.0f + exp(-x)); }
DEVICE numbers apply_gelu_tanh(numbers x) {
  numbers inner = 0.7978845608028654f * fma(0.044715f * x * x, x, x);
  return 0.5f * x * (1.0f + tanh(inner));
}

#if WIDTH == 1
#define READ(pointer, step) (*(pointer))
#define WRITE(value, step) (*out = (value))
#else
#define READ(pointer, step) ((step) ? read_numbers(pointer, step, count) : (numbers)(*(pointer)))
#define WRITE(value, step) write_numbers(value, out, step, count)
#endif

#define READ_OPERAND(index)                                                           \
  OPEN_CONST(float, x##index);                                                        \
  x##index += row_start(&walk, index + 1, row) + column * walk.strides[index + 1][0]; \
  numbers v##index = READ(x##index, walk.strides[index + 1][0])

KERNEL chain(OPERAND(float, out), CHAIN_OPERANDS, Walk walk, int64_t columns, int rows, int tiles) {
  OPEN(float, out);
  int64_t column = ((int64_t)(GROUP_ID(0) % tiles) * LOCAL_SIZE(0) + LOCAL_ID(0)) * WIDTH;
  int row = GROUP_ID(0) / tiles * LOCAL_SIZE(1) + LOCAL_ID(1);
  if (column >= columns || row >= rows) return;
#if WIDTH > 1
  int count = (int)min(columns - column, (int64_t)WIDTH);
#endif
  out += row_start(&walk, 0, row) + column * walk.strides[0][0];
  CHAIN_STEPS
  WRITE(CHAIN_RESULT, walk.strides[0][0]);
}
