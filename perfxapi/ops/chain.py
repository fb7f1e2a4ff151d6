"""elementwise_chain: several elementwise ops of float32 as one, so that what lies between them never leaves the cache.

A chain is a program: a row (step, first, second) for each op, `step` an index into STEPS, the others numbers of values.
Values are the operands, in order, then the results of the rows before. A step of one value repeats it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from perfxapi import dtypes
from perfxapi.ops.elementwise import broadcast_shapes, num_elements
from perfxapi.ops.spec import (
    Attributes,
    Cost,
    OpSpec,
    Sample,
    TensorSpec,
    op_spec,
    register_op,
    require,
    require_shape,
)

STEPS = (
    "add", "subtract", "multiply", "divide", "maximum", "minimum", "exp", "tanh", "sigmoid", "silu", "gelu_tanh",
)  # fmt: skip
"""The ops that a chain may have; native code knows them by their places."""
MAX_ROWS, MAX_OPERANDS = 32, 8


def _chain(program: Any, *operands: Any) -> Any:
    values = [np.asarray(x, np.float32) for x in operands]
    for step, *places in program.tolist():
        spec = op_spec(STEPS[step])
        values.append(np.asarray(spec.reference(*(values[place] for place in places[: len(spec.inputs)])), np.float32))
    return values[-1]


def _decompose(ops: Any, program: Any, *operands: Any) -> Any:
    values = list(operands)
    for step, *places in np.asarray(program).tolist():
        spec = op_spec(STEPS[step])
        values.append(getattr(ops, spec.name)(*(values[place] for place in places[: len(spec.inputs)])))
    return values[-1]


def _infer(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    program, *operands = inputs
    op = "elementwise_chain"
    require_shape(op, "the program", program, None, 3)
    require(program.dtype is dtypes.int32, op, f"the program must be int32; got {program.dtype.name}")
    fits = 1 <= len(operands) <= MAX_OPERANDS and isinstance(program.shape[0], int) and program.shape[0] <= MAX_ROWS
    require(fits, op, f"at most {MAX_ROWS} steps on {MAX_OPERANDS} operands are one chain")
    for operand in operands:
        require(operand.dtype is dtypes.float32, op, f"operands must be float32; got {operand.dtype.name}")
    shape = reduce(lambda one, other: broadcast_shapes(op, one, other), (operand.shape for operand in operands))
    return (TensorSpec(shape, dtypes.float32),)


def _program(*rows: tuple[str, int, int]) -> Any:
    return np.array([(STEPS.index(step), first, second) for step, first, second in rows], np.int32)


_HARD_SWISH = _program(("add", 0, 1), ("maximum", 4, 2), ("minimum", 5, 3), ("multiply", 0, 6), ("divide", 7, 3))
_EVERY_STEP = _program(
    *((step, index + bool(index), 0) for index, step in enumerate(STEPS[6:])),
    *((step, 6 + index, 1) for index, step in enumerate(STEPS[:6])),
)


def _samples() -> Iterable[Sample]:
    rng = np.random.default_rng(81)
    numbers = tuple(np.full((), value, np.float32) for value in (3, 0, 6))
    for shape in ((), (7,), (3, 5), (2, 3, 33), (0, 4), (64, 65), (1100,)):
        x = (4 * rng.standard_normal(shape)).astype(np.float32)
        yield Sample((_HARD_SWISH, x, *numbers), {}, f"hard swish of {shape}")
    image = rng.standard_normal((2, 6, 9, 10)).astype(np.float32)
    channels = rng.standard_normal((6, 1, 1)).astype(np.float32)
    yield Sample((_program(("multiply", 0, 1), ("add", 3, 2)), image, channels, channels[::-1]), {}, "channels")
    rows = rng.standard_normal((4, 300)).astype(np.float32)
    column, row = (rng.standard_normal(shape).astype(np.float32) for shape in ((4, 1), (300,)))
    yield Sample(
        (_program(("subtract", 1, 2), ("exp", 3, 3), ("multiply", 4, 0)), rows, column, row), {}, "rows, columns"
    )
    yield Sample((_program(("add", 0, 1), ("tanh", 2, 2)), rows.T, column.reshape(4)), {}, "transposed")
    yield Sample((_EVERY_STEP, rows[0], rows[1] + 5), {}, "every step")
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e38], np.float32)
    yield Sample((_program(("maximum", 0, 1), ("multiply", 2, 0)), special, special[::-1].copy()), {}, "not finite")


def _cost(inputs: Sequence[TensorSpec], attributes: Attributes) -> Cost:
    program, *operands = inputs
    elements = num_elements(_infer(inputs, attributes)[0])
    steps = program.shape[0] if isinstance(program.shape[0], int) else MAX_ROWS
    return Cost(4 * (elements + sum(map(num_elements, operands)) + 3 * steps), elements * steps)


register_op(
    OpSpec(
        "elementwise_chain",
        ("program", "*operands"),
        _infer,
        _chain,
        _samples,
        decompose=_decompose,
        cost=_cost,
        weights=(0,),
        tolerance=4e-6,
        domain="neural",
    )
)
