"""Operands seen as lines along some axes, the other axes counting the lines: what reductions and sorting work on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from perfxapi.dims import contiguous_strides
from perfxapi.memory import View
from perfxapi_gpu_kernels.bindings.walking import Walk, element_strides, merged


class Lines(NamedTuple):
    """`kept` walks over the lines, `along` one of them. Operand 0 is the result, operand 1 the source."""

    kept: Walk
    along: Walk

    @property
    def num_lines(self) -> int:
        """How many there are."""
        return math.prod(self.kept.sizes)

    @property
    def length(self) -> int:
        """Elements of a line."""
        return math.prod(self.along.sizes)

    @property
    def are_columns(self) -> bool:
        """Whether neighbors in memory belong to different lines, or lines are too short to be shared."""
        kept, along = abs(self.kept.strides[1][0]), abs(self.along.strides[1][0])
        return self.length <= 16 or (self.kept.columns > 1 and kept < along)


def lines_of(view: View, axes: Sequence[int], out: View | None = None) -> Lines:
    """The lines of a view along axes. The result is `out`, of the same shape; else it is contiguous in the walk."""
    shape = tuple(int(size) for size in view.shape)
    strides = element_strides(view, shape)
    targets = element_strides(out, shape) if out is not None else None
    others = [axis for axis in range(len(shape)) if axis not in axes]

    def walk(chosen: Sequence[int]) -> Walk:
        sizes = tuple(shape[axis] for axis in chosen)
        order = tuple(int(stride) for stride in contiguous_strides(sizes, 1))
        target = tuple(targets[axis] for axis in chosen) if targets is not None else order
        return merged(sizes, (target, tuple(strides[axis] for axis in chosen)))

    return Lines(walk(others), walk(sorted(axes)))
