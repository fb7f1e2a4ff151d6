"""A simulated device: its memory is arrays of its own that only counted copies reach; its kernels are the references.

It stands for a GPU where none is: what it proves is what is moved, placed and recovered, never how fast.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from perfxapi.allocator import HostAllocator, LimitAllocator, PoolAllocator, StatisticsAllocator
from perfxapi.backend import REGISTRY, Backend, BackendManifest, OpCall, PlannedCall, Stop
from perfxapi.device import Device
from perfxapi.errors import DeviceLostError, KernelError
from perfxapi.memory import Buffer, View, bind, register_memory_space
from perfxapi.ops.spec import all_ops, op_spec
from perfxapi.reference_backend import ReferenceKernel

Bytes = npt.NDArray[np.uint8]
SPACE = "sim"


class SimulatedMemory:
    """Counts what goes in and out. `lost` makes every copy fail, `lost_at` that event and those after it.

    Events are copies and launches of kernels.
    """

    def __init__(self, limit: int = 1 << 30, name: str = SPACE) -> None:
        self.name = name
        self.statistics = StatisticsAllocator(LimitAllocator(PoolAllocator(HostAllocator()), limit))
        self.allocator: Any = self.statistics
        self.reads: list[tuple[int, int]] = []
        self.writes: list[tuple[int, int]] = []
        self.lost = False
        self.lost_at: int | None = None
        self.num_events = 0

    @property
    def bytes_read(self) -> int:
        return sum(length for _, length in self.reads)

    @property
    def bytes_written(self) -> int:
        return sum(length for _, length in self.writes)

    def forget(self) -> None:
        """Counts anew."""
        self.reads, self.writes = [], []

    def read(self, storage: Any, offset: int, out: Bytes) -> None:
        self.begin()
        self.reads.append((offset, out.nbytes))
        out[:] = storage[offset : offset + out.nbytes]

    def write(self, storage: Any, offset: int, data: Bytes) -> None:
        self.begin()
        self.writes.append((offset, data.nbytes))
        storage[offset : offset + data.nbytes] = data

    def slice(self, storage: Any, offset: int, nbytes: int) -> Any:
        return storage[offset : offset + nbytes]

    def begin(self) -> None:
        """An event begins."""
        self.num_events += 1
        self.lost |= self.num_events == self.lost_at
        if self.lost:
            raise DeviceLostError(f"sim:{self.name[3:] or 0} does not answer")


class SimulatedKernel:
    """The reference of an op on simulated memory."""

    def __init__(self, backend: SimulatedBackend, op: str, name: str = "", index: int = 0) -> None:
        self.backend, self.op, self.name, self.memory = backend, op, name, backend.memories[index]
        self.num_accepts = self.num_launches = 0
        self.delay = 0.0
        self.refusal: str | None = None
        self.raises: Exception | None = None

    def accepts(self, call: OpCall) -> str | None:
        self.num_accepts += 1
        return self.refusal

    def workspace_bytes(self, call: OpCall) -> int:
        return self.backend.workspace_bytes

    def launch(self, call: OpCall) -> None:
        moved = [view.buffer.validate(self.memory.name) for view in (*call.inputs, *call.outputs)]
        assert not any(moved), "dispatch must move operands before it launches"
        self.compute(call)

    def compute(self, call: OpCall) -> None:
        """Computes on what lies in simulated memory, valid or not."""
        self.num_launches += 1
        self.memory.begin()
        if self.raises is not None:
            self.memory.lost |= isinstance(self.raises, DeviceLostError)
            raise self.raises
        time.sleep(self.delay)
        inside = OpCall(call.op, self._inside(call.inputs), self._inside(call.outputs), call.attributes)
        ReferenceKernel(op_spec(call.op)).launch(inside)

    def _inside(self, views: Sequence[View]) -> tuple[View, ...]:
        """The same views over the device's own bytes."""
        storages = [view.buffer.memory_in(self.memory.name) for view in views]
        return tuple(
            View(Buffer.from_host(storage), view.dtype, view.shape, view.strides, view.offset)
            for view, storage in zip(views, storages, strict=True)
        )


class SimulatedSegment:
    """Planned calls on one simulated device. Kernels that raise stop it."""

    def __init__(self, calls: Sequence[PlannedCall]) -> None:
        self.calls = list(calls)
        self.num_runs = 0
        for planned in calls:
            for view in planned.call.inputs:
                if view.buffer.constant:
                    view.buffer.validate(planned.kernel.memory.name)  # type: ignore[attr-defined]

    def run(self, sizes: Mapping[str, int], first: int) -> Stop | None:
        self.num_runs += 1
        for index, planned in enumerate(self.calls[first:], first):
            call = planned.call
            views = [tuple(bind(v, v.buffer, sizes) for v in group) for group in (call.inputs, call.outputs)]
            try:
                planned.kernel.compute(OpCall(call.op, *views, call.attributes))  # type: ignore[attr-defined]
            except KernelError as error:
                return Stop(index, str(error))
        return None


class SimulatedBackend(Backend):
    """`sim:0`, and more if asked for, each with its own memory. Take ops out of `table` to make `sim:0` lack them.

    Where it `compiles`, plans run on it in segments. `workspace_bytes` is what each kernel asks for.
    """

    name = "sim"

    def __init__(self, num_devices: int = 1) -> None:
        self.compiles, self.workspace_bytes = False, 0
        self.segments: list[SimulatedSegment] = []
        self.memories = [SimulatedMemory(name=f"{SPACE}{index or ''}") for index in range(num_devices)]
        self.all_devices = [Device("sim", i, "simulated device", m.name) for i, m in enumerate(self.memories)]
        for memory in self.memories:
            register_memory_space(memory)
        self.tables = [
            {spec.name: [SimulatedKernel(self, spec.name, index=index)] for spec in all_ops()}
            for index in range(num_devices)
        ]
        self.memory, self.device, self.table = self.memories[0], self.all_devices[0], self.tables[0]

    def devices(self) -> Sequence[Device]:
        return self.all_devices

    def kernels(self, op: str) -> Sequence[SimulatedKernel]:
        return self.table.get(op, [])

    def kernels_on(self, device: Device, op: str) -> Sequence[SimulatedKernel]:
        return self.tables[device.index].get(op, [])

    def kernel_ops(self) -> Iterable[str]:
        return self.table

    def kernel(self, op: str) -> SimulatedKernel:
        """The first kernel of an op."""
        return self.table[op][0]

    def compile(self, calls: Sequence[PlannedCall], bounds: Mapping[str, int]) -> SimulatedSegment | None:
        if not self.compiles:
            return None
        self.segments.append(SimulatedSegment(calls))
        return self.segments[-1]


@contextmanager
def registered(num_devices: int, priority: int = -50) -> Iterator[SimulatedBackend]:
    """So many simulated devices, for as long as the context lasts. Of priority 0 they are candidates of "auto"."""
    backend = SimulatedBackend(num_devices)
    REGISTRY.entries()
    REGISTRY.register(BackendManifest("sim", lambda: backend, ("sim",), priority=priority), "tests")
    try:
        yield backend
    finally:
        REGISTRY.unregister("sim")
