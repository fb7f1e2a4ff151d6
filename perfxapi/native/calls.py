"""How an op call is described to native code, and the kernels of a native library."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from perfxapi.backend import Backend, Kernel, Launcher, OpCall
from perfxapi.dims import Dim
from perfxapi.memory import HOST, View
from perfxapi.native.library import MAX_NDIM, MAX_OPERANDS, OK, NativeLibrary, address
from perfxapi.ops.spec import MAX_LIST, op_spec

_STRIDED = 0
_CONTIGUOUS = 1


class NativeCalls(Backend):
    """What every backend made of a native library shares: its kernels, and the C form of a call."""

    def __init__(self, name: str, library: NativeLibrary) -> None:
        self.name, self.library = name, library
        self._kernels = {op: NativeKernel(self, op, entry) for op, entry in library.kernels.items()}
        INSTANCES.append(self)

    def kernels(self, op: str) -> Sequence[Kernel]:
        """The chosen variant's kernel for an op."""
        return (self._kernels[op],) if op in self._kernels else ()

    def kernel_ops(self) -> Iterable[str]:
        """Ops with a native kernel."""
        return self._kernels

    @property
    @abstractmethod
    def num_threads(self) -> int:
        """Threads that a kernel runs on."""

    @abstractmethod
    def launch(self, kernel: NativeKernel, call: OpCall) -> None:
        """Runs one kernel. Raises KernelError or DeviceLostError."""

    def launcher(self, kernel: NativeKernel, call: OpCall) -> Launcher | None:
        """What runs small calls like this one at once; None: `launch` runs them."""
        return None

    def native_ns(self) -> int:
        """Nanoseconds spent in native code so far."""
        return 0

    def circumstances(self) -> str:
        """The instruction set and the number of threads."""
        return f"{self.name} {self.library.variant_name} {self.num_threads}"

    def build_call(self, call: OpCall, *, with_data: bool) -> tuple[Any, list[Any]]:
        """A PxCall of concrete views, and what must be kept alive while it is used."""
        ffi = self.library.ffi
        views = (*call.inputs, *call.outputs)
        operands = ffi.new("PxTensor[]", max(len(views), 1))
        for index, view in enumerate(views):
            self.fill_operand(operands[index], call.op, index, view, with_data=with_data)
        attributes, num_attributes = self._attributes(call)
        struct = ffi.new("PxCall*")
        struct.num_inputs, struct.num_operands, struct.num_attrs = len(call.inputs), len(views), num_attributes
        struct.operands, struct.attrs = operands, attributes
        return struct, [operands, attributes]

    def _attributes(self, call: OpCall) -> tuple[Any, int]:
        """The attributes as native code takes them, and how many numbers they are."""
        encoded: list[int | float] = []
        for attribute in op_spec(call.op).attributes:
            value = call.attributes[attribute.name]
            if attribute.choices:
                encoded.append(attribute.choices.index(value))
            elif attribute.kind is tuple:
                encoded.append(sum(1 << axis for axis in value if axis < MAX_NDIM))
            elif attribute.kind is list:
                encoded += [len(value), *value, *[0] * (MAX_LIST - len(value))]
            else:
                encoded.append(value)
        values = self.library.ffi.new("PxAttr[]", max(len(encoded), 1))
        for index, number in enumerate(encoded):
            if isinstance(number, float):
                values[index].f = number
            else:
                values[index].i = number
        return values, len(encoded)

    def fill_operand(self, tensor: Any, op: str, index: int, view: View, *, with_data: bool) -> None:
        """Describes a view to native code (symbolic sizes by their factor), as it is in memory."""
        tensor.dtype, tensor.layout, tensor.ndim = view.dtype.code, _STRIDED, len(view.shape)
        tensor.flags = _CONTIGUOUS if view.is_contiguous else 0
        for axis, (size, stride) in enumerate(zip(view.shape, view.strides, strict=True)):
            tensor.shape[axis] = size.factor if isinstance(size, Dim) else size
            tensor.strides[axis] = 0 if isinstance(stride, Dim) else stride
        if with_data:
            tensor.data = address(view.buffer.readable(HOST)[0], view.offset)


class NativeKernel:
    """A kernel of a native library."""

    def __init__(self, backend: NativeCalls, op: str, entry: Any) -> None:
        self.backend, self.op, self.entry = backend, op, entry

    def accepts(self, call: OpCall) -> str | None:
        """What the library's own predicate says."""
        views = (*call.inputs, *call.outputs)
        if len(views) > MAX_OPERANDS or any(len(view.shape) > MAX_NDIM for view in views):
            return f"{self.backend.name}: {self.op}: more than {MAX_OPERANDS} operands or {MAX_NDIM} dimensions"
        if any(view.dtype.is_quantized and not view.is_contiguous for view in views):
            return f"{self.backend.name}: {self.op}: a quantized operand is not contiguous"
        struct, _keep = self.backend.build_call(call, with_data=False)
        if self.entry.accepts(struct) == OK:
            return None
        kinds = ", ".join(f"{view.dtype.name}{list(view.shape)}" for view in call.inputs)
        return f"{self.backend.name}: {self.op} declines {kinds}"

    def launch(self, call: OpCall) -> None:
        """Runs on the pool."""
        self.backend.launch(self, call)

    def launcher(self, call: OpCall) -> Launcher | None:
        """What runs small calls like this one without describing each of them anew; None where it cannot."""
        return self.backend.launcher(self, call)

    def pointer(self, storage: Any) -> Any:
        """A char pointer, which keeps the storage alive."""
        return self.backend.library.ffi.from_buffer(storage)

    def workspace_of(self, struct: Any, num_threads: int) -> int:
        """Bytes of scratch memory for a filled PxCall on that many threads."""
        if self.entry.workspace == self.backend.library.ffi.NULL:
            return 0
        return int(self.entry.workspace(struct, num_threads))

    def workspace_bytes(self, call: OpCall) -> int:
        """Bytes of scratch memory for a call at its largest shapes."""
        struct, _keep = self.backend.build_call(call, with_data=False)
        return self.workspace_of(struct, self.backend.num_threads)


INSTANCES: list[NativeCalls] = []
"""The native libraries in use in this process."""


def native_seconds() -> float:
    """Seconds of wall clock that this process has spent inside native kernels and command lists so far."""
    return sum(backend.native_ns() for backend in INSTANCES) * 1e-9
