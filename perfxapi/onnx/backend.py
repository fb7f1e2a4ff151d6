"""The interface that the ONNX project's own backend tests drive (`onnx.backend.base`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt
import onnx
from onnx.backend import base

from perfxapi.onnx.model import Model
from perfxapi.onnx.registry import Value, to_host
from perfxapi.policy import all_devices


class Prepared(base.BackendRep):
    """A model that was prepared to run."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def run(self, inputs: Sequence[Any], **_: Any) -> tuple[Any, ...]:
        """The outputs for inputs in order, as NumPy arrays (lists of them for sequences)."""
        return tuple(_as_numpy(value) for value in self.model.results(self.model.named(inputs)))


class Backend(base.Backend):
    """ONNX's backend interface. A device is "CPU" or any name that perfxapi knows ("opencl:0")."""

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **_: Any) -> Prepared:
        """Loads a model for a device. Raises UnsupportedOperatorError where an operator has no translation."""
        return Prepared(Model(model, _device_name(device)))

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Any = None,  # noqa: ARG003  what the interface passes, and what follows from the node
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Runs one node on NumPy inputs; `opset_version` is that of the newest operators if it is not given."""
        names = [name for name in node.input if name]
        ports = [onnx.helper.make_empty_tensor_value_info(name) for name in names]
        results = [onnx.helper.make_empty_tensor_value_info(name) for name in node.output if name]
        graph = onnx.helper.make_graph([node], "node", ports, results)
        version = kwargs.get("opset_version", onnx.defs.onnx_opset_version())
        opsets = [onnx.helper.make_opsetid(node.domain, version)]
        return cls.prepare(onnx.helper.make_model(graph, opset_imports=opsets), device).run(inputs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether models can run there on this machine."""
        kind, _, index = _device_name(device).partition(":")
        return any(kind == found.kind and int(index or 0) == found.index for found in all_devices())


def _device_name(device: str) -> str:
    """perfxapi's name of a device that ONNX names ("CPU", "CUDA:1")."""
    return device.lower()


def _as_numpy(value: Value) -> npt.NDArray[Any] | list[Any] | dict[Any, Any] | None:
    if isinstance(value, list):
        return [_as_numpy(item) for item in value]
    return value if value is None or isinstance(value, dict) else to_host(value)
