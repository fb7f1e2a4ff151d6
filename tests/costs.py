"""Bounds on processor time that hold for the code, whatever machine the tests run on and whatever runs beside them."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager

_YARDSTICK_SECONDS = 0.02
"""What `_yardstick` takes on a Xeon at 2.5 GHz where nothing else runs. On quicker machines bounds stay as written."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Fails when the block takes more processor time than this.

    Where a fixed piece of work takes longer than it does on a quiet machine, just before or just after the block, so
    may the block. What other tests left behind is not walked through for garbage meanwhile.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        before = _yardstick()
        start = time.process_time()
        yield
        taken = time.process_time() - start
        slowness = max(1.0, max(before, _yardstick()) / _YARDSTICK_SECONDS)
    finally:
        if was_enabled:
            gc.enable()
    assert taken < seconds * slowness, f"{taken:.3f} s of processor time; {seconds} x {slowness:.2f} are allowed"


def _yardstick() -> float:
    """Processor seconds of a fixed piece of work."""
    start, total = time.thread_time(), 0
    for number in range(200_000):
        total += number & 7
    assert total == 700_000
    return time.thread_time() - start
