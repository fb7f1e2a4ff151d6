"""Every function of the array API standard, with operands: what NumPy's namesake says in float64 is the reference."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

RNG = np.random.default_rng(2025)
Values = np.ndarray[Any, Any]

X = RNG.uniform(-2, 2, (3, 4))
Y = RNG.uniform(-2, 2, (3, 4))
POSITIVE = RNG.uniform(0.2, 3, (3, 4))
UNIT = RNG.uniform(-0.9, 0.9, (3, 4))
ROW = RNG.uniform(0.5, 2, 4)
CUBE = RNG.uniform(-1, 1, (2, 3, 5))
COMPLEX = RNG.uniform(-1, 1, (3, 4)) + 1j * RNG.uniform(-1, 1, (3, 4))
WHOLE = RNG.integers(-6, 7, (3, 4))
COUNTS = RNG.integers(1, 6, (3, 4))
TRUTHS = RNG.integers(0, 2, (3, 4)).astype(bool)
MORE_TRUTHS = RNG.integers(0, 2, (3, 4)).astype(bool)
ODD = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 2.5])
SQUARE = RNG.uniform(-1, 1, (2, 4, 4)) + 4 * np.eye(4)
SYMMETRIC = SQUARE @ np.swapaxes(SQUARE, -1, -2)
TIES = np.array([[3, 1, 2, 1], [0, 0, 5, 5]])


def sample(*shape: int, kind: Any = np.float32) -> Values:
    """0, 1, 2, ... in that shape."""
    return np.arange(math.prod(shape)).reshape(shape).astype(kind)


@dataclass(frozen=True)
class Row:
    """A call. `reference` is NumPy's function where its namesake differs; `traceable` says that its shape is known."""

    name: str
    arguments: tuple[Any, ...]
    named: dict[str, Any] = field(default_factory=dict)
    reference: Callable[..., Any] | None = None
    traceable: bool = True
    tolerance: float = 2e-5

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{key}={value}' for key, value in self.named.items())})"


def rows(names: str, *arguments: Any, **named: Any) -> list[Row]:
    """The same operands for several functions."""
    return [Row(name, arguments, named) for name in names.split()]


ELEMENTWISE = [
    *rows("abs ceil cos cosh exp expm1 floor negative positive round sign signbit sin sinh square tan tanh trunc", X),
    *rows("asinh atan isfinite isinf isnan conj real", X),
    *rows("acosh", POSITIVE + 1),
    *rows("acos asin atanh", UNIT),
    *rows("log log10 log1p log2 reciprocal sqrt", POSITIVE),
    *rows("abs conj cos exp expm1 imag log negative positive real sign sin sqrt square tanh reciprocal", COMPLEX),
    *rows("isfinite isinf isnan", ODD),
    *rows("isfinite isinf isnan", ODD + 1j),
    *rows("isfinite isinf isnan abs ceil floor negative positive round sign square trunc bitwise_invert", WHOLE),
    *rows("bitwise_invert logical_not", TRUTHS),
    *rows("add atan2 copysign divide hypot logaddexp maximum minimum multiply subtract", X, Y),
    *rows("add divide multiply subtract", COMPLEX, ROW + 1j),
    *rows("equal greater greater_equal less less_equal not_equal", WHOLE, WHOLE[:, ::-1].copy()),
    *rows("equal not_equal less greater", ODD, ODD[::-1].copy()),
    *rows("floor_divide remainder pow", POSITIVE, ROW),
    *rows("add floor_divide maximum minimum multiply pow remainder subtract", WHOLE, COUNTS),
    *rows("bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor", WHOLE, COUNTS),
    *rows("bitwise_and bitwise_or bitwise_xor logical_and logical_or logical_xor equal", TRUTHS, MORE_TRUTHS),
    *rows("add subtract multiply divide pow maximum less equal", POSITIVE, 2.5),
    *rows("add subtract multiply divide", 2, POSITIVE),
    *rows("pow", X, 2),
    *rows("clip", X, -0.5, 0.75),
    *rows("clip", X, Y, None),
    Row("clip", (X,), {}, lambda x: x),
    *rows("nextafter", np.zeros(2), np.zeros(2)),
]

