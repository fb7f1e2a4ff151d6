"""The functions of the array API standard: every one against NumPy in float64, eagerly and in a traced graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from standard_table import ALL, ELSEWHERE, Row, Values, expected, found

import perfxapi as px
from perfxapi.array import Array
from perfxapi.dtypes import dtype_of
from perfxapi.errors import TraceError

NARROW = {np.dtype(np.float64): np.float32, np.dtype(np.complex128): np.complex64}


@pytest.fixture(autouse=True, params=["cpu", "numpy"])
def _device(request: pytest.FixtureRequest) -> Any:
    with px.use_device(request.param, fallback="allow"):
        yield


def narrowed(value: Any) -> Any:
    """Operands in the narrower of two dtypes: float32 and complex64."""
    return value.astype(NARROW.get(value.dtype, value.dtype)) if isinstance(value, np.ndarray) else value


def operand(value: Any) -> Any:
    if isinstance(value, list):
        return [operand(item) for item in value]
    if isinstance(value, np.ndarray):
        return px.asarray(narrowed(value))
    return dtype_of(value) if isinstance(value, type) and issubclass(value, np.generic) else value


def call(row: Row) -> list[Array]:
    arguments = [operand(value) for value in row.arguments]
    result = found(px, row.name)(*arguments, **{key: operand(value) for key, value in row.named.items()})
    return list(result) if isinstance(result, tuple) else [result]


def assert_close(got: Values, want: Values, tolerance: float) -> None:
    assert got.shape == want.shape
    assert got.dtype == want.dtype or got.dtype == NARROW.get(want.dtype)
    if want.dtype.kind in "fc":
        assert np.array_equal(np.isnan(got), np.isnan(want))
        scale = float(np.abs(want[np.isfinite(want)]).max(initial=1.0))
        assert np.allclose(got, want, rtol=tolerance, atol=tolerance * scale, equal_nan=True)
    else:
        assert np.array_equal(got, want)


@pytest.mark.parametrize("row", ALL, ids=str)
def test_a_function_is_numpys(row: Row) -> None:
    results, wanted = call(row), expected(row)
    assert len(results) == len(wanted)
    for result, want in zip(results, wanted, strict=True):
        assert_close(np.asarray(result), want, row.tolerance)
        assert result.device == px.get_device()


def test_every_function_has_a_row() -> None:
    names = {
        *px.standard.__all__,
        *(f"{part}.{name}" for part in ("linalg", "fft") for name in getattr(px, part).__all__),
    }
    assert names - {row.name for row in ALL} - ELSEWHERE == set()
    assert {row.name for row in ALL} <= names


def _traceable() -> list[Row]:
    """One row of each function that computes with arrays and whose result has a known shape."""
    chosen: dict[str, Row] = {}
    for row in ALL:
        arrays = [value for value in row.arguments if isinstance(value, np.ndarray)]
        if row.traceable and arrays and all(array.size for array in arrays):
            chosen.setdefault(row.name, row)
    return [row for name, row in chosen.items() if not name.endswith("_like")]


@pytest.mark.parametrize("row", _traceable(), ids=str)
def test_a_traced_function_is_the_same(row: Row) -> None:
    places = [place for place, value in enumerate(row.arguments) if isinstance(value, np.ndarray)]
    values = {f"x{place}": narrowed(row.arguments[place]) for place in places}
    if row.name in ("take", "take_along_axis"):
        del values["x1"]

    def model(**given: Array) -> dict[str, Array]:
        arguments = [given.get(f"x{place}", operand(value)) for place, value in enumerate(row.arguments)]
        result = found(px, row.name)(*arguments, **{key: operand(value) for key, value in row.named.items()})
        return {f"y{i}": y for i, y in enumerate(result if isinstance(result, tuple) else (result,))}

    specs = {name: px.TensorSpec(value.shape, dtype_of(value.dtype)) for name, value in values.items()}
    run = px.graph.compile(px.graph.trace(model, specs), bounds={})
    outputs = run(**values)
    for index, eager in enumerate(call(row)):
        got = np.asarray(outputs[f"y{index}"])
        assert_close(got, np.asarray(eager), 1e-6)


@pytest.mark.parametrize("name", ["nonzero", "unique_all", "unique_values", "unique_counts", "unique_inverse"])
def test_shapes_that_depend_on_values_cannot_be_traced(name: str) -> None:
    with pytest.raises(TraceError):
        px.graph.trace(lambda x: getattr(px, name)(x)[0], {"x": px.TensorSpec((4,), px.float32)})
    with pytest.raises(TraceError):
        px.graph.trace(lambda x: x[px.greater(x, 0.0)], {"x": px.TensorSpec((4,), px.float32)})


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.complex64])
@pytest.mark.parametrize("shape", [(4, 4), (2, 5, 3), (3, 6)])
def test_factors_multiply_to_the_matrix(kind: Any, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    x = (rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if kind is np.complex64 else 0)).astype(kind)
    array, close = px.asarray(x), {"atol": 1e-4 if kind is not np.float64 else 1e-12}
    for mode in ("reduced", "complete"):
        q, r = map(np.asarray, px.linalg.qr(array, mode=mode))
        assert np.allclose(q @ r, x, **close)
        assert np.allclose(np.conj(q.mT) @ q, np.eye(q.shape[-1]), **close)
        assert np.allclose(r, np.triu(r))
    for full in (True, False):
        u, s, vh = map(np.asarray, px.linalg.svd(array, full_matrices=full))
        assert np.allclose((u[..., : s.shape[-1]] * s[..., None, :]) @ vh[..., : s.shape[-1], :], x, **close)
        assert s.dtype == (np.float64 if kind is np.float64 else np.float32)
        assert (np.diff(s) <= 0).all()
        assert u.shape[-1] == (shape[-2] if full else min(shape[-2:]))
    if shape[-1] == shape[-2]:
        values, vectors = map(np.asarray, px.linalg.eig(array))
        assert np.allclose(x @ vectors, vectors * values[..., None, :], **close)
        hermitian = x + np.conj(x.mT)
        values, vectors = map(np.asarray, px.linalg.eigh(px.asarray(hermitian)))
        assert np.allclose((vectors * values[..., None, :]) @ np.conj(vectors.mT), hermitian, **close)
        assert (np.diff(values) >= 0).all()


def test_ops_with_native_kernels_still_run_natively() -> None:
    x = px.asarray(np.ones((4, 4), np.float32), device="cpu")
    px.reset_explain()
    with px.use_device("cpu", fallback="error"):
        for name in ("exp", "tanh"):
            getattr(px, name)(x)
        for name in ("add", "subtract", "multiply", "divide", "maximum", "minimum", "matmul"):
            getattr(px, name)(x, x)
        (x + 1) * 2 - x @ x / 3
        px.clip(px.square(px.negative(x)), 0.0, 2.0)
    assert {row.ran_on.split()[0] for row in px.explain().rows} == {"cpu:0"}
