"""The native host backend: one device, the processor, with a thread pool, packed weights and command lists."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from perfxapi.allocator import HostAllocator, LargePageAllocator, SlabAllocator
from perfxapi.backend import Launcher, OpCall, PlannedCall
from perfxapi.device import Device
from perfxapi.errors import InvalidArgumentError, KernelError
from perfxapi.memory import HOST, View
from perfxapi.native.calls import INSTANCES, NativeCalls, NativeKernel
from perfxapi.native.library import NativeLibrary, address, check
from perfxapi.native.segment import NativeSegment
from perfxapi.native.small import small_launcher
from perfxapi.settings import settings

if TYPE_CHECKING:
    from perfxapi.native.affinity import Placement

_TILE_ROWS = 16
_PACKED_AT_ONCE = 16 << 20
"""Bytes of a weight that are packed before its pages are released."""
_FIRST_WEIGHT = {"linear": 1, "multi_linear": 1, "gated_linear": 1, "vocab_topk": 1}
"""Ops whose constant operands, from this index on, are packed into tiles before the first launch."""
_requested_threads = 0


def num_threads() -> int:
    """Threads of native backends: what `set_num_threads` or PERFXAPI_NUM_THREADS says, else one a usable processor."""
    from perfxapi.native.topology import allowed_processors  # importing perfxapi needs none of it

    usable = len(allowed_processors())  # always, for it must be known before a pool pins its caller
    return _requested_threads or settings().num_threads or usable


class NativeBackend(NativeCalls):
    """Devices, kernels and command lists of one native host library. One device: the processor."""

    def __init__(self, name: str, library: NativeLibrary, description: str) -> None:
        super().__init__(name, library)
        self.device = Device(name, 0, f"{description} ({library.variant_name})", HOST)
        self._lock, self._making_pool = threading.Lock(), threading.Lock()
        self._pool: Any = None
        self._num_threads = num_threads()
        self._workspace: Any = HostAllocator().allocate(1 << 16)
        self._weights = SlabAllocator(LargePageAllocator())

    def devices(self) -> Sequence[Device]:
        """The processor."""
        return (self.device,)

    @property
    def num_threads(self) -> int:
        """Threads of the pool."""
        return self._num_threads

    @num_threads.setter
    def num_threads(self, count: int) -> None:
        if count < 1:
            raise InvalidArgumentError(f"num_threads must be at least 1; got {count}")
        if self._pool is not None and count != self._num_threads:
            raise InvalidArgumentError(
                "num_threads must be set before the first native kernel runs (PERFXAPI_NUM_THREADS)"
            )
        self._num_threads = count

    @property
    def pool(self) -> Any:
        """The thread pool, made on first use."""
        if self._pool is None:
            with self._making_pool:
                if self._pool is None:
                    self._pool = self._make_pool()
        return self._pool

    def placement(self) -> Placement:
        """Where the threads of the pool run. Raises InvalidArgumentError for a setting that cannot be met here."""
        from perfxapi.native.affinity import current_placement

        return current_placement(self._num_threads)

    def circumstances(self) -> str:
        """As for any library, and how threads are placed where a setting says so."""
        wanted = settings().affinity
        return super().circumstances() + (f" {wanted}" if wanted else "")

    def _make_pool(self) -> Any:
        ffi, lib = self.library.ffi, self.library.lib
        processors = self.placement().processors
        cpus = ffi.new("int32_t[]", list(processors)) if processors else ffi.NULL
        pool = lib.perfx_pool_create(self._num_threads, cpus, settings().spin_us)
        if pool == ffi.NULL:
            raise KernelError(f"{self.name}: cannot start {self._num_threads} threads")
        return ffi.gc(pool, lib.perfx_pool_destroy)

    def native_ns(self) -> int:
        """Nanoseconds spent in native code so far."""
        return int(self.library.lib.perfx_pool_native_ns(self._pool)) if self._pool is not None else 0

    def launch(self, kernel: NativeKernel, call: OpCall) -> None:
        """Runs one kernel on the pool. Raises KernelError or DeviceLostError."""
        kernel.backend.prepare(call)
        struct, keep = kernel.backend.build_call(call, with_data=True)
        with self._lock:
            needed = kernel.workspace_of(struct, self.num_threads)
            if needed > self._workspace.nbytes:
                self._workspace = HostAllocator().allocate(needed)
            struct.workspace, struct.workspace_bytes = address(self._workspace), self._workspace.nbytes
            status = self.library.lib.perfx_pool_run(self.pool, kernel.entry.run, struct)
        del keep
        check(status, f"{kernel.backend.name}: {call.op}")

    def launcher(self, kernel: NativeKernel, call: OpCall) -> Launcher | None:
        """What runs small calls like this one from a description that is made once."""
        return None if call.op in _FIRST_WEIGHT else small_launcher(lambda: self.pool, kernel, call)

    def fill_operand(self, tensor: Any, op: str, index: int, view: View, *, with_data: bool) -> None:
        """As for any library; constant weights are described as their tiles."""
        packed = self.will_pack(op, index, view)
        super().fill_operand(tensor, op, index, view, with_data=with_data and not packed)
        if packed:
            tensor.layout = self._packed_layout(view)
            if with_data:
                tensor.data = address(view.buffer.derived[self._pack_key])

    @property
    def _pack_key(self) -> tuple[str, str]:
        return "packed", self.name

    def will_pack(self, op: str, index: int, view: View) -> bool:
        """Whether an operand is a weight that this backend reads as tiles."""
        if len(view.shape) != 2 or not view.buffer.constant or not view.is_contiguous or view.offset or 0 in view.shape:
            return False
        if self._pack_key in view.buffer.derived:
            return op == "embedding" or index >= _FIRST_WEIGHT.get(op, index + 1)
        return index >= _FIRST_WEIGHT.get(op, index + 1) and self._packed_bytes(view) >= 0

    def _packed_bytes(self, view: View) -> int:
        return int(self.library.lib.perfx_packed_bytes(view.dtype.code, self._packed_layout(view), *view.shape))

    def _packed_layout(self, view: View) -> int:
        return int(self.library.lib.perfx_packed_layout(view.dtype.code, *view.shape))

    def prepare(self, call: OpCall) -> None:
        """Packs the constant weights of a call, once for each."""
        first = _FIRST_WEIGHT.get(call.op)
        if first is None:
            return
        for index, view in enumerate(call.inputs[first:], first):
            if self.will_pack(call.op, index, view) and self._pack_key not in view.buffer.derived:
                self._pack(view)

    def _pack(self, view: View) -> None:
        """Packs a weight, some rows at a time.

        Rows are released before the next ones are read, so that original and tiles are never in memory together.
        """
        buffer, rows = view.buffer, int(view.shape[0])
        columns, layout = int(view.shape[1]), self._packed_layout(view)
        packed = self._weights.allocate(self._packed_bytes(view))  # first: an original on demand leaves no hole below
        source = buffer.readable(HOST)[0]
        row_bytes = view.dtype.row_bytes(columns)
        step = max(_PACKED_AT_ONCE // row_bytes // _TILE_ROWS, 1) * _TILE_ROWS
        for first in range(0, rows, step):
            count = min(step, rows - first)
            rows_from = address(source, first * row_bytes)
            status = self.library.lib.perfx_pack(
                self.pool, view.dtype.code, layout, rows, columns, first, count, rows_from, address(packed)
            )
            check(status, f"packing {buffer.name or view.dtype.name} on {self.device}")
            buffer.release_original()
        buffer.derived[self._pack_key] = packed

    def compile(self, calls: Sequence[PlannedCall], bounds: Mapping[str, int]) -> NativeSegment | None:
        """A command list of all calls; those whose kernel is not this backend's stop it, to be run by dispatch."""
        if not any(isinstance(planned.kernel, NativeKernel) for planned in calls):
            return None
        return NativeSegment(self, calls, tuple(bounds))


def host_backend() -> NativeBackend | None:
    """The native host backend of this process, if one is in use."""
    return next((backend for backend in INSTANCES if isinstance(backend, NativeBackend)), None)


def set_num_threads(count: int) -> None:
    """Sets the number of threads of every native backend, those not loaded yet included.

    Raises InvalidArgumentError once a backend has run its first kernel with another number.
    """
    global _requested_threads
    if count < 1:
        raise InvalidArgumentError(f"num_threads must be at least 1; got {count}")
    for backend in INSTANCES:
        if isinstance(backend, NativeBackend):
            backend.num_threads = count
    _requested_threads = count
