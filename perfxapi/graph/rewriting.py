"""A graph being rewritten: what patterns of fusion look at, and how they put a node in the place of others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from perfxapi.graph.ir import Graph, Node, Value, is_whole
from perfxapi.memory import View
from perfxapi.ops.spec import op_spec

Supports = Callable[[Node], bool]
"""Whether the target runs a (fused) node with a kernel of its own."""


class Rewriter:
    """One graph being rewritten. `produced_by`, `uses` and `readers` describe it as it stands.

    Nodes keep their places while patterns are matched, a removed one leaving None: no rewrite goes through the graph.
    """

    def __init__(self, graph: Graph, supports: Supports) -> None:
        self.supports = supports
        self.places: list[Node | None] = list(graph.nodes)
        self.uses = graph.uses()
        self.produced_by = {value: node for node in graph.nodes for value in node.outputs}
        self.readers: dict[Value, list[Node]] = {}
        # a value that an op writes in place must be read where its readers stood
        self._mutated = {node.inputs[index].buffer for node in graph.nodes for index in node.spec.mutates}
        self._place_of = {id(node): place for place, node in enumerate(graph.nodes)}
        for node in graph.nodes:
            for value in node.values_read():
                self.readers.setdefault(value, []).append(node)

    def producer(self, view: View, op: str) -> Node | None:
        """The node of kind `op` whose whole result `view` is, where nothing else uses it."""
        if not is_whole(view):
            return None
        node = self.produced_by.get(view.buffer)
        return node if node is not None and node.spec.name == op and self.uses[view.buffer] == 1 else None

    def in_order(self, nodes: Iterable[Node]) -> list[Node]:
        """Nodes in the order in which they stand."""
        return sorted(nodes, key=lambda node: self._place_of[id(node)])

    def replace(self, fused: Node, removed: Sequence[Node], at: Node) -> bool:
        """Puts `fused` in the place of `at` (one of `removed`), if these are for one device, which supports it."""
        fused.device = at.device
        if any(node.device != at.device for node in removed):
            return False
        if not self._mutated.isdisjoint(view.buffer for view in fused.inputs) or not self.supports(fused):
            return False
        place = self._place_of[id(at)]
        for node in removed:
            self.places[self._place_of.pop(id(node))] = None
            for value in node.values_read():
                self.uses[value] -= 1
                self.readers[value].remove(node)
        self.places[place] = fused
        self._place_of[id(fused)] = place
        self.produced_by.update(dict.fromkeys(fused.outputs, fused))
        for value in fused.values_read():
            self.uses[value] += 1
            self.readers[value].append(fused)
        return True


def make_node(op: str, inputs: Iterable[View], outputs: Iterable[Value], **attributes: Any) -> Node:
    """A node of an op by name, its attributes checked."""
    spec = op_spec(op)
    return Node(spec, tuple(inputs), tuple(outputs), spec.check_attributes(attributes))
