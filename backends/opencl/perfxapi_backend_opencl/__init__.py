"""The OpenCL backend of PerfXAPI: every device of every OpenCL runtime on the machine."""

from __future__ import annotations

from collections.abc import Callable

from perfxapi.backend import Backend, BackendManifest
from perfxapi.hookspecs import hookimpl


def load() -> Backend:
    """Finds the devices. Raises DeviceUnavailableError where there is none."""
    from perfxapi_backend_opencl.backend import OpenCLBackend

    return OpenCLBackend()


@hookimpl
def register_backends(register: Callable[[BackendManifest], None]) -> None:
    """Registers `opencl`."""
    register(
        BackendManifest(
            "opencl",
            load,
            ("opencl",),
            priority=50,
            own_memory=True,
            probe="perfxapi_backend_opencl.probe:probe",
            probe_seconds=30,
            mend="pip install 'perfxapi-backend-opencl[cpu]'",
        )
    )
