"""Short-time Fourier transforms equal SciPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.signal
from parity import DTYPES, TOLERANCE, assert_equals, assert_near, signal, wide

import perfxapi as px
import perfxapi_plugin_signal as ours
from perfxapi.errors import InvalidArgumentError, PerfXWarning

OPTIONS: list[dict[str, Any]] = [
    {"nperseg": 32},
    {"nperseg": 33, "noverlap": 20},
    {"nperseg": 32, "nfft": 50, "window": ("kaiser", 4.0)},
    {"nperseg": 16, "noverlap": 0, "boundary": None, "window": "boxcar"},
    {"nperseg": 32, "padded": False, "scaling": "psd"},
    {"nperseg": 31, "boundary": "even", "detrend": "constant"},
    {"nperseg": 32, "boundary": "odd", "detrend": "linear"},
    {"nperseg": 32, "boundary": "constant", "return_onesided": False},
    {"window": scipy.signal.get_window("hann", 24), "nperseg": None},
]
SHAPES = [((300,), -1), ((3, 129), 1), ((129, 3), 0), ((2, 101, 3), 1), ((2, 101, 3), -2)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: ",".join(options))
def test_stft_and_istft_equal_scipys(options: dict[str, Any], dtype: str) -> None:
    complex_ = dtype.startswith("complex")
    result = {"float32": "complex64", "float64": "complex128"}.get(dtype, dtype)
    for shape, axis in SHAPES:
        x = signal(shape, dtype)
        given = {"fs": 8.0, "axis": axis, **options, **({"return_onesided": False} if complex_ else {})}
        f, t, values = ours.stft(px.asarray(x), **given)
        expected = scipy.signal.stft(wide(x), **given)
        assert_near(f, expected[0])
        assert_near(t, expected[1])
        assert_equals(values, expected[2], result)
        if options.get("boundary", "zeros") is not None:
            check_inverse(expected[2].astype(result), given, axis % x.ndim)


def check_inverse(values: Any, given: dict[str, Any], axis: int) -> None:
    kept = {name: given[name] for name in ("fs", "window", "nperseg", "noverlap", "nfft", "scaling") if name in given}
    kept |= {"input_onesided": given.get("return_onesided", True), "freq_axis": axis}
    t, x = ours.istft(px.asarray(values), **kept)
    expected = scipy.signal.istft(wide(values), **kept)
    assert_near(t, np.arange(expected[1].shape[-1]) / 8.0)  # SciPy counts those of the first axis
    assert_near(x, expected[1], TOLERANCE[str(values.dtype)])


def test_istft_gives_the_signal_back() -> None:
    x = signal((2, 1000), "float32")
    _, _, values = ours.stft(x, nperseg=128, noverlap=96)
    _, back = ours.istft(values, nperseg=128, noverlap=96)
    assert back.dtype is px.float32
    np.testing.assert_allclose(np.asarray(back)[:, :1000], x, atol=2e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", ["psd", "complex", "magnitude", "angle"])
def test_spectrogram_equals_scipys(mode: Any, dtype: str) -> None:
    for shape, axis in SHAPES:
        for options in ({}, {"nperseg": 31, "noverlap": 7, "scaling": "spectrum"}, {"nperseg": 32, "detrend": False}):
            x = signal(shape, dtype)
            given: dict[str, Any] = {"fs": 4.0, "axis": axis, "mode": mode, **options}
            given |= {"return_onesided": False} if dtype.startswith("complex") else {}
            if options == {}:
                given["nperseg"] = 64
            f, t, values = ours.spectrogram(px.asarray(x), **given)
            expected = scipy.signal.spectrogram(wide(x), **given)
            assert_near(f, expected[0])
            assert_near(t, expected[1])
            if mode == "angle":  # of what is near 0 any angle is right
                turn = np.abs(np.exp(1j * np.asarray(values)) - np.exp(1j * expected[2]))
                assert np.median(turn) < 1e-4
            else:
                assert_near(values, expected[2], 1e-5 if dtype in ("float32", "complex64") else 1e-10)


def test_segments_are_not_longer_than_the_signal() -> None:
    f, t, values = ours.stft(signal(100))
    assert values.shape == (51, 3)
    assert f.shape == (51,)
    assert t.shape == (3,)


def test_samples_that_are_lost_are_warned_of() -> None:
    _, _, values = ours.stft(signal(100), nperseg=20, noverlap=0)
    with pytest.warns(PerfXWarning, match="do not cover"):
        ours.istft(values, nperseg=20, noverlap=0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: ours.stft(x, nperseg=0), "at least 1"),
        (lambda x: ours.stft(x, nperseg=16, noverlap=16), "noverlap less"),
        (lambda x: ours.stft(x, nperseg=16, nfft=8), "nfft must be at least"),
        (lambda x: ours.stft(x, window=np.ones(8), nperseg=9), "8 weights"),
        (lambda x: ours.stft(x, boundary="mirror"), "boundary"),
        (lambda x: ours.stft(x, detrend="cubic"), "detrend"),
        (lambda x: ours.spectrogram(x, mode="phase"), "mode"),
        (lambda x: ours.istft(x), "two different axes"),
    ],
)
def test_what_is_refused(call: Any, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        call(np.ones(64))
