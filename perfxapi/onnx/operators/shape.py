"""Shapes and places of elements: views where strides can say it, else copies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from perfxapi import standard as px
from perfxapi.array import Array
from perfxapi.errors import InvalidArgumentError
from perfxapi.onnx.element_types import host_dtype
from perfxapi.onnx.operators.choices import choice
from perfxapi.onnx.operators.moving import moves
from perfxapi.onnx.registry import OperatorNode, Value, from_host, known, known_ints, operator


def sizes_of(value: Any) -> tuple[int, ...]:
    """The shape of a tensor, wherever it is held."""
    return tuple(int(size) for size in value.shape)


def normalized(axis: int, ndim: int) -> int:
    """An axis counted from the front. Raises InvalidArgumentError where there is none."""
    if not -ndim <= axis < max(ndim, 1):
        raise InvalidArgumentError(f"axis {axis} is not one of {ndim} axes")
    return axis + ndim if axis < 0 else axis


def _given(node: OperatorNode, name: str, operand: Value, operand_since: int) -> list[int] | None:
    """Whole numbers that are an attribute before an opset and an operand from it on."""
    if node.version < operand_since:
        values = node.attribute(name)
        return None if values is None else [int(value) for value in values]
    return None if operand is None else known_ints(operand)


# ---- shapes as values


@operator("Shape")
def shape(node: OperatorNode, x: Value) -> Value:
    """The sizes of the axes from `start` to before `end`, as int64."""
    sizes = sizes_of(x)
    return from_host(np.array(sizes[node.attribute("start", 0) : node.attribute("end")], np.int64), node.device)


@operator("Size")
def size(node: OperatorNode, x: Value) -> Value:
    """The number of elements, as int64."""
    return from_host(np.array(math.prod(sizes_of(x)), np.int64), node.device)


@operator("ConstantOfShape")
def constant_of_shape(node: OperatorNode, shape: Value) -> Value:
    """A tensor of that shape filled with the one element of `value`; by default with 0.0 of float32."""
    value = np.asarray(node.attribute("value", np.zeros(1, np.float32))).reshape(())
    return from_host(np.full(known_ints(shape), value, value.dtype), node.device)


@operator("Range")
def numbers_between(node: OperatorNode, start: Value, limit: Value, delta: Value) -> Value:
    """start, start + delta, ... before limit."""
    first, last, step = (known(number).reshape(()) for number in (start, limit, delta))
    wide = (lambda x: int(x)) if first.dtype.kind in "iu" else (lambda x: float(x))
    count = max(0, math.ceil((wide(last) - wide(first)) / wide(step)))
    steps = np.arange(count).astype(first.dtype)
    return from_host((first + steps * step).astype(first.dtype), node.device)


@operator("EyeLike")
def eye_like(node: OperatorNode, x: Value) -> Value:
    """Ones on diagonal `k`, zeros elsewhere, in the shape of a matrix, of type `dtype` or that of the matrix."""
    rows, columns = sizes_of(x)
    code = node.attribute("dtype")
    if code is None and isinstance(x, Array):
        return px.eye(rows, columns, k=node.attribute("k", 0), dtype=x.dtype, device=node.device)
    dtype = host_dtype(code) if code is not None else known(x).dtype
    return from_host(np.eye(rows, columns, node.attribute("k", 0)).astype(dtype), node.device)


# ---- views


@operator("Identity")
def identity(node: OperatorNode, x: Value) -> Value:
    """x itself."""
    return x


@operator("Reshape")
@moves(0)
def reshape(node: OperatorNode, x: Array, shape: Value = None) -> Array:
    """The same elements in another shape: 0 keeps a size (unless `allowzero`), -1 is worked out."""
    wanted = _given(node, "shape", shape, 5) or []
    if not node.attribute("allowzero", 0):
        wanted = [int(x.shape[place]) if size == 0 else size for place, size in enumerate(wanted)]
    return x.reshape(tuple(wanted))


@operator("Flatten")
@moves(0)
def flatten(node: OperatorNode, x: Array) -> Array:
    """A matrix: the axes before `axis` are its rows, the others its columns."""
    axis = node.attribute("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    sizes = sizes_of(x)
    return x.reshape((math.prod(sizes[:axis]), math.prod(sizes[axis:])))


@operator("Transpose")
@moves(0)
def transpose(node: OperatorNode, x: Array) -> Array:
    """The axes in the order of `perm`, by default reversed."""
    return px.permute_dims(x, tuple(node.attribute("perm") or reversed(range(x.ndim))))


@operator("Squeeze")
@moves(0)
def squeeze(node: OperatorNode, x: Array, axes: Value = None) -> Array:
    """x without axes of size 1: those given, or all."""
    given = _given(node, "axes", axes, 13)
    places = [place for place, size in enumerate(x.shape) if size == 1] if given is None else given
    return px.squeeze(x, axis=tuple(places))


@operator("Unsqueeze")
@moves(0)
def unsqueeze(node: OperatorNode, x: Array, axes: Value = None) -> Array:
    """x with new axes of size 1 at these places of the result."""
    return px.expand_dims(x, axis=tuple(_given(node, "axes", axes, 13) or []))


@operator("Expand")
@moves(0)
def expand(node: OperatorNode, x: Array, shape: Value) -> Array:
    """x broadcast with a shape."""
    return px.broadcast_to(x, px.broadcast_shapes(x.shape, tuple(known_ints(shape))))


@operator("Slice")
@moves(0)
def slice_axes(
    node: OperatorNode, x: Array, starts: Value = None, ends: Value = None, axes: Value = None, steps: Value = None
) -> Array:
    """From `starts` to before `ends` in `steps` along axes; what lies outside is cut, negative places count from the
    end."""
    first, last = _given(node, "starts", starts, 10) or [], _given(node, "ends", ends, 10) or []
    places = _given(node, "axes", axes, 10) or list(range(len(first)))
    by = known_ints(steps) if steps is not None else [1] * len(first)
    key: list[Any] = [slice(None)] * x.ndim
    for axis, start, end, step in zip(places, first, last, by, strict=True):
        place = normalized(axis, x.ndim)
        key[place] = _slice(start, end, step, int(x.shape[place]))
    return x[tuple(key)]


def _slice(start: int, end: int, step: int, size: int) -> slice:
    """A slice as Python takes it: going down, an end before the first element is None.

    Unlike Python's, a start before the first element is that element in both directions.
    """
    start = start + size if start < 0 else start
    end = end + size if end < 0 else end
    if step > 0:
        return slice(min(max(start, 0), size), min(max(end, 0), size), step)
    start, end = min(max(start, 0), size - 1), min(max(end, -1), size - 1)
    if start <= end:
        return slice(0, 0)
    return slice(start, None if end < 0 else end, step)


@operator("Split")
@moves(0)
def split(node: OperatorNode, x: Array, sizes: Value = None) -> tuple[Array, ...]:
    """Parts along an axis: of given sizes, or as many as there are outputs, of which the last may be smaller."""
    axis = normalized(node.attribute("axis", 0), x.ndim)
    # The first version has them as either; from 2 to 12 they are an attribute.
    given = _given(node, "split", sizes, 1 if sizes is not None else 13)
    size, count = int(x.shape[axis]), int(node.attribute("num_outputs", len(node.outputs)))
    if given is None and node.version < 18 and size % count:
        raise InvalidArgumentError(
            f"{node}: {size} elements along axis {axis} cannot be split into {count} equal parts"
        )
    return tuple(cut(x, axis, even_parts(size, -(-size // count), count) if given is None else given))


def even_parts(size: int, part: int, count: int) -> list[int]:
    """`count` sizes of `part` each, as far as `size` goes."""
    return [max(0, min(part, size - index * part)) for index in range(count)]


def cut(x: Array, axis: int, sizes: Sequence[int]) -> list[Array]:
    """x cut along an axis into parts of these sizes."""
    if sum(sizes) != x.shape[axis]:
        raise InvalidArgumentError(f"parts of {list(sizes)} do not make up {x.shape[axis]} along axis {axis}")
    ends = np.cumsum(sizes).tolist()
    before = (slice(None),) * axis
    return [x[(*before, slice(end - size, end))] for end, size in zip(ends, sizes, strict=True)]


# ---- copies


@operator("Concat")
@moves(every=True)
def concat(node: OperatorNode, *parts: Array) -> Array:
    """Tensors one after another along an axis (before opset 4 by default the second)."""
    axis = node.attribute("axis", 1)
    return px.concat(list(parts), axis=axis)


@operator("Tile")
@moves(0)
def tile(node: OperatorNode, x: Array, repeats: Value, axis: Value = None) -> Array:
    """x put side by side; before opset 6 along one axis only."""
    times = known_ints(repeats)
    if axis is not None:
        place = known_ints(axis)[0]
        times = [times[0] if at == place else 1 for at in range(x.ndim)]
    return px.tile(x, tuple(times))


@operator("Trilu")
def triangle(node: OperatorNode, x: Array, k: Value = None) -> Array:
    """The upper (or lower) triangles of a stack of matrices, zeros beside."""
    diagonal = 0 if k is None else known_ints(k)[0]
    rows, columns = sizes_of(x)[-2:]
    whole = np.ones((rows, columns), np.bool_)
    kept = np.triu(whole, diagonal) if node.attribute("upper", 1) else np.tril(whole, diagonal)
    return px.where(px.asarray(kept, device=node.device), x, False if x.dtype.kind == "bool" else 0)


@operator("DepthToSpace")
@moves(0)
def depth_to_space(node: OperatorNode, x: Array) -> Array:
    """Channels laid out as blocks of pixels: in `mode` DCR the blocks' channels come first, in CRD the image's."""
    block = node.required("blocksize")
    count, channels, height, width = sizes_of(x)
    rest = channels // block**2
    if choice(node, "mode", ("DCR", "CRD"), "DCR") == "DCR":
        apart = x.reshape((count, block, block, rest, height, width)).permute_dims((0, 3, 4, 1, 5, 2))
    else:
        apart = x.reshape((count, rest, block, block, height, width)).permute_dims((0, 1, 4, 2, 5, 3))
    return apart.reshape((count, rest, height * block, width * block))


@operator("SpaceToDepth")
@moves(0)
def space_to_depth(node: OperatorNode, x: Array) -> Array:
    """Blocks of pixels laid out as channels: the inverse of `DepthToSpace`."""
    block = node.required("blocksize")
    count, channels, height, width = sizes_of(x)
    apart = x.reshape((count, channels, height // block, block, width // block, block))
    if choice(node, "mode", ("DCR", "CRD"), "DCR") == "DCR":
        apart = apart.permute_dims((0, 3, 5, 1, 2, 4))
    else:
        apart = apart.permute_dims((0, 1, 3, 5, 2, 4))
    return apart.reshape((count, channels * block**2, height // block, width // block))


@operator("ReverseSequence")
@moves(0)
def reverse_sequence(node: OperatorNode, x: Array, lengths: Value) -> Array:
    """The first `lengths` elements of each sequence of a batch backwards, along the time axis."""
    time = node.attribute("time_axis", 0)
    rows = x if time == 1 else x.permute_dims((1, 0, *range(2, x.ndim)))
    steps = px.arange(int(rows.shape[1]), device=node.device)[None, :]
    count = px.asarray(lengths)[:, None]
    places = px.where(px.less(steps, count), px.subtract(px.subtract(count, 1), steps), steps)
    places = places.reshape((*places.shape, *(1,) * (x.ndim - 2)))
    result = px.take_along_axis(rows, places, axis=1)
    return result if time == 1 else result.permute_dims((1, 0, *range(2, x.ndim)))


# ---- padding


@operator("CenterCropPad")
def center_crop_pad(node: OperatorNode, x: Value, shape: Value) -> Value:
    """x cut or padded with zeros on both sides of some axes to these sizes."""
    given = node.attribute("axes")
    ndim = len(sizes_of(x))
    axes = range(ndim) if given is None else [normalized(axis, ndim) for axis in given]
    key: list[Any] = [slice(None)] * ndim
    before, after = [0] * ndim, [0] * ndim
    for axis, wanted in zip(axes, known_ints(shape), strict=True):
        size = sizes_of(x)[axis]
        if wanted <= size:
            start = (size - wanted) // 2
            key[axis] = slice(start, start + wanted)
        else:
            before[axis] = (wanted - size) // 2
            after[axis] = wanted - size - before[axis]
    if not isinstance(x, Array):
        return np.pad(known(x)[tuple(key)], list(zip(before, after, strict=True)))
    return padded(x[tuple(key)], before, after, False if x.dtype.kind == "bool" else 0)


def padded(x: Array, before: Sequence[int], after: Sequence[int], value: Any = 0) -> Array:
    """x between so many elements `value` on each side of its axes."""
    for axis in range(x.ndim):
        sides = []
        for count in (before[axis], after[axis]):
            sizes = (*x.shape[:axis], count, *x.shape[axis + 1 :])
            filled = px.broadcast_to(value, sizes) if isinstance(value, Array) else _filled(x, value, sizes)
            sides.append([filled] if count else [])
        if before[axis] or after[axis]:
            x = px.concat([*sides[0], x, *sides[1]], axis=axis)
    return x


def _filled(x: Array, value: Any, sizes: Any) -> Array:
    return px.broadcast_to(px.full((), value, dtype=x.dtype, device=x.device), sizes)


@operator("Pad")
def pad(node: OperatorNode, x: Array, pads: Value = None, value: Value = None, axes: Value = None) -> Array:
    """x with elements added to (or, where a pad is negative, taken from) both sides of its axes.

    `mode` says which: `constant`, `reflect` (without the edge), `edge`, or `wrap`.
    """
    name = "pads" if node.version >= 2 else "paddings"
    given = _given(node, name, pads, 11) or []
    places = [normalized(axis, x.ndim) for axis in known_ints(axes)] if axes is not None else list(range(x.ndim))
    before, after = [0] * x.ndim, [0] * x.ndim
    for at, axis in enumerate(places):
        before[axis], after[axis] = given[at], given[at + len(places)]
    key = tuple(slice(max(0, -b), int(s) - max(0, -a)) for b, a, s in zip(before, after, x.shape, strict=True))
    x = x[key]
    before, after = [max(0, b) for b in before], [max(0, a) for a in after]
    mode = choice(node, "mode", ("constant", "reflect", "edge", "wrap"), "constant")
    if mode != "constant":
        return _mirrored(x, before, after, mode)
    if node.version < 11:
        value = node.attribute("value", 0.0)
    elif isinstance(value, Array):
        value = value.reshape(())
    return padded(x, before, after, _zero(x) if value is None else value)


def _zero(x: Array) -> Any:
    return False if x.dtype.kind == "bool" else 0


def _mirrored(x: Array, before: Sequence[int], after: Sequence[int], mode: str) -> Array:
    """Padding by elements of x itself: for each axis the places that they come from are known."""
    numpy_mode: Any = mode  # NumPy has the same names
    for axis, counts in enumerate(zip(before, after, strict=True)):
        if any(counts):
            places = np.pad(np.arange(int(x.shape[axis])), counts, mode=numpy_mode)
            x = px.take(x, px.asarray(places, device=x.device), axis=axis)
    return x
