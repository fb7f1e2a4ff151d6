"""Axes as users give them: None, one, or several, negative ones counted from the last."""

from __future__ import annotations

import operator
from typing import Any

from perfxapi.errors import InvalidArgumentError, InvalidIndexError


def one_axis(op: str, axis: Any, ndim: int) -> int:
    """The axis counted from the front. Raises InvalidIndexError where there is no such axis."""
    try:
        place = operator.index(axis)
    except TypeError:
        raise InvalidArgumentError(f"{op}: an axis must be a whole number; got {axis!r}") from None
    if not -ndim <= place < ndim:
        raise InvalidIndexError(f"{op}: axis {place} is not one of the {ndim} axes -{ndim}..{ndim - 1}")
    return place + ndim if place < 0 else place


def several_axes(op: str, axis: Any, ndim: int) -> tuple[int, ...]:
    """The axes counted from the front, in the order given; None stands for all.

    Raises InvalidIndexError where there is no such axis, InvalidArgumentError where one is given twice.
    """
    if axis is None:
        return tuple(range(ndim))
    axes = tuple(one_axis(op, a, ndim) for a in (axis if isinstance(axis, tuple | list) else (axis,)))
    if len(set(axes)) < len(axes):
        raise InvalidArgumentError(f"{op}: axis {axis!r} names an axis twice")
    return axes
