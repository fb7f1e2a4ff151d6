/* One function of the elements of one, two or three operands that are broadcast together.
 *
 * FUNCTION is its name, OPERANDS how many it takes, A, B, C their dtypes, RESULT its own, COMPUTE what it computes in;
 * *_STEP are the strides that elements of a row have (-1: known only at run time). CHECKED functions say what they are
 * not defined for. Whatever the strides, a function is computed of WIDTH elements at once: elsewhere in an operand, or
 * in another layout, an element has the same result. */

#include "functions.h"
#include "walk.h"

#if WIDTH == 1
#define READ(dtype, pointer, step) AS_NUMBER(LOAD(dtype, pointer, 0))
#define WRITE(value, step) STORE(RESULT, value, out, 0)
#else
#define READ(dtype, pointer, step) ((step) ? read_numbers(pointer, step, count) : (numbers)(*(pointer)))
#define WRITE(value, step) PERFX_JOIN(WRITE_, RESULT)(value, out, step, count)
#define WRITE_float32 write_numbers
#define WRITE_bool write_truths
#endif

KERNEL elementwise(OPERAND(STORAGE(RESULT), out), CONST_OPERAND(STORAGE(A), a),
#if OPERANDS > 1
                   CONST_OPERAND(STORAGE(B), b),
#endif
#if OPERANDS > 2
                   CONST_OPERAND(STORAGE(C), c),
#endif
                   Walk walk, int64_t columns, int rows, int tiles
#if CHECKED
                   ,
                   FAULT_PARAMETERS
#endif
) {
  OPEN(STORAGE(RESULT), out);
  OPEN_CONST(STORAGE(A), a);
  int64_t column = ((int64_t)(GROUP_ID(0) % tiles) * LOCAL_SIZE(0) + LOCAL_ID(0)) * WIDTH;
  int row = GROUP_ID(0) / tiles * LOCAL_SIZE(1) + LOCAL_ID(1);
  if (column >= columns || row >= rows) return;
#if WIDTH > 1
  int count = (int)min(columns - column, (int64_t)WIDTH);
#endif
  out += row_start(&walk, 0, row) + column * STEP(OUT_STEP, 0);
  a += row_start(&walk, 1, row) + column * STEP(A_STEP, 1);
#if OPERANDS > 1
  OPEN_CONST(STORAGE(B), b);
  b += row_start(&walk, 2, row) + column * STEP(B_STEP, 2);
#endif
#if OPERANDS > 2
  OPEN_CONST(STORAGE(C), c);
  c += row_start(&walk, 3, row) + column * STEP(C_STEP, 3);
#endif

#if OPERANDS == 1
  WRITE(FUNCTION(READ(A, a, STEP(A_STEP, 1))), STEP(OUT_STEP, 0));
#elif OPERANDS == 2
  numbers first = READ(A, a, STEP(A_STEP, 1)), second = READ(B, b, STEP(B_STEP, 2));
#if CHECKED
  if (second < 0) {
    FAULT();
    return;
  }
#endif
  WRITE(FUNCTION(first, second), STEP(OUT_STEP, 0));
#else
  if (LOAD(A, a, 0)) {
    STORE(RESULT, LOAD(B, b, 0), out, 0);
  } else {
    STORE(RESULT, LOAD(C, c, 0), out, 0);
  }
#endif
}
