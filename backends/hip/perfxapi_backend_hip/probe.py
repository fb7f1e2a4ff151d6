"""Whether HIP can be used here: asked once, in a child process, so that a broken driver hurts nobody."""

from __future__ import annotations

from perfxapi_gpu_kernels.cupy_devices import problem_with


def probe() -> str | None:
    """None, or why not."""
    return problem_with(is_hip=True)
