"""The emulator as a backend. No distribution registers it: tests do."""

from __future__ import annotations

from perfxapi.device import Device
from perfxapi_gpu_kernels.backend import GpuBackend
from perfxapi_gpu_kernels.emulator.driver import EmulatorDriver


class EmulatorBackend(GpuBackend):
    """`emulator:0`."""

    name = "emulator"

    def __init__(self) -> None:
        device = Device("emulator", 0, "CUDA emulated on this processor, one thread after another", "emulator:0")
        super().__init__([(device, EmulatorDriver())])
