"""Factorizations and solutions of stacks of matrices (array API standard, extension linalg), by the LAPACK that NumPy
carries. They take float32, float64 and their complex counterparts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from perfxapi import dtypes
from perfxapi.dims import Size
from perfxapi.dtypes import complex_of, real_of
from perfxapi.errors import InvalidArgumentError, InvalidDTypeError
from perfxapi.ops.arithmetic import quiet
from perfxapi.ops.elementwise import broadcast_shapes, num_elements
from perfxapi.ops.spec import Attribute, Attributes, Cost, InferFn, OpSpec, Sample, TensorSpec, register_op, require

_DTYPES = (dtypes.float32, dtypes.float64, dtypes.complex64, dtypes.complex128)
_MODES = ("reduced", "complete")
_FULL = Attribute("full_matrices", int, 1)
_UPPER = Attribute("upper", int, 0)
_MODE = Attribute("mode", str, choices=_MODES)


def require_matrix(op: str, x: TensorSpec, *, square: bool = True) -> None:
    """Raises InvalidArgumentError unless an operand is a stack of (square) matrices of a dtype that LAPACK has."""
    if x.dtype not in _DTYPES:
        raise InvalidDTypeError(f"{op}: {x.dtype.name} is none of {', '.join(dtype.name for dtype in _DTYPES)}")
    require(len(x.shape) >= 2, op, f"a stack of matrices has two dimensions or more; got {list(x.shape)}")
    require(not square or x.shape[-1] == x.shape[-2], op, f"the matrices must be square; got {list(x.shape)}")


def _lapack(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A reference whose failures are typed: a matrix that has no such factorization."""

    def reference(*inputs: Any, **attributes: Any) -> Any:
        try:
            result = function(*inputs, **attributes)
        except np.linalg.LinAlgError as error:
            raise InvalidArgumentError(f"{name}: {error}") from None
        return tuple(result) if isinstance(result, tuple) else result

    return quiet(reference)


def _same(x: TensorSpec, attributes: Attributes) -> tuple[TensorSpec, ...]:
    return (x,)


def _number(x: TensorSpec, attributes: Attributes) -> tuple[TensorSpec, ...]:
    return (TensorSpec(x.shape[:-2], x.dtype),)


def _sign_and_logarithm(x: TensorSpec, attributes: Attributes) -> tuple[TensorSpec, ...]:
    return TensorSpec(x.shape[:-2], x.dtype), TensorSpec(x.shape[:-2], real_of(x.dtype))


def _real_values_and_vectors(x: TensorSpec, attributes: Attributes) -> tuple[TensorSpec, ...]:
    return TensorSpec(x.shape[:-1], real_of(x.dtype)), x


def _complex_values_and_vectors(x: TensorSpec, attributes: Attributes) -> tuple[TensorSpec, ...]:
    wide = complex_of(x.dtype)
    return TensorSpec(x.shape[:-1], wide), TensorSpec(x.shape, wide)


def _least(x: TensorSpec) -> tuple[Size, Size, Size]:
    rows, columns = x.shape[-2:]
    known = isinstance(rows, int) and isinstance(columns, int)
    require(known, "linalg", f"the matrices of {list(x.shape)} must have known sizes")
    return rows, columns, min(int(rows), int(columns))


def _qr_shapes(x: TensorSpec, attributes: Attributes) -> tuple[TensorSpec, ...]:
    rows, columns, least = _least(x)
    inner = rows if attributes["mode"] == "complete" else least
    return TensorSpec((*x.shape[:-1], inner), x.dtype), TensorSpec((*x.shape[:-2], inner, columns), x.dtype)


def _svd_shapes(x: TensorSpec, attributes: Attributes) -> tuple[TensorSpec, ...]:
    rows, columns, least = _least(x)
    left, right = (rows, columns) if attributes["full_matrices"] else (least, least)
    values = TensorSpec((*x.shape[:-2], least), real_of(x.dtype))
    return TensorSpec((*x.shape[:-1], left), x.dtype), values, TensorSpec((*x.shape[:-2], right, columns), x.dtype)


ShapeRule = Callable[[TensorSpec, Attributes], tuple[TensorSpec, ...]]


