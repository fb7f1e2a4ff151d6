"""Command lists: the calls of a plan, run in one native call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from perfxapi.backend import Kernel, PlannedCall, Stop
from perfxapi.dims import Dim
from perfxapi.errors import DeviceLostError, KernelError
from perfxapi.memory import View
from perfxapi.native.calls import NativeKernel
from perfxapi.native.library import DEVICE_LOST, DISABLED, MAX_NDIM, OK, NativeLibrary, address, status_text


class HostPool(Protocol):
    """What a command list needs of the host backend: the library it is built with, and the pool it runs on."""

    name: str
    library: NativeLibrary

    @property
    def pool(self) -> Any:
        """The thread pool."""


class NativeSegment:
    """A command list: the calls of a plan, run in one native call."""

    def __init__(self, backend: HostPool, calls: Sequence[PlannedCall], names: tuple[str, ...]) -> None:
        self.backend, self.length = backend, len(calls)
        self._lib, self._ffi = backend.library.lib, backend.library.ffi
        self._list = self._ffi.gc(self._lib.perfx_list_create(), self._lib.perfx_list_destroy)
        self._names = names
        self._run = self._lib.perfx_list_run
        self._sizes: Mapping[str, int] | None = None
        self._table: Any = None
        self._stopped = self._ffi.new("int32_t*")
        self._ops = [planned.call.op for planned in calls]
        self._names_of = [_name(planned.kernel) for planned in calls]
        self._foreign = [not _enters(planned) for planned in calls]
        self._keep = [planned.call for planned in calls]
        for planned in calls:
            if isinstance(planned.kernel, NativeKernel):
                planned.kernel.backend.prepare(planned.call)
        for planned, foreign in zip(calls, self._foreign, strict=True):
            self._append(planned, foreign)

    def _append(self, planned: PlannedCall, foreign: bool) -> None:
        kernel, keep = planned.kernel, None
        struct, symbols, run = self._ffi.new("PxCall*"), self._ffi.NULL, self._ffi.NULL
        # of this library or a plugin's: a function pointer is a function pointer
        if isinstance(kernel, NativeKernel) and not foreign:
            struct, keep = kernel.backend.build_call(planned.call, with_data=True)
            if planned.workspace is not None:
                struct.workspace, struct.workspace_bytes = address(planned.workspace), planned.workspace.nbytes
            symbols = self._symbols((*planned.call.inputs, *planned.call.outputs))
            run = kernel.entry.run
        if self._lib.perfx_list_append(self._list, run, struct, symbols, planned.barrier_before) < 0:
            raise KernelError(f"{self.backend.name}: out of memory while building a command list")
        del keep

    def _symbols(self, views: Sequence[View]) -> Any:
        numbers = [-1] * (len(views) * MAX_NDIM)
        for index, view in enumerate(views):
            for axis, size in enumerate(view.shape):
                if isinstance(size, Dim):
                    numbers[index * MAX_NDIM + axis] = self._names.index(size.name)
        return self._ffi.new("int32_t[]", numbers or [-1])

    def run(self, sizes: Mapping[str, int], first: int) -> Stop | None:
        """Runs from call `first` on; None when all calls are done. Raises DeviceLostError.

        The last mapping of sizes is remembered: it must not be changed.
        """
        if sizes is not self._sizes:
            self._sizes, self._table = sizes, self._ffi.new("int64_t[]", [sizes[name] for name in self._names] or 1)
        status = self._run(
            self.backend.pool, self._list, first, self.length, self._table, len(self._names), self._stopped
        )
        if status == OK:
            return None
        index = self._stopped[0]
        if status == DISABLED and self._foreign[index]:
            return Stop(index, "")
        if status == DEVICE_LOST:
            raise DeviceLostError(f"{self._names_of[index]}: {status_text(status)}")
        return Stop(index, f"{self._names_of[index]}: {status_text(status)}")

    def profile(self, enabled: bool) -> list[tuple[str, int]]:
        """Turns per-call timing on or off; returns (op, nanoseconds so far) for each call."""
        self._lib.perfx_list_profile(self._list, int(enabled))
        times = self._lib.perfx_list_node_ns(self._list)
        return [(op, int(times[index])) for index, op in enumerate(self._ops)] if times != self._ffi.NULL else []


def _enters(planned: PlannedCall) -> bool:
    """Whether a call can be an entry of a command list: its kernel is native, and no stride depends on a symbol, but
    for operands without gaps, whose strides follow from their shapes.
    """
    views = (*planned.call.inputs, *planned.call.outputs)
    known = (view.is_contiguous or not any(isinstance(stride, Dim) for stride in view.strides) for view in views)
    return isinstance(planned.kernel, NativeKernel) and all(known)


def _name(kernel: Kernel) -> str:
    """Whose kernel it is, and of which op."""
    return f"{kernel.backend.name}: {kernel.op}" if isinstance(kernel, NativeKernel) else kernel.op
