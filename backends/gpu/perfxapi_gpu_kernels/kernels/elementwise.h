/* One function of the elements of one, two or three operands that are broadcast together.
 *
 * FUNCTION is its name, OPERANDS how many it takes, A, B, C their dtypes, RESULT its own, COMPUTE what it computes in;
 * *_STEP are the strides that elements of a row have (-1: known only at run time). CHECKED functions say what they are
 * not defined for. */

#include "functions.h"
#include "walk.h"

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
  int64_t column = (int64_t)(GROUP_ID(0) % tiles) * LOCAL_SIZE(0) + LOCAL_ID(0);
  int row = GROUP_ID(0) / tiles * LOCAL_SIZE(1) + LOCAL_ID(1);
  if (column >= columns || row >= rows) return;
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
  STORE(RESULT, FUNCTION(AS_NUMBER(LOAD(A, a, 0))), out, 0);
#elif OPERANDS == 2
  number first = AS_NUMBER(LOAD(A, a, 0)), second = AS_NUMBER(LOAD(B, b, 0));
#if CHECKED
  if (second < 0) {
    FAULT();
    return;
  }
#endif
  STORE(RESULT, FUNCTION(first, second), out, 0);
#else
  if (LOAD(A, a, 0)) {
    STORE(RESULT, LOAD(B, b, 0), out, 0);
  } else {
    STORE(RESULT, LOAD(C, c, 0), out, 0);
  }
#endif
}
