"""Elementwise ops: arithmetic with NumPy's broadcasting, and the activations."""

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

NUMBERS = ("int", "uint", "float", "complex")
ACTIVATIONS = ("gelu_tanh", "silu")
_SHAPES = ((), (1,), (7,), (16,), (3, 5), (2, 3, 33), (0, 4), (64, 65))


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


def _infer_binary(name: str, kinds: tuple[str, ...] = NUMBERS) -> InferFn:
    def infer(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
        first, second = inputs
        for spec in inputs:
            require_kind(name, spec, *kinds)
        return (TensorSpec(broadcast_shapes(name, first.shape, second.shape), result_type(first.dtype, second.dtype)),)

    return infer


def infer_floats(name: str) -> InferFn:
    """Shape rule: one output like the first input, which must be floating-point."""

    def infer(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
        require_kind(name, inputs[0], "float")
        return (TensorSpec(inputs[0].shape, inputs[0].dtype),)

    return infer


def num_elements(spec: TensorSpec) -> int:
    """Elements of a concrete spec; a symbolic dimension counts as its factor."""
    return math.prod(size.factor if isinstance(size, Dim) else size for size in spec.shape)


def _elementwise_cost(inputs: Sequence[TensorSpec], attributes: Attributes) -> Cost:
    count = max(num_elements(spec) for spec in inputs)
    return Cost(4 * count * (len(inputs) + 1), count)


def _binary_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(1)
    for shape in _SHAPES:
        first, second = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
        yield Sample((first, second + np.float32(3) * np.sign(second)), label=f"shape {shape}")
    yield Sample((rng.standard_normal((4, 1, 5)), rng.standard_normal((3, 1)) + 9), label="float64, broadcast")
    yield Sample(
        (np.array([np.nan, np.inf, -np.inf, 0], np.float32), np.array([1, 2, 3, np.nan], np.float32)),
        label="not finite",
    )
    number = np.array(1.5, np.float32)
    yield Sample((rng.standard_normal((3, 37)).astype(np.float32), number), label="a number on the right")
    yield Sample((number.reshape(1, 1), (rng.standard_normal(21) + 5).astype(np.float32)), label="a number on the left")
    for kind in (np.float16, np.float64):
        yield Sample(tuple((rng.standard_normal((5, 7)) + 3).astype(kind) for _ in range(2)), label="other floats")


def _integer_samples() -> Iterable[Sample]:
    yield from _binary_samples()
    rng = np.random.default_rng(20)
    for kind in (np.int32, np.int64, np.uint8):
        yield Sample(tuple(rng.integers(0, 100, (5, 7)).astype(kind) for _ in range(2)), label="integers")


def _unary_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(2)
    for shape in _SHAPES:
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


ACTIVATION_REFERENCES: dict[str, Callable[[Any], Any]] = {"gelu_tanh": _gelu_tanh, "silu": _silu}


def _quiet(function: Callable[..., Any]) -> Callable[..., Any]:
    def reference(*inputs: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*inputs)

    return reference


def _register_plain() -> None:
    kinds = dict.fromkeys(("add", "subtract", "multiply", "maximum", "minimum"), NUMBERS)
    for name, accepted in {**kinds, "divide": ("float", "complex")}.items():
        infer, function = _infer_binary(name, accepted), _quiet(getattr(np, name))
        samples = _integer_samples if "int" in accepted else _binary_samples
        register_op(OpSpec(name, ("a", "b"), infer, function, samples, cost=_elementwise_cost))
    unary: dict[str, Callable[..., Any]] = {
        "exp": _quiet(np.exp),
        "tanh": np.tanh,
        "sigmoid": _sigmoid,
        "silu": _silu,
        "gelu_tanh": _gelu_tanh,
    }
    for name, function in unary.items():
        register_op(OpSpec(name, ("x",), infer_floats(name), function, _unary_samples, cost=_elementwise_cost))


_register_plain()


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
        _infer_binary("gated_activation", ("float",)),
        _gated_reference,
        _gated_samples,
        attributes=(Attribute("activation", str, choices=ACTIVATIONS),),
        decompose=lambda ops, gate, up, activation: ops.multiply(getattr(ops, activation)(gate), up),
        cost=_elementwise_cost,
    )
)
