"""`riscv:0`: the processor, with the kernels for its vector length."""

from __future__ import annotations

import platform
from pathlib import Path

from perfxapi.errors import DeviceUnavailableError
from perfxapi.native import NativeBackend, NativeLibrary

LIBRARY = Path(__file__).with_name("_native.so")


def riscv_backend(variant: str = "") -> NativeBackend:
    """The backend with one variant of the kernels; empty: the best that the machine runs.

    Raises DeviceUnavailableError on other processors, UnknownNameError for a variant that the machine cannot run.
    """
    machine = platform.machine()
    if machine != "riscv64":
        raise DeviceUnavailableError(f"perfxapi-backend-riscv has kernels for riscv64; this machine is {machine}")
    library = NativeLibrary(LIBRARY, variant, "PERFXAPI_RISCV_VARIANT")
    return NativeBackend("riscv", library, description_of(vector_bits(library)))


def vector_bits(library: NativeLibrary) -> int:
    """Bits of a vector register, 0 for a processor without the vector extension 1.0."""
    import cffi

    ffi = cffi.FFI()
    ffi.cdef("int32_t perfx_riscv_vector_bits(void);")
    return int(ffi.dlopen(library.path).perfx_riscv_vector_bits())


def description_of(bits: int) -> str:
    """What the device is called, as `RISC-V, vectors of 256 bits`."""
    return f"RISC-V, vectors of {bits} bits" if bits else "RISC-V without vectors"
