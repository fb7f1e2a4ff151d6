/* Functions of whole numbers. What does not fit wraps, as NumPy's does; what is divided by 0 is 0. */

#if IS_WIDE
typedef uint64_t bits;
#else
typedef uint32_t bits;
#endif

DEVICE number apply_copy(number a) { return a; }
DEVICE number apply_abs(number a) { return a < 0 ? (number)(0 - (bits)a) : a; }
DEVICE number apply_sign(number a) { return (number)((a > 0) - (a < 0)); }
DEVICE number apply_add(number a, number b) { return (number)((bits)a + (bits)b); }
DEVICE number apply_subtract(number a, number b) { return (number)((bits)a - (bits)b); }
DEVICE number apply_multiply(number a, number b) { return (number)((bits)a * (bits)b); }
DEVICE number apply_bitwise_and(number a, number b) { return a & b; }
DEVICE number apply_bitwise_or(number a, number b) { return a | b; }
DEVICE number apply_bitwise_xor(number a, number b) { return a ^ b; }
DEVICE number apply_maximum(number a, number b) { return a >= b ? a : b; }
DEVICE number apply_minimum(number a, number b) { return a <= b ? a : b; }
DEVICE int apply_equal(number a, number b) { return a == b; }
DEVICE int apply_less(number a, number b) { return a < b; }
DEVICE int apply_less_equal(number a, number b) { return a <= b; }

DEVICE number apply_bitwise_left_shift(number a, number b) {
  return (bits)b < sizeof(bits) * 8 ? (number)((bits)a << (bits)b) : (number)0;
}

DEVICE number apply_bitwise_right_shift(number a, number b) {
  return (bits)b < sizeof(bits) * 8 ? a >> b : a < 0 ? (number)-1 : (number)0;
}

DEVICE number apply_floor_divide(number a, number b) {
  if (b == 0) return 0;
  if (b < 0 && b + 1 == 0) return (number)(0 - (bits)a); /* the lowest number by -1 wraps */
  number quotient = a / b;
  return quotient * b != a && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

DEVICE number apply_remainder(number a, number b) {
  if (b == 0 || (b < 0 && b + 1 == 0)) return 0;
  number rest = a % b;
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

/* By squaring; the exponent is not negative. */
DEVICE number apply_pow(number a, number b) {
  bits result = 1, base = (bits)a;
  for (bits exponent = (bits)b; exponent != 0; exponent >>= 1) {
    if (exponent & 1) result *= base;
    base *= base;
  }
  return (number)result;
}
