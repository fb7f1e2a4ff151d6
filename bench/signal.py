"""`python -m bench.signal`: the signal plugin beside SciPy, on the sizes that its README names.

The two take turns in short runs, so that both see the same machine; a figure is the median. SciPy's filters and sums of
products use one thread, its transforms too unless they are told otherwise; ours use the native pool.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.signal

import perfxapi as px
import perfxapi_plugin_signal as ours
from bench import machine
from perfxapi.tables import text_table

_SECONDS, _MAX_RUNS = 1.2, 25


@dataclass(frozen=True, slots=True)
class Case:
    """One function on one size: ours, SciPy's."""

    name: str
    ours: Callable[[], Any]
    scipys: Callable[[], Any]


def cases() -> list[Case]:
    """What the README's table has: float32 signals, coefficients as SciPy designs them."""
    rng = np.random.default_rng(0)
    numbers = lambda *shape: rng.standard_normal(shape).astype(np.float32)  # noqa: E731
    channels, minute, long = numbers(64, 48_000), numbers(4, 480_000), numbers(1_000_000)
    sos = scipy.signal.butter(8, 0.2, output="sos").astype(np.float32)
    b, a = (c.astype(np.float32) for c in scipy.signal.butter(4, 0.2))
    taps = scipy.signal.firwin(129, 0.2).astype(np.float32)
    x, y, z = (px.asarray(array) for array in (channels, minute, long))
    each = scipy.signal
    return [
        Case("sosfilt, 8th order, 64 x 48,000", lambda: ours.sosfilt(sos, x), lambda: each.sosfilt(sos, channels)),
        Case("sosfilt, 8th order, 1,000,000", lambda: ours.sosfilt(sos, z), lambda: each.sosfilt(sos, long)),
        Case("lfilter, 4th order, 64 x 48,000", lambda: ours.lfilter(b, a, x), lambda: each.lfilter(b, a, channels)),
        Case("lfilter, 4th order, 1,000,000", lambda: ours.lfilter(b, a, z), lambda: each.lfilter(b, a, long)),
        Case("sosfiltfilt, 8th order, 64 x 48,000", lambda: ours.sosfiltfilt(sos, x),
             lambda: each.sosfiltfilt(sos, channels)),
        Case("resample_poly, 48 to 16 kHz, 4 x 480,000", lambda: ours.resample_poly(y, 1, 3, axis=1),
             lambda: each.resample_poly(minute, 1, 3, axis=1)),
        Case("resample_poly, 44.1 to 48 kHz, 4 x 480,000", lambda: ours.resample_poly(y, 160, 147, axis=1),
             lambda: each.resample_poly(minute, 160, 147, axis=1)),
        Case("upfirdn, 129 taps, 3 over 2, 1,000,000", lambda: ours.upfirdn(taps, z, 3, 2),
             lambda: each.upfirdn(taps, long, 3, 2)),
        Case("convolve, direct, 1,000,000 x 129", lambda: ours.convolve(z, taps, method="direct"),
             lambda: each.convolve(long, taps, method="direct")),
        Case("convolve, auto, 1,000,000 x 129", lambda: ours.convolve(z, taps), lambda: each.convolve(long, taps)),
        Case("convolve, fft, 1,000,000 x 129", lambda: ours.convolve(z, taps, method="fft"),
             lambda: each.convolve(long, taps, method="fft")),
        Case("stft, 1,000,000, segments of 512", lambda: ours.stft(z, nperseg=512),
             lambda: each.stft(long, nperseg=512)),
        Case("spectrogram, 1,000,000, segments of 512", lambda: ours.spectrogram(z, nperseg=512),
             lambda: each.spectrogram(long, nperseg=512)),
    ]  # fmt: skip


def _seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measure(case: Case, seconds: float) -> tuple[float, float]:
    """The median seconds of ours and of SciPy's."""
    case.ours(), case.scipys()
    runs: list[tuple[float, float]] = []
    while len(runs) < 3 or (len(runs) < _MAX_RUNS and sum(map(sum, runs)) < seconds):
        runs.append((_seconds(case.ours), _seconds(case.scipys)))
    return float(np.median([run[0] for run in runs])), float(np.median([run[1] for run in runs]))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="for each function (default: %(default)s)")
    parser.add_argument("--only", default="", help="functions whose names hold this text")
    arguments = parser.parse_args()
    facts = machine.describe()
    versions = f"SciPy {scipy.__version__}, NumPy {np.__version__}"
    print(f"{facts['processor']}, {facts['usable_processors']} processors; {versions}")
    rows = []
    for case in cases():
        if arguments.only in case.name:
            mine, other = measure(case, arguments.seconds)
            rows.append([case.name, f"{1e3 * mine:.2f}", f"{1e3 * other:.2f}", f"{other / mine:.1f}"])
    print(text_table(["function", "ms", "SciPy ms", "times as fast"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