REDUCTIONS = [
    *(row for axis in (None, 0, -1, (0, 2), ()) for row in rows("sum prod max min mean std var", CUBE, axis=axis)),
    *rows("sum prod max min mean std var any all count_nonzero", CUBE, axis=1, keepdims=True),
    *rows("sum prod", WHOLE, axis=0),
    *rows("sum prod mean", COMPLEX, axis=1),
    *rows("any all count_nonzero", TRUTHS, axis=1),
    *rows("any all count_nonzero sum prod", np.zeros((2, 0)), axis=1),
    *rows("any all max min", TRUTHS),
    *rows("std var", CUBE, axis=2, correction=1.0),
    *rows("argmax argmin", CUBE, axis=1),
    *rows("argmax argmin", CUBE),
    *rows("argmax argmin", TIES, axis=1, keepdims=True),
    *rows("cumulative_sum cumulative_prod", CUBE, axis=1),
    *rows("cumulative_sum cumulative_prod", ROW, include_initial=True),
    *rows("cumulative_sum cumulative_prod", WHOLE, axis=0, include_initial=True),
    *rows("diff", CUBE, axis=1, n=2),
    *rows("diff", TRUTHS),
    *rows("diff", CUBE, prepend=CUBE[..., :1], append=CUBE[..., :2]),
]

MANIPULATION = [
    *rows("broadcast_to", ROW, (3, 4)),
    *rows("broadcast_arrays", X, ROW),
    *rows("concat", [X, Y], axis=1),
    *rows("concat", [X, CUBE], axis=None),
    *rows("expand_dims", CUBE, axis=(0, -1)),
    *rows("flip", CUBE, axis=(0, 2)),
    *rows("flip", CUBE),
    *rows("moveaxis", CUBE, (0, 1), (2, 0)),
    *rows("permute_dims", CUBE, (2, 0, 1)),
    *rows("repeat", CUBE, 3, axis=1),
    Row("repeat", (CUBE, np.array([1, 0, 2])), {"axis": 1}, traceable=False),
    *rows("repeat", X, 2),
    *rows("reshape", CUBE, (5, -1)),
    *rows("reshape", CUBE, (6, 5), copy=True),
    *rows("roll", CUBE, 7),
    *rows("roll", CUBE, (1, -2), axis=(0, 2)),
    *rows("squeeze", CUBE[:, :1], axis=1),
    *rows("stack", [X, Y], axis=1),
    *rows("tile", X, (2, 1, 3)),
    *rows("unstack", CUBE, axis=1),
    *rows("matrix_transpose", CUBE),
    *rows("tril triu", CUBE, k=1),
    *rows("meshgrid", ROW, ROW[:2], ROW[:3]),
    *rows("meshgrid", ROW, ROW[:2], indexing="ij"),
    *rows("astype", X, np.int32),
    *rows("astype", WHOLE, np.bool_),
]

SEARCHING = [
    *rows("where", TRUTHS, X, Y),
    *rows("where", TRUTHS, X, 2.0),
    *rows("take", CUBE, np.array([2, 0, -1]), axis=1),
    *rows("take_along_axis", CUBE, np.array([[[4, 0]], [[-1, 1]]]), axis=2),
    *rows("searchsorted", np.sort(ROW), POSITIVE, side="right"),
    *rows("argsort sort", CUBE, axis=1),
    *rows("argsort sort", TIES, axis=1, stable=True),
    Row("sort", (X,), {"descending": True}, lambda x, descending: -np.sort(-x)),
    Row("argsort", (TIES,), {"descending": True}, lambda x, descending: np.argsort(-x, stable=True)),
    *rows("isin", WHOLE, COUNTS),
    *rows("isin", WHOLE, COUNTS, invert=True),
    Row("nonzero", (TRUTHS,), traceable=False),
    *(Row("unique_values", (x,), {}, np.unique, traceable=False) for x in (TRUTHS, TIES, COMPLEX)),
    *(Row(name, (TIES,), traceable=False) for name in ("nonzero", "unique_all", "unique_counts", "unique_inverse")),
    Row("unique_inverse", (COMPLEX,), traceable=False),
]

CREATION = [
    *rows("arange", 7), *rows("arange", 2, 11, 3), *rows("arange", 5, -5, -2), *rows("arange", 0.5, 2.0, 0.25),
    *rows("zeros ones", (2, 3)), *rows("zeros ones", 4), *rows("full", (2, 2), 7.5), *rows("full", (3,), True),
    *rows("eye", 3), *rows("eye", 3, 5, k=-1), *rows("linspace", 0.0, 1.0, 5),
    *rows("linspace", 0.0, 1j, 4, endpoint=False), *rows("zeros_like ones_like", X), *rows("full_like", X, 3.0),
    *rows("empty_like", np.zeros((0, 2))), *rows("empty", (0, 3)),
]  # fmt: skip

