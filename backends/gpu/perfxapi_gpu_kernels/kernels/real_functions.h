/* Functions of floating-point numbers, as NumPy has them where C says something else or nothing. They hold for vectors
 * too (numbers.h): what is chosen is chosen by ?:, lane by lane. */

#if WIDTH == 1
#define DEFINE_WAVE(name) \
  DEVICE numbers apply_##name(numbers a) { return name(a); }
#else
/* Libraries reduce large angles in another way, and some the whole vector: what is far goes by itself, one by one, so
 * that no element depends on its neighbors. */
#define DEFINE_WAVE(name)                                                 \
  DEVICE numbers apply_##name(numbers a) {                                \
    truths is_far = fabs(a) > 100.0f;                                     \
    numbers result = name(is_far ? (numbers)0 : a);                       \
    if (!any(is_far)) return result;                                      \
    float angles[WIDTH], values[WIDTH];                                   \
    STORE_NUMBERS(a, angles);                                             \
    STORE_NUMBERS(result, values);                                        \
    for (int lane = 0; lane < WIDTH; lane++)                              \
      if (fabs(angles[lane]) > 100.0f) values[lane] = name(angles[lane]); \
    return LOAD_NUMBERS(values);                                          \
  }
#endif
DEFINE_WAVE(cos)
DEFINE_WAVE(sin)
DEFINE_WAVE(tan)

DEVICE numbers apply_copy(numbers a) { return a; }
DEVICE numbers apply_abs(numbers a) { return fabs(a); }
DEVICE numbers apply_acos(numbers a) { return acos(a); }
DEVICE numbers apply_acosh(numbers a) { return acosh(a); }
DEVICE numbers apply_asin(numbers a) { return asin(a); }
DEVICE numbers apply_asinh(numbers a) { return asinh(a); }
DEVICE numbers apply_atan(numbers a) { return atan(a); }
DEVICE numbers apply_atanh(numbers a) { return atanh(a); }
DEVICE numbers apply_ceil(numbers a) { return ceil(a); }
DEVICE numbers apply_cosh(numbers a) { return cosh(a); }
DEVICE numbers apply_exp(numbers a) { return exp(a); }
DEVICE numbers apply_expm1(numbers a) { return expm1(a); }
DEVICE numbers apply_floor(numbers a) { return floor(a); }
DEVICE numbers apply_log(numbers a) { return log(a); }
DEVICE numbers apply_log10(numbers a) { return log10(a); }
DEVICE numbers apply_log1p(numbers a) { return log1p(a); }
DEVICE numbers apply_log2(numbers a) { return log2(a); }
DEVICE numbers apply_round(numbers a) { return rint(a); }
DEVICE numbers apply_sign(numbers a) { return a > 0 ? (numbers)1 : a < 0 ? (numbers)(-1) : a; }
DEVICE numbers apply_sinh(numbers a) { return sinh(a); }
DEVICE numbers apply_sqrt(numbers a) { return sqrt(a); }
DEVICE numbers apply_tanh(numbers a) { return tanh(a); }
DEVICE numbers apply_trunc(numbers a) { return trunc(a); }

DEVICE numbers apply_add(numbers a, numbers b) { return a + b; }
DEVICE numbers apply_subtract(numbers a, numbers b) { return a - b; }
DEVICE numbers apply_multiply(numbers a, numbers b) { return a * b; }
DEVICE numbers apply_divide(numbers a, numbers b) { return a / b; }
DEVICE numbers apply_atan2(numbers a, numbers b) { return atan2(a, b); }
DEVICE numbers apply_copysign(numbers a, numbers b) { return copysign(a, b); }
DEVICE numbers apply_hypot(numbers a, numbers b) { return hypot(a, b); }
DEVICE numbers apply_nextafter(numbers a, numbers b) { return nextafter(a, b); }
DEVICE numbers apply_pow(numbers a, numbers b) { return pow(a, b); }
DEVICE truths apply_equal(numbers a, numbers b) { return a == b; }
DEVICE truths apply_less(numbers a, numbers b) { return a < b; }
DEVICE truths apply_less_equal(numbers a, numbers b) { return a <= b; }

/* NaN in either operand is the result. */
DEVICE numbers apply_maximum(numbers a, numbers b) { return a >= b || a != a ? a : b; }
DEVICE numbers apply_minimum(numbers a, numbers b) { return a <= b || a != a ? a : b; }

/* The remainder has the sign of the divisor, also where it is 0. */
DEVICE numbers apply_remainder(numbers a, numbers b) {
  numbers rest = fmod(a, b);
  numbers turned = (rest < 0) != (b < 0) ? rest + b : rest;
  return rest == 0 ? copysign((numbers)0, b) : turned;
}

/* Where one operand is infinite or the divisor is 0, the quotient itself. */
DEVICE numbers apply_floor_divide(numbers a, numbers b) {
  numbers infinite = (numbers)AS_FLOAT(0x7f800000u), exact = a / b;
  truths is_exact = (b == 0) || ((fabs(a) == infinite) != (fabs(b) == infinite) && a == a && b == b);
  numbers rest = fmod(a, b);
  numbers quotient = (a - rest) / b;
  quotient = rest != 0 && (rest < 0) != (b < 0) ? quotient - 1 : quotient;
  numbers whole = floor(quotient);
  whole = quotient - whole > (numbers)0.5f ? whole + 1 : whole;
  return is_exact ? exact : quotient == 0 ? copysign((numbers)0, exact) : whole;
}

DEVICE numbers apply_logaddexp(numbers a, numbers b) {
  numbers apart = a - b;
  numbers sum = (apart > 0 ? a : b) + log1p(exp(-fabs(apart)));
  return a == b ? a + (numbers)0.693147180559945309f : apart == apart ? sum : apart;
}
