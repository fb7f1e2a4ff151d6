"""What the CUDA and HIP backends ask of CuPy, which is a mock here: arguments, caching, errors, missing devices."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from mock_cupy import NVIDIA, install, mocked_device

import perfxapi_backend_cuda.backend as cuda
import perfxapi_backend_hip.backend as hip
from perfxapi.conformance import all_cases, check_case
from perfxapi.errors import DeviceLostError, KernelError, OutOfMemoryError, PerfXError
from perfxapi_backend_cuda.probe import probe as probe_cuda
from perfxapi_backend_hip.probe import probe as probe_hip
from perfxapi_gpu_kernels import Region
from perfxapi_gpu_kernels.cupy_driver import CUDA_OPTIONS, CupyDriver
from perfxapi_gpu_kernels.emulator import EmulatorDriver
from perfxapi_gpu_kernels.sources import Program, source_text

SHIFTED = """
typedef struct { float scale; int shift; } Line;
KERNEL shifted(CONST_OPERAND(float, x), OPERAND(float, y), Line line, int count) {
  OPEN_CONST(float, x);
  OPEN(float, y);
  int i = GLOBAL_ID(0);
  if (i < count) y[i] = line.scale * x[i] + (float)line.shift;
}
"""


@pytest.fixture
def driver(cupy) -> CupyDriver:
    return CupyDriver(0, EmulatorDriver().properties, CUDA_OPTIONS)


def test_a_kernel_with_offsets_numbers_and_a_structure(driver):
    source = source_text(Program("shifted", text=SHIFTED), driver.properties)
    x, out = np.arange(40, dtype=np.float32), np.zeros(33, np.float32)
    regions = [Region(driver.allocate(256), offset, 160) for offset in (16, 64)]
    driver.write(regions[0], x.view(np.uint8))
    line = np.array([(2.0, -3)], np.dtype([("scale", np.float32), ("shift", np.int32)])).tobytes()
    kernel = driver.compile(source, ["shifted"])["shifted"]
    driver.enqueue(driver.bind(kernel, (2, 1, 1), (32, 1, 1), [*regions, line, np.int32(33)]))
    driver.finish()
    driver.read(regions[1], out.view(np.uint8))
    np.testing.assert_array_equal(out, 2 * x[:33] - 3)


def test_zeros_are_made_by_the_device(driver):
    found = np.ones(100, np.uint8)
    driver.read(Region(driver.zeros(100), 0, 100), found)
    assert not found.any()


def test_a_program_is_compiled_once_for_each_device_and_its_options(driver, cupy):
    source = source_text(Program("shifted", text=SHIFTED), driver.properties)
    for _ in range(2):
        driver.compile(source, ["shifted"])
    assert cupy.compiled == [(source, CUDA_OPTIONS)]
    CupyDriver(0, driver.properties, ("--other",)).compile(source, ["shifted"])
    assert [options for _, options in cupy.compiled] == [CUDA_OPTIONS, ("--other",)]


def test_an_op_runs_on_its_device(cupy):
    with mocked_device() as (device, _):
        outcomes = [check_case(case, "mocked", device) for case in all_cases(["rms_norm"])]
    assert [str(outcome) for outcome in outcomes if outcome.status not in ("ok", "declined")] == []
    assert any(outcome.status == "ok" for outcome in outcomes)
    assert set(cupy.cuda.runtime.used) == {0}


@pytest.mark.parametrize(
    ("status", "error"), [(2, OutOfMemoryError), (700, DeviceLostError), (719, DeviceLostError), (1, KernelError)]
)
def test_statuses_become_errors(driver, cupy, status, error):
    cupy.cuda.runtime.fails = status
    with pytest.raises(error, match=f"emulator: status {status}") as raised:
        driver.allocate(64)
    assert type(raised.value) is error
    assert isinstance(raised.value, PerfXError)


def test_what_the_compiler_says_is_told(driver):
    with pytest.raises(KernelError, match="nonsense is not declared"):
        driver.compile("nonsense", ["shifted"])


def test_properties_of_devices():
    properties = cuda.properties_of(NVIDIA)
    assert properties.dialect == "cuda"
    assert properties.identity == "Mock GPU (compute capability 8.6)"
    assert properties.has_dot4
    assert not cuda.properties_of({**NVIDIA, "major": 6, "minor": 0}).has_dot4
    properties = hip.properties_of({**NVIDIA, "warpSize": 64})
    assert (properties.dialect, properties.subgroup_size) == ("hip", 64)
    assert properties.identity == "Mock GPU (gfx90a)"
    assert properties.has_dot4
    assert not hip.properties_of({**NVIDIA, "gcnArchName": b"gfx1010"}).has_dot4


def test_the_devices_of_a_backend(cupy):
    cupy.cuda.runtime.count = 2
    assert [str(device) for device in cuda.CudaBackend().devices()] == ["cuda:0", "cuda:1"]
    assert [str(device) for device in hip.HipBackend().devices()] == ["hip:0", "hip:1"]


def test_probes_say_why_there_is_no_device(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert "CuPy cannot be imported" in (probe_cuda() or "")
    assert "CuPy cannot be imported" in (probe_hip() or "")
    install(monkeypatch)
    assert probe_cuda() is None
    assert "built for CUDA, not for ROCm" in (probe_hip() or "")
    install(monkeypatch, is_hip=True)
    assert probe_hip() is None
    assert "built for ROCm, not for CUDA" in (probe_cuda() or "")
    install(monkeypatch, count=-1)
    assert "there is no device (status 35)" in (probe_cuda() or "")
    install(monkeypatch, count=0)
    assert "finds no device" in (probe_cuda() or "")
