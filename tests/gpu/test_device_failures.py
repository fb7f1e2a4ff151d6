"""What goes wrong with a device: no driver, a program that does not compile, memory that runs out, a loss."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opencl_devices import DEVICES, needs_opencl, on_each_device, runtime_of

import perfxapi as px
from perfxapi.errors import FallbackError, FallbackWarning, KernelError, OutOfMemoryError

X = np.linspace(-2, 2, 96, dtype=np.float32).reshape(3, 32)
WEIGHT = np.linspace(0.5, 1.5, 32, dtype=np.float32)
NORMED = X / np.sqrt(np.mean(X.astype(np.float64) ** 2, -1, keepdims=True) + 1e-6) * WEIGHT


def run_without_drivers(tmp_path: Path, code: str) -> subprocess.CompletedProcess[str]:
    """A process whose OpenCL loader finds no runtime at all."""
    environment = {**os.environ, "OCL_ICD_VENDORS": f"{tmp_path}{os.sep}", "OCL_ICD_FILENAMES": ""}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


@needs_opencl
def test_without_a_driver_the_work_returns_to_the_cpu_with_the_reason_and_the_command(tmp_path: Path) -> None:
    done = run_without_drivers(tmp_path, "import perfxapi as px; print(px.asarray([1.0], device='opencl').device)")
    assert done.stdout.strip() == "cpu:0"
    assert "there is no OpenCL runtime on this machine" in done.stderr
    assert "pip install 'perfxapi-backend-opencl[cpu]'" in done.stderr
    assert done.stderr.count("FallbackWarning") == 1


@needs_opencl
def test_without_a_driver_error_raises(tmp_path: Path) -> None:
    code = (
        "import perfxapi as px\ntry:\n with px.use_device('opencl', fallback='error'): pass\n"
        "except px.errors.DeviceUnavailableError as error: print(error)"
    )
    done = run_without_drivers(tmp_path, code)
    assert "there is no OpenCL runtime on this machine" in done.stdout
    assert done.stderr == ""


@pytest.fixture
def refusing_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices whose compiler refuses the program of rms_norm, as old drivers do now and then."""
    for device in DEVICES:
        runtime = runtime_of(device)
        compile_program = runtime.driver.compile

        def refuse(source: str, entries: Sequence[str], then: Any = compile_program) -> Any:
            if "rms_norm" in entries:
                raise KernelError("OpenCL: the program does not build: norm.h:1:1: error: internal")
            return then(source, entries)

        monkeypatch.setattr(runtime.driver, "compile", refuse)
        monkeypatch.setattr(runtime, "_functions", {})


@on_each_device
def test_a_program_that_does_not_compile_is_a_fallback_with_its_reason(device: str, refusing_compiler: None) -> None:
    x, weight = px.asarray(X, device=device), px.asarray(WEIGHT, device=device)
    with pytest.warns(FallbackWarning, match=r"rms_norm: OpenCL: the program does not build: norm\.h:1:1"):
        found = px.nn.rms_norm(x, weight, eps=1e-6)
    np.testing.assert_allclose(np.asarray(found), NORMED, rtol=1e-5)
    assert str(found.device) == device
    (row,) = px.explain().fallbacks
    assert row.bytes_moved == X.nbytes  # the operands still had their copies on the host, the result goes back


@on_each_device
def test_a_program_that_does_not_compile_with_error_raises(device: str, refusing_compiler: None) -> None:
    with px.use_device(device, fallback="error"), pytest.raises(FallbackError, match="does not build"):
        px.nn.rms_norm(px.asarray(X), px.asarray(WEIGHT), eps=1e-6)


@on_each_device
def test_in_a_plan_the_node_runs_elsewhere_and_the_rest_goes_on(device: str, refusing_compiler: None) -> None:
    graph = px.graph.trace(
        lambda x, weight: px.nn.rms_norm(x + x, weight, eps=1e-6) + x,
        {"x": px.TensorSpec((px.Dim("rows"), 32), px.float32), "weight": px.TensorSpec((32,), px.float32)},
    )
    plan = px.graph.compile(graph, device=device, bounds={"rows": 5})
    for _ in range(2):
        with pytest.warns(FallbackWarning, match="does not build") if _ == 0 else px.use_device(device):
            found = np.asarray(plan(x=X, weight=WEIGHT)["output"])
        double = 2 * X.astype(np.float64)
        expected = double / np.sqrt(np.mean(double**2, -1, keepdims=True) + 1e-6) * WEIGHT + X
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@on_each_device
def test_memory_that_runs_out_is_said_with_what_was_asked_for(device: str) -> None:
    tall, wide = (px.asarray(np.zeros(shape, np.float32), device=device) for shape in ((1 << 20, 1), (1, 1 << 20)))
    with pytest.raises(OutOfMemoryError, match=str(1 << 42)):
        px.add(tall, wide)
    with px.use_device(device, fallback="error"):  # the device works as before
        np.testing.assert_array_equal(np.asarray(px.add(px.asarray(X), px.asarray(X))), 2 * X)
