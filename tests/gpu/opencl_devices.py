"""The OpenCL devices of this machine: what tests of kernels run on, one by one."""

from __future__ import annotations

import pytest

import perfxapi as px
from perfxapi.backend import REGISTRY
from perfxapi_gpu_kernels import GpuBackend
from perfxapi_gpu_kernels.runtime import Runtime

DEVICES = [str(device) for device in px.all_devices() if device.kind == "opencl"]
needs_opencl = pytest.mark.skipif(not DEVICES, reason="there is no OpenCL runtime here")
EACH_DEVICE = DEVICES or [pytest.param("opencl:0", marks=needs_opencl)]
"""As parameters of tests and fixtures."""
on_each_device = pytest.mark.parametrize("device", EACH_DEVICE)


def runtime_of(device: str) -> Runtime:
    """The runtime of a device."""
    found = px.get_device(device)
    backend = REGISTRY.of_device(found).backend
    assert isinstance(backend, GpuBackend)
    return backend.runtimes[found]
