"""Elementwise ops of the array API standard that no other op gives: two tables, one for each number of operands.

Operands are broadcast and promoted as the standard says. What follows exactly from these ops has no op of its own:
`greater(a, b)` is `less(b, a)`, `negative(x)` is `subtract(-0.0, x)`, `isnan(x)` says that x differs from x.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from perfxapi import dtypes
from perfxapi.dtypes import DType, real_of, result_type
from perfxapi.ops.elementwise import SHAPES, activation_samples, broadcast_shapes, elementwise_cost
from perfxapi.ops.spec import (
    ALL_KINDS,
    FLOATS,
    INTEGERS,
    NUMBERS,
    REALS,
    Attributes,
    InferFn,
    OpSpec,
    Sample,
    TensorSpec,
    register_op,
    require,
    require_kind,
)

ResultRule = Callable[[DType], DType]
_EXTRA_DTYPES = {"int": np.int64, "uint": np.uint8, "complex": np.complex64, "bool": np.bool_}


def _same(dtype: DType) -> DType:
    return dtype


def _truth(dtype: DType) -> DType:
    return dtypes.bool_


class Elementwise(NamedTuple):
    """A row of the tables: the reference, the kinds it takes, the result's dtype, and where its samples lie."""

    reference: Callable[..., Any]
    kinds: tuple[str, ...]
    result: ResultRule = _same
    low: float = -20.0
    high: float = 20.0


def quiet(function: Callable[..., Any]) -> Callable[..., Any]:
    """A reference without NumPy's warnings: what overflows or is undefined is infinite or NaN, and that is all."""

    def reference(*inputs: Any, **attributes: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*inputs, **attributes)

    return reference


def _sign(x: Any) -> Any:
    if x.dtype.kind != "c":
        return np.sign(x)
    size = np.abs(x)
    return np.divide(x, size, out=np.zeros_like(x), where=size != 0)


def _expm1(x: Any) -> Any:
    """Complex numbers by their parts: NumPy's own has not the standard's values at infinity and NaN."""
    if x.dtype.kind != "c":
        return np.expm1(x)
    a, b = x.real, x.imag
    half = np.sin(b / 2)
    out = np.empty_like(x)
    out.real, out.imag = np.expm1(a) * np.cos(b) - 2 * half * half + 0.0, np.exp(a) * np.sin(b)  # +0 where a is -0
    low = np.isneginf(a)
    out.real, out.imag = np.where(low, -1, out.real), np.where(low & ~np.isfinite(b), 0, out.imag)
    high = np.isposinf(a)
    out.real = np.where(high & (b == 0) | high & ~np.isfinite(b), np.inf, out.real)
    out.imag = np.where(b == 0, b, out.imag)
    return out


def _tanh(x: Any) -> Any:
    """At infinity the imaginary part is a zero with the sign that it had; NumPy's sign turns with the angle."""
    result = np.array(np.tanh(x))
    if x.dtype.kind == "c":
        flat = np.isinf(x.real) & np.isfinite(x.imag)
        result.imag = np.where(flat, np.copysign(0, x.imag), result.imag)
    return result


def _floor_divide(a: Any, b: Any) -> Any:
    """Where one operand is infinite, the quotient is: NumPy gives NaN or -1 there, not what the standard says."""
    quotient = np.floor_divide(a, b)
    if quotient.dtype.kind != "f":
        return quotient
    return np.where(np.isinf(a) != np.isinf(b), np.where(np.isnan(a) | np.isnan(b), quotient, a / b), quotient)


def _power(a: Any, b: Any) -> Any:
    whole = a.dtype.kind in "iu" and b.dtype.kind == "i"
    require(not whole or not np.any(b < 0), "pow", "a whole number to a negative power is no whole number")
    return np.power(a, b)


