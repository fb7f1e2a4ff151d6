"""Sums and squares of 16-bit floats, which would overflow or lose digits in their own type: computed in float32."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec

from perfxapi import dtypes
from perfxapi import standard as px
from perfxapi.array import Array

_Rest = ParamSpec("_Rest")


def widened(x: Array) -> Array:
    """x as float32 where it is of 16-bit floats, else as it is."""
    return px.astype(x, dtypes.float32) if x.dtype in (dtypes.float16, dtypes.bfloat16) else x


def rounded_once(function: Callable[Concatenate[Array, _Rest], Array]) -> Callable[Concatenate[Array, _Rest], Array]:
    """A function of an array, computed in float32 for 16-bit floats; its result has the dtype of the array."""

    @wraps(function)
    def wide(x: Array, /, *rest: _Rest.args, **named: _Rest.kwargs) -> Array:
        return px.astype(function(widened(x), *rest, **named), x.dtype, copy=False)

    return wide
