"""Sums, extremes, averages and running sums (array API standard 2025.12, "Statistical" and "Utility functions").

`axis` is None (all), one axis or several; with `keepdims` the reduced axes stay, of size 1.
"""

from __future__ import annotations

import builtins
from typing import Any

from perfxapi import dtypes
from perfxapi.array import Array, apply
from perfxapi.dims import product
from perfxapi.dtypes import DType, dtype_of
from perfxapi.errors import InvalidArgumentError
from perfxapi.ops.spec import FLOATS, require_kind
from perfxapi.standard.axes import one_axis, several_axes
from perfxapi.standard.creation import ones, zeros
from perfxapi.standard.data_types import astype
from perfxapi.standard.elementwise import abs, divide, multiply, not_equal, sqrt, subtract
from perfxapi.standard.manipulation import concat

Axes = int | tuple[int, ...] | None


def _reduce(op: str, x: Array, axis: Axes, keepdims: bool) -> Array:
    result: Array = apply(op, x, axes=tuple(sorted(several_axes(op, axis, x.ndim))), keepdims=int(keepdims))
    return result


def _widened(x: Array, dtype: DType | str | None) -> Array:
    """x in the dtype that sums of it are in: whole numbers (and truth values) as 64 bits, if no other is given."""
    if dtype is not None:
        return astype(x, dtype_of(dtype), copy=False)
    wide = {"int": dtypes.int64, "uint": dtypes.uint64, "bool": dtypes.int64}.get(x.dtype.kind, x.dtype)
    return astype(x, wide, copy=False)


def sum(x: Array, /, *, axis: Axes = None, dtype: DType | str | None = None, keepdims: bool = False) -> Array:
    """The sum; of no elements 0. Integers are summed as int64 or uint64 where no dtype is given."""
    return _reduce("sum", _widened(x, dtype), axis, keepdims)


def prod(x: Array, /, *, axis: Axes = None, dtype: DType | str | None = None, keepdims: bool = False) -> Array:
    """The product; of no elements 1. Integers are multiplied as int64 or uint64 where no dtype is given."""
    return _reduce("prod", _widened(x, dtype), axis, keepdims)


def max(x: Array, /, *, axis: Axes = None, keepdims: bool = False) -> Array:
    """The largest element, NaN where there is one. Raises InvalidArgumentError for no elements."""
    return _reduce("max", x, axis, keepdims)


def min(x: Array, /, *, axis: Axes = None, keepdims: bool = False) -> Array:
    """The smallest element, NaN where there is one. Raises InvalidArgumentError for no elements."""
    return _reduce("min", x, axis, keepdims)


def _truths(x: Array) -> Array:
    """Which elements are not 0, as numbers that can be reduced over no elements."""
    return x if x.dtype.kind == "bool" else not_equal(x, 0)


def all(x: Array, /, *, axis: Axes = None, keepdims: bool = False) -> Array:
    """Whether all elements are true (not 0); of no elements true."""
    return _over_truths("all", "min", "prod", x, axis, keepdims)


def any(x: Array, /, *, axis: Axes = None, keepdims: bool = False) -> Array:
    """Whether any element is true (not 0); of no elements false."""
    return _over_truths("any", "max", "sum", x, axis, keepdims)


def _over_truths(name: str, op: str, of_none: str, x: Array, axis: Axes, keepdims: bool) -> Array:
    axes, truths = several_axes(name, axis, x.ndim), _truths(x)
    if builtins.any(x.shape[place] == 0 for place in axes):
        return astype(_reduce(of_none, astype(truths, dtypes.int64), axis, keepdims), dtypes.bool_)
    return _reduce(op, truths, axes, keepdims)


def count_nonzero(x: Array, /, *, axis: Axes = None, keepdims: bool = False) -> Array:
    """How many elements are not 0, as int64."""
    return _reduce("sum", astype(_truths(x), dtypes.int64), axis, keepdims)


def mean(x: Array, /, *, axis: Axes = None, keepdims: bool = False) -> Array:
    """The average of floating-point numbers; of no elements NaN."""
    require_kind("mean", x, *FLOATS)
    return divide(_reduce("sum", x, axis, keepdims), float(_count("mean", x, axis)))


def var(x: Array, /, *, axis: Axes = None, correction: float = 0.0, keepdims: bool = False) -> Array:
    """The average square of the distance from the average; the sum is divided by the count less `correction`."""
    require_kind("var", x, *FLOATS)
    apart = subtract(x, mean(x, axis=axis, keepdims=True))
    squares = multiply(abs(apart), abs(apart)) if x.dtype.kind == "complex" else multiply(apart, apart)
    count = builtins.max(_count("var", x, axis) - correction, 0.0)
    return divide(_reduce("sum", squares, axis, keepdims), float(count))


def std(x: Array, /, *, axis: Axes = None, correction: float = 0.0, keepdims: bool = False) -> Array:
    """The root of `var`."""
    return sqrt(var(x, axis=axis, correction=correction, keepdims=keepdims))


def _count(name: str, x: Array, axis: Axes) -> int:
    """How many elements each result comes from; a symbolic size raises TraceError."""
    return int(product(x.shape[place] for place in several_axes(name, axis, x.ndim)))


def cumulative_sum(
    x: Array, /, *, axis: int | None = None, dtype: DType | str | None = None, include_initial: bool = False
) -> Array:
    """The sums up to each element along an axis, which only vectors may leave out; with an initial 0, if asked for."""
    return _running("cumulative_sum", x, axis, dtype, zeros if include_initial else None)


def cumulative_prod(
    x: Array, /, *, axis: int | None = None, dtype: DType | str | None = None, include_initial: bool = False
) -> Array:
    """The products up to each element along an axis, which only vectors may leave out; with an initial 1, if asked."""
    return _running("cumulative_prod", x, axis, dtype, ones if include_initial else None)


def _running(op: str, x: Array, axis: int | None, dtype: DType | str | None, initial: Any) -> Array:
    if axis is None and x.ndim != 1:
        raise InvalidArgumentError(f"{op}: axis must be given for an array of {x.ndim} dimensions")
    place = one_axis(op, 0 if axis is None else axis, x.ndim)
    result: Array = apply(op, _widened(x, dtype), axis=place)
    if initial is None:
        return result
    shape = (*result.shape[:place], 1, *result.shape[place + 1 :])
    return concat([initial(shape, dtype=result.dtype, device=result.device), result], axis=place)