_UNARY = {
    "abs": Elementwise(np.abs, NUMBERS, real_of),
    "acos": Elementwise(np.arccos, FLOATS, low=-1, high=1),
    "acosh": Elementwise(np.arccosh, FLOATS, low=1),
    "asin": Elementwise(np.arcsin, FLOATS, low=-1, high=1),
    "asinh": Elementwise(np.arcsinh, FLOATS),
    "atan": Elementwise(np.arctan, FLOATS),
    "atanh": Elementwise(np.arctanh, FLOATS, low=-0.99, high=0.99),
    "ceil": Elementwise(np.ceil, ("float",)),
    "conj": Elementwise(np.conj, ("complex",)),
    "cos": Elementwise(np.cos, FLOATS),
    "cosh": Elementwise(np.cosh, FLOATS),
    "exp": Elementwise(np.exp, FLOATS, high=10),
    "expm1": Elementwise(_expm1, FLOATS),
    "floor": Elementwise(np.floor, ("float",)),
    "log": Elementwise(np.log, FLOATS, low=0.01),
    "log10": Elementwise(np.log10, FLOATS, low=0.01),
    "log1p": Elementwise(np.log1p, FLOATS, low=-0.9),
    "log2": Elementwise(np.log2, FLOATS, low=0.01),
    "round": Elementwise(np.round, FLOATS),
    "sign": Elementwise(_sign, NUMBERS),
    "sin": Elementwise(np.sin, FLOATS),
    "sinh": Elementwise(np.sinh, FLOATS),
    "sqrt": Elementwise(np.sqrt, FLOATS, low=0),
    "tan": Elementwise(np.tan, FLOATS, low=-1.5, high=1.5),
    "tanh": Elementwise(_tanh, FLOATS),
    "trunc": Elementwise(np.trunc, ("float",)),
}

_BINARY = {
    "add": Elementwise(np.add, NUMBERS),
    "atan2": Elementwise(np.arctan2, ("float",)),
    "bitwise_and": Elementwise(np.bitwise_and, ("bool", *INTEGERS)),
    "bitwise_left_shift": Elementwise(np.left_shift, INTEGERS, low=0, high=7),
    "bitwise_or": Elementwise(np.bitwise_or, ("bool", *INTEGERS)),
    "bitwise_right_shift": Elementwise(np.right_shift, INTEGERS, low=0, high=7),
    "bitwise_xor": Elementwise(np.bitwise_xor, ("bool", *INTEGERS)),
    "copysign": Elementwise(np.copysign, ("float",)),
    "divide": Elementwise(np.divide, FLOATS),
    "equal": Elementwise(np.equal, ALL_KINDS, _truth),
    "floor_divide": Elementwise(_floor_divide, REALS, low=1),
    "hypot": Elementwise(np.hypot, ("float",)),
    "less": Elementwise(np.less, REALS, _truth),
    "less_equal": Elementwise(np.less_equal, REALS, _truth),
    "logaddexp": Elementwise(np.logaddexp, ("float",)),
    "maximum": Elementwise(np.maximum, REALS),
    "minimum": Elementwise(np.minimum, REALS),
    "multiply": Elementwise(np.multiply, NUMBERS),
    "nextafter": Elementwise(np.nextafter, ("float",)),
    "pow": Elementwise(_power, NUMBERS, low=0, high=3),
    "remainder": Elementwise(np.remainder, REALS, low=1),
    "subtract": Elementwise(np.subtract, NUMBERS),
}


def _infer_unary(name: str, row: Elementwise) -> InferFn:
    def infer(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
        require_kind(name, inputs[0], *row.kinds)
        return (TensorSpec(inputs[0].shape, row.result(inputs[0].dtype)),)

    return infer


def _infer_binary(name: str, row: Elementwise) -> InferFn:
    def infer(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
        first, second = inputs
        for spec in inputs:
            require_kind(name, spec, *row.kinds)
        shape = broadcast_shapes(name, first.shape, second.shape)
        return (TensorSpec(shape, row.result(result_type(first.dtype, second.dtype))),)

    return infer


def _draw(rng: np.random.Generator, row: Elementwise, shape: tuple[int, ...], kind: Any = np.float32) -> Any:
    """Numbers of one dtype where the function is defined; whole ones for dtypes of whole numbers."""
    low, high = row.low, row.high
    if np.dtype(kind).kind in "iub":
        return rng.integers(0 if np.dtype(kind).kind in "ub" else int(low), int(high) + 1, shape).astype(kind)
    values = rng.uniform(low, high, shape)
    if np.dtype(kind).kind == "c":
        values = values + 1j * rng.uniform(-1, 1, shape)
    return values.astype(kind)


def _samples(row: Elementwise, num_operands: int) -> Callable[[], Iterable[Sample]]:
    def samples() -> Iterable[Sample]:
        rng = np.random.default_rng(1)
        draw: Callable[..., Sample] = lambda shape, kind, label: Sample(  # noqa: E731
            tuple(_draw(rng, row, shape, kind) for _ in range(num_operands)), label=label
        )
        if "float" in row.kinds:
            yield from (draw(shape, np.float32, f"shape {shape}") for shape in SHAPES)
            yield from (draw((5, 7), kind, "other floats") for kind in (np.float16, np.float64))
            hostile = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 1, -2.5], np.float32)
            pairs = (np.repeat(hostile, len(hostile)), np.tile(hostile, len(hostile)))
            yield Sample(pairs[:num_operands], label="not finite")
            yield Sample(tuple(part.astype(np.float64) for part in pairs[:num_operands]), label="float64, not finite")
        yield from (draw((5, 7), _EXTRA_DTYPES[kind], "others") for kind in row.kinds if kind in _EXTRA_DTYPES)

    return samples


