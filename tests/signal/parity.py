"""What the tests of the plugin share: signals, and when a result equals SciPy's."""

from __future__ import annotations

from typing import Any

import numpy as np

import perfxapi as px

DTYPES = ("float32", "float64", "complex64", "complex128")
REAL_DTYPES = DTYPES[:2]
TOLERANCE = {"float32": 1e-5, "complex64": 1e-5, "float64": 1e-10, "complex128": 1e-10}


def signal(shape: Any, dtype: str = "float64", seed: int = 0) -> Any:
    """Normally distributed numbers."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape)
    if dtype.startswith("complex"):
        values = values + 1j * rng.standard_normal(shape)
    return values.astype(dtype)


def wide(x: Any) -> Any:
    """The same numbers in double precision: SciPy's filters of float32 are less exact than ours."""
    return x.astype(np.result_type(x, np.float64))


def assert_equals(got: Any, expected: Any, dtype: str) -> None:
    """An array of ours of that dtype that differs from the expected one by little of its largest magnitude."""
    assert isinstance(got, px.Array)
    assert got.dtype.name == dtype
    assert_near(got, expected, TOLERANCE[dtype])


def assert_near(got: Any, expected: Any, tolerance: float = 1e-10) -> None:
    found = np.asarray(got)
    assert found.shape == np.shape(expected)
    largest = np.abs(expected).max(initial=0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(float(largest), 1e-30))
