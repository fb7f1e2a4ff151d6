"""The part of a GPU backend that is the same for every API: kernels on each device, compiled segments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from perfxapi.backend import Backend, CompiledSegment, Kernel, OpCall, PlannedCall
from perfxapi.custom import DeviceKernel, argument_error, compile_error
from perfxapi.device import Device
from perfxapi.errors import KernelError
from perfxapi_gpu_kernels.bindings import BINDINGS
from perfxapi_gpu_kernels.division import searches
from perfxapi_gpu_kernels.driver import Driver
from perfxapi_gpu_kernels.launches import Binding, Launch, Request
from perfxapi_gpu_kernels.runtime import Runtime
from perfxapi_gpu_kernels.segment import GpuSegment
from perfxapi_gpu_kernels.sources import Program


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
    """The devices of one API. A subclass finds them and makes a driver for each.

    `libraries` gives, for a device, the kernels that come from its maker's libraries: eager calls take the quickest,
    plans take ours where they can.
    """

    def __init__(
        self,
        drivers: Sequence[tuple[Device, Driver]],
        libraries: Callable[[Runtime], Iterable[Kernel]] = lambda runtime: (),
    ) -> None:
        self.runtimes = {device: Runtime(device, driver) for device, driver in drivers}
        self._kernels: dict[Device, dict[str, tuple[Kernel, ...]]] = {}
        for device, runtime in self.runtimes.items():
            kernels: dict[str, tuple[Kernel, ...]] = {op: (GpuKernel(b, runtime),) for op, b in BINDINGS.items()}
            for kernel in libraries(runtime):
                kernels[kernel.op] = (*kernels[kernel.op], kernel)
            self._kernels[device] = kernels

    def devices(self) -> Sequence[Device]:
        """The devices, in the API's order."""
        return tuple(self.runtimes)

    def kernels_on(self, device: Device, op: str) -> Sequence[Kernel]:
        """The kernels of an op on a device, ours first."""
        return self._kernels[device].get(op, ())

    def kernel_ops(self) -> Iterable[str]:
        """The ops that have kernels, on every device."""
        return BINDINGS

    def finish(self, device: Device) -> None:
        """Waits for the device's queue or stream."""
        self.runtimes[device].driver.finish()

    def searches(self) -> Iterable[tuple[str, Callable[[], None]]]:
        """How products are divided best, for each device and number of tokens that is not known."""
        for device, runtime in self.runtimes.items():
            for what, search in searches(runtime.driver, partial(runtime.bind, code=1)):
                yield f"{what} on {device}", search

    def compile_kernel(self, device: Device, name: str, kernel: DeviceKernel) -> GpuKernel:
        """A user's kernel for a device. Raises CompileError with the line at fault."""
        file = f"{name}.h" if isinstance(kernel.source, str) else kernel.source.name
        text, entry = kernel.text(name), kernel.entry or kernel.op
        program = Program(file.removesuffix(".h"), text=text)
        try:
            taken, given = self.runtimes[device].check(program, entry), kernel.num_arguments()
        except KernelError as error:
            raise compile_error(name, f"{program.source}.h", text, str(error)) from None
        if None not in (taken, given) and taken != given:
            raise argument_error(name, f"{program.source}.h", text, entry, f"{taken} arguments; it is given {given}")

        def launches(request: Request) -> list[Launch]:
            groups, local = kernel.work(request.call)
            operands = (*request.call.inputs, *request.call.outputs)
            return [Launch(program, entry, groups, local, (*operands, *kernel.scalars(request.call)))]

        binding = Binding(
            kernel.op, lambda call, properties: kernel.refusal(call), launches, lambda call, properties: 0
        )
        return GpuKernel(binding, self.runtimes[device])

    def compile(self, calls: Sequence[PlannedCall], bounds: Mapping[str, int]) -> CompiledSegment | None:
        """Calls on one device, enqueued as a whole."""
        kernels = [planned.kernel for planned in calls]
        if not all(isinstance(kernel, GpuKernel) for kernel in kernels):
            return None
        return GpuSegment(kernels[0].runtime, calls)  # type: ignore[attr-defined]
