"""The OpenCL backend: every device of every runtime, those of GPUs first."""

from __future__ import annotations

from perfxapi.device import Device
from perfxapi.errors import DeviceUnavailableError
from perfxapi_backend_opencl.runtimes import find_runtimes
from perfxapi_gpu_kernels import GpuBackend

find_runtimes()

import pyopencl as cl  # noqa: E402  the runtimes must be known first

from perfxapi_backend_opencl.driver import OpenCLDriver  # noqa: E402


class OpenCLBackend(GpuBackend):
    """`opencl:0`, `opencl:1` ... as the loader lists them, GPUs and accelerators before processors."""

    name = "opencl"

    def __init__(self) -> None:
        try:
            found = [device for platform in cl.get_platforms() for device in platform.get_devices()]
        except cl.Error as error:
            raise DeviceUnavailableError(f"no OpenCL runtime answers ({error})") from error
        found.sort(key=lambda device: bool(device.type & cl.device_type.CPU))
        super().__init__([(self._device(index, device), OpenCLDriver(device)) for index, device in enumerate(found)])

    @staticmethod
    def _device(index: int, device: cl.Device) -> Device:
        description = f"{device.name.strip()} ({device.platform.name.strip()})"
        return Device("opencl", index, description, f"opencl:{index}")
