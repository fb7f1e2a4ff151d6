"""A whole backend: a device `skeleton:0` on the host's memory, with one kernel; `device="skeleton"` selects it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from perfxapi import Device
from perfxapi.backend import Backend, BackendManifest, Kernel, OpCall
from perfxapi.hookspecs import hookimpl


class Softmax:
    """The op `softmax` over the last axis. A kernel for another op is another class like this."""

    op = "softmax"

    def accepts(self, call: OpCall) -> str | None:
        """Declines what it would do badly; the reason shows up in `px.explain()`."""
        return None if call.inputs[0].dtype.name == "float32" else "skeleton: softmax takes float32"

    def workspace_bytes(self, call: OpCall) -> int:
        """It needs no scratch memory."""
        return 0

    def launch(self, call: OpCall) -> None:
        """Computes the output; the core has made the operands valid in the memory of the device."""
        x, y = call.inputs[0].host(), call.outputs[0].host()
        powers = np.exp(x - x.max(-1, keepdims=True, initial=-np.inf))
        y[...] = powers / powers.sum(-1, keepdims=True, dtype=np.float64)  # in float32, `verify` finds it inexact


class SkeletonBackend(Backend):
    """One device, one kernel; every other op falls back, is counted, and shows up in `px.explain()`."""

    name = "skeleton"

    def __init__(self) -> None:
        self._kernels = {kernel.op: kernel for kernel in (Softmax(),)}

    def devices(self) -> Sequence[Device]:
        """One, on the host's memory: nothing is ever copied."""
        return (Device("skeleton", 0, "a device of one kernel"),)

    def kernels(self, op: str) -> Sequence[Kernel]:
        """The kernels for an op, best first."""
        return (self._kernels[op],) if op in self._kernels else ()

    def kernel_ops(self) -> Iterable[str]:
        """The ops that have kernels here."""
        return self._kernels


@hookimpl
def register_backends(register: Callable[[BackendManifest], None]) -> None:
    """Cheap: the backend itself is made on first use. A negative priority keeps "auto" away from it."""
    register(BackendManifest("skeleton", SkeletonBackend, ("skeleton",), priority=-50))
