"""The HIP backend of PerfXAPI: every AMD GPU of the machine, through CuPy built for ROCm."""

from __future__ import annotations

from collections.abc import Callable

from perfxapi.backend import Backend, BackendManifest
from perfxapi.hookspecs import hookimpl


def load() -> Backend:
    """Finds the devices. Raises DeviceUnavailableError where there is none."""
    from perfxapi_backend_hip.backend import HipBackend

    return HipBackend()


@hookimpl
def register_backends(register: Callable[[BackendManifest], None]) -> None:
    """Registers `hip`."""
    register(
        BackendManifest(
            "hip",
            load,
            ("hip",),
            priority=70,
            own_memory=True,
            probe="perfxapi_backend_hip.probe:probe",
            probe_seconds=30,
            mend="pip install 'perfxapi-backend-hip[rocm7]', beside ROCm 7",
        )
    )
