"""The emulator as a driver: programs become shared libraries, launches are calls that end when all threads have."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from cffi import FFI

from perfxapi.custom.compiler import compile_library
from perfxapi.errors import CompileError, KernelError
from perfxapi.settings import settings
from perfxapi_gpu_kernels.driver import Bytes, Properties, Region, Size

_FOLDER = Path(__file__).parent
_ALIGNMENT = 256  # of what cudaMalloc gives
_SLOT = 16
_POISON = 0xFF
"""Fresh memory holds it: NaN in each floating dtype, -1 in the others."""
_FLAGS = ("-O1", "-w", "-fsanitize=alignment,bounds,shift-exponent")
_SIGNATURE = "const char* launch_{}(const unsigned* sizes, void** values, const unsigned long* widths, int count);"


class EmulatedKernel(NamedTuple):
    """The function that launches a kernel, and what keeps its library open."""

    ffi: Any
    library: Any
    entry: str


class EmulatedLaunch(NamedTuple):
    """A kernel with its arguments: pointers to them, their sizes in bytes, and the memory of all that they refer to."""

    kernel: EmulatedKernel
    sizes: Any
    values: Any
    widths: Any
    kept: tuple[Any, ...]


class EmulatorDriver:
    """One emulated GPU with the features that the least of the supported ones has, and dot products of bytes."""

    def __init__(self) -> None:
        self.properties = Properties(
            dialect="cuda",
            identity="emulator",
            compute_units=2,
            local_memory=48 << 10,
            max_group_size=1024,
            has_double=True,
            has_subgroups=True,
            has_dot4=True,
            shares_host_memory=True,
        )

    def allocate(self, nbytes: int) -> Bytes:
        """Poisoned host memory, aligned as on a GPU."""
        whole = np.full(nbytes + _ALIGNMENT, _POISON, np.uint8)
        first = -_address(whole) % _ALIGNMENT
        return whole[first : first + nbytes]

    def zeros(self, nbytes: int) -> Bytes:
        """The same without the poison."""
        memory = self.allocate(nbytes)
        memory.fill(0)
        return memory

    def free(self, memory: Bytes) -> None:
        """Poisons what is given back."""
        memory.fill(_POISON)

    def read(self, region: Region, out: Bytes) -> None:
        """Copies."""
        out[:] = region.memory[region.offset : region.offset + out.nbytes]

    def write(self, region: Region, data: Bytes) -> None:
        """Copies."""
        region.memory[region.offset : region.offset + data.nbytes] = data

    def compile(self, source: str, entries: Sequence[str]) -> dict[str, EmulatedKernel]:
        """The kernels of a program, compiled or taken from the folder of compiled kernels."""
        try:
            flags = (*_FLAGS, _machine(settings().kernel_folder))
            path = compile_library("emulated", program_text(source, entries), "c++", flags)
        except CompileError as error:
            raise KernelError(f"emulator: {error}\n{error.output}") from error
        ffi = FFI()
        ffi.cdef("\n".join(_SIGNATURE.format(entry) for entry in entries))
        library = ffi.dlopen(str(path))
        return {entry: EmulatedKernel(ffi, library, entry) for entry in entries}

    def num_arguments(self, function: object) -> None:
        """Not known: the compiler checks calls by itself."""

    def bind(self, function: EmulatedKernel, groups: Size, local: Size, arguments: Sequence[Any]) -> EmulatedLaunch:
        """Arguments side by side in memory of their own."""
        ffi, parts, memories = function.ffi, list[bytes](), list[Any]()
        for argument in arguments:
            if isinstance(argument, Region):
                parts += [np.uint64(_address(argument.memory)).tobytes(), np.int64(argument.offset).tobytes()]
                memories.append(argument.memory)
            else:
                parts.append(argument if isinstance(argument, bytes) else argument.tobytes())
        starts = np.cumsum([0, *(-(-len(part) // _SLOT) * _SLOT for part in parts)])
        block = ffi.new("char[]", int(starts[-1]) + _SLOT)
        first = -int(ffi.cast("uintptr_t", block)) % _SLOT
        pointers = [block + first + int(start) for start in starts[:-1]]
        for pointer, part in zip(pointers, parts, strict=True):
            ffi.memmove(pointer, part, len(part))
        widths = ffi.new("unsigned long[]", [len(part) for part in parts])
        sizes = ffi.new("unsigned[6]", [*groups, *local])
        return EmulatedLaunch(function, sizes, ffi.new("void*[]", pointers), widths, (block, *memories))

    def enqueue(self, bound: EmulatedLaunch) -> None:
        """Runs it to its end. Raises KernelError where the kernel does what is an error on some GPU."""
        ffi, library, entry = bound.kernel
        said = getattr(library, f"launch_{entry}")(bound.sizes, bound.values, bound.widths, len(bound.widths))
        if said != ffi.NULL:
            raise KernelError(f"emulator: {entry}: {ffi.string(said).decode()}")

    def record(self, bound: Sequence[EmulatedLaunch]) -> None:
        """Nothing: see `recording`."""

    def recording(self) -> str:
        """Why nothing is recorded."""
        return "the emulator runs a kernel when it is enqueued"

    def finish(self) -> None:
        """Nothing is ever pending."""


def _address(memory: Bytes) -> int:
    return int(memory.__array_interface__["data"][0])


def program_text(source: str, entries: Sequence[str]) -> str:
    """What is compiled for a program in CUDA C++: what stands for CUDA's compiler, the program, its launchers."""
    launchers = "".join(f"MACHINE_ENTRY({entry})\n" for entry in entries)
    return f"{(_FOLDER / 'machine.h').read_text()}{source}\n{launchers}"


@cache
def _machine(folder: str) -> str:
    """The path of the library that all programs share, compiled now if it is not among the compiled kernels."""
    header = hashlib.sha256((_FOLDER / "machine.h").read_bytes()).hexdigest()[:16]
    flags = ("-O1", "-U_FORTIFY_SOURCE", f'-DHEADER="{header}"')
    return str(compile_library("emulated_machine", _FOLDER / "machine.cpp", "c++", flags))
