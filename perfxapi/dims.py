"""Dimensions whose value is known only when a graph runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

from perfxapi.errors import TraceError


@dataclass(frozen=True, slots=True)
class Dim:
    """A symbolic dimension: `factor` times the size bound to `name` when the graph runs.

    It can be passed on as a shape and multiplied by a constant. Asking for its value (`int(dim)`, `if dim > 3`,
    `range(dim)`) raises TraceError, since one traced graph must serve every size. `==` compares symbols: a dimension
    equals itself and never a number.
    """

    name: str
    factor: int = 1

    def __mul__(self, other: int) -> Dim:
        if not isinstance(other, int) or isinstance(other, bool):
            raise TraceError(f"dimension {self!r} can only be multiplied by a whole number; got {other!r}")
        return Dim(self.name, self.factor * other)

    __rmul__ = __mul__

    def _unknown(self, *_: object) -> NoReturn:
        raise TraceError(
            f"the size of dimension {self.name!r} is not known while tracing: it cannot be used as a bool or an int. "
            "Pass it on as a shape, or take the decision outside the traced function."
        )

    __bool__ = __int__ = __index__ = __lt__ = __le__ = __gt__ = __ge__ = __iter__ = __add__ = __radd__ = _unknown
    __sub__ = __rsub__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __divmod__ = __rdivmod__ = _unknown
    __truediv__ = __rtruediv__ = __pow__ = __rpow__ = __neg__ = __pos__ = __abs__ = __float__ = __round__ = _unknown

    def __repr__(self) -> str:
        return self.name if self.factor == 1 else f"{self.factor}*{self.name}"


Size: TypeAlias = "int | Dim"
Shape: TypeAlias = "tuple[int | Dim, ...]"


def resolve(size: Size, sizes: Mapping[str, int]) -> int:
    """The number that `size` stands for when its name is bound by `sizes`."""
    return size.factor * sizes[size.name] if isinstance(size, Dim) else size


def resolve_shape(shape: Iterable[Size], sizes: Mapping[str, int]) -> tuple[int, ...]:
    """`resolve`, for each dimension of a shape."""
    return tuple(resolve(size, sizes) for size in shape)


def product(shape: Iterable[Size]) -> Size:
    """The number of elements of a shape. At most one dimension may be symbolic; two raise TraceError."""
    total, symbol = 1, None
    for size in shape:
        if isinstance(size, Dim):
            if symbol is not None:
                raise TraceError(f"a product of two symbolic dimensions ({symbol!r}, {size!r}) has no name")
            symbol = size
        else:
            total *= size
    return total if symbol is None else symbol * total


def contiguous_strides(shape: Shape, itemsize: int) -> Shape:
    """Row-major strides in bytes."""
    strides: list[Size] = []
    step: Size = itemsize
    for size in reversed(shape):
        strides.append(step)
        step = product((step, size)) if not isinstance(size, int) or size != 0 else step
    return tuple(reversed(strides))
