"""OpenCL through pyopencl: memory, programs, launches. A device has one queue, in order."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import pyopencl as cl

from perfxapi.allocator import untouched_zeros
from perfxapi.errors import DeviceLostError, KernelError, OutOfMemoryError
from perfxapi_gpu_kernels import Bytes, Properties, Region, Size

P = ParamSpec("P")
T = TypeVar("T")

_OUT_OF_MEMORY = {cl.status_code.MEM_OBJECT_ALLOCATION_FAILURE, cl.status_code.INVALID_BUFFER_SIZE}
_LOST = {
    cl.status_code.DEVICE_NOT_AVAILABLE,
    cl.status_code.OUT_OF_RESOURCES,
    cl.status_code.OUT_OF_HOST_MEMORY,
    cl.status_code.INVALID_COMMAND_QUEUE,
    cl.status_code.INVALID_CONTEXT,
    cl.status_code.INVALID_DEVICE,
}
_OPTIONS = ["-cl-std=CL1.2", "-cl-fp32-correctly-rounded-divide-sqrt"]


def _translated(method: Callable[P, T]) -> Callable[P, T]:
    """The method with OpenCL's errors as ours."""

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(*args, **kwargs)
        except cl.MemoryError as error:
            raise OutOfMemoryError(f"OpenCL device: {error}") from error
        except cl.Error as error:
            code = getattr(error, "code", None)
            if code in _OUT_OF_MEMORY:
                raise OutOfMemoryError(f"OpenCL device: {error}") from error
            if code in _LOST:
                raise DeviceLostError(f"OpenCL device: {error}") from error
            raise KernelError(f"OpenCL: {error}") from error

    return call


class OpenCLFunction:
    """A kernel of a program. Its objects, which pyopencl makes slowly, are used again once they are spare: what was
    enqueued has its arguments.
    """

    __slots__ = ("name", "program", "spare")

    def __init__(self, program: cl.Program, name: str) -> None:
        self.program, self.name, self.spare = program, name, list[cl.Kernel]()

    def take(self) -> cl.Kernel:
        """An object that nobody else sets arguments of."""
        try:
            return self.spare.pop()
        except IndexError:
            return cl.Kernel(self.program, self.name)


class OpenCLBound:
    """A kernel of its own with its arguments set, and its sizes. `kept` is the memory that the arguments name."""

    __slots__ = ("function", "global_size", "kept", "kernel", "local_size")

    def __init__(
        self, function: OpenCLFunction, kernel: cl.Kernel, global_size: Size, local_size: Size, kept: list[cl.Buffer]
    ) -> None:
        self.function, self.kernel, self.kept = function, kernel, kept
        self.global_size, self.local_size = global_size, local_size

    def __del__(self) -> None:
        self.function.spare.append(self.kernel)


class OpenCLDriver:
    """One OpenCL device."""

    def __init__(self, device: cl.Device) -> None:
        self.device = device
        self.context = cl.Context([device])
        self.queue = cl.CommandQueue(self.context)
        self.properties = properties_of(device)

    @_translated
    def allocate(self, nbytes: int) -> cl.Buffer:
        """A buffer. Raises OutOfMemoryError."""
        if nbytes > self.device.max_mem_alloc_size:
            most = self.device.max_mem_alloc_size
            raise OutOfMemoryError(f"{self.device.name}: cannot allocate {nbytes} bytes at once; at most {most}")
        return cl.Buffer(self.context, cl.mem_flags.READ_WRITE, max(nbytes, 1))

    @_translated
    def zeros(self, nbytes: int) -> cl.Buffer:
        """A buffer of zeros, filled by the device; on a processor, pages that cost memory when they are written."""
        if self.properties.is_processor and self.properties.shares_host_memory:
            flags = cl.mem_flags.READ_WRITE | cl.mem_flags.USE_HOST_PTR
            return cl.Buffer(self.context, flags, hostbuf=untouched_zeros(max(nbytes, 1)))
        buffer = self.allocate(nbytes)
        cl.enqueue_fill_buffer(self.queue, buffer, np.zeros(1, np.uint8), 0, max(nbytes, 1))
        return buffer

    def free(self, memory: cl.Buffer) -> None:
        """Releases the buffer once no work uses it."""
        memory.release()

    @_translated
    def read(self, region: Region, out: Bytes) -> None:
        """Waits for the work before it."""
        cl.enqueue_copy(self.queue, out, region.memory, src_offset=region.offset, is_blocking=True)

    @_translated
    def write(self, region: Region, data: Bytes) -> None:
        """Waits until the bytes are taken."""
        cl.enqueue_copy(self.queue, region.memory, data, dst_offset=region.offset, is_blocking=True)

    @_translated
    def compile(self, source: str, entries: Sequence[str]) -> dict[str, Any]:
        """Builds a program. Raises KernelError with the build log."""
        program = cl.Program(self.context, source)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", cl.CompilerWarning)  # compilers of runtimes remark on much
                built = program.build(_OPTIONS)
        except cl.RuntimeError as error:
            raise KernelError(f"OpenCL: the program does not build: {error}") from error
        missing = set(entries) - set(built.kernel_names.split(";"))
        if missing:
            raise KernelError(
                f"OpenCL: the program has no kernel {', '.join(sorted(missing))}; it has {built.kernel_names}"
            )
        return {entry: OpenCLFunction(built, entry) for entry in entries}

    @_translated
    def num_arguments(self, function: OpenCLFunction) -> int:
        """As the program declares them."""
        return int(cl.Kernel(function.program, function.name).num_args)

    @_translated
    def bind(self, function: OpenCLFunction, groups: Size, local: Size, arguments: Sequence[Any]) -> OpenCLBound:
        """A kernel object with its arguments set."""
        kernel = function.take()
        index = 0
        for argument in arguments:
            if isinstance(argument, Region):
                kernel.set_arg(index, argument.memory)
                kernel.set_arg(index + 1, np.int64(argument.offset))
                index += 2
            else:
                kernel.set_arg(index, argument)
                index += 1
        width, height, depth = (count * size for count, size in zip(groups, local, strict=True))
        kept = [argument.memory for argument in arguments if isinstance(argument, Region)]
        return OpenCLBound(function, kernel, (width, height, depth), local, kept)

    @_translated
    def enqueue(self, bound: OpenCLBound) -> None:
        """Adds the kernel to the queue."""
        cl.enqueue_nd_range_kernel(self.queue, bound.kernel, bound.global_size, bound.local_size)

    def record(self, bound: Sequence[OpenCLBound]) -> None:
        """Nothing: see `recording`."""

    def recording(self) -> str:
        """Why there are no command buffers."""
        return "pyopencl has no command buffers"

    @_translated
    def finish(self) -> None:
        """Waits for the queue."""
        self.queue.finish()


def properties_of(device: cl.Device) -> Properties:
    """What kernels want to know of a device."""
    extensions = set(device.extensions.split())
    return Properties(
        dialect="opencl",
        identity=f"{device.platform.name} {device.platform.version} {device.name} {device.driver_version}",
        is_processor=bool(device.type & cl.device_type.CPU),
        compute_units=device.max_compute_units,
        subgroup_size=16 if device.type & cl.device_type.CPU else 32,
        local_memory=device.local_mem_size,
        max_group_size=device.max_work_group_size,
        has_double="cl_khr_fp64" in extensions,
        has_half="cl_khr_fp16" in extensions,
        has_dot4="cl_khr_integer_dot_product" in extensions,
        shares_host_memory=bool(device.host_unified_memory),
    )
