"""A mock of the few names of CuPy that backends use, on the emulator, with NumPy's arrays and functions for CuPy's:
what it proves is how CuPy is called.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from cffi import FFI

import perfxapi as px
from perfxapi import device as core
from perfxapi.backend import REGISTRY, BackendManifest
from perfxapi_gpu_kernels import GpuBackend
from perfxapi_gpu_kernels.cupy_driver import CUDA_OPTIONS, CupyDriver
from perfxapi_gpu_kernels.cupy_libraries import library_kernels
from perfxapi_gpu_kernels.emulator import EmulatorDriver

FFI_MEMORY = FFI()
NVIDIA: dict[str, Any] = {
    "name": b"Mock GPU",
    "major": 8,
    "minor": 6,
    "gcnArchName": b"gfx90a:sramecc+:xnack-",
    "multiProcessorCount": 82,
    "warpSize": 32,
    "sharedMemPerBlock": 49152,
    "maxThreadsPerBlock": 1024,
    "integrated": 0,
}


class StatusError(RuntimeError):
    """As CUDARuntimeError and CUDADriverError: an error with a status."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"status {status}")


class CompileException(Exception):
    """What the compiler said."""


class Memory:
    """cupy.cuda.Memory: what cudaMalloc gives."""

    def __init__(self, nbytes: int) -> None:
        self._bytes = EmulatorDriver().allocate(nbytes)
        self.ptr = self._bytes.__array_interface__["data"][0]


class Graph:
    """cupy.cuda.Graph: a stand-in that makes the launches that were captured when it is launched itself."""

    def __init__(self, work: Sequence[Callable[[], None]]) -> None:
        self.work, self.num_launches = work, 0

    def launch(self, stream: Any = None) -> None:
        assert isinstance(stream, Stream)
        self.num_launches += 1
        for one in self.work:
            one()


class Stream:
    """cupy.cuda.Stream. What is launched while it captures is recorded and does not run."""

    def __init__(self, non_blocking: bool = False) -> None:
        assert non_blocking, "the default stream waits for all others"
        self.ptr = 7
        self.captured: list[Callable[[], None]] | None = None
        self.graphs: list[Graph] = []

    def begin_capture(self) -> None:
        assert self.captured is None
        self.captured = []

    def end_capture(self) -> Graph:
        assert self.captured is not None
        self.graphs.append(Graph(self.captured))
        self.captured = None
        return self.graphs[-1]

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def synchronize(self) -> None:
        assert self.captured is None, "CUDA refuses to wait for a stream that captures"


def ndarray(shape: tuple[int, ...], dtype: str, memptr: int, strides: tuple[int, ...]) -> np.ndarray:
    """cupy.ndarray over memory that is there: an array of NumPy."""
    whole = FFI_MEMORY.buffer(FFI_MEMORY.cast("char*", memptr), 1 << 30)
    return np.ndarray(shape, dtype, whole, 0, strides)


class Module:
    """cupy.cuda.Module: the machine code of the mock is the source."""

    def load(self, code: bytes) -> None:
        self._source = code.decode()

    def get_function(self, name: str) -> Callable[..., None]:
        driver = EmulatorDriver()
        kernel = driver.compile(self._source, [name])[name]

        def function(grid: Any, block: Any, arguments: Sequence[np.ndarray], shared_mem: int = 0, stream: Any = None):
            assert isinstance(stream, Stream)
            assert all(isinstance(argument, np.ndarray) and argument.size == 1 for argument in arguments)
            bound = driver.bind(kernel, grid, block, [argument.tobytes() for argument in arguments])
            if stream.captured is None:
                driver.enqueue(bound)
            else:
                stream.captured.append(partial(driver.enqueue, bound))

        return function


class Runtime(SimpleNamespace):
    """cupy.cuda.runtime. `fails` is the status that the next call to a device ends with."""

    CUDARuntimeError = StatusError
    memcpyHostToDevice, memcpyDeviceToHost = 1, 2

    def __init__(self, *, is_hip: bool = False, count: int = 1) -> None:
        super().__init__(is_hip=is_hip, count=count, fails=0, used=[])

    def setDevice(self, index: int) -> None:
        self.used.append(index)
        if self.fails:
            raise StatusError(self.fails)

    def getDeviceCount(self) -> int:
        if self.count < 0:
            raise StatusError(35)
        return self.count

    def getDeviceProperties(self, index: int) -> dict[str, Any]:
        return NVIDIA

    def memcpyAsync(self, target: int, source: int, nbytes: int, kind: int, stream: int) -> None:
        assert kind in (1, 2)
        assert stream == 7
        FFI_MEMORY.memmove(FFI_MEMORY.cast("char*", target), FFI_MEMORY.cast("char*", source), nbytes)

    def memsetAsync(self, target: int, value: int, nbytes: int, stream: int) -> None:
        assert stream == 7
        FFI_MEMORY.buffer(FFI_MEMORY.cast("char*", target), nbytes)[:] = bytes([value]) * nbytes


class Device:
    """cupy.cuda.Device."""

    def __init__(self, index: int) -> None:
        self.index = index

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@contextmanager
def mocked_device() -> Iterator[tuple[core.Device, CupyDriver]]:
    """`mocked:0`, whose driver calls the mock that is installed; work is forced to it."""
    device = core.Device("mocked", 0, "mock of CuPy", "mocked:0")
    driver = CupyDriver(0, EmulatorDriver().properties, CUDA_OPTIONS)
    backend = GpuBackend([(device, driver)], library_kernels)
    REGISTRY.entries()
    REGISTRY.register(BackendManifest("mocked", lambda: backend, ("mocked",), priority=-50, own_memory=True), "tests")
    try:
        with px.use_device("mocked", fallback="error"):
            yield device, driver
    finally:
        REGISTRY.unregister("mocked")


def install(monkeypatch: Any, **facts: Any) -> ModuleType:
    """`import cupy` gives a mock, whose `compiled` lists what its compiler was asked for."""
    cupy, compiled = ModuleType("cupy"), list[tuple[str, tuple[str, ...]]]()

    def compile_using_nvrtc(source: str, options: tuple[str, ...], filename: str) -> tuple[bytes, None]:
        compiled.append((source, options))
        if "nonsense" in source:
            raise CompileException("nonsense is not declared")
        return source.encode(), None

    cupy.compiled = compiled
    cupy.ndarray, cupy.matmul, cupy.fft = ndarray, np.matmul, np.fft
    cupy.cuda = SimpleNamespace(
        runtime=Runtime(**facts),
        driver=SimpleNamespace(CUDADriverError=StatusError),
        compiler=SimpleNamespace(compile_using_nvrtc=compile_using_nvrtc, CompileException=CompileException),
        Device=Device,
        Memory=Memory,
        MemoryPointer=lambda memory, offset: memory.ptr + offset,
        Module=Module,
        Stream=Stream,
    )
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    return cupy
