"""The makers' libraries through CuPy, in whose place NumPy stands here: which calls they take, and on what memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from mock_cupy import mocked_device

import perfxapi as px
from perfxapi.array import apply
from perfxapi.backend import REGISTRY
from perfxapi.device import Device
from perfxapi.ops.spec import op_spec
from perfxapi.tuning import TUNER
from perfxapi_gpu_kernels import GpuBackend


@pytest.fixture
def device(cupy: ModuleType) -> Iterator[Device]:
    """A device with our own kernels, on the emulator, and those of the libraries."""
    with mocked_device() as (device, _):
        yield device


def whose(op: str) -> set[str]:
    """What ran an op, as px.explain() has it."""
    return {row.ran_on for row in px.explain().rows if row.op == op and row.count}


def test_ours_comes_first_and_the_library_takes_what_ours_does_not(device: Device) -> None:
    rng = np.random.default_rng(1)
    a, b = (rng.standard_normal((3, 4, 4)).astype(np.float32) for _ in range(2))
    np.testing.assert_allclose(np.asarray(px.matmul(px.asarray(a), px.asarray(b))), a @ b, rtol=1e-5, atol=1e-5)
    assert whose("matmul") == {"mocked:0"}
    there = px.asarray(a + 1j * b)[:, ::2, 1:]
    want = (a + 1j * b)[:, ::2, 1:] @ (b[0, 1:] + 0j)
    got = np.asarray(px.matmul(there, px.asarray((b[0] + 0j).astype(np.complex64))[1:]))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    assert whose("matmul") == {"mocked:0", "mocked:0 (cublas)"}


@pytest.mark.parametrize("norm", ["backward", "ortho", "forward"])
def test_transforms_by_the_library(device: Device, monkeypatch: pytest.MonkeyPatch, norm: str) -> None:
    backend = REGISTRY.of_device(device).backend
    assert isinstance(backend, GpuBackend)
    libraries = {op: backend.kernels_on(device, op)[1:] for op in ("fft", "rfft", "irfft")}
    monkeypatch.setattr(backend, "kernels_on", lambda where, op: libraries.get(op, ()))
    x = np.random.default_rng(2).standard_normal((6, 10))
    there, half = px.asarray(x), np.fft.rfft(x, axis=0)
    for name, given, attributes, want in (
        ("rfft", there, {"axis": 0}, np.fft.rfft(x, axis=0, norm=norm)),
        ("irfft", px.asarray(half), {"axis": 0, "n": 6}, np.fft.irfft(half, 6, axis=0, norm=norm)),
        ("fft", px.asarray(half), {"axis": 1, "inverse": 1}, np.fft.ifft(half, axis=1, norm=norm)),
        ("fft", px.asarray(half), {"axis": 1}, np.fft.fft(half, axis=1, norm=norm)),
    ):
        got = apply(op_spec(name), given, norm=norm, **attributes)
        np.testing.assert_allclose(np.asarray(got), want, rtol=0, atol=1e-13)
    assert whose("irfft") == {"mocked:0 (cufft)"}


def test_large_calls_are_measured_and_waited_for(
    device: Device, cupy: ModuleType, tmp_path: Path, set_setting: Callable[[str, str], None], monkeypatch
) -> None:
    set_setting("TUNE", "1")
    set_setting("TUNING_FILE", str(tmp_path / "tuning.json"))
    TUNER.forget()
    waits: list[int] = []
    monkeypatch.setattr(cupy.cuda.Stream, "synchronize", lambda stream: waits.append(1))
    x = px.asarray(np.eye(64, dtype=np.float32))
    before = len(waits)
    np.testing.assert_array_equal(np.asarray(px.matmul(x, x)), np.eye(64))
    assert len(waits) - before > 4
    (choice,) = json.loads((tmp_path / "tuning.json").read_text())["choices"].values()
    assert choice["seconds"].keys() == {"own", "cublas"}
    assert choice["kernel"] == "cublas"  # NumPy is quicker than the emulator
    assert whose("matmul") == {"mocked:0 (cublas)"}
    TUNER.forget()


def test_a_library_that_fails_leaves_the_call_to_the_next(device: Device, cupy: ModuleType) -> None:
    def broken(a: object, b: object, out: object) -> None:
        raise RuntimeError("CUBLAS_STATUS_NOT_INITIALIZED")

    cupy.matmul = broken
    x = px.asarray(np.eye(2, dtype=np.complex64))
    with px.use_device("mocked", fallback="allow"):
        np.testing.assert_array_equal(np.asarray(px.matmul(x, x)), np.eye(2))
    assert any("CUBLAS_STATUS_NOT_INITIALIZED" in row.reason for row in px.explain().rows)


@pytest.mark.parametrize(("a", "b"), [((2, 0), (0, 3)), ((0, 2), (2, 3))])
def test_empty_operands_are_ours(device: Device, a: tuple[int, int], b: tuple[int, int]) -> None:
    product = px.matmul(px.zeros(a, dtype=px.float32), px.zeros(b, dtype=px.float32))
    np.testing.assert_array_equal(np.asarray(product), np.zeros((a[0], b[1])))
    assert whose("matmul") == {"mocked:0"}
