"""Kernels for custom ops, or better ones for ops of the core, and the backend that brings them to the host's memory."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from perfxapi.backend import REGISTRY, Backend, BackendManifest, Kernel, OpCall
from perfxapi.custom.broken import BrokenKernel
from perfxapi.custom.compiler import check_name, compile_library
from perfxapi.custom.device_kernels import DeviceKernel, DeviceKernels
from perfxapi.errors import InvalidArgumentError, KernelError, PluginError, UnknownNameError
from perfxapi.memory import HOST, View
from perfxapi.native import JoinedKernels, NativeLibrary
from perfxapi.ops.spec import OpSpec, op_spec
from perfxapi.reference_backend import ReferenceKernel

PRIORITY = 500
"""Above the host backends: a kernel that somebody wrote for an op is there to be used."""
THIS_PROGRAM = "this program"
"""Who brings the kernels that `add_kernels` registers, in the place of a distribution."""
Accepts = Callable[[OpCall], str | None]


class Kernels(Protocol):
    """Where kernels come from."""

    @property
    def ops(self) -> tuple[str, ...]:
        """The ops they are for."""

    def make(self, name: str) -> dict[str, Kernel]:
        """The kernel for each op. Raises PerfXError."""


@dataclass(frozen=True, slots=True)
class PythonKernel:
    """A Python function as a kernel: it takes NumPy arrays and attributes by name, as the op's reference does, and
    returns an array or a tuple of them. `accepts(call)` says None, or why not; without it every call is taken.
    """

    op: str
    function: Callable[..., Any]
    accepts: Accepts | None = None

    @property
    def ops(self) -> tuple[str, ...]:
        """The one op."""
        return (self.op,)

    def make(self, name: str) -> dict[str, Kernel]:
        """A kernel that calls the function. Raises InvalidArgumentError where it cannot take the op's operands."""
        spec = op_spec(self.op)
        check_signature(self.function, spec)
        return {self.op: _FunctionKernel(replace(spec, reference=self.function), self.accepts)}


@dataclass(frozen=True, slots=True)
class SourceKernels:
    """Kernels in C or C++ that are compiled when the first of `ops` is used, and kept (`compile_library`).

    `source` is the text or the path of one file that exports `perfx_library`, most simply by PERFX_LIBRARY of
    `perfx/kernel.h`.
    """

    ops: tuple[str, ...]
    source: str | Path
    language: str = "c"
    flags: tuple[str, ...] = ()

    def make(self, name: str) -> dict[str, Kernel]:
        """Compiles, loads and checks. Raises CompileError or PluginError."""
        path = compile_library(name, self.source, self.language, self.flags)
        return _kernels_of(name, path, self.ops)


@dataclass(frozen=True, slots=True)
class LibraryKernels:
    """Kernels in a shared library that was built before, in whatever language, and exports `perfx_library`."""

    ops: tuple[str, ...]
    path: str | Path

    def make(self, name: str) -> dict[str, Kernel]:
        """Loads and checks. Raises PluginError."""
        return _kernels_of(name, Path(self.path).absolute(), self.ops)  # a bare name would be searched for elsewhere


def _kernels_of(name: str, path: Path, ops: Sequence[str]) -> dict[str, Kernel]:
    joined = JoinedKernels(name, NativeLibrary(path))
    missing = sorted(set(ops) - set(joined.kernel_ops()))
    if missing:
        there = ", ".join(sorted(joined.kernel_ops())) or "none"
        raise PluginError(f"{path}: it has no kernel for {', '.join(missing)}; it has: {there}")
    return {op: joined.kernels(op)[0] for op in ops}


class _FunctionKernel(ReferenceKernel):
    """Runs a function in the place of the reference."""

    def __init__(self, spec: OpSpec, accepts: Accepts | None) -> None:
        super().__init__(spec)
        self._accepts = accepts

    def accepts(self, call: OpCall) -> str | None:
        """What the user's predicate says; where it raises, that is the refusal.

        Raises InvalidArgumentError where it says neither None nor a text: True and False could mean either.
        """
        if self._accepts is None:
            return None
        try:
            answer = self._accepts(call)
        except Exception as error:  # whatever a stranger's predicate raises must not end the call
            return f"{self.op}: {_place_of(self._accepts)}accepts raised {type(error).__name__}: {error}"
        if answer is None or isinstance(answer, str):
            return answer
        wanted = "it must return None for a call that it takes, and else the reason as a text"
        raise InvalidArgumentError(f"{self.op}: {_place_of(self._accepts)}accepts returned {answer!r}: {wanted}")

    def store(self, view: View, value: Any) -> None:
        """Copies one result. Raises KernelError where it has not the shape of the output: nothing is broadcast."""
        if np.shape(value) != view.shape:
            place = _place_of(self.spec.reference)
            raise KernelError(f"{self.op}: {place}it returned shape {np.shape(value)} where {view.shape} is expected")
        super().store(view, value)


