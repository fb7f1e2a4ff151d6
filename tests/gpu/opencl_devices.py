"""The OpenCL devices of this machine: what tests of kernels run on, one by one."""

from __future__ import annotations

import pytest

import perfxapi as px
from perfxapi.backend import REGISTRY
from perfxapi_gpu_kernels import GpuBackend
from perfxapi_gpu_kernels.runtime import Runtime

DEVICES = [str(device) for device in px.all_devices() if device.kind == "opencl"]
on_each_device = pytest.mark.parametrize(
    "device", DEVICES or [pytest.param("opencl:0", marks=pytest.mark.skip(reason="there is no OpenCL runtime here"))]
)


def runtime_of(device: str) -> Runtime:
    """The runtime of a device."""
    found = px.get_device(device)
    backend = REGISTRY.of_device(found).backend
    assert isinstance(backend, GpuBackend)
    return backend.runtimes[found]
