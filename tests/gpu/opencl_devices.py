"""The OpenCL devices of this machine: what tests of kernels run on, one by one."""

from __future__ import annotations

import pytest

import perfxapi as px

DEVICES = [str(device) for device in px.all_devices() if device.kind == "opencl"]
on_each_device = pytest.mark.parametrize(
    "device", DEVICES or [pytest.param("opencl:0", marks=pytest.mark.skip(reason="there is no OpenCL runtime here"))]
)
