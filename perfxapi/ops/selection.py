"""Ops that convert, choose, gather, order and write elements (array API standard).

What is only another view of the same bytes (reshape, transposition, slices, broadcasting) is no op. The two ops that
write in place, `assign` and `put_rows`, are what `x[key] = value` and `x += y` come down to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from perfxapi import dtypes
from perfxapi.dims import Shape, Size
from perfxapi.dtypes import dtype_of, result_type
from perfxapi.errors import InvalidDTypeError
from perfxapi.ops.arithmetic import quiet
from perfxapi.ops.elementwise import broadcast_shapes, num_elements
from perfxapi.ops.reduction import AXIS, require_axis
from perfxapi.ops.spec import (
    ALL_KINDS,
    INTEGERS,
    REALS,
    Attribute,
    Attributes,
    BFloat16Array,
    Cost,
    OpSpec,
    Sample,
    TensorSpec,
    register_op,
    require,
    require_kind,
    require_shape,
)

_CAST_DTYPES = tuple(dtype.name for dtype in dtypes.ALL if not dtype.is_quantized)
_SIDES = ("left", "right")


def _cost(inputs: Sequence[TensorSpec], attributes: Attributes) -> Cost:
    count = sum(num_elements(spec) for spec in inputs)
    return Cost(2 * sum(num_elements(spec) * spec.dtype.itemsize for spec in inputs), count)


# ---- astype


def _infer_astype(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    (x,), dtype = inputs, dtype_of(attributes["dtype"])
    require_kind("astype", x, *ALL_KINDS)
    if x.dtype.kind == "complex" and dtype.kind not in ("complex", "bool"):
        raise InvalidDTypeError(f"astype: {x.dtype.name} does not fit {dtype.name}: take real(x), imag(x) or abs(x)")
    return (TensorSpec(x.shape, dtype),)


def _astype(x: Any, dtype: str) -> Any:
    target = dtype_of(dtype)
    return x.astype(np.float32 if target is dtypes.bfloat16 else target.numpy)


def _astype_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(60)
    for kind in (np.float16, np.float32, np.float64, np.int32, np.uint8, np.bool_):
        x = rng.integers(0, 2 if kind is np.bool_ else 100, (5, 7)).astype(kind)
        for dtype in _CAST_DTYPES:
            yield Sample((x,), {"dtype": dtype}, f"to {dtype}")
    bits = rng.integers(0x3F80, 0x4280, (3, 20)).astype(np.uint16)
    for dtype in ("float16", "float32", "float64", "bfloat16", "int16", "bool"):
        yield Sample((BFloat16Array(bits),), {"dtype": dtype}, f"to {dtype}")
    for dtype in ("int8", "uint8", "uint32", "int32", "float32", "float16"):
        yield Sample((rng.integers(-(1 << 40), 1 << 40, 50),), {"dtype": dtype}, f"large int64 to {dtype}")
    for dtype in ("int8", "int64", "bool"):
        yield Sample((np.linspace(-90, 90, 101, dtype=np.float32),), {"dtype": dtype}, f"negative to {dtype}")
    yield Sample((rng.standard_normal(1000) * 10.0 ** rng.integers(-9, 6, 1000),), {"dtype": "float16"}, "rounded once")
    hostile = np.array([np.nan, np.inf, -np.inf, -0.0, 1e30, 1e-30], np.float32)
    for dtype in ("bool", "float16", "float64"):
        yield Sample((hostile,), {"dtype": dtype}, f"not finite to {dtype}")
    for dtype, shape in (("float32", (70, 37)), ("int8", (3, 20, 33)), ("complex128", (9, 40)), ("int16", (1500, 2))):
        yield Sample((rng.integers(0, 100, shape).astype(dtype),), {"dtype": dtype}, f"copied, shape {shape}")
    wide = rng.standard_normal((4, 6)).astype(np.float32)
    yield Sample((wide[::2, ::-1],), {"dtype": "float32"}, "negative strides")
    yield Sample((np.zeros((0, 3), np.float32),), {"dtype": "float32"}, "empty")


register_op(
    OpSpec(
        "astype",
        ("x",),
        _infer_astype,
        quiet(_astype),
        _astype_samples,
        (Attribute("dtype", str, choices=_CAST_DTYPES),),
        cost=_cost,
        tolerance=0,
        domain="array",
    )
)


# ---- where, concat


def _infer_where(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    condition, a, b = inputs
    require_kind("where", condition, "bool")
    for spec in (a, b):
        require_kind("where", spec, *ALL_KINDS)
    shape = broadcast_shapes("where", condition.shape, broadcast_shapes("where", a.shape, b.shape))
    return (TensorSpec(shape, result_type(a.dtype, b.dtype)),)


def _where_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(61)
    for shapes in (((5, 7), (5, 7), (5, 7)), ((4, 1), (1, 6), ()), ((), (3, 33), (33,)), ((0, 2), (0, 2), (1, 1))):
        condition = rng.integers(0, 2, shapes[0]).astype(np.bool_)
        a, b = (rng.standard_normal(shape).astype(np.float32) for shape in shapes[1:])
        yield Sample((condition, a, b), label=f"shapes {shapes}")
    yield Sample((np.array([True, False]), np.array([1, 2]), np.array([3, 4])), label="int64")
    x = rng.integers(0, 100, (4, 600))
    for kind in (np.uint8, np.float16, np.complex128):
        yield Sample((x[:, :1] % 2 == 0, x.astype(kind), np.zeros(600, kind)), label=f"rows, {np.dtype(kind)}")
    yield Sample((x % 2 == 0, x.astype(np.float64), np.float32(2)), label="float64 and float32")


register_op(
    OpSpec(
        "where",
        ("condition", "a", "b"),
        _infer_where,
        np.where,
        _where_samples,
        cost=_cost,
        tolerance=0,
        domain="array",
    )
)


def _infer_concat(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    first, axis = inputs[0], attributes["axis"]
    require_kind("concat", first, *ALL_KINDS)
    require_axis("concat", first, axis)
    total: Size = 0
    for index, spec in enumerate(inputs):
        require(spec.dtype is first.dtype, "concat", f"arrays[{index}] is {spec.dtype.name}, not {first.dtype.name}")
        expected = [None if place == axis else size for place, size in enumerate(first.shape)]
        require_shape("concat", f"arrays[{index}]", spec, *expected)
        total = spec.shape[axis] if total == 0 else total if spec.shape[axis] == 0 else total + spec.shape[axis]
    return (TensorSpec((*first.shape[:axis], total, *first.shape[axis + 1 :]), first.dtype),)


def _concat_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(62)
    for shapes, axis in ((((2, 3), (4, 3)), 0), (((5, 1), (5, 33), (5, 0)), 1), (((7,),), 0)):
        parts = tuple(rng.standard_normal(shape).astype(np.float32) for shape in shapes)
        yield Sample(parts, {"axis": axis}, f"shapes {shapes}")
    yield Sample((np.array([1, 2]), np.array([3])), {"axis": 0}, "int64")
    x = rng.integers(0, 100, (3, 5, 40))
    yield Sample((x % 2 == 0, x[:, :2] % 2 == 1), {"axis": 1}, "bool, shape (3, 7, 40)")
    yield Sample((x + 1j, x * 2.0 + 0j), {"axis": 2}, "complex128, shape (3, 5, 80)")


register_op(
    OpSpec(
        "concat",
        ("*arrays",),
        _infer_concat,
        lambda *arrays, axis: np.concatenate(arrays, axis=axis),
        _concat_samples,
        (AXIS,),
        cost=_cost,
        tolerance=0,
        domain="array",
    )
)


# ---- gathering


def _checked(op: str, indices: Any, size: int) -> Any:
    """The indices as NumPy takes them, counted from the front. Raises InvalidArgumentError for one out of range."""
    require(bool(np.all((indices >= -size) & (indices < size))), op, f"an index lies outside -{size}..{size - 1}")
    whole = indices.astype(np.intp)
    return np.where(whole < 0, whole + size, whole)


def _infer_take(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    (x, indices), axis = inputs, attributes["axis"]
    require_kind("take", x, *ALL_KINDS)
    require_kind("take", indices, *INTEGERS)
    require_axis("take", x, axis)
    return (TensorSpec(x.shape[:axis] + indices.shape + x.shape[axis + 1 :], x.dtype),)


def _take(x: Any, indices: Any, axis: int) -> Any:
    return np.take(x, _checked("take", indices, x.shape[axis]), axis=axis)


def _take_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(63)
    for shape, axis, count in (((9,), 0, (4,)), ((5, 33), 0, (7,)), ((5, 33), 1, (2, 3)), ((2, 3, 4), 1, ())):
        x = rng.standard_normal(shape).astype(np.float32)
        for kind in (np.int32, np.int64):
            indices = rng.integers(-shape[axis], shape[axis], count).astype(kind)
            yield Sample((x, np.asarray(indices)), {"axis": axis}, f"{count} of axis {axis} of {shape}")
    yield Sample((np.array([True, False]), np.array([1, 1, 0])), {"axis": 0}, "bool")
    for shape, axis, dtype in (((50, 300), 1, "uint8"), ((4, 9, 70), 1, "complex128"), ((6, 2000), 0, "float16")):
        large = rng.integers(0, 100, shape).astype(dtype)
        places = rng.integers(-shape[axis], shape[axis], (2, 40)).astype(np.int16)
        yield Sample((large, places), {"axis": axis}, f"{dtype}, axis {axis} of {shape}")
    yield Sample((np.zeros((3, 5)), np.zeros(0, np.int64)), {"axis": 0}, "no indices")


def _along_shape(op: str, x: Shape, indices: Shape, axis: int) -> Shape:
    """Indices along an axis: the other axes are broadcast."""
    require(len(x) == len(indices), op, f"indices have {len(indices)} dimensions, x has {len(x)}")
    others = broadcast_shapes(op, (*x[:axis], 1, *x[axis + 1 :]), (*indices[:axis], 1, *indices[axis + 1 :]))
    return (*others[:axis], indices[axis], *others[axis + 1 :])


def _infer_take_along(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    (x, indices), axis = inputs, attributes["axis"]
    require_kind("take_along_axis", x, *ALL_KINDS)
    require_kind("take_along_axis", indices, *INTEGERS)
    require_axis("take_along_axis", x, axis)
    return (TensorSpec(_along_shape("take_along_axis", x.shape, indices.shape, axis), x.dtype),)


def _take_along(x: Any, indices: Any, axis: int) -> Any:
    return np.take_along_axis(x, _checked("take_along_axis", indices, x.shape[axis]), axis=axis)


def _take_along_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(64)
    for shape, axis, indices in (
        ((9,), 0, (4,)),
        ((5, 33), 1, (5, 40)),
        ((5, 33), 0, (2, 33)),
        ((3, 1, 4), 2, (1, 2, 3)),
        ((40, 70), 1, (40, 50)),
    ):
        x = rng.standard_normal(shape).astype(np.float32)
        for kind in (np.int32, np.int64):
            chosen = rng.integers(0, shape[axis], indices).astype(kind)
            yield Sample((x, chosen), {"axis": axis}, f"{indices} of axis {axis} of {shape}")


for _name, _infer, _reference, _samples in (
    ("take", _infer_take, _take, _take_samples),
    ("take_along_axis", _infer_take_along, _take_along, _take_along_samples),
):
    register_op(
        OpSpec(_name, ("x", "indices"), _infer, _reference, _samples, (AXIS,), cost=_cost, tolerance=0, domain="array")
    )


# ---- order and search


def _infer_argsort(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    require_kind("argsort", inputs[0], *ALL_KINDS)
    require_axis("argsort", inputs[0], attributes["axis"])
    return (TensorSpec(inputs[0].shape, dtypes.int64),)


def _argsort(x: Any, axis: int, descending: int) -> Any:
    """Stable in both directions: equal elements keep their order."""
    if not descending:
        return np.argsort(x, axis=axis, kind="stable")
    backwards = np.argsort(np.flip(x, axis), axis=axis, kind="stable")
    return x.shape[axis] - 1 - np.flip(backwards, axis)


def _argsort_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(65)
    for descending in (0, 1):
        for shape, axis in (((9,), 0), ((5, 33), 1), ((40, 3), 0), ((0, 3), 0)):
            x = rng.integers(0, 9, shape).astype(np.float32)
            yield Sample((x,), {"axis": axis, "descending": descending}, f"axis {axis} of {shape}, with ties")
        yield Sample((rng.integers(0, 9, 20),), {"axis": 0, "descending": descending}, "int64")
        for dtype in ("int8", "uint16", "int64"):
            limits = np.iinfo(dtype)
            whole = rng.integers(limits.min, limits.max, (3, 70), dtype)
            yield Sample((whole,), {"axis": 1, "descending": descending}, f"{dtype}, negative and large")
        for dtype in ("float16", "float64"):
            yield Sample(
                (100 * rng.standard_normal((3, 70)).astype(dtype),), {"axis": 1, "descending": descending}, dtype
            )
        hostile = np.array([3, np.nan, 0, -0.0, np.inf, -1, -np.inf, np.nan, 0, 2], np.float32)
        yield Sample((hostile,), {"axis": 0, "descending": descending}, "not finite")
        long = rng.standard_normal((2, 33000)).astype(np.float32)
        yield Sample((long,), {"axis": 1, "descending": descending}, "long lines")


register_op(
    OpSpec(
        "argsort",
        ("x",),
        _infer_argsort,
        _argsort,
        _argsort_samples,
        (AXIS, Attribute("descending", int, 0)),
        cost=_cost,
        domain="array",
    )
)


def _infer_searchsorted(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    edges, values = inputs
    for spec in inputs:
        require_kind("searchsorted", spec, *REALS)
    require_shape("searchsorted", "the sorted array", edges, None)
    result_type(edges.dtype, values.dtype)
    return (TensorSpec(values.shape, dtypes.int64),)


def _searchsorted_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(66)
    for side in _SIDES:
        for count, shape in ((20, (7,)), (1, (2, 3)), (0, (4,)), (33, ())):
            edges, values = np.sort(rng.integers(0, 9, count)), rng.integers(-2, 12, shape)
            for kind in (np.float32, np.int64):
                sample = (edges.astype(kind), np.asarray(values).astype(kind))
                yield Sample(sample, {"side": side}, f"{shape} among {count}, {side}")
        edges = np.array([-np.inf, -1, 0, 0, 2, np.inf, np.nan, np.nan])
        yield Sample((edges, edges[::-1].copy()), {"side": side}, f"float64, not finite, {side}")


register_op(
    OpSpec(
        "searchsorted",
        ("sorted", "values"),
        _infer_searchsorted,
        lambda edges, values, side: np.searchsorted(edges, values, side=side),
        _searchsorted_samples,
        (Attribute("side", str, choices=_SIDES),),
        cost=_cost,
        domain="array",
    )
)


def _infer_flat_nonzero(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    require_kind("flat_nonzero", inputs[0], "bool")
    require_shape("flat_nonzero", "x", inputs[0], None)
    require(attributes["count"] >= 0, "flat_nonzero", f"count must not be negative; got {attributes['count']}")
    return (TensorSpec((attributes["count"],), dtypes.int64),)


def _flat_nonzero(x: Any, count: int) -> Any:
    found = np.flatnonzero(x)
    require(len(found) == count, "flat_nonzero", f"{len(found)} elements are true, not {count}")
    return found


def _flat_nonzero_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(67)
    for size in (0, 1, 40, 5000):
        x = rng.integers(0, 2, size).astype(np.bool_)
        yield Sample((x,), {"count": int(x.sum())}, f"{size} elements")


register_op(
    OpSpec(
        "flat_nonzero",
        ("x",),
        _infer_flat_nonzero,
        _flat_nonzero,
        _flat_nonzero_samples,
        (Attribute("count", int),),
        cost=_cost,
        domain="array",
    )
)


# ---- writing in place


def _require_same_dtype(op: str, target: TensorSpec, values: TensorSpec) -> None:
    require_kind(op, target, *ALL_KINDS)
    if target.dtype is not values.dtype:
        raise InvalidDTypeError(f"{op}: {values.dtype.name} cannot be written to an array of {target.dtype.name}")


def _infer_assign(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    target, values = inputs
    _require_same_dtype("assign", target, values)
    fits = len(values.shape) <= len(target.shape)
    fits = fits and broadcast_shapes("assign", target.shape, values.shape) == target.shape
    require(fits, "assign", f"values of shape {list(values.shape)} do not fit a part of shape {list(target.shape)}")
    return ()


def _assign(target: Any, values: Any) -> None:
    target[...] = values


def _assign_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(68)
    for shape, other in (((5, 7), (5, 7)), ((3, 33), (33,)), ((2, 3, 4), (1, 1)), ((), ()), ((0, 2), (1, 2))):
        target, values = (np.asarray(rng.standard_normal(s)).astype(np.float32) for s in (shape, other))
        yield Sample((target, values), label=f"{other} to {shape}")
    yield Sample((np.array([1, 2, 3]), np.array(7)), label="int64")
    yield Sample((np.zeros((40, 70), np.uint8), rng.integers(0, 9, (40, 70)).astype(np.uint8)), label="uint8")


register_op(
    OpSpec("assign", ("target", "values"), _infer_assign, _assign, _assign_samples, (), (0,), cost=_cost, tolerance=0,
           domain="array")
)  # fmt: skip


def _infer_put_rows(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    target, indices, values = inputs
    _require_same_dtype("put_rows", target, values)
    require_kind("put_rows", indices, *INTEGERS)
    require_shape("put_rows", "indices", indices, None)
    require(len(target.shape) == 2, "put_rows", f"the target must have two dimensions; got {list(target.shape)}")
    require_shape("put_rows", "values", values, indices.shape[0], target.shape[1])
    return ()


def _put_rows(target: Any, indices: Any, values: Any) -> None:
    target[_checked("put_rows", indices, len(target))] = values


def _put_rows_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(69)
    for rows, columns, count in ((9, 5, 4), (20, 33, 20), (3, 1, 0)):
        for kind in (np.int32, np.int64):
            indices = rng.permutation(rows)[:count].astype(kind)
            target, values = (rng.standard_normal((n, columns)).astype(np.float32) for n in (rows, count))
            yield Sample((target, indices, values), label=f"{count} of {rows} x {columns}")


register_op(
    OpSpec(
        "put_rows",
        ("target", "indices", "values"),
        _infer_put_rows,
        _put_rows,
        _put_rows_samples,
        (),
        (0,),
        cost=_cost,
        tolerance=0,
        domain="array",
    )
)