def _infer(name: str, rule: ShapeRule, square: bool) -> InferFn:
    def infer(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
        require_matrix(name, inputs[0], square=square)
        return rule(inputs[0], attributes)

    return infer


def _infer_solve(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    a, b = inputs
    require_matrix("solve", a)
    require_matrix("solve", b, square=False)
    require(b.dtype is a.dtype, "solve", f"a is {a.dtype.name} and b is {b.dtype.name}")
    require(a.shape[-1] == b.shape[-2], "solve", f"b of shape {list(b.shape)} has not the rows of a {list(a.shape)}")
    return (TensorSpec(broadcast_shapes("solve", a.shape[:-2], b.shape[:-2]) + b.shape[-2:], a.dtype),)


def _cost(inputs: Sequence[TensorSpec], attributes: Attributes) -> Cost:
    x = inputs[0]
    count = num_elements(x)
    return Cost(2 * count * x.dtype.itemsize, count * num_elements(TensorSpec(x.shape[-1:], x.dtype)))


def _eig(x: Any) -> Any:
    values, vectors = np.linalg.eig(x)
    return values.astype(np.result_type(values, np.complex64)), vectors.astype(np.result_type(vectors, np.complex64))


def _svd(x: Any, full_matrices: int) -> Any:
    return np.linalg.svd(x, full_matrices=bool(full_matrices))


def _cholesky(x: Any, upper: int) -> Any:
    lower = np.linalg.cholesky(x)
    return np.conj(np.swapaxes(lower, -1, -2)) if upper else lower


def _definite(rng: np.random.Generator, *shape: int) -> Any:
    """Symmetric matrices whose eigenvalues are well apart, so that every factorization of them is well determined."""
    x = rng.standard_normal(shape)
    return x @ np.swapaxes(x, -1, -2) + np.diag(np.arange(1, shape[-1] + 1) * 3.0)


def _symmetric_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(70)
    for shape in ((1, 1), (4, 4), (2, 3, 3), (0, 2, 2)):
        for kind in (np.float32, np.float64, np.complex64):
            yield Sample((_definite(rng, *shape).astype(kind),), label=f"shape {shape}")


def _tall_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(71)
    for shape in ((4, 4), (5, 3), (2, 3, 6)):
        for kind in (np.float32, np.float64):
            yield Sample((rng.standard_normal(shape).astype(kind),), label=f"shape {shape}")


def _with(attributes: Sequence[Attributes], samples: Callable[[], Iterable[Sample]]) -> Callable[[], Iterable[Sample]]:
    return lambda: [Sample(s.inputs, given, f"{s.label}, {given}") for s in samples() for given in attributes]


def _solve_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(72)
    for shape, other in (((4, 4), (4, 2)), ((2, 3, 3), (3, 5)), ((1, 1), (1, 1))):
        for kind in (np.float32, np.float64):
            yield Sample((_definite(rng, *shape).astype(kind), rng.standard_normal(other).astype(kind)))


_ROWS: tuple[tuple[str, Any, ShapeRule, bool, Any, tuple[Attribute, ...]], ...] = (
    ("cholesky", _cholesky, _same, True, _with([{"upper": 0}, {"upper": 1}], _symmetric_samples), (_UPPER,)),
    ("det", np.linalg.det, _number, True, _symmetric_samples, ()),
    ("eig", _eig, _complex_values_and_vectors, True, _symmetric_samples, ()),
    ("eigh", np.linalg.eigh, _real_values_and_vectors, True, _symmetric_samples, ()),
    ("qr", np.linalg.qr, _qr_shapes, False, _with([{"mode": mode} for mode in _MODES], _tall_samples), (_MODE,)),
    ("slogdet", np.linalg.slogdet, _sign_and_logarithm, True, _symmetric_samples, ()),
    ("svd", _svd, _svd_shapes, False, _with([{"full_matrices": 0}, {"full_matrices": 1}], _tall_samples), (_FULL,)),
)
for _name, _function, _rule, _square, _samples, _attributes in _ROWS:
    register_op(
        OpSpec(
            _name,
            ("x",),
            _infer(_name, _rule, _square),
            _lapack(_name, _function),
            _samples,
            _attributes,
            cost=_cost,
            domain="array",
        )
    )
register_op(
    OpSpec(
        "solve",
        ("a", "b"),
        _infer_solve,
        _lapack("solve", np.linalg.solve),
        _solve_samples,
        cost=_cost,
        domain="array",
    )
)
