"""CUDA and HIP through CuPy, which has one interface for both: memory, compiling, launching.

Not CuPy's own RawModule: that flushes subnormal numbers to zero, which kernels must not do.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt

from perfxapi.errors import DeviceLostError, KernelError, OutOfMemoryError
from perfxapi.settings import cache_folder
from perfxapi_gpu_kernels.driver import Bytes, Properties, Region, Size

P = ParamSpec("P")
T = TypeVar("T")

CUDA_OPTIONS = ("--std=c++17", "--fmad=false", "--diag-suppress=177")
"""Kernels say themselves what is fused; 177 is about functions of the dialect that a program does not use."""
HIP_OPTIONS = ("-std=c++17", "-O3", "-ffp-contract=off", "-Wno-tautological-compare", "-Wno-cuda-compat")

_OUT_OF_MEMORY = 2
_LOST = frozenset({46, 100, 101, 214, 219, 220, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 999})
"""Statuses after which a context is of no use (CUDA's driver_types.h; those of HIP are the same numbers): the device is
not there or not available, an uncorrectable memory error, and what a kernel did that ended it.
"""


def _translated(
    method: Callable[Concatenate[CupyDriver, P], T],
) -> Callable[Concatenate[CupyDriver, P], T]:
    """The method on the driver's device, with the errors of CUDA and HIP as ours."""

    @wraps(method)
    def call(self: CupyDriver, /, *args: P.args, **kwargs: P.kwargs) -> T:
        cuda = self.cuda
        try:
            cuda.runtime.setDevice(self.index)
            return method(self, *args, **kwargs)
        except (cuda.runtime.CUDARuntimeError, cuda.driver.CUDADriverError) as error:
            message = f"{self.properties.identity}: {error}"
            if error.status == _OUT_OF_MEMORY:
                raise OutOfMemoryError(message) from error
            raise (DeviceLostError if error.status in _LOST else KernelError)(message) from error

    return call


class CupyLaunch(NamedTuple):
    """A kernel with its sizes and arguments, each an array of one element that is passed by value. `kept` is the memory
    that they point to.
    """

    function: Any
    groups: Size
    local: Size
    arguments: list[npt.NDArray[Any]]
    kept: list[Any]


class CupyGraph(NamedTuple):
    """What a stream has captured, and the launches that it was, whose memory it names."""

    graph: Any
    launches: Sequence[CupyLaunch]


class CupyDriver:
    """One device of CUDA or HIP, with a stream of its own. `options` are those of its compiler.

    Launches are captured as graphs where CuPy and the runtime can (CuPy for ROCm does not); where an attempt fails, no
    other is made.
    """

    def __init__(self, index: int, properties: Properties, options: Sequence[str]) -> None:
        import cupy

        self.index, self.properties, self.options, self.cuda = index, properties, tuple(options), cupy.cuda
        with cupy.cuda.Device(index):
            self.stream = cupy.cuda.Stream(non_blocking=True)
        self._no_graphs = "CuPy captures no graphs on ROCm" if cupy.cuda.runtime.is_hip else ""

    @_translated
    def allocate(self, nbytes: int) -> Any:
        """Memory of the device alone. Raises OutOfMemoryError."""
        return self.cuda.Memory(max(nbytes, 1))

    @_translated
    def zeros(self, nbytes: int) -> Any:
        """Filled by the device."""
        memory = self.cuda.Memory(max(nbytes, 1))
        self.cuda.runtime.memsetAsync(memory.ptr, 0, max(nbytes, 1), self.stream.ptr)
        return memory

    @_translated
    def free(self, memory: Any) -> None:
        """Waits for the work that uses the memory, which goes with the last reference to it."""
        self.stream.synchronize()

    @_translated
    def read(self, region: Region, out: Bytes) -> None:
        """Waits for the work before it."""
        runtime, source = self.cuda.runtime, region.memory.ptr + region.offset
        runtime.memcpyAsync(_address(out), source, out.nbytes, runtime.memcpyDeviceToHost, self.stream.ptr)
        self.stream.synchronize()

    @_translated
    def write(self, region: Region, data: Bytes) -> None:
        """Waits until the bytes are taken."""
        runtime, target = self.cuda.runtime, region.memory.ptr + region.offset
        runtime.memcpyAsync(target, _address(data), data.nbytes, runtime.memcpyHostToDevice, self.stream.ptr)
        self.stream.synchronize()

    @_translated
    def compile(self, source: str, entries: Sequence[str]) -> dict[str, Any]:
        """Loads the machine code of a program, compiled now or earlier. Raises KernelError."""
        module = self.cuda.Module()
        module.load(self._machine_code(source))
        return {entry: module.get_function(entry) for entry in entries}

    def num_arguments(self, function: object) -> None:
        """CuPy does not tell."""

    def _machine_code(self, source: str) -> bytes:
        key = "\0".join((source, self.properties.identity, *self.options))
        path = cache_folder() / "programs" / f"{hashlib.sha256(key.encode()).hexdigest()}.bin"
        if path.exists():
            return path.read_bytes()
        compiler = self.cuda.compiler
        try:
            code, _ = compiler.compile_using_nvrtc(source, self.options, filename="program.cu")
        except compiler.CompileException as error:
            raise KernelError(f"{self.properties.identity}: the program does not compile: {error}") from error
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(code)
        os.replace(file.name, path)  # another process sees all of it or nothing
        return bytes(code)

    def bind(self, function: Any, groups: Size, local: Size, arguments: Sequence[Any]) -> CupyLaunch:
        """Arguments as arrays of one element."""
        given: list[npt.NDArray[Any]] = []
        for argument in arguments:
            if isinstance(argument, Region):
                given += [np.array([argument.memory.ptr], np.uint64), np.array([argument.offset], np.int64)]
            elif isinstance(argument, bytes):
                given.append(np.frombuffer(argument, np.dtype((np.void, len(argument)))))
            else:
                given.append(np.array([argument]))
        kept = [argument.memory for argument in arguments if isinstance(argument, Region)]
        return CupyLaunch(function, groups, local, given, kept)

    @_translated
    def enqueue(self, bound: CupyLaunch | CupyGraph) -> None:
        """Adds the kernel, or all those of a graph, to the stream."""
        if isinstance(bound, CupyGraph):
            bound.graph.launch(stream=self.stream)
        else:
            self._launch(bound)

    def _launch(self, bound: CupyLaunch) -> None:
        bound.function(bound.groups, bound.local, bound.arguments, stream=self.stream)

    @_translated
    def record(self, bound: Sequence[CupyLaunch]) -> CupyGraph | None:
        """The launches captured as a graph."""
        if self._no_graphs:
            return None
        try:
            return CupyGraph(self._captured(bound), bound)
        except Exception as error:  # of whatever kind: the launches can be made one by one, and then say what is wrong
            self._no_graphs = f"no graph could be captured ({error})"
            return None

    def _captured(self, bound: Sequence[CupyLaunch]) -> Any:
        self.stream.begin_capture()
        try:
            for launch in bound:
                self._launch(launch)
        finally:  # a stream that captures can do nothing else
            graph = self.stream.end_capture()
        return graph

    def recording(self) -> str:
        """Graphs, or why there are none."""
        return self._no_graphs or "what is repeated is captured as a graph"

    @_translated
    def call(self, function: Callable[[], None]) -> None:
        """Calls what works by CuPy's own functions, which then use the stream."""
        with self.stream:
            function()

    @_translated
    def finish(self) -> None:
        """Waits for the stream."""
        self.stream.synchronize()


def _address(data: Bytes) -> int:
    return int(data.__array_interface__["data"][0])
