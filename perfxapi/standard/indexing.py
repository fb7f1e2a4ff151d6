"""Parts of arrays that arrays choose, and writing to parts (array API standard 2025.12, "Indexing").

Integer arrays are broadcast and zipped with each other, as in NumPy, and may stand beside slices; a mask stands for the
places where it is true. Both come down to `take` of the rows of a view in which the indexed axes are one. Where a mask
is true, and so the shape of the result, is only known when values are: tracing raises TraceError.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np

from perfxapi.array import Array, apply, asarray, is_traced, promote
from perfxapi.dims import Dim, Shape, Size, product
from perfxapi.errors import InvalidArgumentError, InvalidDTypeError, InvalidIndexError, TraceError
from perfxapi.indexing import expand_key
from perfxapi.standard.axes import one_axis
from perfxapi.standard.data_types import astype, result_type
from perfxapi.standard.elementwise import add, copied, less, multiply
from perfxapi.standard.manipulation import broadcast_arrays, broadcast_to


def take(x: Array, indices: Array, /, *, axis: int | None = None) -> Array:
    """The elements of x at these places along an axis, which only vectors may leave out; negative ones count from the
    last. Raises InvalidArgumentError for an index out of range.
    """
    if axis is None and x.ndim != 1:
        raise InvalidArgumentError(f"take: axis must be given for an array of {x.ndim} dimensions")
    place = one_axis("take", 0 if axis is None else axis, x.ndim)
    result: Array = apply("take", x, _index_array(indices, x), axis=place)
    return result


def take_along_axis(x: Array, indices: Array, /, *, axis: int = -1) -> Array:
    """For each place in `indices`, the element of x at that index along an axis; the other axes are broadcast."""
    place = one_axis("take_along_axis", axis, x.ndim)
    result: Array = apply("take_along_axis", x, _index_array(indices, x), axis=place)
    return result


def _index_array(indices: Any, x: Array) -> Array:
    return indices if isinstance(indices, Array) else asarray(indices, device=x.device)


# ---- reading


def getitem(x: Array, key: Any, /) -> Array:
    """x[key]: a view for integers, slices, `...` and None; a copy where arrays choose."""
    items = key if isinstance(key, tuple) else (key,)
    if not any(type(item) is Array for item in items):
        return x.part(items)
    items = _without_numbers(items)
    if not any(type(item) is Array for item in items):
        return x.part(items)
    return _read(_masked(x, items[0]) if _is_mask(items) else _chosen(x, items))


@dataclass(frozen=True, slots=True)
class _Rows:
    """An array as the rows that an index chooses from.

    `whole` is a view whose first axes are the indexed ones; `rows` the same with these as one axis and the others,
    `rest`, as the second; `places` the chosen rows; `front` how many of the others come first in the result.
    """

    whole: Array
    rows: Array
    places: Array
    rest: Shape
    front: int = 0


def _read(chosen: _Rows) -> Array:
    places, front = chosen.places, chosen.front
    taken: Array = apply("take", chosen.rows, places.reshape(-1), axis=0)
    result = taken.reshape((*places.shape, *chosen.rest))
    count = places.ndim
    return result.permute_dims([*range(count, count + front), *range(count), *range(count + front, result.ndim)])


def _without_numbers(items: tuple[Any, ...]) -> tuple[Any, ...]:
    """Integer arrays of no dimension are the integers they hold, where no other array stands beside them."""
    arrays = [item for item in items if isinstance(item, Array)]
    if any(array.ndim or array.dtype.kind == "bool" or is_traced(array.view) for array in arrays):
        return items
    return tuple(operator.index(item) if isinstance(item, Array) else item for item in items)


def _is_mask(items: tuple[Any, ...]) -> bool:
    masks = [item for item in items if isinstance(item, Array) and item.dtype.kind == "bool"]
    if masks and len(items) > 1:
        raise InvalidIndexError("index: a mask must be the only index; use nonzero(mask) beside others")
    return bool(masks)


def _masked(x: Array, mask: Array) -> _Rows:
    """The axes of the mask as one, and where it is true."""
    if mask.ndim > x.ndim or any(size not in (0, other) for size, other in zip(mask.shape, x.shape, strict=False)):
        raise InvalidIndexError(f"index: a mask of shape {list(mask.shape)} does not fit {list(x.shape)}")
    indexed, rest = x.shape[: mask.ndim], x.shape[mask.ndim :]
    return _Rows(x, x.reshape((product(indexed), product(rest))), flat_nonzero(mask.reshape(-1)), rest)


def flat_nonzero(mask: Array) -> Array:
    """Where a vector of truth values is true. Tracing raises TraceError."""
    if is_traced(mask.view):
        raise TraceError("how many elements of a traced mask are true is only known when its graph runs: use where")
    counted = apply("sum", astype(mask, "int64"), axes=(0,), keepdims=0)
    result: Array = apply("flat_nonzero", mask, count=int(counted))
    return result


def _chosen(x: Array, items: tuple[Any, ...]) -> _Rows:
    """The axes that arrays and integers index as one, and the rows that they choose."""
    keys = expand_key(items, x.ndim)
    axes = [at for at, item in enumerate(keys) if isinstance(item, Array) or _is_number(item)]
    # the indexed axes stay whole in this part, the others are cut as the index says
    part = x.part(tuple(slice(None) if at in axes else item for at, item in enumerate(keys)))
    others = [axis for axis in range(part.ndim) if axis not in axes]
    whole = part.permute_dims([*axes, *others])
    sizes, rest = whole.shape[: len(axes)], whole.shape[len(axes) :]
    places = _places([keys[at] for at in axes], sizes, x)
    together = axes[-1] - axes[0] + 1 == len(axes)
    front = axes[0] if together else 0
    return _Rows(whole, whole.reshape((product(sizes), product(rest))), places, rest, front)


def _is_number(item: Any) -> bool:
    return isinstance(item, int | np.integer) and not isinstance(item, bool)


def _places(indices: list[Any], sizes: Shape, x: Array) -> Array:
    """Indices of several axes as those of one, row by row; each is checked against its own axis."""
    arrays = broadcast_arrays(*(_place(index, size, x) for index, size in zip(indices, sizes, strict=True)))
    result = arrays[0]
    for array, size in zip(arrays[1:], sizes[1:], strict=True):
        result = add(multiply(result, size), array)
    return result


def _place(index: Any, size: Size, x: Array) -> Array:
    """Indices of one axis as int64, counted from the front. Raises InvalidIndexError for one out of range."""
    if isinstance(index, Array) and index.dtype.kind not in ("int", "uint"):
        raise InvalidIndexError(f"index: an array of {index.dtype.name} is no index; integers or truth values are")
    places = astype(_index_array(index, x), "int64", copy=False)
    if isinstance(size, Dim):
        return places
    if not is_traced(places.view):
        _require_in_range(places, size)
    wrapped: Array = apply("where", less(places, 0), add(places, size), places)
    return wrapped


def _require_in_range(places: Array, size: int) -> None:
    if 0 in places.shape:
        return
    lowest, highest = (int(apply(op, places, axes=tuple(range(places.ndim)), keepdims=0)) for op in ("min", "max"))
    if lowest < -size or highest >= size:
        wrong = lowest if lowest < -size else highest
        raise InvalidIndexError(f"index {wrong} is out of range for an axis of size {size}")


# ---- writing


def setitem(x: Array, key: Any, value: Any, /) -> None:
    """x[key] = value, broadcast and promoted to the dtype of x. Views of the same bytes see it.

    Raises InvalidArgumentError where x is a constant, TraceError while tracing, InvalidDTypeError where the value is of
    a kind that does not fit.
    """
    require_writable("x[key] = value", x)
    values = _fitting(value, x)
    items = key if isinstance(key, tuple) else (key,)
    items = _without_numbers(items)
    if not any(isinstance(item, Array) for item in items):
        assign(x.part(items), values)
    elif _is_mask(items) and values.ndim == 0 and items[0].shape == x.shape:
        assign(x, apply("where", items[0], values, x))
    else:
        _put(_masked(x, items[0]) if _is_mask(items) else _chosen(x, items), values)


def require_writable(what: str, x: Array) -> None:
    """Raises TraceError for a traced array, InvalidArgumentError for a constant."""
    if is_traced(x.view):
        raise TraceError(f"{what}: a traced array cannot be written in place; use where or concat")
    if x.view.buffer.constant:
        raise InvalidArgumentError(
            f"{what}: the array is a constant (a weight, read-only memory of another library, or captured by a "
            "graph): write to asarray(x, copy=True)"
        )


def _fitting(value: Any, x: Array) -> Array:
    values = promote(value, x)
    if values.dtype is not x.dtype and result_type(values, x) is not x.dtype:
        raise InvalidDTypeError(f"{values.dtype.name} cannot be written to an array of {x.dtype.name}: use astype")
    return astype(values, x.dtype, copy=False)


def assign(target: Array, values: Array) -> None:
    """Writes values, broadcast, to an array or a part of one."""
    if values.view.buffer is target.view.buffer:
        values = copied(values)  # what is read must not change on the way
    apply("assign", target, values)


def _put(chosen: _Rows, values: Array) -> None:
    """Writes to the chosen rows: in place where rows are a view, else in a copy that is written back."""
    shape, front = chosen.places.shape, chosen.front
    wanted = (*chosen.rest[:front], *shape, *chosen.rest[front:])
    order = [*range(front, front + len(shape)), *range(front), *range(front + len(shape), len(wanted))]
    spread = broadcast_to(values, wanted).permute_dims(order)
    flat = copied(spread).reshape((product(shape), chosen.rows.shape[1]))
    apply("put_rows", chosen.rows, chosen.places.reshape(-1), flat)
    if chosen.rows.view.buffer is not chosen.whole.view.buffer:
        assign(chosen.whole, chosen.rows.reshape(chosen.whole.shape))
