"""Rows of a matrix that are replaced by, or combined with, others: what scattering comes down to.

Unlike `put_rows` it leaves its operands as they are, so that it can be traced. Elements of a tensor are scattered as
rows of one column, slices of one as rows of many.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from perfxapi.ops.arithmetic import quiet
from perfxapi.ops.elementwise import num_elements
from perfxapi.ops.spec import (
    ALL_KINDS,
    INTEGERS,
    NUMBERS,
    REALS,
    Attribute,
    Attributes,
    Cost,
    OpSpec,
    Sample,
    TensorSpec,
    register_op,
    require,
    require_kind,
    require_shape,
)

_KINDS = {
    "none": ALL_KINDS,
    "add": NUMBERS,
    "multiply": NUMBERS,
    "max": ("bool", *REALS),
    "min": ("bool", *REALS),
}
_COMBINE: dict[str, Any] = {"add": np.add, "multiply": np.multiply, "max": np.maximum, "min": np.minimum}


def _infer(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    x, indices, values = inputs
    require_kind("scatter_rows", x, *_KINDS[attributes["reduction"]])
    require_kind("scatter_rows", indices, *INTEGERS)
    require_shape("scatter_rows", "x", x, None, None)
    require_shape("scatter_rows", "indices", indices, None)
    require_shape("scatter_rows", "values", values, indices.shape[0], x.shape[1])
    require(values.dtype is x.dtype, "scatter_rows", f"values of {values.dtype.name} do not fit rows of {x.dtype.name}")
    return (x,)


def _scatter_rows(x: Any, indices: Any, values: Any, reduction: str) -> Any:
    rows = len(x)
    inside = bool(np.all((indices >= -rows) & (indices < rows)))
    require(inside, "scatter_rows", f"an index lies outside -{rows}..{rows - 1}")
    result = np.array(x)
    if reduction == "none":
        result[indices.astype(np.intp)] = values
    else:
        _COMBINE[reduction].at(result, indices.astype(np.intp), values)
    return result


def _samples() -> Iterable[Sample]:
    rng = np.random.default_rng(70)
    for reduction in _KINDS:
        for rows, columns, count in ((9, 5, 4), (20, 33, 20), (6, 1, 50), (3, 2, 0)):
            for kind in (np.int32, np.int64):
                distinct = reduction == "none" and count <= rows
                indices = rng.permutation(rows)[:count] if distinct else rng.integers(-rows, rows, count)
                if reduction == "none" and not distinct:
                    continue  # which of several rows stays is open
                x, values = (rng.standard_normal((n, columns)).astype(np.float32) for n in (rows, count))
                label = f"{count} of {rows} x {columns}, {reduction}"
                yield Sample((x, indices.astype(kind), values), {"reduction": reduction}, label)
        whole, others = rng.integers(0, 9, (4, 3)), rng.integers(0, 9, (2, 3))
        yield Sample((whole, np.array([-1, 0]), others), {"reduction": reduction}, f"int64, {reduction}")


def _cost(inputs: Sequence[TensorSpec], attributes: Attributes) -> Cost:
    x, _, values = inputs
    count = num_elements(values)
    return Cost((2 * num_elements(x) + 2 * count) * x.dtype.itemsize, count)


register_op(
    OpSpec(
        "scatter_rows",
        ("x", "indices", "values"),
        _infer,
        quiet(_scatter_rows),
        _samples,
        (Attribute("reduction", str, "none", tuple(_KINDS)),),
        cost=_cost,
    )
)
