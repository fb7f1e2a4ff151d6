"""Shapes and places of elements (array API standard 2025.12, "Manipulation functions").

Where strides can say it, the result is a view of the same bytes: reshape (mostly), permute_dims, moveaxis, flip,
expand_dims, squeeze, broadcast_to, unstack. The rest is made of `concat`, `take` and copies.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from perfxapi import dtypes
from perfxapi.array import Array, apply, asarray
from perfxapi.dims import Shape, Size
from perfxapi.errors import InvalidArgumentError, InvalidDTypeError
from perfxapi.indexing import MAX_NDIM, complete_shape, reshaped_strides
from perfxapi.memory import check_addressable, told_memory
from perfxapi.ops.elementwise import broadcast_shapes as broadcast_two
from perfxapi.standard.axes import one_axis, several_axes
from perfxapi.standard.data_types import astype, result_type
from perfxapi.standard.elementwise import copied

Axes = int | tuple[int, ...]


def broadcast_shapes(*shapes: Shape) -> Shape:
    """The shape that shapes are broadcast to. Raises InvalidArgumentError where they do not fit."""
    result: Shape = ()
    for shape in shapes:
        result = broadcast_two("broadcast_shapes", result, tuple(shape))
    return result


def broadcast_to(x: Array, /, shape: Shape) -> Array:
    """x repeated along axes of size 1 and new first ones: a view."""
    target = tuple(shape)
    if broadcast_two("broadcast_to", x.shape, target) != target or x.dtype.is_quantized or len(target) > MAX_NDIM:
        raise InvalidArgumentError(f"broadcast_to: {list(x.shape)} of {x.dtype.name} does not fit {list(target)}")
    view, missing = x.view, len(target) - x.ndim
    kept = zip(view.shape, view.strides, target[missing:], strict=True)
    strides = (0,) * missing + tuple(stride if size == wanted else 0 for size, stride, wanted in kept)
    return x.viewed(target, strides, view.offset)


def broadcast_arrays(*arrays: Array) -> tuple[Array, ...]:
    """All arrays broadcast to one shape: views."""
    shape = broadcast_shapes(*(array.shape for array in arrays))
    return tuple(broadcast_to(array, shape) for array in arrays)


def reshape(x: Array, /, shape: Shape, *, copy: bool | None = None) -> Array:
    """The same elements in another shape; one size may be -1.

    `copy`: True always copies, None where it must, and False raises InvalidArgumentError instead.
    """
    sizes = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    if copy:
        return copied(x).reshape(sizes)
    if copy is False and reshaped_strides(x.view, complete_shape(x.shape, sizes)) is None:
        raise InvalidArgumentError(f"reshape: copy=False, but {list(x.shape)} in these strides needs one for {sizes}")
    return x.reshape(sizes)


def permute_dims(x: Array, /, axes: tuple[int, ...]) -> Array:
    """x with its axes in the given order: a view."""
    return x.permute_dims(axes)


def moveaxis(x: Array, source: Axes, destination: Axes, /) -> Array:
    """x with some axes at other places and the others in their order: a view."""
    start = several_axes("moveaxis", source, x.ndim)
    end = several_axes("moveaxis", destination, x.ndim)
    if len(start) != len(end):
        raise InvalidArgumentError(f"moveaxis: {len(start)} axes cannot go to {len(end)} places")
    rest = iter(axis for axis in range(x.ndim) if axis not in start)
    placed = dict(zip(end, start, strict=True))
    return x.permute_dims([placed[place] if place in placed else next(rest) for place in range(x.ndim)])


def expand_dims(x: Array, /, axis: Axes) -> Array:
    """x with new axes of size 1 at the given places of the result: a view."""
    count = len(axis) if isinstance(axis, tuple | list) else 1
    places = several_axes("expand_dims", axis, x.ndim + count)
    return x.part(tuple(None if place in places else slice(None) for place in range(x.ndim + count)))


def squeeze(x: Array, /, axis: Axes) -> Array:
    """x without axes, which must be of size 1: a view."""
    axes = several_axes("squeeze", axis, x.ndim)
    wrong = [place for place in axes if x.shape[place] != 1]
    if wrong:
        raise InvalidArgumentError(f"squeeze: axis {wrong[0]} of {list(x.shape)} is not of size 1")
    return x.part(tuple(0 if place in axes else slice(None) for place in range(x.ndim)))


def flip(x: Array, /, *, axis: Axes | None = None) -> Array:
    """x backwards along axes (None: along all): a view."""
    axes = several_axes("flip", axis, x.ndim)
    return x.part(tuple(slice(None, None, -1) if place in axes else slice(None) for place in range(x.ndim)))


def unstack(x: Array, /, *, axis: int = 0) -> tuple[Array, ...]:
    """The parts of x along an axis, without that axis: views."""
    place = one_axis("unstack", axis, x.ndim)
    before = (slice(None),) * place
    return tuple(x.part((*before, index)) for index in range(x.shape[place]))


def _promoted(op: str, arrays: Sequence[Any]) -> list[Array]:
    """All arrays in the dtype that they have in common."""
    if not arrays:
        raise InvalidArgumentError(f"{op}: at least one array must be given")
    given = [asarray(array) for array in arrays]
    dtype = result_type(*given)
    return [astype(array, dtype, copy=False) for array in given]


def concat(arrays: Sequence[Array], /, *, axis: int | None = 0) -> Array:
    """Arrays one after another along an axis; with None, all of their elements in a row."""
    parts = _promoted("concat", arrays)
    if axis is None:
        parts, axis = [part.reshape(-1) for part in parts], 0
    result: Array = apply("concat", *parts, axis=one_axis("concat", axis, parts[0].ndim))
    return result


def stack(arrays: Sequence[Array], /, *, axis: int = 0) -> Array:
    """Arrays of one shape along a new axis."""
    parts = _promoted("stack", arrays)
    shapes = {part.shape for part in parts}
    if len(shapes) > 1:
        raise InvalidArgumentError(f"stack: the arrays have different shapes: {sorted(map(str, shapes))}")
    place = one_axis("stack", axis, parts[0].ndim + 1)
    return concat([expand_dims(part, place) for part in parts], axis=place)


def roll(x: Array, /, shift: Axes, *, axis: Axes | None = None) -> Array:
    """Elements moved along axes, those past the end to the front; without an axis, in the flattened array."""
    if axis is None:
        if isinstance(shift, tuple | list):
            raise InvalidArgumentError("roll: several shifts need as many axes")
        return roll(x.reshape(-1), shift, axis=0).reshape(x.shape)
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    shifts = shift if isinstance(shift, tuple | list) else (shift,) * len(axes)
    if len(shifts) != len(axes):
        raise InvalidArgumentError(f"roll: {len(shifts)} shifts for {len(axes)} axes")
    result = x
    for by, place in zip(shifts, axes, strict=True):
        result = _rolled(result, operator.index(by), one_axis("roll", place, x.ndim))
    return result if result is not x else copied(x)


def _rolled(x: Array, shift: int, axis: int) -> Array:
    size = int(x.shape[axis])
    cut = -shift % size if size else 0
    if not cut:
        return x
    before = (slice(None),) * axis
    result: Array = apply("concat", x.part((*before, slice(cut, None))), x.part((*before, slice(cut))), axis=axis)
    return result


def repeat(x: Array, repeats: int | Array, /, *, axis: int | None = None) -> Array:
    """Each element several times in a row along an axis; without one, of the flattened array.

    `repeats` is one number, or an array with one for each element, whose values decide the shape of the result: traced
    ones raise TraceError.
    """
    if axis is None:
        return repeat(x.reshape(-1), repeats, axis=0)
    place = one_axis("repeat", axis, x.ndim)
    size = int(x.shape[place])
    counts = np.asarray(repeats)
    if counts.dtype.kind not in "iu":
        raise InvalidDTypeError(f"repeat: repeats must be integers; got {counts.dtype}")
    if counts.ndim > 1 or (counts.size not in (1, size)) or np.any(counts < 0):
        raise InvalidArgumentError(f"repeat: repeats must be a count, or {size} of them, from 0 on; got {counts!r}")
    num_results = int(counts.sum(dtype=np.float64)) * (1 if counts.size == size else size)
    check_addressable("repeat", (num_results,), dtypes.int64)
    with told_memory("repeat"):
        indices = np.repeat(np.arange(size), counts if counts.size == size else counts.reshape(()))
    result: Array = apply("take", x, asarray(indices, device=x.device), axis=place)
    return result


def tile(x: Array, repetitions: tuple[int, ...], /) -> Array:
    """x put side by side, so often along each axis; missing first numbers are 1, missing first axes are new."""
    times = tuple(operator.index(number) for number in repetitions)
    if any(number < 0 for number in times):
        raise InvalidArgumentError(f"tile: repetitions must not be negative; got {times}")
    ndim = max(len(times), x.ndim)
    times, shape = (1,) * (ndim - len(times)) + times, (1,) * (ndim - x.ndim) + x.shape
    spread: tuple[Size, ...] = tuple(s for number, size in zip(times, shape, strict=True) for s in (number, size))
    apart = x.reshape(tuple(s for size in shape for s in (1, size)))
    return copied(broadcast_to(apart, spread)).reshape(tuple(n * s for n, s in zip(times, shape, strict=True)))


def diff(
    x: Array, /, *, axis: int = -1, n: int = 1, prepend: Array | None = None, append: Array | None = None
) -> Array:
    """What each element differs by from the one before it along an axis, `n` times over."""
    place = one_axis("diff", axis, x.ndim)
    if operator.index(n) < 0:
        raise InvalidArgumentError(f"diff: n must not be negative; got {n}")
    parts = [part for part in (prepend, x, append) if part is not None]
    result = concat(parts, axis=place) if len(parts) > 1 else x
    before = (slice(None),) * place
    for _ in range(n):
        later, earlier = result.part((*before, slice(1, None))), result.part((*before, slice(None, -1)))
        result = apply("bitwise_xor" if result.dtype.kind == "bool" else "subtract", later, earlier)
    return result if result is not x else copied(x)