def _operand_samples() -> Iterable[Sample]:
    """Beside the family's samples: for ops of two numbers, what broadcasting does."""
    rng = np.random.default_rng(2)

    def floats(*shape: int) -> Any:
        return rng.uniform(1, 3, shape).astype(np.float32)

    yield Sample((rng.standard_normal((4, 1, 5)), rng.standard_normal((3, 1)) + 9), label="float64, broadcast")
    number = np.array(1.5, np.float32)
    yield Sample((rng.standard_normal((3, 37)).astype(np.float32), number), label="a number on the right")
    yield Sample((number.reshape(1, 1), (rng.standard_normal(21) + 5).astype(np.float32)), label="a number on the left")
    yield Sample((floats(3, 700), floats(700)), label="a row beside rows")
    yield Sample((floats(2, 3, 1), floats(3, 1400)), label="a column beside rows")
    yield Sample((floats(4, 6), floats(6).astype(np.float64)), label="float32 and float64")


def _whole_samples(row: Elementwise) -> Iterable[Sample]:
    """For ops of two whole numbers: every pair of the lowest, the highest and those around 0; dtypes that mix."""
    for kind in (np.int8, np.int64, np.uint8, np.uint32):
        limits = np.iinfo(kind)
        edges: Any = np.array([limits.min, limits.min + 1, 0, 1, 2, 3, 7, limits.max - 1, limits.max], kind)
        if limits.min:
            edges = np.append(edges, np.array([-1, -2, -5], kind))
        allowed = edges[edges >= 0] if row.reference is _power else edges
        pairs = (np.repeat(edges, len(allowed)), np.tile(allowed, len(edges)))
        yield Sample(pairs, label=f"edges of {np.dtype(kind)}")
    a, b = np.arange(-60, 60, dtype=np.int16).reshape(4, 30), np.arange(30, dtype=np.uint8) % 5
    yield Sample((a, b), label="int16 and uint8")


def _single_samples(row: Elementwise) -> Iterable[Sample]:
    """For ops of one number: what is far from 0 and near it, of either sign; the edges of whole numbers."""
    if "float" in row.kinds:
        far = np.geomspace(1e-30, 1e30, 301)
        yield Sample((np.concatenate([-far, far]).astype(np.float32),), label="near and far")
        yield Sample((np.linspace(row.low, row.high, 40).reshape(4, 10),), label="float64, rows")
    if "int" in row.kinds:
        yield Sample((np.arange(-128, 128).astype(np.int8),), label="all of int8")


def _pair_samples(row: Elementwise) -> Iterable[Sample]:
    if "float" in row.kinds:
        yield from _operand_samples()
    if "int" in row.kinds:
        yield from _whole_samples(row)


def _register_tables() -> None:
    for name, row in _UNARY.items():
        family = _samples(row, 1)
        everywhere = name in ("exp", "tanh")
        samples = lambda f=family, r=row, e=everywhere: [  # noqa: E731
            *(activation_samples() if e else ()),
            *f(),
            *_single_samples(r),
        ]
        reference = quiet(row.reference)
        register_op(
            OpSpec(name, ("x",), _infer_unary(name, row), reference, samples, cost=elementwise_cost, domain="array")
        )
    for name, row in _BINARY.items():
        family = _samples(row, 2)
        everything = lambda f=family, r=row: [*f(), *_pair_samples(r)]  # noqa: E731
        register_op(
            OpSpec(
                name,
                ("a", "b"),
                _infer_binary(name, row),
                quiet(row.reference),
                everything,
                cost=elementwise_cost,
                domain="array",
            )
        )


_register_tables()
