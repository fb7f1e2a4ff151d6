"""Windows equal SciPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.signal
from parity import assert_near

import perfxapi as px
import perfxapi_plugin_signal as signal
from perfxapi.errors import InvalidArgumentError, UnknownNameError

WINDOWS: list[Any] = [
    "barthann", "bartlett", "blackman", "blackmanharris", "bohman", "boxcar", "cosine", "flattop", "hamming", "hann",
    "nuttall", "parzen", "triang", "tukey", ("tukey", 0.3), ("tukey", 0.0), ("tukey", 1.5), ("kaiser", 8.6), 5.0,
    ("gaussian", 3.5), ("exponential", None, 4.0), ("general_gaussian", 1.5, 6.0), ("general_hamming", 0.6),
    ("general_cosine", [0.4, 0.5, 0.1]),
]  # fmt: skip


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_a_window_equals_scipys(window: Any) -> None:
    for count in (1, 2, 3, 8, 51, 64):
        for periodic in (True, False):
            got = signal.get_window(window, count, periodic)
            assert_near(got, scipy.signal.get_window(window, count, periodic), 1e-12)


def test_a_window_in_another_dtype() -> None:
    window = signal.get_window("hann", 16, dtype=px.float32, device="numpy")
    assert window.dtype is px.float32
    assert str(window.device) == "numpy:0"
    assert signal.get_window("hann", 0).shape == (0,)


def test_windows_that_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'hamming'"):
        signal.get_window("haming", 8)
    with pytest.raises(InvalidArgumentError, match="kaiser takes 1 parameters"):
        signal.get_window("kaiser", 8)
    with pytest.raises(InvalidArgumentError, match="must not be negative"):
        signal.get_window("hann", -1)
    with pytest.raises(InvalidArgumentError, match="whole number"):
        signal.get_window("hann", 2.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("taps", [1, 2, 31, 64, 129])
@pytest.mark.parametrize(("cutoff", "kind"), [(0.3, "lowpass"), (0.3, "highpass"), ([0.2, 0.5], "bandpass"),
                                              ([0.2, 0.5], "bandstop"), ([0.1, 0.3, 0.6, 0.7], True),
                                              ([0.1, 0.3, 0.6], False)])  # fmt: skip
def test_firwin_equals_scipys(taps: int, cutoff: Any, kind: Any) -> None:
    for options in ({}, {"scale": False}, {"width": 0.08}, {"window": ("kaiser", 4.0)}):
        options = {"pass_zero": kind, **options}
        try:
            expected = scipy.signal.firwin(taps, cutoff, **options)
        except ValueError:
            with pytest.raises(InvalidArgumentError):
                signal.firwin(taps, cutoff, **options)
        else:
            assert_near(signal.firwin(taps, cutoff, **options), expected, 1e-11)


def test_firwin_in_hertz() -> None:
    expected = scipy.signal.firwin(41, [300, 3400], fs=16000, pass_zero=False, width=500)
    assert_near(signal.firwin(41, [300, 3400], fs=16000, pass_zero=False, width=500), expected, 1e-12)
    assert signal.kaiser_beta(60) == scipy.signal.kaiser_beta(60)
    assert signal.kaiser_beta(30) == pytest.approx(scipy.signal.kaiser_beta(30), rel=1e-15)
    assert signal.kaiser_beta(10) == 0
    assert signal.kaiser_atten(41, 0.1) == scipy.signal.kaiser_atten(41, 0.1)


@pytest.mark.parametrize(
    ("cutoff", "options"),
    [(0.0, {}), (1.0, {}), ([0.5, 0.4], {}), ([], {}), (0.3, {"pass_zero": "bandpass"}), (0.3, {"pass_zero": "comb"})],
)
def test_firwin_refuses(cutoff: Any, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match="firwin"):
        signal.firwin(11, cutoff, **options)
    assert np.isfinite(np.asarray(signal.firwin(11, 0.3))).all()
