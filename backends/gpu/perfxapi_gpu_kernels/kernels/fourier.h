/* One pass of a discrete Fourier transform: a work-item transforms RADIX elements of a line, which are an RADIX-th of
 * its length apart (Stockham's algorithm, decimation in frequency, in natural order: Van Loan, Computational Frameworks
 * for the Fast Fourier Transform, 1.7). `step` is the product of the radices before this one. */

#include "fourier_lines.h"

DEVICE void transform2(Complex* a, Complex* b) {
  Complex sum = {a->re + b->re, a->im + b->im}, difference = {a->re - b->re, a->im - b->im};
  *a = sum;
  *b = difference;
}

/* Results take the places of a, b, c, d. */
DEVICE void transform4(Complex* a, Complex* b, Complex* c, Complex* d) {
  transform2(a, c);
  transform2(b, d);
  Complex turned = {d->im, -d->re}, first = *c; /* times -i */
  transform2(a, b);
  *d = turned;
  transform2(&first, d);
  Complex third = *b;
  *b = first;
  *c = third;
}

#if RADIX == 8
DEVICE void transform_radix(Complex* x, const Complex* roots) {
  transform4(x, x + 2, x + 4, x + 6);
  transform4(x + 1, x + 3, x + 5, x + 7);
  Complex turned = {x[5].im, -x[5].re};
  x[3] = times(x[3], roots[1]);
  x[5] = turned;
  x[7] = times(x[7], roots[3]);
  transform2(x, x + 1);
  transform2(x + 2, x + 3);
  transform2(x + 4, x + 5);
  transform2(x + 6, x + 7);
  Complex results[8] = {x[0], x[2], x[4], x[6], x[1], x[3], x[5], x[7]};
  for (int i = 0; i < 8; i++) x[i] = results[i];
}
#elif RADIX == 4
DEVICE void transform_radix(Complex* x, const Complex* roots) { transform4(x, x + 1, x + 2, x + 3); }
#elif RADIX == 2
DEVICE void transform_radix(Complex* x, const Complex* roots) { transform2(x, x + 1); }
#else
/* An odd number of elements, of which those that mirror each other have factors that do. */
DEVICE void transform_radix(Complex* x, const Complex* roots) {
  const Complex first = x[0];
  for (int i = 1; 2 * i < RADIX; i++) {
    transform2(x + i, x + RADIX - i);
    x[0].re += x[i].re;
    x[0].im += x[i].im;
  }
  Complex results[RADIX];
  for (int k = 1; 2 * k < RADIX; k++) {
    Complex even = first, odd = {0, 0};
    for (int i = 1; 2 * i < RADIX; i++) {
      Complex root = roots[i * k % RADIX];
      even.re = fma(root.re, x[i].re, even.re);
      even.im = fma(root.re, x[i].im, even.im);
      odd.re = fma(-root.im, x[RADIX - i].im, odd.re);
      odd.im = fma(root.im, x[RADIX - i].re, odd.im);
    }
    results[k].re = even.re + odd.re;
    results[k].im = even.im + odd.im;
    results[RADIX - k].re = even.re - odd.re;
    results[RADIX - k].im = even.im - odd.im;
  }
  for (int k = 1; k < RADIX; k++) x[k] = results[k];
}
#endif

KERNEL fourier_pass(OPERAND(REAL, out), CONST_OPERAND(REAL, a), CONST_OPERAND(Complex, table), Walk kept,
                    Transform transform, int step, int shift, REAL scale, REAL sign) {
  OPEN(REAL, out);
  OPEN_CONST(REAL, a);
  OPEN_CONST(Complex, table);
  int item, line = line_and_item(&transform, &item);
  if (line >= transform.lines || item >= transform.items) return;
  int64_t start = place_of(&kept, 1, 0, line);
  Complex x[RADIX], roots[RADIX];
  for (int i = 0; i < RADIX; i++) {
    x[i] = read_element(a, start, &transform, item + i * transform.items, sign);
    roots[i] = table[i * transform.items];
  }
  transform_radix(x, roots);
  int block = shift >= 0 ? item >> shift : item / step;
  start = place_of(&kept, 0, 0, line);
  for (int i = 0; i < RADIX; i++) {
    Complex result = times(x[i], table[block * i * step]);
    result.re *= scale;
    result.im *= scale;
    write_element(result, out, start, &transform, item + (RADIX - 1) * step * block + i * step, sign);
  }
}
