"""The RISC-V backend of PerfXAPI: native kernels for the vector extension at any vector length, and for RV64GC."""

from __future__ import annotations

from collections.abc import Callable

from perfxapi.backend import Backend, BackendManifest
from perfxapi.hookspecs import hookimpl


def load() -> Backend:
    """Opens the native library and makes the backend; the variant is the best one, or PERFXAPI_RISCV_VARIANT.

    Raises DeviceUnavailableError on other processors.
    """
    from perfxapi.settings import settings
    from perfxapi_backend_riscv.backend import riscv_backend

    return riscv_backend(settings().riscv_variant)


@hookimpl
def register_backends(register: Callable[[BackendManifest], None]) -> None:
    """Registers `riscv`, before the portable kernels of `cpu`."""
    register(BackendManifest("riscv", load, ("riscv",), priority=110))
