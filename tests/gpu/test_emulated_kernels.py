"""Every kernel in its CUDA C++ form, thread by thread, against the references of its ops."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from collected import all_programs

from perfxapi_gpu_kernels.bindings import BINDINGS
from perfxapi_gpu_kernels.emulator import EmulatorDriver
from perfxapi_gpu_kernels.sources import entries, source_text

PROGRAM = "import sys; from perfxapi.cli import main; sys.exit(main())"
PLUGIN = Path(__file__).parent / "emulator_plugin"


def compile_all(driver: EmulatorDriver) -> None:
    """All programs, on all processors: those that run them find them compiled."""
    programs = all_programs(driver.properties)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda one: driver.compile(source_text(one, driver.properties), entries(one)), programs))


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("own_kernel_folder")
def test_every_binding_computes_what_the_reference_does():
    compile_all(EmulatorDriver())
    named = [argument for op in sorted(BINDINGS) for argument in ("--op", op)]
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, "verify", "emulator", *named],
        env={**os.environ, "PYTHONPATH": str(PLUGIN)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
