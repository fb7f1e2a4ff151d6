"""The exported runtime of the cpu backend, through cffi: the pool, command lists, symbols, what the library exports."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from typing import Any

import numpy as np
import pytest
from kernel_calls import INVALID_ARGUMENT, OK, library, make_call, pool

FFI = library().ffi
LIB = library().lib
DISABLED = 6
MAX_NDIM = 6


class CommandList:
    """A list whose nodes' operands stay alive with it."""

    def __init__(self) -> None:
        self.list = FFI.gc(LIB.perfx_list_create(), LIB.perfx_list_destroy)
        self._keep: list[Any] = []

    def append(
        self, op: str | None, inputs: list[np.ndarray], outputs: list[np.ndarray], symbols: dict[int, int]
    ) -> int:
        """Adds a node of float32 or int32 operands; `symbols` gives the symbol of the first axis of some operands."""
        call, keep = make_call(inputs, outputs, ())
        self._keep.append((call, keep))
        indices = np.full((len(inputs) + len(outputs), MAX_NDIM), -1, np.int32)
        for operand, symbol in symbols.items():
            indices[operand, 0] = symbol
            call.operands[operand].shape[0] = 1
            call.operands[operand].flags = 1
        run = library().kernels[op].run if op else FFI.NULL
        return int(LIB.perfx_list_append(self.list, run, call, FFI.cast("int32_t*", indices.ctypes.data), 1))

    def run(self, first: int = 0, symbols: tuple[int, ...] = (), num_threads: int = 2) -> tuple[int, int]:
        """Runs the nodes from `first` on; the status, and the node that gave it (-1 if none)."""
        stopped_at = FFI.new("int32_t*", -1)
        length = LIB.perfx_list_length(self.list)
        values = FFI.new("int64_t[]", list(symbols) or [0])
        status = LIB.perfx_list_run(pool(num_threads), self.list, first, length, values, len(symbols), stopped_at)
        return int(status), int(stopped_at[0])


def test_a_pool_reports_its_size_and_the_time_spent_in_it() -> None:
    one = LIB.perfx_pool_create(3, FFI.NULL, 10)
    assert LIB.perfx_pool_num_threads(one) == 3
    assert LIB.perfx_pool_native_ns(one) == 0
    a = np.arange(5000, dtype=np.float32)
    out = np.zeros_like(a)
    call, _keep = make_call([a, a], [out], ())
    assert LIB.perfx_pool_run(one, library().kernels["add"].run, call) == OK
    assert np.array_equal(out, 2 * a)
    assert LIB.perfx_pool_native_ns(one) > 0
    LIB.perfx_pool_destroy(one)


@pytest.mark.parametrize("num_threads", [0, -1, 1 << 20])
def test_a_pool_of_no_sensible_size_is_refused(num_threads: int) -> None:
    assert LIB.perfx_pool_create(num_threads, FFI.NULL, 10) == FFI.NULL


def test_python_threads_take_turns_on_one_pool() -> None:
    results = [np.zeros(20000, np.float32) for _ in range(4)]

    def work(index: int) -> None:
        x = np.full(20000, index, np.float32)
        call, _keep = make_call([x, x], [results[index]], ())
        for _ in range(200):
            assert LIB.perfx_pool_run(pool(2), library().kernels["multiply"].run, call) == OK

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, result in enumerate(results):
        assert (result == index * index).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_workers_of_its_own() -> None:
    x = np.ones(5000, np.float32)
    out = np.zeros_like(x)
    call, _keep = make_call([x, x], [out], ())
    kernel = library().kernels["add"].run
    assert LIB.perfx_pool_run(pool(2), kernel, call) == OK
    child = os.fork()
    if child == 0:
        out[:] = 0
        status = LIB.perfx_pool_run(pool(2), kernel, call)
        os._exit(0 if status == OK and (out == 2).all() else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_list_stops_at_a_failing_node_and_goes_on_behind_it() -> None:
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    doubled, taken, squared = np.zeros_like(x), np.zeros((2, 3), np.float32), np.zeros_like(x)
    indices = np.array([1, 9], np.int32)
    commands = CommandList()
    assert commands.append("add", [x, x], [doubled], {}) == 0
    assert commands.append("take_rows", [doubled, indices], [taken], {}) == 1
    assert commands.append("multiply", [x, x], [squared], {}) == 2
    assert commands.run() == (INVALID_ARGUMENT, 1)
    assert np.array_equal(doubled, 2 * x)
    assert not taken.any() and not squared.any()
    assert commands.run(first=2) == (OK, -1)
    assert np.array_equal(squared, x * x)
    indices[1] = 3
    assert commands.run() == (OK, -1)
    assert np.array_equal(taken, 2 * x[[1, 3]])


def test_a_disabled_node_stops_the_list() -> None:
    x = np.ones(3, np.float32)
    out = np.zeros_like(x)
    commands = CommandList()
    commands.append("add", [x, x], [out], {})
    commands.append(None, [x], [out], {})
    assert commands.run() == (DISABLED, 1)
    assert (out == 2).all()


def test_symbols_give_the_shapes_of_a_run() -> None:
    x = np.arange(8, dtype=np.float32)
    out = np.zeros_like(x)
    commands = CommandList()
    commands.append("add", [x, x], [out], {0: 1, 1: 1, 2: 1})
    for size in (3, 8, 0, 5):
        out[:] = -1
        assert commands.run(symbols=(99, size)) == (OK, -1)
        assert np.array_equal(out, np.where(np.arange(8) < size, 2 * x, -1))


@pytest.mark.parametrize("symbols", [(3,), (3, -1)], ids=["missing", "negative"])
def test_a_symbol_without_a_value_is_refused_at_its_node(symbols: tuple[int, ...]) -> None:
    x = np.ones(8, np.float32)
    out = np.zeros_like(x)
    commands = CommandList()
    commands.append("add", [x, x], [out], {0: 0, 1: 0, 2: 0})
    commands.append("add", [x, x], [out], {0: 1, 1: 1, 2: 1})
    assert commands.run(symbols=symbols) == (INVALID_ARGUMENT, 1)
    assert not out.any()


def test_profiling_times_each_node() -> None:
    x = np.ones(100_000, np.float32)
    commands = CommandList()
    for _ in range(3):
        commands.append("exp", [x], [np.empty_like(x)], {})
    LIB.perfx_list_profile(commands.list, 1)
    assert commands.run() == (OK, -1)
    assert all(LIB.perfx_list_node_ns(commands.list)[node] > 0 for node in range(3))


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs binutils")
def test_the_library_exports_its_c_functions_alone() -> None:
    listing = subprocess.run(
        ["nm", "-D", "--defined-only", library().path], capture_output=True, text=True, check=True
    ).stdout
    names = {line.split()[-1] for line in listing.splitlines()}
    assert "perfx_library" in names
    assert all(name.startswith("perfx_") for name in names)