LINALG = [
    *rows("linalg.cholesky linalg.det linalg.eigvalsh linalg.inv linalg.slogdet linalg.svdvals", SYMMETRIC),
    *rows("linalg.cholesky", SYMMETRIC, upper=True),
    *rows("linalg.cross", CUBE, CUBE[::-1], axis=1),
    *rows("linalg.diagonal linalg.trace", CUBE, offset=1),
    *rows("linalg.diagonal linalg.trace", CUBE, offset=-2),
    Row("linalg.eigvals", (SYMMETRIC[0],), {}, lambda x: np.linalg.eigvals(x).astype(complex)),
    *rows("linalg.matmul matmul", CUBE, RNG.uniform(-1, 1, (5, 2))),
    *(Row("linalg.matrix_norm", (CUBE,), {"ord": ord}) for ord in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)),
    *rows("linalg.matrix_norm", CUBE, keepdims=True),
    *(row for n in (-2, 0, 1, 5) for row in rows("linalg.matrix_power", SQUARE, n)),
    *rows("linalg.matrix_rank", SQUARE),
    *rows("linalg.matrix_rank", np.ones((3, 3))),
    *rows("linalg.matrix_transpose", CUBE),
    *rows("linalg.outer", ROW, ROW[:3]),
    *rows("linalg.pinv", CUBE),
    *rows("linalg.solve", SQUARE, CUBE[:, :1, :4].mT),
    *rows("linalg.solve", SQUARE[0], ROW),
    *rows("tensordot linalg.tensordot", CUBE, CUBE, axes=((0, 1), (0, 1))),
    *rows("tensordot", CUBE, RNG.uniform(-1, 1, (5, 2)), axes=1),
    *rows("vecdot linalg.vecdot", COMPLEX, COMPLEX[:, ::-1], axis=0),
    *(row for order in (0, 1, 2, 3.5, np.inf, -np.inf) for row in rows("linalg.vector_norm", CUBE, ord=order, axis=1)),
    *rows("linalg.vector_norm", CUBE, axis=(0, 2), keepdims=True),
]  # fmt: skip

FFT = [
    *(row for norm in ("backward", "ortho", "forward") for row in [
        *rows("fft.fft fft.ifft", COMPLEX, norm=norm), *rows("fft.rfft fft.ihfft", X, norm=norm),
        *rows("fft.irfft fft.hfft", COMPLEX, norm=norm), *rows("fft.fftn fft.ifftn", COMPLEX, norm=norm),
        *rows("fft.rfftn", X, norm=norm), *rows("fft.irfftn", COMPLEX, norm=norm),
    ]),
    *rows("fft.fft fft.rfft fft.ihfft", X, n=7, axis=0),
    *rows("fft.fft fft.irfft fft.hfft", COMPLEX, n=3),
    *rows("fft.fftn fft.ifftn fft.irfftn", COMPLEX, s=(5, 3), axes=(0, 1)),
    *rows("fft.fftfreq fft.rfftfreq", 7, d=0.5), *rows("fft.fftfreq fft.rfftfreq", 8),
    *rows("fft.fftshift fft.ifftshift", CUBE), *rows("fft.fftshift fft.ifftshift", CUBE, axes=1),
]  # fmt: skip

ALL = [*ELEMENTWISE, *REDUCTIONS, *MANIPULATION, *SEARCHING, *CREATION, *LINALG, *FFT]
ELSEWHERE = {
    "__array_namespace_info__", "asarray", "from_dlpack", "finfo", "iinfo", "isdtype", "result_type", "can_cast",
    "broadcast_shapes", "e", "inf", "nan", "pi", "newaxis", "fft", "linalg", "linalg.eig", "linalg.eigh", "linalg.qr",
    "linalg.svd",
}  # fmt: skip
"""Names that have tests of their own."""


def found(space: Any, name: str) -> Any:
    """The function of that name, which may be an extension's."""
    for part in name.split("."):
        space = getattr(space, part)
    return space


def expected(row: Row) -> list[Values]:
    """What NumPy says, in float64."""
    with np.errstate(all="ignore"):
        function = row.reference or found(np, row.name)
        result = function(*row.arguments, **row.named)
    return [np.asarray(value) for value in (result if isinstance(result, tuple | list) else (result,))]
