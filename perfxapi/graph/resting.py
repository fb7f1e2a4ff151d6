"""A measurement of one device begins when the threads of the others are at rest.

Runtimes let their threads spin for some time after the last kernel, so that the next one begins soon. Where processors
are few, whatever another device runs meanwhile shares them with those threads, and looks several times slower.
"""

from __future__ import annotations

import time

_GLANCE = 0.005
_BUSY = 0.2
"""Of a processor: what the process uses while nothing of ours runs and some thread spins."""
_PATIENCE = 0.5


def wait_for_rest() -> None:
    """Returns when no thread of this process works any more; after half a second in any case."""
    deadline = time.perf_counter() + _PATIENCE
    while time.perf_counter() < deadline:
        processor, clock = time.process_time(), time.perf_counter()
        time.sleep(_GLANCE)
        if time.process_time() - processor < _BUSY * (time.perf_counter() - clock):
            return
