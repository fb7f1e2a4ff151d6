"""The CPU backend of PerfXAPI: native kernels for x86-64 (AVX2, AVX-512), Arm (NEON) and, scalar, for any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from perfxapi.backend import Backend, BackendManifest
from perfxapi.hookspecs import hookimpl


def load() -> Backend:
    """Opens the native library and makes the backend; the variant is the best one, or PERFXAPI_CPU_VARIANT."""
    from perfxapi.native import NativeLibrary
    from perfxapi.settings import settings
    from perfxapi_backend_cpu.backend import CpuBackend
    from perfxapi_backend_cpu.processor import processor_name

    library = NativeLibrary(Path(__file__).with_name("_native.so"), settings().cpu_variant)
    return CpuBackend(library, processor_name())


@hookimpl
def register_backends(register: Callable[[BackendManifest], None]) -> None:
    """Registers `cpu`."""
    register(BackendManifest("cpu", load, ("cpu",), priority=100))
