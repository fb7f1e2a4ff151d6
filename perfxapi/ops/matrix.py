"""Products of dense matrices, as the array API standard defines `matmul`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from perfxapi.dims import Dim, Shape, Size
from perfxapi.dtypes import result_type
from perfxapi.ops.elementwise import broadcast_shapes
from perfxapi.ops.spec import (
    NUMBERS,
    Attributes,
    Cost,
    OpSpec,
    Sample,
    TensorSpec,
    register_op,
    require,
    require_kind,
)


def product_shape(a: Shape, b: Shape) -> Shape:
    """The shape of `a @ b`: batches are broadcast, a vector is a row on the left and a column on the right.

    Raises InvalidArgumentError.
    """
    require(bool(a) and bool(b), "matmul", f"operands need at least one dimension; got {list(a)} and {list(b)}")
    inner = b[-2] if len(b) > 1 else b[0]
    require(a[-1] == inner, "matmul", f"inner sizes differ: {list(a)} and {list(b)}")
    batch = broadcast_shapes("matmul", a[:-2], b[:-2])
    rows: Shape = (a[-2],) if len(a) > 1 else ()
    columns: Shape = (b[-1],) if len(b) > 1 else ()
    return batch + rows + columns


def _infer(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    a, b = inputs
    for spec in inputs:
        require_kind("matmul", spec, *NUMBERS)
    return (TensorSpec(product_shape(a.shape, b.shape), result_type(a.dtype, b.dtype)),)


def _count(sizes: Iterable[Size]) -> int:
    count = 1
    for size in sizes:
        count *= size.factor if isinstance(size, Dim) else size
    return count


def _cost(inputs: Sequence[TensorSpec], attributes: Attributes) -> Cost:
    """Every operand once, and one multiplication and addition for each element and inner position."""
    (result,) = _infer(inputs, attributes)
    nbytes = sum(_count(spec.shape) * spec.dtype.itemsize for spec in (*inputs, result))
    return Cost(nbytes, 2 * _count(result.shape) * _count(inputs[0].shape[-1:]))


_MATRICES = ((1, 1, 1), (3, 5, 7), (16, 16, 16), (17, 300, 33), (1, 64, 70), (65, 33, 1), (130, 260, 40), (5, 520, 200))
_OTHERS = (
    ((7,), (7,)),
    ((7,), (7, 5)),
    ((5, 7), (7,)),
    ((0, 4), (4, 3)),
    ((4, 0), (0, 3)),
    ((2, 3, 8, 9), (9, 4)),
    ((3, 1, 4, 5), (2, 5, 6)),
    ((5, 4, 6), (5, 6, 3)),
    ((2, 6), (3, 6, 4)),
    ((3, 4), (2, 3, 4, 1)),
)


def _samples() -> Iterable[Sample]:
    rng = np.random.default_rng(40)
    for m, k, n in _MATRICES:
        for kind in (np.float32, np.float64):
            a, b = (rng.standard_normal(shape).astype(kind) for shape in ((m, k), (k, n)))
            yield Sample((a, b), label=f"{m} x {k} x {n}")
            yield Sample((a, np.ascontiguousarray(b.T).T), label=f"{m} x {k} x {n}, transposed")
    for left, right in _OTHERS:
        operands = tuple(rng.standard_normal(shape).astype(np.float32) for shape in (left, right))
        yield Sample(operands, label=f"{list(left)} by {list(right)}")
    hostile = np.array([[np.nan, 1], [np.inf, 0]], np.float32)
    yield Sample((hostile, np.eye(2, dtype=np.float32)), label="not finite")
    for other in (np.int32, np.complex64):
        yield Sample(tuple(rng.integers(-9, 9, (4, 4)).astype(other) for _ in range(2)), label="other numbers")


MATMUL = register_op(OpSpec("matmul", ("a", "b"), _infer, np.matmul, _samples, cost=_cost, domain="array"))
