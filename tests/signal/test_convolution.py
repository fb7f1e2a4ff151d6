"""Convolution, correlation and resampling equal SciPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.fft
import scipy.signal
from parity import DTYPES, TOLERANCE, assert_equals, assert_near, signal, wide

import perfxapi as px
import perfxapi_plugin_signal as ours
from perfxapi.errors import InvalidArgumentError
from perfxapi_plugin_signal.convolution import quick_length
from perfxapi_plugin_signal.resampling import chebyshev_sections

PAIRS = [((1,), (1,)), ((50,), (7,)), ((7,), (50,)), ((301,), (129,)), ((9, 33), (3, 4)), ((5, 6, 7), (2, 3, 7)),
         ((4, 40), (4, 1))]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("method", ["direct", "fft", "auto"])
def test_convolve_and_correlate_equal_scipys(method: Any, mode: Any, dtype: str) -> None:
    for first, second in PAIRS:
        a, b = signal(first, dtype), signal(second, dtype, seed=1)
        got = ours.convolve(px.asarray(a), b, mode, method)
        assert_equals(got, scipy.signal.convolve(wide(a), wide(b), mode, "direct"), dtype)
        got = ours.correlate(px.asarray(a), b, mode, method)
        assert_equals(got, scipy.signal.correlate(wide(a), wide(b), mode, "direct"), dtype)


def test_mixed_and_small_operands() -> None:
    a, b = signal(20, "float32"), signal(5, "complex64")
    assert_equals(ours.convolve(a, b), scipy.signal.convolve(wide(a), wide(b)), "complex64")
    assert_equals(
        ours.convolve(np.arange(9), [1, 2, 3], "same"), np.convolve(np.arange(9), [1, 2, 3], "same"), "float64"
    )
    assert float(ours.convolve(2.0, 3.0)) == 6.0


@pytest.mark.parametrize(
    ("operands", "words"),
    [
        ((np.ones(3), np.ones((2, 2))), "not as many"),
        ((np.ones(3), np.ones(0)), "empty"),
        ((np.ones((3, 2)), np.ones((2, 3)), "valid"), "within the other"),
        ((np.ones(3), np.ones(3), "half"), "mode must be one of"),
        ((np.ones(3), np.ones(3), "full", "guess"), "method must be one of"),
    ],
)
def test_convolve_refuses(operands: Any, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        ours.convolve(*operands)


@pytest.mark.parametrize("dtype", DTYPES)
def test_long_vectors_are_convolved_piece_by_piece(dtype: str) -> None:
    for long, short in ((16_384, 1), (20_000, 129), (30_001, 1024)):
        a, b = signal(long, dtype), signal(short, dtype, seed=1)
        expected = scipy.signal.fftconvolve(wide(a), wide(b))
        assert_equals(ours.convolve(a, b, method="fft"), expected, dtype)
        assert_equals(ours.convolve(b, a, method="fft"), expected, dtype)


def test_quick_lengths() -> None:
    for count in (*range(1, 200), 1021, 65537, 1_000_128):
        assert quick_length(count) == scipy.fft.next_fast_len(count, real=True)


# ---- resampling


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("up", "down"), [(1, 1), (1, 3), (2, 1), (3, 2), (4, 6), (160, 147), (7, 5)])
def test_upfirdn_and_resample_poly_equal_scipys(up: int, down: int, dtype: str) -> None:
    for shape, axis in (((1,), 0), ((301,), -1), ((3, 129), 1), ((200, 3), 0), ((2, 50, 9), 1)):
        x, h = signal(shape, dtype), signal(23)
        got = ours.upfirdn(h, px.asarray(x), up, down, axis)
        assert_equals(got, scipy.signal.upfirdn(h, wide(x), up, down, axis), dtype)
        got = ours.resample_poly(px.asarray(x), up, down, axis)
        assert_equals(got, scipy.signal.resample_poly(wide(x), up, down, axis), dtype)


def test_upfirdn_over_blocks_and_with_long_filters() -> None:
    for size, taps, up, down in ((100_003, 129, 1, 1), (50_001, 61, 1, 3), (30, 5000, 1, 2), (20_000, 777, 3, 50),
                                 (5, 3, 9, 1), (40, 11, 1, 100)):  # fmt: skip
        x, h = signal(size, "float32"), signal(taps, "float32", seed=1)
        assert_equals(ours.upfirdn(h, x, up, down), scipy.signal.upfirdn(wide(h), wide(x), up, down), "float32")


@pytest.mark.parametrize("padtype", ["mean", "median", "minimum", "maximum"])
def test_resample_poly_with_a_background(padtype: Any) -> None:
    for count in (100, 101):
        x = signal((3, count)) + 5
        expected = scipy.signal.resample_poly(x, 3, 2, axis=1, padtype=padtype, window="hann")
        assert_near(ours.resample_poly(x, 3, 2, axis=1, padtype=padtype, window="hann"), expected)
    window = ("general_cosine", [0.5, 0.5])
    assert_near(ours.resample_poly(x, 3, 2, 1, window), scipy.signal.resample_poly(x, 3, 2, 1, "hann"))
    taps = scipy.signal.firwin(31, 0.3)
    assert_near(ours.resample_poly(x, 3, 2, 1, window=taps), scipy.signal.resample_poly(x, 3, 2, 1, window=taps))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 2, 30, 31])
def test_resample_equals_scipys(size: int, dtype: str) -> None:
    for num in (1, 2, 15, 16, 30, 31, 47, 60):
        x = signal((size, 3), dtype)
        got = ours.resample(px.asarray(x), num)
        assert_equals(got, scipy.signal.resample(wide(x), num), dtype)
        got = ours.resample(px.asarray(x), num, window="hamming")
        assert_equals(got, scipy.signal.resample(wide(x), num, window="hamming"), dtype)


def test_resample_with_times_and_functions() -> None:
    x, t = signal(40), np.linspace(0, 4, 40, endpoint=False)
    y, times = ours.resample(x, 25, t, window=lambda f: np.exp(-np.abs(f)))
    expected, expected_times = scipy.signal.resample(x, 25, t, window=lambda f: np.exp(-np.abs(f)))
    assert_near(y, expected)
    assert_near(times, expected_times)
    with pytest.raises(InvalidArgumentError, match="as many weights"):
        ours.resample(x, 25, window=np.ones(3))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", [{}, {"zero_phase": False}, {"ftype": "fir"}, {"ftype": "fir", "zero_phase": False},
                                     {"n": 5}, {"ftype": "fir", "n": 31}])  # fmt: skip
def test_decimate_equals_scipys(options: Any, dtype: str) -> None:
    tolerance = 10 * TOLERANCE[dtype]
    for q in (2, 5):
        x = signal((300, 3), dtype)
        got = ours.decimate(px.asarray(x), q, axis=0, **options)
        assert_near(
            got,
            scipy.signal.decimate(wide(x), q, axis=0, **options),
            tolerance,
        )


@pytest.mark.parametrize("order", [1, 2, 5, 8])
def test_chebyshev_sections(order: int) -> None:
    _, expected = scipy.signal.freqz_sos(scipy.signal.cheby1(order, 0.05, 0.2, output="sos"), 64)
    _, got = scipy.signal.freqz_sos(chebyshev_sections(order, 0.05, 0.2), 64)
    assert_near(got, expected, 1e-11)


@pytest.mark.parametrize(("up", "down", "words"), [(0, 1, "up must be"), (1, 1.5, "whole number")])
def test_rates_that_are_refused(up: Any, down: Any, words: str) -> None:
    for run in (lambda: ours.upfirdn([1.0], np.ones(4), up, down), lambda: ours.resample_poly(np.ones(4), up, down)):
        with pytest.raises(InvalidArgumentError, match=words):
            run()
