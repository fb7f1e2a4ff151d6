"""What elementwise ops share: broadcasting, costs; and the activations of neural networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from perfxapi.dims import Dim, Shape, Size
from perfxapi.dtypes import result_type
from perfxapi.errors import InvalidArgumentError
from perfxapi.ops.spec import (
    Attribute,
    Attributes,
    Cost,
    InferFn,
    OpSpec,
    Sample,
    TensorSpec,
    register_op,
    require_kind,
)

ACTIVATIONS = ("gelu_tanh", "silu")
SHAPES: tuple[tuple[int, ...], ...] = ((), (1,), (7,), (16,), (3, 5), (2, 3, 33), (0, 4), (64, 65))


def broadcast_shapes(op: str, first: Shape, second: Shape) -> Shape:
    """NumPy's broadcasting rule, over shapes that may be symbolic. Raises InvalidArgumentError."""
    length = max(len(first), len(second))
    left: Shape = (1,) * (length - len(first)) + first
    right: Shape = (1,) * (length - len(second)) + second
    return tuple(_broadcast_size(op, one, other) for one, other in zip(left, right, strict=True))


def _broadcast_size(op: str, one: Size, other: Size) -> Size:
    if one == other or (isinstance(other, int) and other == 1):
        return one
    if isinstance(one, int) and one == 1:
        return other
    raise InvalidArgumentError(f"{op}: sizes {one!r} and {other!r} do not broadcast")


def infer_floats(name: str) -> InferFn:
    """Shape rule: one output like the first input, which must be floating-point."""

    def infer(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
        require_kind(name, inputs[0], "float")
        return (TensorSpec(inputs[0].shape, inputs[0].dtype),)

    return infer


def num_elements(spec: TensorSpec) -> int:
    """Elements of a concrete spec; a symbolic dimension counts as its factor."""
    return math.prod(size.factor if isinstance(size, Dim) else size for size in spec.shape)


def elementwise_cost(inputs: Sequence[TensorSpec], attributes: Attributes) -> Cost:
    """Every operand once and as much written; one operation for each element."""
    count = max(num_elements(spec) for spec in inputs)
    return Cost(4 * count * (len(inputs) + 1), count)


def activation_samples() -> Iterable[Sample]:
    """Samples of functions of one floating-point number that are defined everywhere."""
    rng = np.random.default_rng(2)
    for shape in SHAPES:
        yield Sample(((3 * rng.standard_normal(shape)).astype(np.float32),), label=f"shape {shape}")
    yield Sample((np.linspace(-20, 20, 1001, dtype=np.float32),), label="wide range")
    yield Sample((np.array([np.nan, 1, -1, 0, -0.0, np.nan, 5], np.float32),), label="NaN")
    yield Sample((rng.standard_normal((3, 5)).astype(np.float16),), label="float16")
    yield Sample((rng.standard_normal((8, 6)).astype(np.float32)[::2, ::-1],), label="negative strides")


def _sigmoid(x: Any) -> Any:
    with np.errstate(over="ignore"):
        return (1 / (1 + np.exp(-x.astype(np.float64)))).astype(x.dtype)


def _silu(x: Any) -> Any:
    with np.errstate(over="ignore"):
        wide = x.astype(np.float64)
        return (wide / (1 + np.exp(-wide))).astype(x.dtype)


def _gelu_tanh(x: Any) -> Any:
    wide = x.astype(np.float64)
    inner = math.sqrt(2 / math.pi) * (wide + 0.044715 * wide * wide * wide)
    return (0.5 * wide * (1 + np.tanh(inner))).astype(x.dtype)


def _erf(x: Any) -> Any:
    """The error function: x - x^3/3 + ..., in the form whose terms are all positive (Abramowitz and Stegun 7.1.6)."""
    wide = x.astype(np.float64)
    near = np.clip(wide, -3, 3)
    term = total = 2 / math.sqrt(math.pi) * np.exp(-near * near) * near
    for n in range(1, 60):
        term = term * near * near / (n + 0.5)
        total = total + term
    far = np.copysign(1 - _erfc(np.maximum(np.abs(wide), 3)), wide)
    return np.where(np.abs(wide) < 3, total, far).astype(x.dtype)


def _erfc(x: Any) -> Any:
    """1 - erf(x) from 3 on, by its continued fraction (Abramowitz and Stegun 7.1.14)."""
    fraction = x
    for n in range(60, 0, -1):
        fraction = x + n / 2 / fraction
    return np.exp(-x * x) / math.sqrt(math.pi) / fraction


def _gelu(x: Any) -> Any:
    wide = x.astype(np.float64)
    return (0.5 * wide * (1 + _erf(wide / math.sqrt(2)))).astype(x.dtype)


ACTIVATION_REFERENCES: dict[str, Callable[[Any], Any]] = {"gelu_tanh": _gelu_tanh, "silu": _silu}


def _register_activations() -> None:
    for name, function in {"sigmoid": _sigmoid, **ACTIVATION_REFERENCES}.items():
        register_op(OpSpec(name, ("x",), infer_floats(name), function, activation_samples, cost=elementwise_cost))
    for name, function in {"erf": _erf, "gelu": _gelu}.items():
        samples = activation_samples
        register_op(OpSpec(name, ("x",), infer_floats(name), function, samples, cost=elementwise_cost, domain="neural"))


_register_activations()


def _infer_gated(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    gate, up = inputs
    for spec in inputs:
        require_kind("gated_activation", spec, "float")
    shape = broadcast_shapes("gated_activation", gate.shape, up.shape)
    return (TensorSpec(shape, result_type(gate.dtype, up.dtype)),)


def _gated_reference(gate: Any, up: Any, activation: str) -> Any:
    return ACTIVATION_REFERENCES[activation](gate) * up


def _gated_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(3)
    for rows, columns in ((1, 64), (3, 33), (17, 128), (0, 16)):
        for activation in ACTIVATIONS:
            gate, up = (3 * rng.standard_normal((rows, columns)).astype(np.float32) for _ in range(2))
            yield Sample((gate, up), {"activation": activation}, f"{rows} x {columns}, {activation}")


GATED_ACTIVATION = register_op(
    OpSpec(
        "gated_activation",
        ("gate", "up"),
        _infer_gated,
        _gated_reference,
        _gated_samples,
        attributes=(Attribute("activation", str, choices=ACTIVATIONS),),
        decompose=lambda ops, gate, up, activation: ops.multiply(getattr(ops, activation)(gate), up),
        cost=elementwise_cost,
    )
)
