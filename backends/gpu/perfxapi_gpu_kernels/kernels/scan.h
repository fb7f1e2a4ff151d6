/* Running sums and products along lines, each cut into chunks of CHUNK elements: the total of each chunk, what comes
 * before each, then the elements of each. A work-item has a chunk. */

#include "functions.h"
#include "walk.h"

KERNEL scan_totals(OPERAND(number, totals), CONST_OPERAND(STORAGE(A), a), Walk kept, int lines, int chunks,
                   int64_t stride) {
  OPEN(number, totals);
  OPEN_CONST(STORAGE(A), a);
  int line = GROUP_ID(0) / chunks * LOCAL_SIZE(0) + LOCAL_ID(0), chunk = GROUP_ID(0) % chunks;
  if (line >= lines || chunk == chunks - 1) return; /* nothing comes after the last */
  a += place_of(&kept, 1, 0, line) + (int64_t)chunk * CHUNK * stride;
  number total = IDENTITY;
  for (int index = 0; index < CHUNK; index++) total = FUNCTION(total, AS_NUMBER(LOAD(A, a, index * stride)));
  totals[(int64_t)chunk * lines + line] = total;
}

KERNEL scan_starts(OPERAND(number, totals), int lines, int chunks) {
  OPEN(number, totals);
  int line = GROUP_ID(0) * LOCAL_SIZE(0) + LOCAL_ID(0);
  if (line >= lines) return;
  number before = IDENTITY;
  for (int chunk = 0; chunk < chunks; chunk++) {
    number total = totals[(int64_t)chunk * lines + line];
    totals[(int64_t)chunk * lines + line] = before;
    if (chunk < chunks - 1) before = FUNCTION(before, total);
  }
}

KERNEL scan_chunks(OPERAND(STORAGE(A), out), CONST_OPERAND(STORAGE(A), a), CONST_OPERAND(number, totals), Walk kept,
                   int lines, int length, int chunks, int64_t out_stride, int64_t stride) {
  OPEN(STORAGE(A), out);
  OPEN_CONST(STORAGE(A), a);
  OPEN_CONST(number, totals);
  int line = GROUP_ID(0) / chunks * LOCAL_SIZE(0) + LOCAL_ID(0), chunk = GROUP_ID(0) % chunks;
  if (line >= lines) return;
  int64_t first = (int64_t)chunk * CHUNK;
  out += place_of(&kept, 0, 0, line) + first * out_stride;
  a += place_of(&kept, 1, 0, line) + first * stride;
  number running = chunks > 1 ? totals[(int64_t)chunk * lines + line] : (number)IDENTITY;
  int count = min(length - (int)first, CHUNK);
  for (int index = 0; index < count; index++) {
    running = FUNCTION(running, AS_NUMBER(LOAD(A, a, index * stride)));
    STORE(A, running, out, index * out_stride);
  }
}
