"""The part of a GPU backend that is the same for every API: kernels on each device, compiled segments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from perfxapi.backend import Backend, CompiledSegment, OpCall, PlannedCall
from perfxapi.device import Device
from perfxapi_gpu_kernels.bindings import BINDINGS
from perfxapi_gpu_kernels.driver import Driver
from perfxapi_gpu_kernels.launches import Binding
from perfxapi_gpu_kernels.runtime import Runtime
from perfxapi_gpu_kernels.segment import GpuSegment

_PLANS_SPAN_SPACES = False  # until executables have an arena in each memory space


class GpuKernel:
    """One op on one device."""

    def __init__(self, binding: Binding, runtime: Runtime) -> None:
        self.op, self.binding, self.runtime = binding.op, binding, runtime

    def accepts(self, call: OpCall) -> str | None:
        """None, or why the binding does not take the call."""
        return self.binding.accepts(call, self.runtime.properties)

    def workspace_bytes(self, call: OpCall) -> int:
        """Scratch memory on the device."""
        return self.binding.workspace(call, self.runtime.properties)

    def launch(self, call: OpCall) -> None:
        """Enqueues the call's kernels; waits only where they check their operands."""
        self.runtime.run(self.binding, call)


class GpuBackend(Backend):
    """The devices of one API. A subclass finds them and makes a driver for each."""

    def __init__(self, drivers: Sequence[tuple[Device, Driver]]) -> None:
        self.runtimes = {device: Runtime(device, driver) for device, driver in drivers}
        self._kernels = {
            device: {op: (GpuKernel(binding, runtime),) for op, binding in BINDINGS.items()}
            for device, runtime in self.runtimes.items()
        }

    def devices(self) -> Sequence[Device]:
        """The devices, in the API's order."""
        return tuple(self.runtimes)

    def kernels_on(self, device: Device, op: str) -> Sequence[GpuKernel]:
        """The kernel of an op on a device."""
        return self._kernels[device].get(op, ())

    def kernel_ops(self) -> Iterable[str]:
        """The ops that have kernels, on every device."""
        return BINDINGS

    def compile(self, calls: Sequence[PlannedCall], bounds: Mapping[str, int]) -> CompiledSegment | None:
        """Calls on one device, enqueued as a whole."""
        kernels = [planned.kernel for planned in calls]
        if not _PLANS_SPAN_SPACES or not all(isinstance(kernel, GpuKernel) for kernel in kernels):
            return None
        return GpuSegment(kernels[0].runtime, calls)  # type: ignore[attr-defined]
