"""The memory of OpenCL devices: state of zeros, which costs what is written of it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from opencl_devices import on_each_device, runtime_of

from perfxapi.memory import Buffer


def resident_megabytes() -> float:
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


@on_each_device
def test_state_begins_as_zeros_and_keeps_what_is_written(device: str) -> None:
    runtime = runtime_of(device)
    before = resident_megabytes()
    state = Buffer.state(1 << 29, device, name="cache")
    found, moved = state.fetch([(1 << 28, 4096)])
    assert moved == 4096
    assert not found[1 << 28 :][:4096].any()
    found[1 << 28 :][:4096] = 7
    state.store(found, [(1 << 28, 4096)])
    again, _ = state.fetch([((1 << 28) - 8, 16)])
    np.testing.assert_array_equal(again[(1 << 28) - 8 :][:16], [0] * 8 + [7] * 8)
    if runtime.properties.is_processor and runtime.properties.shares_host_memory:
        del found, again
        assert resident_megabytes() < before + 100
