"""Which shape, strides and offset an index or a new shape gives: NumPy's basic indexing, on symbolic shapes too."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from perfxapi.dims import Dim, Shape, Size, product
from perfxapi.errors import InvalidArgumentError, InvalidIndexError, TraceError
from perfxapi.memory import View

MAX_NDIM = 64


def complete_shape(shape: Shape, sizes: tuple[Size, ...]) -> Shape:
    """The shape to reshape to, with a size of -1 worked out. Raises InvalidArgumentError or TraceError."""
    wanted: list[Size] = [size if isinstance(size, Dim) else operator.index(size) for size in sizes]
    if any(isinstance(size, int) and size < -1 for size in wanted):
        raise InvalidArgumentError(f"reshape: {sizes} has a negative size")
    holes = [index for index, size in enumerate(wanted) if isinstance(size, int) and size == -1]
    total = product(shape)
    if len(holes) == 1:
        rest = product(size for index, size in enumerate(wanted) if index != holes[0])
        if isinstance(total, Dim) or isinstance(rest, Dim):
            raise TraceError("reshape: a size of -1 cannot be worked out among symbolic dimensions; name it")
        wanted[holes[0]] = total // rest if rest else 0
    if len(holes) > 1 or product(wanted) != total:
        raise InvalidArgumentError(f"reshape: {shape} does not fit into {sizes}")
    if len(wanted) > MAX_NDIM:
        raise InvalidArgumentError(f"reshape: {len(wanted)} dimensions are more than {MAX_NDIM}")
    return tuple(wanted)


def reshaped_strides(view: View, target: Shape) -> Shape | None:
    """Strides that give a view another shape over the same bytes; None where its elements must be copied."""
    if view.is_contiguous:
        return View.contiguous(view.dtype, target)
    if view.dtype.is_quantized or any(isinstance(size, Dim) for size in (*view.shape, *view.strides, *target)):
        return None
    if 0 in target:
        return View.contiguous(view.dtype, target)
    runs = _runs([(int(size), int(stride)) for size, stride in zip(view.shape, view.strides, strict=True) if size != 1])
    strides: list[Size] = []
    for size in reversed(target):
        if size == 1:
            strides.append(strides[-1] if strides else view.dtype.itemsize)
            continue
        if runs and runs[-1][0] == 1:
            runs.pop()
        if not runs or runs[-1][0] % int(size):
            return None
        count, stride = runs[-1]
        strides.append(stride)
        runs[-1] = count // int(size), stride * int(size)
    return tuple(reversed(strides))


def _runs(axes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Neighboring axes joined where one goes on where the other ends: each as its size and its innermost stride."""
    runs: list[tuple[int, int]] = []
    for size, stride in axes:
        if runs and runs[-1][1] == size * stride:
            runs[-1] = runs[-1][0] * size, stride
        else:
            runs.append((size, stride))
    return runs


def expand_key(key: tuple[Any, ...], ndim: int) -> tuple[Any, ...]:
    """An index with an item for each axis (and None for new ones): `...` and what is left out are whole slices.

    Raises InvalidIndexError where the array has not as many axes.
    """
    ellipses = [place for place, item in enumerate(key) if item is Ellipsis]
    new_axes = sum(item is None for item in key)
    taken = len(key) - new_axes - len(ellipses)
    if len(ellipses) > 1 or taken > ndim or ndim + new_axes > MAX_NDIM:
        raise InvalidIndexError(f"index {key!r} does not fit an array of {ndim} dimensions")
    at = ellipses[0] if ellipses else len(key)
    return (*key[:at], *(slice(None),) * (ndim - taken), *key[at + 1 :])


def index_view(view: View, key: tuple[Any, ...]) -> tuple[Shape, Shape, int]:
    """Shape, strides and offset of the part of a view. Raises InvalidIndexError or TraceError."""
    if view.dtype.is_quantized:
        raise InvalidArgumentError("quantized arrays cannot be indexed: use embedding or take_rows")
    items = expand_key(key, len(view.shape))
    shape: list[Size] = []
    strides: list[Size] = []
    offset, axis = view.offset, 0
    for item in items:
        if item is None:
            shape.append(1)
            strides.append(0)
            continue
        start, length, step = _axis_index(item, view.shape[axis], axis)
        stride = view.strides[axis]
        if start:
            if isinstance(stride, Dim):
                raise TraceError("an index into an axis whose stride is symbolic cannot be traced")
            offset += start * stride
        if length is not None:
            shape.append(length)
            strides.append(stride if step == 1 else stride * step)
        axis += 1
    return tuple(shape), tuple(strides), view.offset if 0 in shape else offset


def _axis_index(item: Any, size: Size, axis: int) -> tuple[int, Size | None, int]:
    """Start, length (None: the axis goes) and step of one index item."""
    if isinstance(item, slice) and item == slice(None):
        return 0, size, 1
    if isinstance(size, Dim):
        raise TraceError(f"axis {axis} has the symbolic size {size!r}: only a full slice can be traced")
    if isinstance(item, slice):
        try:
            start, stop, step = item.indices(size)
        except (TypeError, ValueError) as error:
            raise InvalidIndexError(f"index {item!r} of axis {axis}: {error}") from None
        length = len(range(start, stop, step))
        return start if length else 0, length, step
    if isinstance(item, int | np.integer) and not isinstance(item, bool):
        position = int(item) + (size if item < 0 else 0)
        if not 0 <= position < size:
            raise InvalidIndexError(f"index {item} is out of range for axis {axis} of size {size}")
        return position, None, 1
    raise InvalidIndexError(f"index {item!r} is not an integer, slice, ... or None")
