"""Native host backends: a shared library that meets `perfx/abi.h` and `perfx/host.h`, opened with cffi, becomes a
Backend.

The cpu and riscv backends are this class over their library. A plugin's library that has kernels but no pool (only
`perfx/abi.h`) contributes kernels that run on the host backend's pool.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from perfxapi.allocator import HostAllocator
from perfxapi.backend import Backend, Kernel, OpCall, PlannedCall, Stop
from perfxapi.device import Device
from perfxapi.dims import Dim
from perfxapi.errors import DeviceLostError, InvalidArgumentError, KernelError, PluginError, UnknownNameError
from perfxapi.memory import HOST, View
from perfxapi.ops.spec import op_spec
from perfxapi.settings import settings

ABI_VERSION = 1
MAX_NDIM = 6
_STATUS = ("ok", "unsupported", "invalid argument", "out of memory", "kernel error", "device lost", "disabled")
_OK, _INVALID_ARGUMENT, _DEVICE_LOST, _DISABLED = 0, 2, 5, 6
_STRIDED, _TILE16 = 0, 1
_TILE_ROWS = 16
_PACKED_AT_ONCE = 16 << 20
"""Bytes of a weight that are packed before its pages are released."""
_CONTIGUOUS = 1
_FIRST_WEIGHT = {"linear": 1, "multi_linear": 1, "gated_linear": 1, "vocab_topk": 1}
"""Ops whose constant operands, from this index on, are packed into tiles before the first launch."""


def include_dir() -> Path:
    """The folder of the C headers that native backends and plugins are compiled with."""
    return Path(__file__).parent / "include"


def declarations(*headers: str) -> str:
    """The C declarations of headers as cffi reads them: without preprocessor lines and inline functions."""
    text = "\n".join((include_dir() / header).read_text() for header in headers)
    constants = dict(re.findall(r"^#define (PERFX?_\w+|PX_\w+) (\d+)\s*$", text, re.MULTILINE))
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    text = re.sub(r"#ifdef __cplusplus.*?#endif", "", text, flags=re.DOTALL)
    text = re.sub(r"^static inline.*?^}", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^#.*$", "", text, flags=re.MULTILINE)
    for name, value in constants.items():
        text = re.sub(rf"\b{name}\b", value, text)
    return text


@cache
def _ffi() -> Any:
    import cffi  # when the first library is opened: it brings a C parser along

    ffi = cffi.FFI()
    ffi.cdef(declarations("perfx/abi.h", "perfx/host.h"))
    return ffi


class NativeLibrary:
    """A library opened and checked; `kernels` are those of the chosen variant, by op."""

    def __init__(self, path: Path | str, variant: str = "") -> None:
        self.ffi = _ffi()
        self.path = str(path)
        try:
            self.lib: Any = self.ffi.dlopen(self.path)
            table = self.lib.perfx_library()
        except (OSError, AttributeError) as error:
            raise PluginError(f"{path}: cannot be loaded as a native library: {error}") from error
        self._check(table)
        self.name = self.ffi.string(table.name).decode()
        self.variants = [table.variants[index] for index in range(table.num_variants)]
        self.variant = self._choose(variant)
        self.variant_name = self._text(self.variant.name)
        entries = (self.variant.kernels[index] for index in range(self.variant.num_kernels))
        self.kernels = {self._text(entry.op): entry for entry in entries}

    def _text(self, pointer: Any) -> str:
        return str(self.ffi.string(pointer).decode())

    def _check(self, table: Any) -> None:
        ffi = self.ffi
        if table == ffi.NULL or table.abi_version != ABI_VERSION:
            version = "no table" if table == ffi.NULL else f"ABI version {table.abi_version}"
            raise PluginError(
                f"{self.path}: {version}; this perfxapi has version {ABI_VERSION}. Rebuild it with these headers."
            )
        for name in ("tensor", "call", "thread", "kernel", "variant"):
            theirs, ours = getattr(table, f"sizeof_{name}"), ffi.sizeof(f"Px{name.capitalize()}")
            if theirs != ours:
                raise PluginError(
                    f"{self.path}: its Px{name.capitalize()} has {theirs} bytes, ours {ours}. Rebuild it."
                )

    def supported_variants(self) -> list[str]:
        """Names of the variants that this machine can run, best first."""
        return [self._text(v.name) for v in self.variants if v.supported()]

    def _choose(self, wanted: str) -> Any:
        supported = [variant for variant in self.variants if variant.supported()]
        if not wanted:
            return supported[0]
        for variant in supported:
            if self._text(variant.name) == wanted:
                return variant
        raise UnknownNameError("cpu variant (PERFXAPI_CPU_VARIANT)", wanted, [self._text(v.name) for v in supported])


def usable_processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class NativeBackend(Backend):
    """Devices, kernels and command lists of one native host library. One device: the processor."""

    def __init__(self, name: str, library: NativeLibrary, description: str) -> None:
        self.name, self.library = name, library
        self.device = Device(name, 0, f"{description} ({library.variant_name})", HOST)
        self._kernels = {op: NativeKernel(self, op, entry) for op, entry in library.kernels.items()}
        self._lock = threading.Lock()
        self._pool: Any = None
        self._num_threads = settings().num_threads or usable_processors()
        self._workspace: Any = HostAllocator().allocate(1 << 16)
        INSTANCES.append(self)

    def devices(self) -> Sequence[Device]:
        """The processor."""
        return (self.device,)

    def kernels(self, op: str) -> Sequence[Kernel]:
        """The chosen variant's kernel for an op."""
        return (self._kernels[op],) if op in self._kernels else ()

    def kernel_ops(self) -> Iterable[str]:
        """Ops with a native kernel."""
        return self._kernels

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
            self._pool = self._make_pool()
        return self._pool

    def _make_pool(self) -> Any:
        ffi, lib, chosen = self.library.ffi, self.library.lib, settings()
        cpus = ffi.NULL
        if chosen.affinity:
            if len(chosen.affinity) != self._num_threads:
                raise InvalidArgumentError(
                    f"PERFXAPI_AFFINITY names {len(chosen.affinity)} processors for {self._num_threads} threads"
                )
            cpus = ffi.new("int32_t[]", list(chosen.affinity))
        pool = lib.perfx_pool_create(self._num_threads, cpus, chosen.spin_us)
        if pool == ffi.NULL:
            raise KernelError(f"{self.name}: cannot start {self._num_threads} threads")
        return ffi.gc(pool, lib.perfx_pool_destroy)

    def native_ns(self) -> int:
        """Nanoseconds spent in native code so far."""
        return int(self.library.lib.perfx_pool_native_ns(self._pool)) if self._pool is not None else 0

    def launch(self, kernel: NativeKernel, call: OpCall) -> None:
        """Runs one kernel on the pool. Raises KernelError, InvalidArgumentError or DeviceLostError."""
        self.prepare(call)
        struct, keep = self.build_call(call, with_data=True)
        with self._lock:
            needed = kernel.workspace_of(struct)
            if needed > self._workspace.nbytes:
                self._workspace = HostAllocator().allocate(needed)
            struct.workspace, struct.workspace_bytes = _address(self._workspace), self._workspace.nbytes
            status = self.library.lib.perfx_pool_run(self.pool, kernel.entry.run, struct)
        del keep
        self.check(status, call.op)

    def check(self, status: int, op: str) -> None:
        """Turns a status code into the exception it stands for."""
        if status == _OK:
            return
        message = f"{op} on {self.device}: {_STATUS[status] if 0 <= status < len(_STATUS) else f'status {status}'}"
        if status == _DEVICE_LOST:
            raise DeviceLostError(message)
        raise KernelError(message)

    def build_call(self, call: OpCall, *, with_data: bool) -> tuple[Any, list[Any]]:
        """A PxCall of concrete views, and what must be kept alive while it is used."""
        ffi = self.library.ffi
        views = (*call.inputs, *call.outputs)
        operands = ffi.new("PxTensor[]", max(len(views), 1))
        for index, view in enumerate(views):
            self.fill_operand(operands[index], call.op, index, view, with_data=with_data)
        attributes = self._attributes(call)
        struct = ffi.new("PxCall*")
        struct.num_inputs, struct.num_operands, struct.num_attrs = len(call.inputs), len(views), len(call.attributes)
        struct.operands, struct.attrs = operands, attributes
        return struct, [operands, attributes]

    def _attributes(self, call: OpCall) -> Any:
        spec = op_spec(call.op)
        values = self.library.ffi.new("PxAttr[]", max(len(spec.attributes), 1))
        for index, attribute in enumerate(spec.attributes):
            value = call.attributes[attribute.name]
            if attribute.choices:
                values[index].i = attribute.choices.index(value)
            elif attribute.kind is int:
                values[index].i = value
            else:
                values[index].f = value
        return values

    def fill_operand(self, tensor: Any, op: str, index: int, view: View, *, with_data: bool) -> None:
        """Describes a view (symbolic sizes by their factor) to native code; packed constants as their tiles."""
        packed = self.will_pack(op, index, view)
        tensor.dtype, tensor.layout, tensor.ndim = view.dtype.code, _TILE16 if packed else _STRIDED, len(view.shape)
        tensor.flags = _CONTIGUOUS if view.is_contiguous else 0
        for axis, (size, stride) in enumerate(zip(view.shape, view.strides, strict=True)):
            tensor.shape[axis] = size.factor if isinstance(size, Dim) else size
            tensor.strides[axis] = 0 if isinstance(stride, Dim) else stride
        if with_data:
            storage = view.buffer.derived[self._pack_key] if packed else view.buffer.readable(HOST)[0]
            tensor.data = _address(storage, 0 if packed else view.offset)

    @property
    def _pack_key(self) -> tuple[str, str]:
        return "tile16", self.name

    def will_pack(self, op: str, index: int, view: View) -> bool:
        """Whether an operand is a weight that this backend reads as tiles."""
        if len(view.shape) != 2 or not getattr(view.buffer, "constant", False) or not view.is_contiguous or view.offset:
            return False
        if self._pack_key in view.buffer.derived:
            return op == "embedding" or index >= _FIRST_WEIGHT.get(op, index + 1)
        return index >= _FIRST_WEIGHT.get(op, index + 1) and self._packed_bytes(view) >= 0

    def _packed_bytes(self, view: View) -> int:
        return int(self.library.lib.perfx_packed_bytes(view.dtype.code, *view.shape))

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
        columns = int(view.shape[1])
        source = buffer.readable(HOST)[0]
        packed = HostAllocator().allocate(self._packed_bytes(view))
        row_bytes = view.dtype.row_bytes(columns)
        step = max(_PACKED_AT_ONCE // row_bytes // _TILE_ROWS, 1) * _TILE_ROWS
        for first in range(0, rows, step):
            count = min(step, rows - first)
            done = self.library.lib.perfx_packed_bytes(view.dtype.code, first, columns) if first else 0
            status = self.library.lib.perfx_pack(
                self.pool, view.dtype.code, count, columns, _address(source, first * row_bytes), _address(packed, done)
            )
            self.check(status, f"packing {buffer.name or view.dtype.name}")
            if buffer.release is not None:
                buffer.release()
        buffer.derived[self._pack_key] = packed

    def compile(self, calls: Sequence[PlannedCall], bounds: Mapping[str, int]) -> NativeSegment | None:
        """A command list of all calls; those whose kernel is not this backend's stop it, to be run by dispatch."""
        if not any(isinstance(planned.kernel, NativeKernel) for planned in calls):
            return None
        return NativeSegment(self, calls, tuple(bounds))


class NativeKernel:
    """A kernel of a native library."""

    def __init__(self, backend: NativeBackend, op: str, entry: Any) -> None:
        self.backend, self.op, self.entry = backend, op, entry

    def accepts(self, call: OpCall) -> str | None:
        """What the library's own predicate says."""
        views = (*call.inputs, *call.outputs)
        if any(len(view.shape) > MAX_NDIM for view in views):
            return f"{self.backend.name}: {self.op}: more than {MAX_NDIM} dimensions"
        if any(view.dtype.is_quantized and not view.is_contiguous for view in views):
            return f"{self.backend.name}: {self.op}: a quantized operand is not contiguous"
        struct, _keep = self.backend.build_call(call, with_data=False)
        if self.entry.accepts(struct) == _OK:
            return None
        kinds = ", ".join(f"{view.dtype.name}{list(view.shape)}" for view in call.inputs)
        return f"{self.backend.name}: {self.op} declines {kinds}"

    def launch(self, call: OpCall) -> None:
        """Runs on the pool."""
        self.backend.launch(self, call)

    def workspace_of(self, struct: Any) -> int:
        """Bytes of scratch memory for a filled PxCall."""
        if self.entry.workspace == self.backend.library.ffi.NULL:
            return 0
        return int(self.entry.workspace(struct, self.backend.num_threads))

    def workspace_bytes(self, call: OpCall) -> int:
        """Bytes of scratch memory for a call at its largest shapes."""
        struct, _keep = self.backend.build_call(call, with_data=False)
        return self.workspace_of(struct)


class NativeSegment:
    """A command list: the calls of a plan, run in one native call."""

    def __init__(self, backend: NativeBackend, calls: Sequence[PlannedCall], names: tuple[str, ...]) -> None:
        self.backend, self.length = backend, len(calls)
        self._lib, self._ffi = backend.library.lib, backend.library.ffi
        self._list = self._ffi.gc(self._lib.perfx_list_create(), self._lib.perfx_list_destroy)
        self._names = names
        self._table = self._ffi.new("int64_t[]", max(len(names), 1))
        self._stopped = self._ffi.new("int32_t*")
        self._ops = [planned.call.op for planned in calls]
        self._foreign = [not self._is_own(planned.kernel) for planned in calls]
        self._keep = [planned.call for planned in calls]
        for planned in calls:
            backend.prepare(planned.call)
        for planned in calls:
            self._append(planned)

    def _is_own(self, kernel: Kernel) -> bool:
        return isinstance(kernel, NativeKernel) and kernel.backend is self.backend

    def _append(self, planned: PlannedCall) -> None:
        own = self._is_own(planned.kernel)
        if not own:
            struct = self._ffi.new("PxCall*")
            symbols = self._ffi.NULL
            run = self._ffi.NULL
        else:
            struct, _keep = self.backend.build_call(planned.call, with_data=True)
            if planned.workspace is not None:
                struct.workspace, struct.workspace_bytes = _address(planned.workspace), planned.workspace.nbytes
            symbols = self._symbols((*planned.call.inputs, *planned.call.outputs))
            run = planned.kernel.entry.run  # type: ignore[attr-defined]
        if self._lib.perfx_list_append(self._list, run, struct, symbols, planned.barrier_before) < 0:
            raise KernelError(f"{self.backend.name}: out of memory while building a command list")

    def _symbols(self, views: Sequence[View]) -> Any:
        numbers = [-1] * (len(views) * MAX_NDIM)
        for index, view in enumerate(views):
            for axis, size in enumerate(view.shape):
                if isinstance(size, Dim):
                    numbers[index * MAX_NDIM + axis] = self._names.index(size.name)
        return self._ffi.new("int32_t[]", numbers or [-1])

    def run(self, sizes: Mapping[str, int], first: int) -> Stop | None:
        """Runs from call `first` on; None when all calls are done. Raises DeviceLostError."""
        for index, name in enumerate(self._names):
            self._table[index] = sizes[name]
        status = self._lib.perfx_list_run(
            self.backend.pool, self._list, first, self.length, self._table, len(self._names), self._stopped
        )
        if status == _OK:
            return None
        index = self._stopped[0]
        if status == _DISABLED and self._foreign[index]:
            return Stop(index, "")
        if status == _DEVICE_LOST:
            raise DeviceLostError(f"{self._ops[index]} on {self.backend.device}: device lost")
        return Stop(index, f"{self.backend.name}: {self._ops[index]}: {_STATUS[status]}")

    def profile(self, enabled: bool) -> list[tuple[str, int]]:
        """Turns per-call timing on or off; returns (op, nanoseconds so far) for each call."""
        self._lib.perfx_list_profile(self._list, int(enabled))
        times = self._lib.perfx_list_node_ns(self._list)
        return [(op, int(times[index])) for index, op in enumerate(self._ops)] if times != self._ffi.NULL else []


def _address(storage: Any, offset: int = 0) -> Any:
    """A pointer into a host array."""
    return _ffi().cast("void*", storage.__array_interface__["data"][0] + offset)


INSTANCES: list[NativeBackend] = []
"""The native backends of this process."""


def native_seconds() -> float:
    """Seconds of wall clock that this process has spent inside native kernels and command lists so far."""
    return sum(backend.native_ns() for backend in INSTANCES) * 1e-9


def set_num_threads(count: int) -> None:
    """Sets the number of threads of every native backend.

    Before its first kernel runs; later it raises InvalidArgumentError.
    """
    from perfxapi.backend import REGISTRY

    REGISTRY.usable()
    for backend in INSTANCES:
        backend.num_threads = count
