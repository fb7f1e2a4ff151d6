"""The devices that CuPy finds, or why it finds none. A CuPy is built for CUDA or for ROCm."""

from __future__ import annotations

from typing import Any

from perfxapi.errors import DeviceUnavailableError

_BUILDS = {False: "CUDA", True: "ROCm"}


def problem_with(*, is_hip: bool) -> str | None:
    """Why there is no device of HIP, or of CUDA; None where there is one."""
    try:
        import cupy
    except ImportError as error:
        return f"CuPy cannot be imported ({error})"
    runtime = cupy.cuda.runtime
    if runtime.is_hip != is_hip:
        return f"the CuPy that is installed was built for {_BUILDS[runtime.is_hip]}, not for {_BUILDS[is_hip]}"
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        return f"there is no device ({error})"
    return None if count else f"{_BUILDS[is_hip]} finds no device on this machine"


def facts_of_devices() -> list[tuple[int, dict[str, Any]]]:
    """Each device's number, and its properties by the names that the API gives them.

    Raises DeviceUnavailableError.
    """
    import cupy

    runtime = cupy.cuda.runtime
    try:
        return [(index, runtime.getDeviceProperties(index)) for index in range(runtime.getDeviceCount())]
    except runtime.CUDARuntimeError as error:
        raise DeviceUnavailableError(f"{_BUILDS[runtime.is_hip]} does not answer ({error})") from error
