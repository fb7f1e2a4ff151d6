"""When a result is right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perfxapi import dtypes
from perfxapi.dtypes import DType

_ROUNDING = {dtypes.float16: 2.0**-10, dtypes.bfloat16: 2.0**-7}
"""What one rounding of a result of 16 bits may cost, relative to its magnitude."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Where a result is wrong: the index of its worst element, and what stands there."""

    index: tuple[int, ...]
    got: str
    expected: str
    problem: str

    def __str__(self) -> str:
        return f"{self.problem} at {list(self.index)}: got {self.got}, expected {self.expected}"


def tolerance_of(tolerance: float, dtype: DType) -> float:
    """The relative error that a result of this dtype may have; 0 (a copy) allows none in any dtype."""
    return max(tolerance, _ROUNDING.get(dtype, 0.0)) if tolerance else 0.0


def compare(got: npt.NDArray[np.generic], expected: npt.NDArray[np.generic], tolerance: float) -> Mismatch | None:
    """The worst mismatch, if any.

    Integers must be equal. Floating-point values must be NaN or infinite where the expected ones are, and elsewhere
    within `tolerance` times the largest finite magnitude expected.
    """
    if got.shape != expected.shape:
        return Mismatch((), str(got.shape), str(expected.shape), "wrong shape")
    if got.size == 0:
        return None
    if expected.dtype.kind not in "fc":
        return _worst(got, expected, (got != expected).astype(np.float64), "not equal")
    special = ~np.isfinite(expected) | ~np.isfinite(got)
    same = (np.isnan(got) & np.isnan(expected)) | (got == expected)
    if np.any(special & ~same):
        return _worst(got, expected, (special & ~same).astype(np.float64), "NaN or infinity differs")
    wide = np.result_type(expected.dtype, np.float64)
    finite = np.where(special, 0, expected.astype(wide))
    error = np.abs(np.where(special, 0, got.astype(wide)) - finite)
    allowed = tolerance * float(np.abs(finite).max())
    return _worst(
        got, expected, np.where(error > allowed, error, 0), f"off by {error.max():.3g}, {allowed:.3g} is allowed,"
    )


def relative_error(got: npt.NDArray[np.generic], expected: npt.NDArray[np.generic]) -> float:
    """The largest difference of finite values over the largest finite magnitude; 0 for integers and empty results."""
    if expected.dtype.kind not in "fc" or expected.size == 0:
        return 0.0
    finite = np.isfinite(expected) & np.isfinite(got)
    if not finite.any():
        return 0.0
    wide = expected[finite].astype(np.result_type(expected.dtype, np.float64))
    largest = float(np.abs(wide).max())
    return float(np.abs(got[finite] - wide).max()) / largest if largest else 0.0


def _worst(
    got: npt.NDArray[np.generic], expected: npt.NDArray[np.generic], error: npt.NDArray[np.float64], problem: str
) -> Mismatch | None:
    if not error.any():
        return None
    index = np.unravel_index(int(np.argmax(error)), error.shape)
    place = tuple(int(axis) for axis in index)
    return Mismatch(place, str(got[index]), str(expected[index]), problem)
