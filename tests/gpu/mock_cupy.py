"""A mock of the few names of CuPy that drivers use, on the emulator: what it proves is how CuPy is called."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from cffi import FFI

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


class Stream:
    """cupy.cuda.Stream."""

    def __init__(self, non_blocking: bool = False) -> None:
        assert non_blocking, "the default stream waits for all others"
        self.ptr = 7

    def synchronize(self) -> None:
        pass


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
            driver.enqueue(driver.bind(kernel, grid, block, [argument.tobytes() for argument in arguments]))

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


def install(monkeypatch: Any, **facts: Any) -> ModuleType:
    """`import cupy` gives a mock, whose `compiled` lists what its compiler was asked for."""
    cupy, compiled = ModuleType("cupy"), list[tuple[str, tuple[str, ...]]]()

    def compile_using_nvrtc(source: str, options: tuple[str, ...], filename: str) -> tuple[bytes, None]:
        compiled.append((source, options))
        if "nonsense" in source:
            raise CompileException("nonsense is not declared")
        return source.encode(), None

    cupy.compiled = compiled
    cupy.cuda = SimpleNamespace(
        runtime=Runtime(**facts),
        driver=SimpleNamespace(CUDADriverError=StatusError),
        compiler=SimpleNamespace(compile_using_nvrtc=compile_using_nvrtc, CompileException=CompileException),
        Device=Device,
        Memory=Memory,
        Module=Module,
        Stream=Stream,
    )
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    return cupy
