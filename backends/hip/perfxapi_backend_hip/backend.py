"""The HIP backend: the GPUs in HIP's order."""

from __future__ import annotations

from typing import Any

from perfxapi.device import Device
from perfxapi_gpu_kernels import GpuBackend, Properties
from perfxapi_gpu_kernels.cupy_devices import facts_of_devices
from perfxapi_gpu_kernels.cupy_driver import HIP_OPTIONS, CupyDriver

_HAVE_DOT4 = ("gfx906", "gfx908", "gfx90a", "gfx94", "gfx95", "gfx1011", "gfx1012", "gfx103", "gfx11", "gfx12")
"""Beginnings of the names of the processors with v_dot4 (LLVM's AMDGPU guide, features dot1-insts and dot8-insts)."""


class HipBackend(GpuBackend):
    """`hip:0`, `hip:1` ..."""

    name = "hip"

    def __init__(self) -> None:
        drivers = (CupyDriver(index, properties_of(facts), HIP_OPTIONS) for index, facts in facts_of_devices())
        super().__init__([(self._device(driver), driver) for driver in drivers])

    @staticmethod
    def _device(driver: CupyDriver) -> Device:
        return Device("hip", driver.index, driver.properties.identity, f"hip:{driver.index}")


def properties_of(facts: dict[str, Any]) -> Properties:
    """What kernels want to know, from hipDeviceProp as CuPy gives it."""
    processor = facts["gcnArchName"].decode().partition(":")[0]
    return Properties(
        dialect="hip",
        identity=f"{facts['name'].decode()} ({processor})",
        compute_units=facts["multiProcessorCount"],
        subgroup_size=facts["warpSize"],
        local_memory=facts["sharedMemPerBlock"],
        max_group_size=facts["maxThreadsPerBlock"],
        has_double=True,
        has_subgroups=True,
        has_half=True,
        has_dot4=processor.startswith(_HAVE_DOT4),
        shares_host_memory=bool(facts["integrated"]),
    )
