/* Functions of floating-point numbers, as NumPy has them where C says something else or nothing. */

DEVICE number apply_copy(number a) { return a; }
DEVICE number apply_abs(number a) { return fabs(a); }
DEVICE number apply_acos(number a) { return acos(a); }
DEVICE number apply_acosh(number a) { return acosh(a); }
DEVICE number apply_asin(number a) { return asin(a); }
DEVICE number apply_asinh(number a) { return asinh(a); }
DEVICE number apply_atan(number a) { return atan(a); }
DEVICE number apply_atanh(number a) { return atanh(a); }
DEVICE number apply_ceil(number a) { return ceil(a); }
DEVICE number apply_cos(number a) { return cos(a); }
DEVICE number apply_cosh(number a) { return cosh(a); }
DEVICE number apply_exp(number a) { return exp(a); }
DEVICE number apply_expm1(number a) { return expm1(a); }
DEVICE number apply_floor(number a) { return floor(a); }
DEVICE number apply_log(number a) { return log(a); }
DEVICE number apply_log10(number a) { return log10(a); }
DEVICE number apply_log1p(number a) { return log1p(a); }
DEVICE number apply_log2(number a) { return log2(a); }
DEVICE number apply_round(number a) { return rint(a); }
DEVICE number apply_sign(number a) { return a > 0 ? (number)1 : a < 0 ? (number)-1 : a == 0 ? (number)0 : a; }
DEVICE number apply_sin(number a) { return sin(a); }
DEVICE number apply_sinh(number a) { return sinh(a); }
DEVICE number apply_sqrt(number a) { return sqrt(a); }
DEVICE number apply_tan(number a) { return tan(a); }
DEVICE number apply_tanh(number a) { return tanh(a); }
DEVICE number apply_trunc(number a) { return trunc(a); }

DEVICE number apply_add(number a, number b) { return a + b; }
DEVICE number apply_subtract(number a, number b) { return a - b; }
DEVICE number apply_multiply(number a, number b) { return a * b; }
DEVICE number apply_divide(number a, number b) { return a / b; }
DEVICE number apply_atan2(number a, number b) { return atan2(a, b); }
DEVICE number apply_copysign(number a, number b) { return copysign(a, b); }
DEVICE number apply_hypot(number a, number b) { return hypot(a, b); }
DEVICE number apply_nextafter(number a, number b) { return nextafter(a, b); }
DEVICE number apply_pow(number a, number b) { return pow(a, b); }
DEVICE int apply_equal(number a, number b) { return a == b; }
DEVICE int apply_less(number a, number b) { return a < b; }
DEVICE int apply_less_equal(number a, number b) { return a <= b; }

/* NaN in either operand is the result. */
DEVICE number apply_maximum(number a, number b) { return a >= b || a != a ? a : b; }
DEVICE number apply_minimum(number a, number b) { return a <= b || a != a ? a : b; }

/* The remainder has the sign of the divisor, also where it is 0. */
DEVICE number apply_remainder(number a, number b) {
  number rest = fmod(a, b);
  if (rest == 0) return copysign((number)0, b);
  return (rest < 0) != (b < 0) ? rest + b : rest;
}

/* Where one operand is infinite or the divisor is 0, the quotient itself. */
DEVICE number apply_floor_divide(number a, number b) {
  if (b == 0 || (isinf(a) && !isinf(b) && b == b) || (isinf(b) && !isinf(a) && a == a)) return a / b;
  number rest = fmod(a, b);
  number quotient = (a - rest) / b;
  if (rest != 0 && (rest < 0) != (b < 0)) quotient -= 1;
  if (quotient == 0) return copysign((number)0, a / b);
  number whole = floor(quotient);
  return quotient - whole > (number)0.5f ? whole + 1 : whole;
}

DEVICE number apply_logaddexp(number a, number b) {
  if (a == b) return a + (number)0.693147180559945309f;
  number apart = a - b;
  if (apart > 0) return a + log1p(exp(-apart));
  return apart <= 0 ? b + log1p(exp(apart)) : apart;
}
