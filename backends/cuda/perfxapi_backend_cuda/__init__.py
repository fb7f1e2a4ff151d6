"""The CUDA backend of PerfXAPI: every NVIDIA GPU of the machine, through CuPy."""

from __future__ import annotations

from collections.abc import Callable

from perfxapi.backend import Backend, BackendManifest
from perfxapi.hookspecs import hookimpl


def load() -> Backend:
    """Finds the devices. Raises DeviceUnavailableError where there is none."""
    from perfxapi_backend_cuda.backend import CudaBackend

    return CudaBackend()


@hookimpl
def register_backends(register: Callable[[BackendManifest], None]) -> None:
    """Registers `cuda`."""
    register(
        BackendManifest(
            "cuda",
            load,
            ("cuda",),
            priority=70,
            own_memory=True,
            probe="perfxapi_backend_cuda.probe:probe",
            probe_seconds=30,
            mend="pip install 'perfxapi-backend-cuda[cuda12]' (cuda13 with a driver of 580 or later)",
        )
    )
