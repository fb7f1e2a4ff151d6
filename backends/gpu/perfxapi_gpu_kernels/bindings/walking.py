"""How operands of one shape are walked together: axes merged where memory allows, rows and columns of work-items."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from perfxapi.backend import OpCall
from perfxapi.dims import Size
from perfxapi.memory import View
from perfxapi_gpu_kernels.driver import Properties
from perfxapi_gpu_kernels.driver import Size as Extent

MAX_NDIM = 6
"""Axes of an operand (`MAX_NDIM` of walk.h)."""
VECTOR_WIDTH = 16
"""Numbers in a vector of a processor."""
_MAX_WALKED = 4
_MAX_COUNT = 1 << 31

Strides: TypeAlias = tuple[int, ...]


@cache
def _walk_dtype(operands: int) -> np.dtype[Any]:
    """`Walk` of walk.h, for so many operands (`MAX_WALKED`)."""
    strides = ("strides", np.int64, (operands, MAX_NDIM))
    return np.dtype([strides, ("sizes", np.int32, MAX_NDIM), ("ndim", np.int32), ("padding", np.int32)])


class Walk(NamedTuple):
    """Sizes, and for each operand its strides in elements, of the axes that are left: innermost first."""

    sizes: tuple[int, ...]
    strides: tuple[Strides, ...]

    @property
    def columns(self) -> int:
        """Elements of a row."""
        return self.sizes[0]

    @property
    def rows(self) -> int:
        """How many rows the other axes make."""
        return math.prod(self.sizes[1:])

    @property
    def steps(self) -> tuple[int, ...]:
        """The strides along a row as programs are made for: each 0 or 1, or, where one is another, all -1."""
        ones = (1,) * len(self.strides)
        steps = ones if self.columns == 1 else tuple(strides[0] for strides in self.strides)
        return steps if all(step in (0, 1) for step in steps) else (-1,) * len(steps)

    @property
    def plain_steps(self) -> tuple[int, ...]:
        """The same for programs of which there are few: all 1 or all -1."""
        return self.steps if set(self.steps) == {1} else (-1,) * len(self.strides)

    def in_blocks(self, count: int, moved: int) -> Walk | None:
        """The walk with `count` neighbors along rows as one element of the first `moved` operands; None where these
        have no such neighbors, or the others are not the same all along a row.
        """
        targets, others = self.strides[:moved], self.strides[moved:]
        sizes = [self.columns, *(stride for strides in targets for stride in strides[1:])]
        is_one = all(strides[0] == 1 for strides in targets) and all(strides[0] == 0 for strides in others)
        if not is_one or any(size % count for size in sizes):
            return None
        blocks = tuple((1, *(stride // count for stride in strides[1:])) for strides in targets)
        return Walk((self.columns // count, *self.sizes[1:]), (*blocks, *others))

    @property
    def structure(self) -> bytes:
        """`Walk` of walk.h."""
        return self.structure_for(_MAX_WALKED)

    def structure_for(self, operands: int) -> bytes:
        """The same, in programs that have their own MAX_WALKED."""
        packed = np.zeros((), _walk_dtype(operands))
        packed["sizes"][: len(self.sizes)] = [min(size, _MAX_COUNT - 1) for size in self.sizes]
        packed["ndim"] = len(self.sizes)
        for operand, strides in enumerate(self.strides):
            packed["strides"][operand, : len(strides)] = strides
        return packed.tobytes()


def check_walkable(call: OpCall) -> str | None:
    """None, or why some operand of a call cannot be walked."""
    for view in (*call.inputs, *call.outputs):
        if len(view.shape) > MAX_NDIM:
            return f"operands of {len(view.shape)} axes; at most {MAX_NDIM}"
        if any(isinstance(stride, int) and stride % view.dtype.itemsize for stride in view.strides):
            return "strides that are no multiple of an element"
    return None


def element_strides(view: View, shape: Sequence[Size]) -> Strides:
    """The strides of a view, in elements, as it is broadcast to a shape."""
    lacking = len(shape) - len(view.shape)
    own = (
        0 if int(size) == 1 else int(stride) // view.dtype.itemsize
        for size, stride in zip(view.shape, view.strides, strict=True)
    )
    return (0,) * lacking + tuple(own)


def walk_of(shape: Sequence[Size], *views: View) -> Walk:
    """The walk over a shape in which the first view, which is written, is met in the order of its memory."""
    sizes = tuple(int(size) for size in shape)
    return merged(sizes, tuple(element_strides(view, sizes) for view in views))


@lru_cache(maxsize=4096)
def merged(sizes: tuple[int, ...], strides: tuple[Strides, ...]) -> Walk:
    """A walk without axes of one element, neighboring axes made one where each operand has equal steps."""
    axes = [axis for axis, size in enumerate(sizes) if size != 1]
    axes.sort(key=lambda axis: -abs(strides[0][axis]))
    kept: list[tuple[int, Strides]] = []
    for axis in reversed(axes):
        steps = tuple(operand[axis] for operand in strides)
        if kept and all(step == inner * kept[-1][0] for step, inner in zip(steps, kept[-1][1], strict=True)):
            kept[-1] = (kept[-1][0] * sizes[axis], kept[-1][1])
        else:
            kept.append((sizes[axis], steps))
    kept = kept or [(1, (0,) * len(strides))]
    return Walk(tuple(size for size, _ in kept), tuple(zip(*(steps for _, steps in kept), strict=True)))


def in_large_blocks(walk: Walk, *views: View) -> tuple[Walk, int]:
    """A walk by elements of 16 bytes, where the views, its first operands, have so many side by side, and the bytes of
    an element.
    """
    itemsize = views[0].dtype.itemsize
    is_aligned = not any(view.offset % 16 for view in views)
    blocks = walk.in_blocks(16 // itemsize, len(views)) if is_aligned and itemsize < 16 else None
    return (walk, itemsize) if blocks is None else (blocks, 16)


def vector_width(properties: Properties, *dtypes: str) -> int:
    """Neighbors that a work-item has (WIDTH of numbers.h), where these are the dtypes that are computed with."""
    is_wide = properties.is_processor and properties.dialect == "opencl" and set(dtypes) == {"float32"}
    return VECTOR_WIDTH if is_wide else 1


def grid(walk: Walk, properties: Properties, width: int = 1, most: int = 256) -> tuple[Extent, Extent, int]:
    """Work-groups, their size, and how many stand side by side along a row (`tiles`), for work-items of some width.

    A group has `most` work-items, fewer where they are wide. There are but two sizes for each: some compilers make a
    kernel anew for every size.
    """
    most = min(most // 4 if width > 1 else most, properties.max_group_size)
    items = -(-walk.columns // width)
    across = most if items > 32 or walk.rows == 1 else 16 if width == 1 else 1
    down = most // across
    tiles = -(-items // across)
    return (tiles * -(-walk.rows // down), 1, 1), (across, down, 1), tiles


def line_group(count: int, properties: Properties) -> tuple[int, int]:
    """Work-groups and work-items of each, where each of `count` things is one work-item's."""
    size = 16 if properties.is_processor else min(128, properties.max_group_size)
    return -(-count // size), size
