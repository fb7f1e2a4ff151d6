"""Elementwise functions (array API standard 2025.12, "Elementwise functions").

Those that have an op are one line each; the others say what they are made of.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from perfxapi import dtypes
from perfxapi.array import Array, apply, asarray, promote
from perfxapi.dtypes import real_of
from perfxapi.errors import InvalidDTypeError
from perfxapi.ops.spec import NUMBERS, require_kind
from perfxapi.standard.quick import binary, unary

add = binary("add", "x1 + x2")
atan2 = binary("atan2", "The angle of the point (x2, x1), in radians from -pi to pi")
bitwise_and = binary("bitwise_and", "x1 & x2 of integers or truth values")
bitwise_left_shift = binary("bitwise_left_shift", "x1 << x2 of integers")
bitwise_or = binary("bitwise_or", "x1 | x2 of integers or truth values")
bitwise_right_shift = binary("bitwise_right_shift", "x1 >> x2 of integers, with the sign kept")
bitwise_xor = binary("bitwise_xor", "x1 ^ x2 of integers or truth values")
copysign = binary("copysign", "The magnitude of x1 with the sign of x2")
divide = binary("divide", "x1 / x2 of floating-point operands")
equal = binary("equal", "Whether x1 equals x2")
floor_divide = binary("floor_divide", "x1 // x2, rounded down")
hypot = binary("hypot", "The root of x1**2 + x2**2, without overflow on the way")
less = binary("less", "Whether x1 is less than x2")
less_equal = binary("less_equal", "Whether x1 is at most x2")
logaddexp = binary("logaddexp", "The logarithm of exp(x1) + exp(x2), without overflow on the way")
maximum = binary("maximum", "The larger of x1 and x2, NaN where either is NaN")
minimum = binary("minimum", "The smaller of x1 and x2, NaN where either is NaN")
multiply = binary("multiply", "x1 * x2")
remainder = binary("remainder", "x1 - x2 * (x1 // x2): it has the sign of x2")
subtract = binary("subtract", "x1 - x2")
_nextafter = binary("nextafter", "The next number after x1 in the direction of x2")
_pow = binary("pow", "x1 to the power of x2")

acos = unary("acos", "The angle in radians whose cosine is x")
acosh = unary("acosh", "The number whose hyperbolic cosine is x")
asin = unary("asin", "The angle in radians whose sine is x")
asinh = unary("asinh", "The number whose hyperbolic sine is x")
atan = unary("atan", "The angle in radians whose tangent is x")
atanh = unary("atanh", "The number whose hyperbolic tangent is x")
cos = unary("cos", "The cosine of x radians")
cosh = unary("cosh", "The hyperbolic cosine of x")
exp = unary("exp", "e to the power of x, of a floating-point operand")
expm1 = unary("expm1", "e to the power of x, less 1, exact near 0")
log = unary("log", "The natural logarithm of x")
log10 = unary("log10", "The logarithm of x to the base 10")
log1p = unary("log1p", "The natural logarithm of 1 + x, exact near 0")
log2 = unary("log2", "The logarithm of x to the base 2")
sign = unary("sign", "-1, 0 or 1 by the sign of x; x over its magnitude for complex numbers")
sin = unary("sin", "The sine of x radians")
sinh = unary("sinh", "The hyperbolic sine of x")
sqrt = unary("sqrt", "The square root of x")
tan = unary("tan", "The tangent of x radians")
tanh = unary("tanh", "The hyperbolic tangent of x, of a floating-point operand")
abs = unary("abs", "The magnitude of x")
_ceil = unary("ceil", "x rounded up")
_conj = unary("conj", "The complex conjugate of x")
_floor = unary("floor", "x rounded down")
_round = unary("round", "x rounded to the nearest whole number, ties to the even one")
_trunc = unary("trunc", "x rounded towards 0")


def ceil(x: Array, /) -> Array:
    """x rounded up to whole numbers; integers are copied."""
    return _ceil(x) if x.dtype.kind == "float" else _copied_integers("ceil", x)


def floor(x: Array, /) -> Array:
    """x rounded down to whole numbers; integers are copied."""
    return _floor(x) if x.dtype.kind == "float" else _copied_integers("floor", x)


def round(x: Array, /) -> Array:
    """x rounded to the nearest whole numbers, ties to the even ones; integers are copied."""
    return _round(x) if x.dtype.kind in ("float", "complex") else _copied_integers("round", x)


def trunc(x: Array, /) -> Array:
    """x rounded towards 0; integers are copied."""
    return _trunc(x) if x.dtype.kind == "float" else _copied_integers("trunc", x)


def _copied_integers(name: str, x: Array) -> Array:
    if x.dtype.kind not in ("int", "uint"):
        raise InvalidDTypeError(f"{name}: {x.dtype.name} is not of the kinds int, uint, float")
    return copied(x)


def copied(x: Array) -> Array:
    """The same elements in fresh contiguous memory."""
    result: Array = apply("astype", x, dtype=x.dtype.name)
    return result


def positive(x: Array, /) -> Array:
    """+x: a copy. Raises InvalidDTypeError for truth values."""
    require_kind("positive", x, *NUMBERS)
    return copied(x)


def negative(x: Array, /) -> Array:
    """-x; the lowest integer stays what it is, and unsigned ones wrap around."""
    require_kind("negative", x, *NUMBERS)
    if x.dtype.kind in ("int", "float"):
        return multiply(x, -1)
    return subtract(-0.0 if x.dtype.kind == "complex" else 0, x)


def bitwise_invert(x: Array, /) -> Array:
    """~x: every bit of integers inverted, or truth values negated."""
    require_kind("bitwise_invert", x, "bool", "int", "uint")
    if x.dtype.kind == "bool":
        return bitwise_xor(x, True)
    return bitwise_xor(x, -1 if x.dtype.kind == "int" else (1 << 8 * x.dtype.itemsize) - 1)


def square(x: Array, /) -> Array:
    """x * x."""
    return multiply(x, x)


def reciprocal(x: Array, /) -> Array:
    """1 / x of a floating-point operand."""
    return divide(1, x)


def pow(x1: Any, x2: Any, /) -> Array:
    """x1 to the power of x2. Raises InvalidArgumentError for integers to negative powers."""
    return multiply(x1, x1) if type(x2) is int and x2 == 2 and type(x1) is Array else _pow(x1, x2)


def nextafter(x1: Any, x2: Any, /) -> Array:
    """The next number after x1 in the direction of x2. bfloat16 is refused with InvalidDTypeError."""
    if any(isinstance(x, Array) and x.dtype is dtypes.bfloat16 for x in (x1, x2)):
        raise InvalidDTypeError("nextafter: bfloat16 is computed as float32, whose neighbors are nearer")
    return _nextafter(x1, x2)


def greater(x1: Any, x2: Any, /) -> Array:
    """Whether x1 is greater than x2, element by element."""
    return less(x2, x1)


def greater_equal(x1: Any, x2: Any, /) -> Array:
    """Whether x1 is at least x2, element by element."""
    return less_equal(x2, x1)


def not_equal(x1: Any, x2: Any, /) -> Array:
    """Whether x1 differs from x2, element by element."""
    return bitwise_xor(equal(x1, x2), True)


def logical_and(x1: Any, x2: Any, /) -> Array:
    """Whether both x1 and x2 are true; both are truth values."""
    _require_truths("logical_and", x1, x2)
    return bitwise_and(x1, x2)


def logical_or(x1: Any, x2: Any, /) -> Array:
    """Whether x1 or x2 is true, or both; both are truth values."""
    _require_truths("logical_or", x1, x2)
    return bitwise_or(x1, x2)


def logical_xor(x1: Any, x2: Any, /) -> Array:
    """Whether one of x1 and x2 is true, and the other is not; both are truth values."""
    _require_truths("logical_xor", x1, x2)
    return bitwise_xor(x1, x2)


def logical_not(x: Array, /) -> Array:
    """Whether x is false; x is truth values."""
    _require_truths("logical_not", x)
    return bitwise_xor(x, True)


def _require_truths(name: str, *operands: Any) -> None:
    for operand in operands:
        if isinstance(operand, Array):
            require_kind(name, operand, "bool")


# ---- what a number is like


def isnan(x: Array, /) -> Array:
    """Whether x is NaN; a complex number is where one of its parts is."""
    require_kind("isnan", x, *NUMBERS)
    return not_equal(x, x)


def isinf(x: Array, /) -> Array:
    """Whether x is infinite; a complex number is where one of its parts is."""
    require_kind("isinf", x, *NUMBERS)
    if x.dtype.kind == "complex":
        return bitwise_or(isinf(real(x)), isinf(imag(x)))
    return equal(abs(x), np.inf) if x.dtype.kind == "float" else not_equal(x, x)


def isfinite(x: Array, /) -> Array:
    """Whether x is neither infinite nor NaN; a complex number is where both of its parts are."""
    require_kind("isfinite", x, *NUMBERS)
    if x.dtype.kind == "complex":
        return bitwise_and(isfinite(real(x)), isfinite(imag(x)))
    return less(abs(x), np.inf) if x.dtype.kind == "float" else equal(x, x)


def signbit(x: Array, /) -> Array:
    """Whether the sign bit of a floating-point number is set: also that of -0.0 and of NaN."""
    return less(copysign(1.0, x), 0.0)


# ---- complex numbers


def real(x: Array, /) -> Array:
    """The real part: a view of the same bytes; of real numbers the array itself."""
    require_kind("real", x, *NUMBERS)
    return _complex_part(x, 0) if x.dtype.kind == "complex" else x


def imag(x: Array, /) -> Array:
    """The imaginary part of complex numbers: a view of the same bytes."""
    require_kind("imag", x, "complex")
    return _complex_part(x, 1)


def _complex_part(x: Array, index: int) -> Array:
    part = real_of(x.dtype)
    return x.viewed(x.view.shape, x.view.strides, x.view.offset + index * part.itemsize, part)


def conj(x: Array, /) -> Array:
    """The complex conjugate; real numbers are copied."""
    return _conj(x) if x.dtype.kind == "complex" else positive(x)


def clip(x: Array, /, min: Any = None, max: Any = None) -> Array:
    """x, at least `min` and at most `max` (numbers or arrays, None: no bound). NaN where any of them is NaN."""
    x = asarray(x)
    require_kind("clip", x, "int", "uint", "float")
    bounds = [None if bound is None else promote(bound, x) for bound in (min, max)]
    result = x if bounds[0] is None else maximum(x, bounds[0])
    result = result if bounds[1] is None else minimum(result, bounds[1])
    return result if result is not x else copied(x)
