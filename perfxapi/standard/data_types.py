"""Conversion, promotion and limits of dtypes (array API standard 2025.12, "Data type functions"), and constants."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from perfxapi import dtypes
from perfxapi.array import Array, apply, dtype_beside, moved
from perfxapi.device import Device
from perfxapi.dtypes import DType, dtype_of, real_of
from perfxapi.errors import InvalidArgumentError, InvalidDTypeError
from perfxapi.policy import get_device

e = math.e
inf = math.inf
nan = math.nan
pi = math.pi
newaxis = None

KINDS = {
    "bool": ("bool",),
    "signed integer": ("int",),
    "unsigned integer": ("uint",),
    "integral": ("int", "uint"),
    "real floating": ("float",),
    "complex floating": ("complex",),
    "numeric": ("int", "uint", "float", "complex"),
}
"""The standard's names for kinds of dtypes, and ours."""


class FInfo(NamedTuple):
    """Limits of a floating-point dtype: of its parts, where it is complex."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: DType


class IInfo(NamedTuple):
    """Limits of an integer dtype."""

    bits: int
    max: int
    min: int
    dtype: DType


def _dtype(value: DType | Array | str) -> DType:
    return value.dtype if isinstance(value, Array) else dtype_of(value)


def finfo(type: DType | Array, /) -> FInfo:
    """Limits of a floating-point dtype (or of an array's). Raises InvalidDTypeError for others."""
    part = real_of(_dtype(type))
    if part.kind != "float":
        raise InvalidDTypeError(f"finfo: {part.name} is no floating-point dtype")
    if part is dtypes.bfloat16:
        largest = float(np.finfo(np.float32).max) * (2 - 2**-7) / (2 - 2**-23)
        return FInfo(16, 2.0**-7, largest, -largest, 2.0**-126, part)
    limits: Any = np.finfo(part.numpy)
    numbers = {name: float(getattr(limits, name)) for name in ("eps", "max", "min", "smallest_normal")}
    return FInfo(bits=limits.bits, dtype=part, **numbers)


def iinfo(type: DType | Array, /) -> IInfo:
    """Limits of an integer dtype (or of an array's). Raises InvalidDTypeError for others."""
    dtype = _dtype(type)
    if dtype.kind not in ("int", "uint"):
        raise InvalidDTypeError(f"iinfo: {dtype.name} is no integer dtype")
    limits: Any = np.iinfo(dtype.numpy)
    return IInfo(limits.bits, int(limits.max), int(limits.min), dtype)


def isdtype(dtype: DType, kind: DType | str | tuple[DType | str, ...]) -> bool:
    """Whether a dtype is `kind`: a dtype, a kind's name such as "integral", or a tuple of these."""
    if isinstance(kind, tuple):
        return any(isdtype(dtype, one) for one in kind)
    if isinstance(kind, DType):
        return dtype is kind
    if kind not in KINDS:
        raise InvalidArgumentError(f"isdtype: kind must be one of {', '.join(KINDS)}; got {kind!r}")
    return _dtype(dtype).kind in KINDS[kind]


def result_type(*arrays_and_dtypes: Any) -> DType:
    """The dtype that arrays, dtypes and Python numbers are promoted to.

    Raises InvalidDTypeError where kinds do not mix.
    """
    numbers = [value for value in arrays_and_dtypes if isinstance(value, bool | int | float | complex)]
    known = [_dtype(v) for v in arrays_and_dtypes if not isinstance(v, bool | int | float | complex)]
    if not known:
        raise InvalidArgumentError("result_type: at least one array or dtype must be given")
    result = reduce(dtypes.result_type, known)
    for number in numbers:
        result = dtypes.result_type(result, dtype_beside(number, result))
    return result


def can_cast(from_: DType | Array, to: DType, /) -> bool:
    """Whether type promotion may turn the one dtype into the other."""
    try:
        return dtypes.result_type(_dtype(from_), to) is to
    except InvalidDTypeError:
        return False


def astype(x: Array, dtype: DType | str, /, *, copy: bool = True, device: Device | str | None = None) -> Array:
    """The elements in another dtype; with `copy=False` the array itself where it has that dtype.

    Raises InvalidDTypeError for complex numbers to real ones.
    """
    kind = dtype_of(dtype)
    target = x if device is None else moved(x, get_device(device))
    if kind is x.dtype and not copy:
        return target
    result: Array = apply("astype", target, dtype=kind.name)
    return result
