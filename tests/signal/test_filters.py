"""Recursive filters equal SciPy's, computed in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.signal
from parity import DTYPES, REAL_DTYPES, assert_equals, assert_near, signal, wide

import perfxapi as px
import perfxapi_plugin_signal as ours
from perfxapi.errors import InvalidArgumentError, InvalidDTypeError

SHAPES = [((1,), 0), ((37,), -1), ((300,), 0), ((3, 129), 1), ((129, 3), 0), ((2, 50, 9), 1), ((17, 128), -1)]
ORDERS = [(1, 2), (2, 1), (3, 3), (5, 5), (9, 9), (2, 8), (13, 4), (6, 1), (1, 1)]


def coefficients(num_b: int, num_a: int, complex_: bool = False) -> tuple[Any, Any]:
    """A stable filter."""
    dtype = "complex128" if complex_ else "float64"
    roots = 0.9 * np.exp(1j * signal(num_a - 1, seed=7))
    a = np.poly(roots) if complex_ else np.poly(roots.real)
    return signal(num_b, dtype, seed=8), np.atleast_1d(2.0 * a)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("num_b", "num_a"), ORDERS)
def test_lfilter_equals_scipys(num_b: int, num_a: int, dtype: str) -> None:
    b, a = coefficients(num_b, num_a)
    for shape, axis in SHAPES:
        x = signal(shape, dtype)
        assert_equals(ours.lfilter(b, a, px.asarray(x), axis), scipy.signal.lfilter(b, a, wide(x), axis), dtype)
        state = list(shape)
        state[axis] = max(num_b, num_a) - 1
        zi = signal(state, dtype, seed=3)
        y, zf = ours.lfilter(b, a, px.asarray(x), axis, zi=zi)
        expected, expected_zf = scipy.signal.lfilter(b, a, wide(x), axis, zi=wide(zi))
        assert_equals(y, expected, dtype)
        assert_near(zf, expected_zf, 1e-5 if dtype in ("float32", "complex64") else 1e-10)


def test_lfilter_with_complex_coefficients() -> None:
    for num_b, num_a in ORDERS:
        b, a = coefficients(num_b, num_a, complex_=True)
        for dtype, result in (("float32", "complex64"), ("complex64", "complex64"), ("float64", "complex128")):
            x = signal((3, 77), dtype)
            assert_equals(ours.lfilter(b, a, px.asarray(x)), scipy.signal.lfilter(b, a, wide(x)), result)


def test_a_state_that_is_shared_by_rows_goes_on_where_a_signal_was_cut() -> None:
    b, a = coefficients(4, 4)
    x = signal((5, 200), "float32")
    whole = np.asarray(ours.lfilter(b, a, x))
    first, state = ours.lfilter(b, a, x[:, :77], zi=np.zeros((1, 3)))
    second, _ = ours.lfilter(b, a, x[:, 77:], zi=state)
    np.testing.assert_array_equal(np.concatenate([np.asarray(first), np.asarray(second)], axis=1), whole)


def test_a_rows_result_does_not_depend_on_its_neighbors() -> None:
    b, a = coefficients(4, 4)
    sos = scipy.signal.butter(6, 0.2, output="sos")
    x = signal((19, 333), "float32")
    for run in (lambda rows: ours.lfilter(b, a, rows), lambda rows: ours.sosfilt(sos, rows),
                lambda rows: ours.resample_poly(rows, 3, 2, axis=1)):  # fmt: skip
        whole = np.asarray(run(x))
        for row in (0, 7, 8, 18):
            np.testing.assert_array_equal(np.asarray(run(x[row : row + 1]))[0], whole[row])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", [1, 2, 5, 8, 15])
def test_sosfilt_equals_scipys(order: int, dtype: str) -> None:
    sos = scipy.signal.butter(order, 0.2, output="sos")
    for shape, axis in SHAPES:
        x = signal(shape, dtype)
        assert_equals(ours.sosfilt(sos, px.asarray(x), axis), scipy.signal.sosfilt(sos, wide(x), axis), dtype)
        state = list(shape)
        state[axis] = 2
        zi = signal((len(sos), *state), dtype, seed=4)
        y, zf = ours.sosfilt(sos, px.asarray(x), axis, zi=px.asarray(zi))
        expected, expected_zf = scipy.signal.sosfilt(sos, wide(x), axis, zi=wide(zi))
        assert_equals(y, expected, dtype)
        assert_near(zf, expected_zf, 1e-5 if dtype in ("float32", "complex64") else 1e-10)


def test_a_real_signal_with_a_complex_state() -> None:
    sos, x, zi = scipy.signal.butter(4, 0.2, output="sos"), signal((3, 40)), signal((2, 3, 2), "complex128")
    y, zf = ours.sosfilt(sos, x, zi=zi)
    expected, expected_zf = scipy.signal.sosfilt(sos, x, zi=zi)
    assert_equals(y, expected, "complex128")
    assert_equals(zf, expected_zf, "complex128")


def test_steady_states_equal_scipys() -> None:
    for order in (1, 2, 5, 8):
        b, a = scipy.signal.butter(order, 0.2)
        assert_near(ours.lfilter_zi(3 * b, 3 * a), scipy.signal.lfilter_zi(3 * b, 3 * a), 1e-9)
        sos = scipy.signal.butter(order, 0.2, output="sos")
        assert_near(ours.sosfilt_zi(sos), scipy.signal.sosfilt_zi(sos))
    assert_near(ours.lfilter_zi([1, 2, 3], [1.0]), scipy.signal.lfilter_zi([1, 2, 3], [1.0]))
    assert ours.lfilter_zi([2.0], [1.0]).shape == (0,)


@pytest.mark.parametrize("padtype", ["odd", "even", "constant", None])
@pytest.mark.parametrize("dtype", DTYPES)
def test_filtering_both_ways_equals_scipys(dtype: str, padtype: Any) -> None:
    b, a = scipy.signal.butter(3, 0.2)
    sos = scipy.signal.cheby1(5, 1, 0.3, output="sos")
    for shape, axis in SHAPES[1:]:
        x = signal(shape, dtype)
        options: dict[str, Any] = {"axis": axis, "padtype": padtype}
        assert_equals(ours.filtfilt(b, a, x, **options), scipy.signal.filtfilt(b, a, wide(x), **options), dtype)
        assert_equals(ours.filtfilt([0.5, 0.5], 1.0, x, **options),
                      scipy.signal.filtfilt([0.5, 0.5], 1.0, wide(x), **options), dtype)  # fmt: skip
        assert_equals(ours.sosfiltfilt(sos, x, **options), scipy.signal.sosfiltfilt(sos, wide(x), **options), dtype)
        options["padlen"] = 5
        assert_equals(ours.filtfilt(b, a, x, **options), scipy.signal.filtfilt(b, a, wide(x), **options), dtype)


def test_integers_and_empty_signals() -> None:
    b, a = scipy.signal.butter(2, 0.3)
    x = np.arange(20)
    assert_equals(ours.lfilter(b, a, x), scipy.signal.lfilter(b, a, x), "float64")
    assert ours.lfilter(b, a, np.zeros((3, 0))).shape == (3, 0)
    assert ours.lfilter(b, 1.0, np.zeros((3, 0))).shape == (3, 0)
    assert ours.sosfilt(scipy.signal.butter(2, 0.3, output="sos"), np.zeros((0, 4))).shape == (0, 4)


def test_the_device_of_the_signal_is_that_of_the_result() -> None:
    sos = px.asarray(scipy.signal.butter(2, 0.3, output="sos"), device="numpy")
    assert str(ours.sosfilt(sos, px.asarray(signal(30), device="numpy")).device) == "numpy:0"


@pytest.mark.parametrize("dtype", REAL_DTYPES)
def test_strides_are_read_in_place(dtype: str) -> None:
    sos = scipy.signal.butter(4, 0.2, output="sos")
    x = signal((40, 60), dtype)
    parts = px.asarray(x)[::2, ::-3]
    assert_equals(ours.sosfilt(sos, parts), scipy.signal.sosfilt(sos, wide(x[::2, ::-3])), dtype)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: ours.lfilter([1], [0.0, 1.0], x), InvalidArgumentError, r"a\[0\] must not be 0"),
        (lambda x: ours.lfilter([], [1.0], x), InvalidArgumentError, "1 dimensions and an item"),
        (lambda x: ours.lfilter([[1.0]], [1.0], x), InvalidArgumentError, "1 dimensions and an item"),
        (lambda x: ours.lfilter([1.0], ["a"], x), InvalidArgumentError, "must be numbers"),
        (lambda x: ours.lfilter([1.0], [1.0, 0.5], x, zi=[1.0, 2.0]), InvalidArgumentError, "zi must have"),
        (lambda x: ours.lfilter([1.0], [1.0, 0.5], x, axis=3), InvalidArgumentError, "axis 3"),
        (lambda x: ours.sosfilt([[1, 2, 3, 2, 0, 0]], x), InvalidArgumentError, "a0, must be 1"),
        (lambda x: ours.sosfilt([1, 2, 3, 1, 0, 0], x), InvalidArgumentError, "2 dimensions"),
        (lambda x: ours.sosfilt([[1, 2, 3, 1, 0, 0]], x, zi=[0.0, 0.0]), InvalidArgumentError, "zi must have"),
        (lambda x: ours.filtfilt([1.0], [1.0, 0.5], x), InvalidArgumentError, "padlen"),
        (lambda x: ours.filtfilt([1.0], [1.0, 0.5], x, padtype="wrap"), InvalidArgumentError, "padtype"),
        (lambda x: ours.sosfilt([[1, 2, 3, 1, 0, 0]], px.astype(px.asarray(x), px.float16)), InvalidDTypeError,
         "float16"),
        (lambda x: ours.sosfilt([[1, 2, 3, 1, 0, 0]], 1.0), InvalidArgumentError, "at least one dimension"),
    ],
)  # fmt: skip
def test_what_is_refused(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call(np.ones(5))
