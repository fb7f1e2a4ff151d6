"""Finding, ordering and telling elements apart (array API standard 2025.12: searching, sorting and set functions).

The results of `nonzero` and `unique_*` have as many elements as the values say: tracing raises TraceError.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from perfxapi import dtypes
from perfxapi.array import Array, apply, asarray, promote
from perfxapi.dims import product
from perfxapi.errors import InvalidArgumentError
from perfxapi.standard.axes import one_axis
from perfxapi.standard.creation import ones, zeros_like
from perfxapi.standard.data_types import astype, result_type
from perfxapi.standard.elementwise import bitwise_invert, equal, floor_divide, minimum, not_equal, remainder, subtract
from perfxapi.standard.indexing import flat_nonzero, take, take_along_axis
from perfxapi.standard.manipulation import concat
from perfxapi.standard.reductions import cumulative_sum


def where(condition: Array, x1: Any, x2: Any, /) -> Array:
    """x1 where the condition is true, else x2; a plain number takes the dtype of the array beside it."""
    first, second = paired(x1, x2, condition)
    result: Array = apply("where", condition, first, second)
    return result


def paired(x1: Any, x2: Any, beside: Array | None = None) -> tuple[Array, Array]:
    """Two operands as arrays, a plain number promoted beside the other; both, on the device of `beside`."""
    if isinstance(x1, Array):
        return x1, promote(x2, x1)
    if isinstance(x2, Array):
        return promote(x1, x2), x2
    device = beside.device if beside is not None else None
    first, second = asarray(x1, device=device), asarray(x2, device=device)
    if isinstance(x1, int | float | complex) and isinstance(x2, int | float | complex) and type(x1) is not type(x2):
        wide = first if isinstance(x2, bool | int) or isinstance(x1, complex) else second
        return promote(x1, wide), promote(x2, wide)
    return first, second


def nonzero(x: Array, /) -> tuple[Array, ...]:
    """Where elements are not 0: for each axis the indices, in row-major order. An array of no dimension is refused."""
    if x.ndim == 0:
        raise InvalidArgumentError("nonzero: an array of no dimension has no indices")
    flat = x.reshape(-1) if x.size else x.reshape(0)
    places = flat_nonzero(flat if x.dtype.kind == "bool" else not_equal(flat, 0))
    result: list[Array] = []
    for size in reversed(x.shape[1:]):
        result.append(remainder(places, max(int(size), 1)))
        places = floor_divide(places, max(int(size), 1))
    return (places, *reversed(result))


def argmax(x: Array, /, *, axis: int | None = None, keepdims: bool = False) -> Array:
    """Where the first largest element is along an axis, or in the flattened array, as int64."""
    return _position("argmax", x, axis, keepdims)


def argmin(x: Array, /, *, axis: int | None = None, keepdims: bool = False) -> Array:
    """Where the first smallest element is along an axis, or in the flattened array, as int64."""
    return _position("argmin", x, axis, keepdims)


def _position(op: str, x: Array, axis: int | None, keepdims: bool) -> Array:
    if axis is None:
        found: Array = apply(op, x.reshape(product(x.shape)), axis=0, keepdims=0)
        return found.reshape((1,) * x.ndim) if keepdims else found
    result: Array = apply(op, x, axis=one_axis(op, axis, x.ndim), keepdims=int(keepdims))
    return result


def searchsorted(
    x1: Array, x2: Any, /, *, side: Literal["left", "right"] = "left", sorter: Array | None = None
) -> Array:
    """Where elements of x2 belong in the sorted vector x1 (sorted by `sorter`, if given): before equals, or after."""
    edges = x1 if sorter is None else take(x1, sorter)
    result: Array = apply("searchsorted", edges, promote(x2, x1), side=side)
    return result


# ---- order


def argsort(x: Array, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Array:  # noqa: ARG001  it always is
    """The indices that order x along an axis, as int64. Equal elements keep their order, whatever `stable` says."""
    result: Array = apply("argsort", x, axis=one_axis("argsort", axis, x.ndim), descending=int(descending))
    return result


def sort(x: Array, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Array:  # noqa: ARG001  it always is
    """x in order along an axis. Equal elements keep their order, whatever `stable` says."""
    return take_along_axis(x, argsort(x, axis=axis, descending=descending), axis=axis)


# ---- sets


class UniqueAll(NamedTuple):
    """Different elements; where each occurs first; which of them each element is; how often each occurs."""

    values: Array
    indices: Array
    inverse_indices: Array
    counts: Array


class UniqueCounts(NamedTuple):
    """Different elements, and how often each occurs."""

    values: Array
    counts: Array


class UniqueInverse(NamedTuple):
    """Different elements, and which of them each element is."""

    values: Array
    inverse_indices: Array


def unique_all(x: Array, /) -> UniqueAll:
    """The different elements in ascending order, with all that there is to say of them. Each NaN is another element."""
    flat = x.reshape(product(x.shape))
    order = argsort(flat)
    in_order = take(flat, order)
    one = ones(1 if flat.size else 0, dtype=dtypes.bool_, device=x.device)
    is_first = concat([one, not_equal(in_order[1:], in_order[:-1])])
    starts = flat_nonzero(is_first)
    ends = concat([starts[1:], asarray([flat.size] if flat.size else [], "int64", device=x.device)])
    group = subtract(cumulative_sum(astype(is_first, dtypes.int64)), 1)
    inverse = take(group, argsort(order)).reshape(x.shape)
    return UniqueAll(take(in_order, starts), take(order, starts), inverse, subtract(ends, starts))


def unique_counts(x: Array, /) -> UniqueCounts:
    """The different elements in ascending order, and how often each occurs. Each NaN is another element."""
    found = unique_all(x)
    return UniqueCounts(found.values, found.counts)


def unique_inverse(x: Array, /) -> UniqueInverse:
    """The different elements in ascending order, and which of them each element is. Each NaN is another element."""
    found = unique_all(x)
    return UniqueInverse(found.values, found.inverse_indices)


def unique_values(x: Array, /) -> Array:
    """The different elements in ascending order. Each NaN is another element."""
    return unique_all(x).values


def isin(x1: Any, x2: Any, /, *, invert: bool = False) -> Array:
    """Whether each element of x1 is in x2 (is not, with `invert`); at least one is an array."""
    first, second = paired(x1, x2)
    kind = result_type(first, second)
    values, known = astype(first, kind, copy=False), astype(second, kind, copy=False)
    known = known.reshape(product(known.shape))
    if not known.size:
        found = zeros_like(values, dtype=dtypes.bool_)
    else:
        in_order = take(known, argsort(known))
        flat = values.reshape(product(values.shape))
        found = equal(take(in_order, _nearest(in_order, flat)), flat).reshape(values.shape)
    return bitwise_invert(found) if invert else found


def _nearest(in_order: Array, values: Array) -> Array:
    """For each value the place in a sorted vector where it stands, if it does."""
    if in_order.dtype.kind in ("bool", "complex"):
        distinct = equal(values[:, None], in_order[None, :])
        result: Array = apply("argmax", astype(distinct, dtypes.uint8), axis=1, keepdims=0)
        return result
    places: Array = apply("searchsorted", in_order, values, side="left")
    return minimum(places, in_order.size - 1)
