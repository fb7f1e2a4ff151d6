"""Windows that slide over the spatial axes of images, signals and volumes: what convolutions and pools share.

Operands are [batch, channels, spatial sizes...], with one to three spatial axes. Output position i of an axis reads the
input at i * stride + k * dilation - pad for k from 0 to the window's size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from perfxapi.dims import Shape
from perfxapi.errors import InvalidArgumentError
from perfxapi.ops.spec import Attribute, Attributes, require

MAX_SPATIAL = 3
"""Spatial axes at most."""
WINDOW_ATTRIBUTES = (Attribute("strides", list, ()), Attribute("dilations", list, ()), Attribute("pads", list, ()))
"""One number for each spatial axis (empty: 1 everywhere); pads at the beginnings, then at the ends (empty: 0)."""


@dataclass(frozen=True, slots=True)
class Windows:
    """The geometry, with a number for each spatial axis. `begin` and `end` are the pads."""

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]

    @classmethod
    def of(cls, op: str, sizes: Sequence[Any], attributes: Attributes) -> Windows:
        """From a window's sizes and the attributes, defaults filled in. Raises InvalidArgumentError."""
        count = len(sizes)
        require(1 <= count <= MAX_SPATIAL, op, f"1 to {MAX_SPATIAL} spatial axes are possible; got {count}")
        pads = _filled(op, "pads", attributes, 2 * count, 0)
        return cls(
            tuple(known_size(op, size) for size in sizes),
            _filled(op, "strides", attributes, count, 1),
            _filled(op, "dilations", attributes, count, 1),
            pads[:count],
            pads[count:],
        )._checked(op)

    def _checked(self, op: str) -> Windows:
        least = min(*self.sizes, *self.strides, *self.dilations)
        require(least >= 1, op, f"windows, strides and dilations must be at least 1; got {self}")
        return self

    @property
    def spans(self) -> tuple[int, ...]:
        """Input positions from the first to the last that one window reads."""
        return tuple((size - 1) * dilation + 1 for size, dilation in zip(self.sizes, self.dilations, strict=True))

    def places(self, op: str, spatial: Shape, *, ceil_mode: bool = False) -> tuple[int, ...]:
        """How many windows there are along each axis.

        With `ceil_mode` one that reaches past the pads counts too, if it begins before the pad at the end.
        """
        counts = []
        for size, span, stride, begin, end in zip(spatial, self.spans, self.strides, self.begin, self.end, strict=True):
            length = known_size(op, size)
            free = length + begin + end - span
            require(free >= 0, op, f"a window of {span} does not fit {length} padded by {begin} and {end}")
            count = (free + stride - 1 if ceil_mode else free) // stride + 1
            counts.append(count - 1 if ceil_mode and (count - 1) * stride >= length + begin else count)
        return tuple(counts)

    def view(self, x: Any, places: Sequence[int], fill: float) -> Any:
        """All windows of `x` as a view [batch, channels, places..., sizes...] of a copy padded with `fill`."""
        rows = zip(places, self.spans, self.strides, self.begin, x.shape[2:], strict=True)
        after = [max((n - 1) * stride + span - begin - size, 0) for n, span, stride, begin, size in rows]
        padded = np.pad(x, [(0, 0), (0, 0), *zip(self.begin, after, strict=True)], constant_values=fill)
        spatial = padded.strides[2:]
        steps = tuple(step * stride for step, stride in zip(spatial, self.strides, strict=True))
        inside = tuple(step * dilation for step, dilation in zip(spatial, self.dilations, strict=True))
        shape = (*padded.shape[:2], *places, *self.sizes)
        strides = (*padded.strides[:2], *steps, *inside)
        return np.lib.stride_tricks.as_strided(padded, shape, strides, writeable=False)


def _filled(op: str, name: str, attributes: Attributes, count: int, default: int) -> tuple[int, ...]:
    given: tuple[int, ...] = attributes[name] or (default,) * count
    require(len(given) == count, op, f"{name} must have {count} numbers; got {given}")
    require(min(given) >= 0, op, f"{name} must not be negative; got {given}")
    return given


def known_size(op: str, size: Any) -> int:
    """A size that must be known when shapes are inferred. Raises InvalidArgumentError for a symbol."""
    if not isinstance(size, int):
        raise InvalidArgumentError(f"{op}: only the size of the batch may be symbolic; got {size!r}")
    return size
