"""Linear algebra (array API standard 2025.12: "Linear algebra functions" and the extension `linalg`).

Arrays of more than two dimensions are stacks of matrices, their last two axes. Matrices without the factorization that
was asked for raise InvalidArgumentError.
"""

from __future__ import annotations

import builtins
import math
import operator
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from perfxapi.array import Array, apply, asarray
from perfxapi.dims import product
from perfxapi.dtypes import DType
from perfxapi.errors import InvalidArgumentError
from perfxapi.ops.spec import FLOATS, require_kind
from perfxapi.standard.axes import one_axis, several_axes
from perfxapi.standard.creation import eye
from perfxapi.standard.data_types import astype, finfo, result_type
from perfxapi.standard.elementwise import (
    abs,
    conj,
    divide,
    greater,
    multiply,
    pow,
    sqrt,
    subtract,
)
from perfxapi.standard.manipulation import broadcast_shapes, broadcast_to, moveaxis, stack
from perfxapi.standard.quick import binary
from perfxapi.standard.reductions import count_nonzero, max, min, sum
from perfxapi.standard.searching import where


class EighResult(NamedTuple):
    """Eigenvalues in ascending order, and the eigenvectors as columns."""

    eigenvalues: Array
    eigenvectors: Array


class EigResult(NamedTuple):
    """Eigenvalues, and the eigenvectors as columns, both complex."""

    eigenvalues: Array
    eigenvectors: Array


class QRResult(NamedTuple):
    """Orthonormal columns Q and an upper triangle R, whose product is the matrix."""

    Q: Array
    R: Array


class SlogdetResult(NamedTuple):
    """The sign of a determinant, and the logarithm of its magnitude."""

    sign: Array
    logabsdet: Array


class SVDResult(NamedTuple):
    """Orthonormal columns U, singular values S in descending order, orthonormal rows Vh: the matrix is U diag(S) Vh."""

    U: Array
    S: Array
    Vh: Array


# ---- products


matmul = binary("matmul", "")
matmul.__doc__ = """The matrix product `x1 @ x2`: vectors, matrices, and stacks of matrices that are broadcast.

`x1` [..., M, K] and `x2` [..., K, N] give [..., M, N]; a vector is a row on the left, a column on the right. Raises
InvalidArgumentError where the inner sizes differ.
"""


def matrix_transpose(x: Array, /) -> Array:
    """Each matrix of a stack transposed: a view."""
    return x.mT


def outer(x1: Array, x2: Array, /) -> Array:
    """Every product of an element of one vector with one of the other."""
    if x1.ndim != 1 or x2.ndim != 1:
        raise InvalidArgumentError(f"outer: takes two vectors; got {list(x1.shape)} and {list(x2.shape)}")
    return multiply(x1[:, None], x2[None, :])


def vecdot(x1: Array, x2: Array, /, *, axis: int = -1) -> Array:
    """The sum along an axis of products; of a complex x1 the conjugate is taken."""
    place = _shared_axis("vecdot", axis, x1, x2)
    if x1.shape[place] != x2.shape[place]:
        raise InvalidArgumentError(f"vecdot: axis {axis} of {list(x1.shape)} and {list(x2.shape)} differ in size")
    left = conj(x1) if x1.dtype.kind == "complex" else x1
    rows, columns = moveaxis(left, place, -1)[..., None, :], moveaxis(x2, place, -1)[..., :, None]
    return matmul(rows, columns)[..., 0, 0]


