"""The calls of nodes at the upper bounds of their sizes, without memory: what kernels are asked about."""

from __future__ import annotations

from collections.abc import Mapping

from perfxapi.backend import OpCall
from perfxapi.device import Device
from perfxapi.dispatch import choices
from perfxapi.graph.fuse import fuse
from perfxapi.graph.ir import Graph, Node
from perfxapi.memory import bind


class BoundCalls:
    """The calls of nodes at their largest sizes, each made once."""

    def __init__(self, bounds: Mapping[str, int]) -> None:
        self.bounds = bounds
        self._calls: dict[int, tuple[Node, OpCall]] = {}

    def at(self, node: Node) -> OpCall:
        """The call of a node."""
        if id(node) not in self._calls:
            inputs = tuple(bind(view, view.buffer, self.bounds) for view in node.inputs)
            outputs = tuple(bind(v.view(), v, self.bounds) for v in node.outputs)  # type: ignore[arg-type]
            self._calls[id(node)] = node, OpCall(node.spec.name, inputs, outputs, node.attributes)
        return self._calls[id(node)][1]

    def fused(self, graph: Graph, device: Device) -> Graph:
        """The graph with every pattern fused for which the device has a kernel (nodes of others: theirs)."""
        return fuse(graph, lambda node: not next(choices(self.at(node), node.device or device)).reason)
