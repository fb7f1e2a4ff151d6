"""Kernels in their CUDA C++ form, thread by thread, against the references of their ops."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from collected import all_programs, covering_cases

from perfxapi.backend import REGISTRY, BackendManifest
from perfxapi.conformance import all_cases, check_case
from perfxapi.conformance.cases import HOSTILE
from perfxapi_gpu_kernels.bindings import BINDINGS
from perfxapi_gpu_kernels.emulator import EmulatorBackend, EmulatorDriver
from perfxapi_gpu_kernels.sources import Program, entries, source_text

PLUGIN = Path(__file__).parent / "emulator_plugin"
COMMAND = "import sys; from perfxapi.cli import main; sys.exit(main())"

pytestmark = [pytest.mark.usefixtures("own_kernel_folder"), pytest.mark.timeout(900)]


@pytest.fixture
def emulator() -> Iterator[EmulatorBackend]:
    """`emulator:0` in this process."""
    backend = EmulatorBackend()
    REGISTRY.entries()
    REGISTRY.register(
        BackendManifest("emulator", lambda: backend, ("emulator",), priority=-50, own_memory=True), "tests"
    )
    yield backend
    REGISTRY.unregister("emulator")


def compile_all(driver: EmulatorDriver, programs: Iterable[Program]) -> None:
    """All of them, on all processors: what runs them finds them compiled."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda one: driver.compile(source_text(one, driver.properties), entries(one)), programs))


def test_each_op_and_each_define_of_a_kernel(emulator):
    (device,) = emulator.devices()
    driver = emulator.runtimes[device].driver
    chosen = covering_cases(driver.properties)
    compile_all(driver, {program for _, programs in chosen for program in programs})
    hostile = [case for case in all_cases(sorted(BINDINGS)) if case.arrangement == HOSTILE]
    outcomes = [check_case(case, "emulator", device) for case in [*(case for case, _ in chosen), *hostile]]
    assert [str(outcome) for outcome in outcomes if outcome.status not in ("ok", "declined")] == []
    assert {outcome.op for outcome in outcomes if outcome.status == "ok"} == set(BINDINGS)


@pytest.mark.slow
def test_all_cases_of_all_ops():
    driver = EmulatorDriver()
    compile_all(driver, all_programs(driver.properties))
    named = [argument for op in sorted(BINDINGS) for argument in ("--op", op)]
    found = subprocess.run(
        [sys.executable, "-c", COMMAND, "verify", "emulator", *named],
        env={**os.environ, "PYTHONPATH": str(PLUGIN)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
