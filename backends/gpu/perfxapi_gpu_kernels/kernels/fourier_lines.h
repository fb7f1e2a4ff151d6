/* Lines of complex numbers for discrete Fourier transforms: where they lie, and how their elements are read and
 * written.
 *
 * SOURCE_KIND and TARGET_KIND say what elements are. HERMITIAN lines are the first half of a spectrum whose second half
 * mirrors it. An inverse transform is the conjugate of the forward one of conjugates: `sign` is then -1. */

#include "walk.h"

#define REAL PERFX_JOIN(REAL_, COMPUTE)
#define REAL_float32 float
#define REAL_float64 double

#define COMPLEX 0
#define REAL_PART 1
#define HERMITIAN 2

typedef struct {
  REAL re, im;
} Complex;

/* `out_stride` and `stride` (in elements) lead along a line of `length` elements, of which the first `stored` are kept.
 * Work-items stand side by side along a line or, `across`, along the lines; `tiles` groups of them make a row. */
typedef struct {
  int64_t out_stride, stride;
  int32_t length, stored, lines, items, tiles, across;
} Transform;

DEVICE Complex times(Complex a, Complex b) {
  Complex product = {fma(a.re, b.re, -(a.im * b.im)), fma(a.re, b.im, a.im * b.re)};
  return product;
}

DEVICE Complex read_element(GLOBAL const REAL* x, int64_t start, const Transform* transform, int index, REAL sign) {
  Complex element;
#if SOURCE_KIND == REAL_PART
  element.re = x[start + index * transform->stride];
  element.im = 0;
#elif SOURCE_KIND == HERMITIAN
  int mirrored = transform->length - index;
  int64_t place = 2 * (start + min(index, mirrored) * transform->stride);
  element.re = x[place];
  element.im = index == 0 || index == mirrored ? 0 : index < mirrored ? sign * x[place + 1] : -sign * x[place + 1];
#else
  int64_t place = 2 * (start + index * transform->stride);
  element.re = x[place];
  element.im = sign * x[place + 1];
#endif
  return element;
}

DEVICE void write_element(Complex element, GLOBAL REAL* out, int64_t start, const Transform* transform, int index,
                          REAL sign) {
  if (index >= transform->stored) return;
  int64_t place = start + index * transform->out_stride;
#if TARGET_KIND == REAL_PART
  out[place] = element.re;
#else
  out[2 * place] = element.re;
  out[2 * place + 1] = sign * element.im;
#endif
}

/* Which line a work-item is at, and which of the line's items it is. Either may be past the end. */
DEVICE int line_and_item(const Transform* transform, int* item) {
  int row = GROUP_ID(0) / transform->tiles;
  int column = GROUP_ID(0) % transform->tiles * LOCAL_SIZE(0) + LOCAL_ID(0);
  *item = transform->across ? row : column;
  return transform->across ? column : row;
}
