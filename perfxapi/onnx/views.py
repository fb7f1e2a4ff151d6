"""Views as ONNX nodes: what strides and an offset say of a whole tensor, said by operators.

A graph's operands are views of values, ONNX's are whole tensors. A view becomes a reshape, a slice, a transpose and an
expansion, as few of them as it takes; one that is none of these gathers its elements by their places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from perfxapi.dims import contiguous_strides

Operation = tuple[str, dict[str, Any]]
"""("Reshape", {"shape": ...}), ("Slice", {"starts", "ends", "steps"}), ("Transpose", {"perm"}), ("Expand", {"shape"}),
or ("Gather", {"indices"})."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A view's shape, strides and offset, counted in elements."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    def places(self) -> npt.NDArray[np.int64]:
        """Where in the whole each element lies."""
        index: Any = np.int64(self.offset)
        for axis, (size, stride) in enumerate(zip(self.shape, self.strides, strict=True)):
            steps = np.arange(size, dtype=np.int64) * stride
            index = index + steps.reshape(-1, *(1,) * (len(self.shape) - axis - 1))
        return np.broadcast_to(index, self.shape)


@dataclass(slots=True)
class _Axis:
    """An axis of the whole as a view sees it: where it starts, its step (0: not yet seen), how many, and which axis."""

    start: int
    step: int = 0
    count: int = 1
    axis: int = field(default=-1)


def operations(whole: Sequence[int], view: Layout) -> list[Operation]:
    """What makes a view of a contiguous tensor of shape `whole`: operations one after another, none for all of it."""
    shape = tuple(whole)
    dense = contiguous_strides(view.shape, 1)
    if view.offset == 0 and int(np.prod(view.shape)) == int(np.prod(shape)) and view.strides == dense:
        return [] if view.shape == shape else [("Reshape", {"shape": view.shape})]
    if 0 in view.shape:
        return [("Reshape", {"shape": (-1,)}), ("Gather", {"indices": np.zeros(view.shape, np.int64)})]
    return _sliced(shape, view) or [("Reshape", {"shape": (-1,)}), ("Gather", {"indices": view.places()})]


def _sliced(whole: tuple[int, ...], view: Layout) -> list[Operation] | None:
    """A view as a slice of the whole with its axes in another order, some added or repeated; None if it is not so."""
    strides = contiguous_strides(whole, 1)
    if any(not isinstance(stride, int) for stride in strides) or 0 in whole:
        return None
    axes, rest = [], view.offset
    for stride in strides:
        axes.append(_Axis(rest // int(stride)))
        rest %= int(stride)
    for number, (size, stride) in enumerate(zip(view.shape, view.strides, strict=True)):
        if size > 1 and stride and not _claim(axes, whole, strides, number, size, stride):
            return None
    chosen = sorted((axis for axis in axes if axis.axis >= 0), key=lambda axis: axis.axis)
    made: list[Operation] = []
    if any((axis.start, axis.step or 1, axis.count) != (0, 1, size) for axis, size in zip(axes, whole, strict=True)):
        ends = [axis.start + (axis.step or 1) * axis.count for axis in axes]
        made.append(("Slice", {"starts": [a.start for a in axes], "ends": ends, "steps": [a.step or 1 for a in axes]}))
    seen = [index for index, axis in enumerate(axes) if axis.axis < 0]
    order = [axes.index(axis) for axis in chosen] + seen
    if order != list(range(len(axes))):
        made.append(("Transpose", {"perm": order}))
    single = tuple(size if stride else 1 for size, stride in zip(view.shape, view.strides, strict=True))
    if single != tuple(axes[index].count for index in order):
        made.append(("Reshape", {"shape": single}))
    if single != view.shape:
        made.append(("Expand", {"shape": view.shape}))
    return made


def _claim(
    axes: list[_Axis], whole: tuple[int, ...], strides: Sequence[Any], number: int, size: int, stride: int
) -> bool:
    """Finds the axis of the whole that an axis of the view walks along; False where there is none that is free."""
    for axis, length, step in zip(axes, whole, strides, strict=True):
        times = stride // step if stride % step == 0 else 0
        if times and axis.axis < 0 and 0 <= axis.start + times * (size - 1) < length:
            axis.step, axis.count, axis.axis = times, size, number
            return True
    return False
