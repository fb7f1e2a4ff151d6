"""Threads of the pool run where the setting puts them. Each case is a process of its own: a pool is made once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from perfxapi.native.topology import allowed_processors, read_topology

PROGRAM = """
import json, os
from pathlib import Path
import numpy as np
import perfxapi as px

def tasks():
    return {int(task.name) for task in Path("/proc/self/task").iterdir()}

np.ones((64, 64)) @ np.ones((64, 64))  # threads of NumPy's BLAS, if it has any, are there before
before = tasks() - {os.getpid()}
x = px.asarray(np.ones(100000, np.float32))
with px.use_device("cpu", fallback="error"):
    px.exp(px.asarray(np.ones((64, 1000), np.float32)))
    found = {task: sorted(os.sched_getaffinity(task)) for task in sorted(tasks() - before)}
caller = found.pop(os.getpid())
print(json.dumps({"threads": px.num_threads(), "caller": caller, "workers": list(found.values())}))
"""

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no affinity of threads")


def run(affinity: str, num_threads: int, program: str = PROGRAM) -> Any:
    environment = {**os.environ, "PERFXAPI_AFFINITY": affinity, "PERFXAPI_NUM_THREADS": str(num_threads)}
    command = [sys.executable, "-c", program]
    child = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout)


@pytest.mark.parametrize("affinity", ["compact", "spread"])
@pytest.mark.parametrize("extra", [0, 1])
def test_each_thread_has_its_processor(affinity: str, extra: int) -> None:
    order = getattr(read_topology(), affinity)()
    num_threads = len(order) + extra
    found = run(affinity, num_threads)
    assert found["threads"] == num_threads
    assert [found["caller"], *found["workers"]] == [[order[index % len(order)]] for index in range(num_threads)]


def test_numbers_are_the_processors_in_that_order() -> None:
    last, first = allowed_processors()[-1], allowed_processors()[0]
    found = run(f"{last},{first},{last}", 3)
    assert [found["caller"], *found["workers"]] == [[last], [first], [last]]


def test_without_affinity_the_caller_stays_free() -> None:
    found = run("none", 2)
    assert found["caller"] == list(allowed_processors())
    assert len(found["workers"]) == 1
    assert set(found["workers"][0]) <= set(allowed_processors())


def test_a_processor_that_is_not_there_is_an_error_of_the_first_call() -> None:
    program = """
import json
import numpy as np
import perfxapi as px
with px.use_device("cpu"):
    try:
        px.exp(px.asarray(np.ones(5, np.float32)))
    except px.errors.InvalidArgumentError as error:
        print(json.dumps(str(error)))
"""
    assert "PERFXAPI_AFFINITY names processors that this process may not use" in run("0,8191", 2, program)


def test_a_pool_that_is_made_later_knows_all_processors() -> None:
    """The first pool has pinned its caller; how many processors there are was read before."""
    program = PROGRAM + "\nfrom perfxapi.native.topology import allowed_processors\nprint(len(allowed_processors()))"
    program = program.replace("print(json.dumps(", "(json.dumps(")
    assert run("compact", 1, program) == len(allowed_processors())
