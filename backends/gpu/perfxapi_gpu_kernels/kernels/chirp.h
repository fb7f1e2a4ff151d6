/* Discrete Fourier transforms of any length as a convolution with a chirp, which transforms of a larger length compute
 * (Bluestein, A Linear Filtering Approach to the Computation of the Discrete Fourier Transform, 1970). */

#include "fourier_lines.h"

/* The source times the chirp, with zeros up to `length`; the source has as many elements as the chirp. */
KERNEL chirp_begin(OPERAND(Complex, out), CONST_OPERAND(REAL, a), CONST_OPERAND(Complex, chirp), Walk kept,
                   Transform transform, int padded, REAL sign) {
  OPEN(Complex, out);
  OPEN_CONST(REAL, a);
  OPEN_CONST(Complex, chirp);
  int item, line = line_and_item(&transform, &item);
  if (line >= transform.lines || item >= padded) return;
  Complex element = {0, 0};
  if (item < transform.length)
    element = times(read_element(a, place_of(&kept, 1, 0, line), &transform, item, sign), chirp[item]);
  out[place_of(&kept, 0, 0, line) + item * transform.out_stride] = element;
}

/* The product of spectra, conjugated: a forward transform then does what an inverse one would. */
KERNEL chirp_filter(OPERAND(Complex, lines), CONST_OPERAND(Complex, filter), Transform transform) {
  OPEN(Complex, lines);
  OPEN_CONST(Complex, filter);
  int item, line = line_and_item(&transform, &item);
  if (line >= transform.lines || item >= transform.items) return;
  int64_t place = transform.across ? (int64_t)item * transform.lines + line : (int64_t)line * transform.items + item;
  Complex product = times(lines[place], filter[item]);
  product.im = -product.im;
  lines[place] = product;
}

/* The convolution times the chirp. */
KERNEL chirp_end(OPERAND(REAL, out), CONST_OPERAND(Complex, a), CONST_OPERAND(Complex, chirp), Walk kept,
                 Transform transform, REAL scale, REAL sign) {
  OPEN(REAL, out);
  OPEN_CONST(Complex, a);
  OPEN_CONST(Complex, chirp);
  int item, line = line_and_item(&transform, &item);
  if (line >= transform.lines || item >= transform.stored) return;
  Complex element = a[place_of(&kept, 1, 0, line) + item * transform.stride];
  element.im = -element.im;
  element = times(element, chirp[item]);
  element.re *= scale;
  element.im *= scale;
  write_element(element, out, place_of(&kept, 0, 0, line), &transform, item, sign);
}
