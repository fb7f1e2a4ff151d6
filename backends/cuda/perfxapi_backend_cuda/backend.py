"""The CUDA backend: the GPUs in CUDA's order."""

from __future__ import annotations

from typing import Any

from perfxapi.device import Device
from perfxapi_gpu_kernels import GpuBackend, Properties
from perfxapi_gpu_kernels.cupy_devices import facts_of_devices
from perfxapi_gpu_kernels.cupy_driver import CUDA_OPTIONS, CupyDriver


class CudaBackend(GpuBackend):
    """`cuda:0`, `cuda:1` ..."""

    name = "cuda"

    def __init__(self) -> None:
        drivers = (CupyDriver(index, properties_of(facts), CUDA_OPTIONS) for index, facts in facts_of_devices())
        super().__init__([(self._device(driver), driver) for driver in drivers])

    @staticmethod
    def _device(driver: CupyDriver) -> Device:
        return Device("cuda", driver.index, driver.properties.identity, f"cuda:{driver.index}")


def properties_of(facts: dict[str, Any]) -> Properties:
    """What kernels want to know, from cudaDeviceProp as CuPy gives it."""
    capability = (facts["major"], facts["minor"])
    return Properties(
        dialect="cuda",
        identity=f"{facts['name'].decode()} (compute capability {capability[0]}.{capability[1]})",
        compute_units=facts["multiProcessorCount"],
        subgroup_size=facts["warpSize"],
        local_memory=facts["sharedMemPerBlock"],
        max_group_size=facts["maxThreadsPerBlock"],
        has_double=True,
        has_subgroups=True,
        has_half=True,
        has_dot4=capability >= (6, 1),
        shares_host_memory=bool(facts["integrated"]),
    )
