"""The reference backend, device `numpy:0`: runs the NumPy reference that each op has in its spec (`perfxapi/ops`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from perfxapi import dtypes
from perfxapi.backend import Backend, BackendManifest, Kernel, OpCall
from perfxapi.device import Device
from perfxapi.memory import HOST, View
from perfxapi.ops.spec import OpSpec, QuantizedArray, all_ops, op_spec

DEVICE = Device("numpy", 0, f"NumPy {np.__version__} (reference)", HOST)


def reference_operand(view: View) -> Any:
    """A view as references take it: a NumPy array, QuantizedArray, or bfloat16 widened to float32."""
    if view.dtype.is_quantized:
        cached = view.buffer.derived.get("quantized") if view.buffer.constant else None
        if cached is None:
            cached = QuantizedArray(view.host(), view.dtype)
            if view.buffer.constant:
                view.buffer.derived["quantized"] = cached
        return cached
    array = view.host()
    return dtypes.bfloat16_to_float32(array) if view.dtype is dtypes.bfloat16 else array


class ReferenceKernel:
    """Runs an OpSpec's reference."""

    def __init__(self, spec: OpSpec) -> None:
        self.op, self.spec = spec.name, spec

    def accepts(self, call: OpCall) -> str | None:
        """Everything."""
        return None

    def workspace_bytes(self, call: OpCall) -> int:
        """None: NumPy allocates for itself."""
        return 0

    def launch(self, call: OpCall) -> None:
        """Computes in NumPy and copies to the outputs."""
        operands = [reference_operand(view) for view in call.inputs]
        results = self.spec.reference(*operands, **call.attributes)
        for index in self.spec.mutates:
            if call.inputs[index].dtype is dtypes.bfloat16:  # the reference has written to the widened values
                np.copyto(call.inputs[index].host(), dtypes.float32_to_bfloat16(operands[index]))
        if not call.outputs:
            return
        for view, value in zip(call.outputs, results if isinstance(results, tuple) else (results,), strict=True):
            self.store(view, value)

    def store(self, view: View, value: Any) -> None:
        """Copies one result to its output."""
        stored = dtypes.float32_to_bfloat16(value) if view.dtype is dtypes.bfloat16 else value
        np.copyto(view.over(view.buffer.readable(HOST)[0]), stored, casting="same_kind")


class ReferenceBackend(Backend):
    """NumPy on the host."""

    name = "numpy"

    def __init__(self) -> None:
        self._kernels: dict[str, ReferenceKernel] = {}

    def devices(self) -> Sequence[Device]:
        """One."""
        return (DEVICE,)

    def kernels(self, op: str) -> Sequence[Kernel]:
        """The reference of the op."""
        if op not in self._kernels:
            self._kernels[op] = ReferenceKernel(op_spec(op))
        return (self._kernels[op],)

    def kernel_ops(self) -> Iterable[str]:
        """All ops."""
        return (spec.name for spec in all_ops())


MANIFEST = BackendManifest("numpy", ReferenceBackend, ("numpy",), priority=-100)
