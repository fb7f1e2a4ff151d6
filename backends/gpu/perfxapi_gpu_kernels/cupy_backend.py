"""What the backends on CuPy have in common: it names the properties of CUDA's and HIP's devices alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from perfxapi.device import Device
from perfxapi_gpu_kernels.backend import GpuBackend
from perfxapi_gpu_kernels.cupy_devices import facts_of_devices
from perfxapi_gpu_kernels.cupy_driver import CupyDriver
from perfxapi_gpu_kernels.cupy_libraries import library_kernels
from perfxapi_gpu_kernels.driver import Properties


class CupyBackend(GpuBackend):
    """The devices of the API that `name` says, in its order."""

    def __init__(self, properties_of: Callable[[dict[str, Any]], Properties], options: Sequence[str]) -> None:
        """`properties_of` reads what the API says of a device; programs are compiled with `options`."""
        drivers = (CupyDriver(index, properties_of(facts), tuple(options)) for index, facts in facts_of_devices())
        super().__init__([(self._device(driver), driver) for driver in drivers], library_kernels)

    def _device(self, driver: CupyDriver) -> Device:
        name = f"{self.name}:{driver.index}"
        return Device(self.name, driver.index, driver.properties.identity, name)


def common_properties(dialect: str, facts: dict[str, Any], processor: str, *, has_dot4: bool) -> Properties:
    """What kernels want to know of a device, from the API's properties. `processor` is its kind."""
    return Properties(
        dialect=dialect,
        identity=f"{facts['name'].decode()} ({processor})",
        compute_units=facts["multiProcessorCount"],
        subgroup_size=facts["warpSize"],
        local_memory=facts["sharedMemPerBlock"],
        max_group_size=facts["maxThreadsPerBlock"],
        has_double=True,
        has_subgroups=True,
        has_half=True,
        has_dot4=has_dot4,
        shares_host_memory=bool(facts["integrated"]),
    )
