"""A simulated device: its memory is arrays of its own that only counted copies reach; its kernels are the references.

It stands for a GPU where none is: what it proves is what is moved, placed and recovered, never how fast.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from perfxapi.allocator import HostAllocator, LimitAllocator, PoolAllocator, StatisticsAllocator
from perfxapi.backend import Backend, OpCall
from perfxapi.device import Device
from perfxapi.errors import DeviceLostError
from perfxapi.memory import Buffer, View, register_memory_space
from perfxapi.ops.spec import all_ops, op_spec
from perfxapi.reference_backend import ReferenceKernel

Bytes = npt.NDArray[np.uint8]
SPACE = "sim"


class SimulatedMemory:
    """Counts what goes in and out. `lost` makes every copy fail."""

    def __init__(self, limit: int = 1 << 30) -> None:
        self.name = SPACE
        self.statistics = StatisticsAllocator(LimitAllocator(PoolAllocator(HostAllocator()), limit))
        self.allocator: Any = self.statistics
        self.reads: list[tuple[int, int]] = []
        self.writes: list[tuple[int, int]] = []
        self.lost = False

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
        self._check()
        self.reads.append((offset, out.nbytes))
        out[:] = storage[offset : offset + out.nbytes]

    def write(self, storage: Any, offset: int, data: Bytes) -> None:
        self._check()
        self.writes.append((offset, data.nbytes))
        storage[offset : offset + data.nbytes] = data

    def _check(self) -> None:
        if self.lost:
            raise DeviceLostError("sim:0 does not answer")


class SimulatedKernel:
    """The reference of an op on simulated memory."""

    def __init__(self, backend: SimulatedBackend, op: str, name: str = "") -> None:
        self.backend, self.op, self.name = backend, op, name
        self.num_accepts = self.num_launches = 0
        self.refusal: str | None = None
        self.raises: Exception | None = None

    def accepts(self, call: OpCall) -> str | None:
        self.num_accepts += 1
        return self.refusal

    def workspace_bytes(self, call: OpCall) -> int:
        return 0

    def launch(self, call: OpCall) -> None:
        self.num_launches += 1
        if self.raises is not None:
            self.backend.memory.lost = isinstance(self.raises, DeviceLostError)
            raise self.raises
        inside = OpCall(call.op, self._inside(call.inputs), self._inside(call.outputs), call.attributes)
        ReferenceKernel(op_spec(call.op)).launch(inside)

    @staticmethod
    def _inside(views: Sequence[View]) -> tuple[View, ...]:
        """The same views over the device's own bytes, which must be valid without a copy."""
        found = []
        for view in views:
            storage, moved = view.buffer.readable(SPACE)
            assert moved == 0, "dispatch must move operands before it launches"
            found.append(View(Buffer.from_host(storage), view.dtype, view.shape, view.strides, view.offset))
        return tuple(found)


class SimulatedBackend(Backend):
    """`sim:0`. Take ops out of `table` to make it lack them."""

    name = "sim"

    def __init__(self) -> None:
        self.memory = SimulatedMemory()
        register_memory_space(self.memory)
        self.device = Device("sim", 0, "simulated device", SPACE)
        self.table = {spec.name: [SimulatedKernel(self, spec.name)] for spec in all_ops()}

    def devices(self) -> Sequence[Device]:
        return (self.device,)

    def kernels(self, op: str) -> Sequence[SimulatedKernel]:
        return self.table.get(op, [])

    def kernel_ops(self) -> Iterable[str]:
        return self.table

    def kernel(self, op: str) -> SimulatedKernel:
        """The first kernel of an op."""
        return self.table[op][0]
