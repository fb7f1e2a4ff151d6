"""Whether OpenCL can be used here: asked once, in a child process, so that a broken driver hurts nobody."""

from __future__ import annotations


def probe() -> str | None:
    """None, or why not."""
    from perfxapi_backend_opencl.runtimes import find_runtimes

    find_runtimes()
    try:
        import pyopencl
    except ImportError as error:
        return f"pyopencl cannot be imported ({error})"
    try:
        platforms = pyopencl.get_platforms()
    except pyopencl.Error as error:
        return f"there is no OpenCL runtime on this machine ({error})"
    if not any(platform.get_devices() for platform in platforms):
        return "no OpenCL runtime on this machine has a device"
    return None