def tensordot(x1: Array, x2: Array, /, *, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> Array:
    """Sums of products over axes: the last `axes` of x1 with the first of x2, or the pairs that two sequences name."""
    if isinstance(axes, tuple | list):
        left, right = (several_axes("tensordot", tuple(a), x.ndim) for a, x in zip(axes, (x1, x2), strict=True))
    else:
        count = operator.index(axes)
        if not 0 <= count <= builtins.min(x1.ndim, x2.ndim):
            raise InvalidArgumentError(f"tensordot: {count} axes of {list(x1.shape)} and {list(x2.shape)}")
        left, right = tuple(range(x1.ndim - count, x1.ndim)), tuple(range(count))
    sizes = [x1.shape[axis] for axis in left]
    if sizes != [x2.shape[axis] for axis in right]:
        raise InvalidArgumentError(f"tensordot: axes {axes} of {list(x1.shape)} and {list(x2.shape)} differ in size")
    rest1 = [axis for axis in range(x1.ndim) if axis not in left]
    rest2 = [axis for axis in range(x2.ndim) if axis not in right]
    inner, outer1, outer2 = product(sizes), [x1.shape[a] for a in rest1], [x2.shape[a] for a in rest2]
    rows = x1.permute_dims([*rest1, *left]).reshape((product(outer1), inner))
    columns = x2.permute_dims([*right, *rest2]).reshape((inner, product(outer2)))
    return matmul(rows, columns).reshape((*outer1, *outer2))


def cross(x1: Array, x2: Array, /, *, axis: int = -1) -> Array:
    """The cross product of vectors of three elements along an axis, which is counted in the broadcast shape."""
    shape = broadcast_shapes(x1.shape, x2.shape)
    place = _shared_axis("cross", axis, x1, x2)
    if axis >= 0:
        place = one_axis("cross", axis, len(shape)) - len(shape)
    if x1.shape[place] != 3 or x2.shape[place] != 3:
        raise InvalidArgumentError(f"cross: axis {axis} of {list(x1.shape)} and {list(x2.shape)} must be of size 3")
    a, b = (moveaxis(x, place, -1) for x in (x1, x2))
    parts = [
        subtract(multiply(a[..., i], b[..., j]), multiply(a[..., j], b[..., i])) for i, j in ((1, 2), (2, 0), (0, 1))
    ]
    return moveaxis(stack(parts, axis=-1), -1, place)


def _shared_axis(name: str, axis: int, x1: Array, x2: Array) -> int:
    """An axis that both have, counted from the last."""
    ndim = builtins.min(x1.ndim, x2.ndim)
    return one_axis(name, axis, ndim) - ndim


def matrix_power(x: Array, n: int, /) -> Array:
    """A square matrix multiplied by itself, `n` factors in all; its inverse for negative `n`."""
    _require_square("matrix_power", x)
    exponent = operator.index(n)
    base = inv(x) if exponent < 0 else x
    exponent = builtins.abs(exponent)
    result = _identity_like(x)
    while exponent:
        if exponent & 1:
            result = matmul(result, base)
        base = matmul(base, base) if exponent > 1 else base
        exponent >>= 1
    return result


def _identity_like(x: Array) -> Array:
    identity = eye(int(x.shape[-1]), dtype=x.dtype, device=x.device)
    return broadcast_to(identity, x.shape)


def _require_square(name: str, x: Array) -> None:
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise InvalidArgumentError(f"{name}: takes square matrices; got {list(x.shape)}")


# ---- factorizations and what follows from them


def cholesky(x: Array, /, *, upper: bool = False) -> Array:
    """The lower triangle L, of a positive definite Hermitian matrix L @ L.T.conj(); or with `upper` its adjoint."""
    result: Array = apply("cholesky", x, upper=int(upper))
    return result


def det(x: Array, /) -> Array:
    """The determinant."""
    result: Array = apply("det", x)
    return result


def slogdet(x: Array, /) -> SlogdetResult:
    """The sign of the determinant and the logarithm of its magnitude."""
    return SlogdetResult(*apply("slogdet", x))


def eig(x: Array, /) -> EigResult:
    """Eigenvalues and eigenvectors of any square matrix."""
    return EigResult(*apply("eig", x))


def eigvals(x: Array, /) -> Array:
    """Eigenvalues of any square matrix, complex."""
    return eig(x).eigenvalues


def eigh(x: Array, /) -> EighResult:
    """Eigenvalues, ascending, and eigenvectors of a Hermitian matrix, whose lower triangle is read."""
    return EighResult(*apply("eigh", x))


def eigvalsh(x: Array, /) -> Array:
    """Eigenvalues of a Hermitian matrix, ascending."""
    return eigh(x).eigenvalues


def qr(x: Array, /, *, mode: Literal["reduced", "complete"] = "reduced") -> QRResult:
    """Q and R; "complete" makes Q square."""
    return QRResult(*apply("qr", x, mode=mode))


def svd(x: Array, /, *, full_matrices: bool = True) -> SVDResult:
    """The singular value decomposition; with `full_matrices` U and Vh are square."""
    return SVDResult(*apply("svd", x, full_matrices=int(full_matrices)))


def svdvals(x: Array, /) -> Array:
    """The singular values, descending."""
    return svd(x, full_matrices=False).S


def solve(x1: Array, x2: Array, /) -> Array:
    """The x for which x1 @ x is x2: a stack of matrices, or one vector where x2 has one dimension."""
    dtype = result_type(x1, x2)
    a, b = astype(x1, dtype, copy=False), astype(x2, dtype, copy=False)
    result: Array = apply("solve", a, b[:, None] if b.ndim == 1 else b)
    return result[..., 0] if b.ndim == 1 else result


def inv(x: Array, /) -> Array:
    """The inverse. Raises InvalidArgumentError for a singular matrix."""
    _require_square("inv", x)
    result: Array = apply("solve", x, _identity_like(x))
    return result


def _relative(rtol: Any, x: Array, largest: Array) -> Array:
    """The size below which a singular value counts as 0, for each matrix of a stack."""
    factor = rtol if rtol is not None else builtins.max(map(int, x.shape[-2:])) * finfo(x.dtype).eps
    return multiply(largest, astype(asarray(factor, device=x.device), largest.dtype, copy=False))


def pinv(x: Array, /, *, rtol: Any = None) -> Array:
    """The pseudo-inverse; singular values up to `rtol` times the largest count as 0."""
    u, s, vh = svd(x, full_matrices=False)
    if 0 in s.shape:
        return _adjoint(x)
    kept = greater(s, _relative(rtol, x, max(s, axis=-1))[..., None])
    inverse = where(kept, divide(1.0, where(kept, s, 1.0)), 0.0)
    return matmul(multiply(_adjoint(vh), astype(inverse, x.dtype, copy=False)[..., None, :]), _adjoint(u))


def _adjoint(x: Array) -> Array:
    """Each matrix of a stack transposed, complex numbers conjugated."""
    return conj(x).mT if x.dtype.kind == "complex" else x.mT


def matrix_rank(x: Array, /, *, rtol: Any = None) -> Array:
    """How many singular values are larger than `rtol` times the largest, as int64."""
    s = svdvals(x)
    if 0 in s.shape:
        return count_nonzero(greater(s, 0.0), axis=-1)
    return count_nonzero(greater(s, _relative(rtol, x, max(s, axis=-1))[..., None]), axis=-1)


# ---- diagonals and norms


def diagonal(x: Array, /, *, offset: int = 0) -> Array:
    """The diagonals of a stack of matrices, `offset` places right of the main one: a view."""
    if x.ndim < 2:
        raise InvalidArgumentError(f"diagonal: takes a stack of matrices; got {list(x.shape)}")
    view = x.view
    rows, columns = (int(size) for size in view.shape[-2:])
    down, right = (int(stride) for stride in view.strides[-2:])
    count = builtins.max(0, builtins.min(rows + builtins.min(offset, 0), columns - builtins.max(offset, 0)))
    start = right * offset if offset >= 0 else -down * offset
    return x.viewed(
        (*view.shape[:-2], count), (*view.strides[:-2], down + right), view.offset + (start if count else 0)
    )


def trace(x: Array, /, *, offset: int = 0, dtype: DType | str | None = None) -> Array:
    """The sum of a diagonal."""
    return sum(diagonal(x, offset=offset), axis=-1, dtype=dtype)


def vector_norm(
    x: Array, /, *, axis: int | tuple[int, ...] | None = None, keepdims: bool = False, ord: float = 2
) -> Array:
    """The norm of vectors along axes: `ord` 1, 2, inf, -inf, 0 (how many are not 0), or any other power."""
    require_kind("vector_norm", x, *FLOATS)
    where_: dict[str, Any] = {"axis": axis, "keepdims": keepdims}
    size = abs(x)
    if ord == math.inf:
        return max(size, **where_)
    if ord == -math.inf:
        return min(size, **where_)
    if ord == 0:
        return astype(count_nonzero(size, **where_), size.dtype)
    if ord == 1:
        return sum(size, **where_)
    if ord == 2:
        return sqrt(sum(multiply(size, size), **where_))
    return pow(sum(pow(size, float(ord)), **where_), 1 / ord)


def matrix_norm(x: Array, /, *, keepdims: bool = False, ord: float | Literal["fro", "nuc"] | None = "fro") -> Array:
    """The norm of matrices: "fro", "nuc" (sum of singular values), 2 and -2 (the largest, the least of them), or the
    largest (least) sum of a column, 1 (-1), or of a row, inf (-inf).
    """
    require_kind("matrix_norm", x, *FLOATS)
    if x.ndim < 2:
        raise InvalidArgumentError(f"matrix_norm: takes a stack of matrices; got {list(x.shape)}")
    if ord == "fro" or ord is None:
        return vector_norm(x, axis=(-2, -1), keepdims=keepdims)
    if ord in (1, -1, math.inf, -math.inf):
        sums = sum(abs(x), axis=-2 if builtins.abs(ord) == 1 else -1, keepdims=True)
        result = _extreme(sums, largest=ord > 0, axis=(-2, -1))
    elif ord in (2, -2):
        result = _extreme(svdvals(x), largest=ord > 0, axis=-1)
    elif ord == "nuc":
        result = sum(svdvals(x), axis=-1)
    else:
        raise InvalidArgumentError(f'matrix_norm: ord must be "fro", "nuc", 1, 2, inf or their negatives; got {ord!r}')
    return result[..., None, None] if keepdims else result


def _extreme(x: Array, *, largest: bool, axis: Any) -> Array:
    """The largest or least element; 0, the norm of nothing, where there is none."""
    axes = several_axes("matrix_norm", axis, x.ndim)
    if builtins.any(x.shape[place] == 0 for place in axes):
        return sum(x, axis=axis)
    return max(x, axis=axis) if largest else min(x, axis=axis)


__all__ = [
    "cholesky",
    "cross",
    "det",
    "diagonal",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "inv",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "outer",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
    "tensordot",
    "trace",
    "vecdot",
    "vector_norm",
]
