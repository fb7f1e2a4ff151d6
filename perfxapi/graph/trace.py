"""Tracing: model code, run once on arrays without values, becomes a Graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from perfxapi.array import Array
from perfxapi.device import Device
from perfxapi.dispatch import infer
from perfxapi.errors import TraceError
from perfxapi.graph.ir import Graph, Node, Value
from perfxapi.memory import Buffer, View
from perfxapi.ops.spec import OpSpec, TensorSpec
from perfxapi.policy import device_scope, get_device


class GraphTracer:
    """Records every op call on traced arrays as a node.

    Within a `use_device` that the traced code enters, nodes are for the device that it names.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.inputs: dict[str, Value] = {}
        self._counts: dict[str, int] = {}
        self._scope = device_scope()

    def add_input(self, name: str, spec: TensorSpec, device: Device) -> Array:
        """An array that stands for a named input."""
        value = Value(name, spec, self)
        self.inputs[name] = value
        return Array(value.view(), device)

    def record(self, spec: OpSpec, inputs: Sequence[View], attributes: Mapping[str, Any]) -> tuple[View, ...]:
        """Adds a node; returns views of its results. A captured array becomes a constant of the graph."""
        for view in inputs:
            if isinstance(view.buffer, Buffer) and view.buffer.home is None:
                view.buffer.constant = True
            elif isinstance(view.buffer, Value) and view.buffer.tracer is not self:
                raise TraceError(f"{spec.name}: operand {view.buffer!r} belongs to another trace")
        checked = spec.check_attributes(attributes)
        specs = infer(spec, inputs, checked)
        outputs = tuple(Value(self._name(spec.name), result, self) for result in specs)
        device = get_device() if device_scope() is not self._scope else None
        self.nodes.append(Node(spec, tuple(inputs), outputs, checked, device))
        return tuple(value.view() for value in outputs)

    def _name(self, op: str) -> str:
        self._counts[op] = self._counts.get(op, 0) + 1
        return f"{op}_{self._counts[op]}"


def trace(
    function: Callable[..., Any], inputs: Mapping[str, TensorSpec], *, device: Device | str | None = None
) -> Graph:
    """The graph of `function(**inputs)`, which returns an Array or a dict of named Arrays.

    `inputs` gives each argument's shape, with `Dim`s for sizes known only at run time, and dtype. Arrays that the
    function captures become constants; state arrays stay state. Where the function enters `use_device`, what it does
    there is placed on that device, wherever the rest of the graph will run. Raises TraceError where the function asks
    for a value that is not known yet.
    """
    tracer = GraphTracer()
    where = get_device(device)
    arguments = {name: tracer.add_input(name, spec, where) for name, spec in inputs.items()}
    results = function(**arguments)
    named = results if isinstance(results, Mapping) else {"output": results}
    outputs = {}
    for name, array in named.items():
        if not isinstance(array, Array) or not isinstance(array.view.buffer, Value):
            raise TraceError(f"output {name!r} of the traced function does not come from an op on its inputs")
        outputs[name] = array.view
    graph = Graph(tracer.inputs, tracer.nodes, outputs)
    graph.validate()
    return graph