class CustomKernels(Backend):
    """Kernels from any number of sources, each made when one of its ops is first asked for.

    Raises InvalidArgumentError for a name that is no lower-case identifier, and for ops that are no tuple.
    """

    def __init__(self, name: str, parts: Iterable[Kernels]) -> None:
        check_name(name)
        self.name, self._parts = name, tuple(parts)
        for part in self._parts:
            if isinstance(part.ops, str):
                raise InvalidArgumentError(
                    f"{name}: ops must be a tuple of names; got {part.ops!r}: write ({part.ops!r},)"
                )
        self._made: dict[int, dict[str, Kernel]] = {}
        self._lock = threading.Lock()

    def kernels(self, op: str) -> Sequence[Kernel]:
        """The kernels for an op, in the order of their sources; those that cannot be made fail when they are run."""
        return [self._kernels_of(number)[op] for number, part in enumerate(self._parts) if op in part.ops]

    def kernel_ops(self) -> Iterator[str]:
        """The ops that the sources name."""
        return iter(dict.fromkeys(op for part in self._parts for op in part.ops))

    def make_all(self) -> None:
        """Makes every kernel now. Raises what goes wrong."""
        for number, part in enumerate(self._parts):
            self._made[number] = part.make(self.name)

    def _kernels_of(self, number: int) -> dict[str, Kernel]:
        with self._lock:
            if number not in self._made:
                part = self._parts[number]
                try:
                    self._made[number] = part.make(self.name)
                except Exception as error:  # whatever a stranger's source raises: it is the reason of a fallback
                    self._made[number] = {op: BrokenKernel(op, error) for op in part.ops}
            return self._made[number]


def kernels_manifest(name: str, *parts: Kernels | DeviceKernel, priority: int = PRIORITY) -> BackendManifest:
    """What a plugin's `register_backends` hook registers: kernels that join the host's memory, or kinds of devices.

    They serve every device there, before backends of lower priority. Nothing is compiled or loaded before one of their
    ops is used; what then goes wrong is a fallback that names the cause.
    """
    backend = _backend_of(name, parts)
    joins = backend.kinds if isinstance(backend, DeviceKernels) else HOST
    return BackendManifest(name, lambda: backend, priority=priority, joins=joins)


def add_kernels(name: str, *parts: Kernels | DeviceKernel, priority: int = PRIORITY) -> None:
    """Gives kernels to ops that are registered, in this process, at once.

    Raises UnknownNameError for an op that is not, CompileError, PluginError (a name that is taken, a library that does
    not fit) or InvalidArgumentError (a function that cannot take the op's operands).
    """
    manifest = kernels_manifest(name, *parts, priority=priority)
    backend = manifest.load()
    for op in backend.kernel_ops():
        op_spec(op)
    REGISTRY.entries()
    backend.make_all()  # type: ignore[attr-defined]
    REGISTRY.register(manifest, THIS_PROGRAM)


def _backend_of(name: str, parts: Sequence[Kernels | DeviceKernel]) -> CustomKernels | DeviceKernels:
    on_devices = [part for part in parts if isinstance(part, DeviceKernel)]
    on_host = [part for part in parts if not isinstance(part, DeviceKernel)]
    if on_devices and on_host:
        raise InvalidArgumentError(
            f"{name}: kernels for devices need a name of their own, apart from those for the host"
        )
    return DeviceKernels(name, on_devices) if on_devices else CustomKernels(name, on_host)


def remove_kernels(name: str) -> None:
    """Takes back what `add_kernels` gave. Raises UnknownNameError for a name under which it gave nothing."""
    given = [entry.manifest.name for entry in REGISTRY.entries() if entry.distribution == THIS_PROGRAM]
    if name not in given:
        raise UnknownNameError("kernels of this program", name, given)
    REGISTRY.unregister(name)


def check_signature(function: Callable[..., Any], spec: OpSpec) -> None:
    """Raises InvalidArgumentError, naming the place, unless a function takes an op's inputs and attributes."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # written in C: it does not say
        return
    names = [attribute.name for attribute in spec.attributes]
    try:
        signature.bind(*spec.inputs, **dict.fromkeys(names))
    except TypeError as error:
        called = getattr(function, "__qualname__", repr(function))
        wanted = ", ".join([*spec.inputs, *(f"{name}=..." for name in names)])
        message = f"{spec.name}: {_place_of(function)}{called}{signature} cannot be called with ({wanted}): {error}"
        raise InvalidArgumentError(message) from None


def _place_of(function: Callable[..., Any]) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}: " if code is not None else ""
