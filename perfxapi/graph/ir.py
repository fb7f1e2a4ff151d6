"""The graph: nodes and values, small and plain."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from perfxapi.device import Device
from perfxapi.dims import Dim, Shape
from perfxapi.errors import GraphError
from perfxapi.memory import View
from perfxapi.ops.spec import OpSpec, TensorSpec


class Value:
    """An input or a node's result. It stands where a Buffer stands in a View until a plan gives it memory."""

    __slots__ = ("name", "spec", "tracer")
    constant = False
    home = None

    def __init__(self, name: str, spec: TensorSpec, tracer: Any = None) -> None:
        self.name, self.spec, self.tracer = name, spec, tracer

    def view(self) -> View:
        """The whole value."""
        return View(self, self.spec.dtype, self.spec.shape)

    def __repr__(self) -> str:
        return f"%{self.name}"


@dataclass(slots=True)
class Node:
    """One op. Inputs are views of values, constants or state; outputs are whole values.

    `device` is set where the traced code named one for this op (`use_device`); others run on the plan's.
    """

    spec: OpSpec
    inputs: tuple[View, ...]
    outputs: tuple[Value, ...]
    attributes: dict[str, Any]
    device: Device | None = None

    def values_read(self) -> Iterator[Value]:
        """The values among the inputs."""
        return (view.buffer for view in self.inputs if isinstance(view.buffer, Value))

    def values_written(self) -> Iterator[Value]:
        """The values that are written in place."""
        views = (self.inputs[index] for index in self.spec.mutates)
        return (view.buffer for view in views if isinstance(view.buffer, Value))

    def __repr__(self) -> str:
        attributes = "".join(f", {name}={value}" for name, value in self.attributes.items())
        results = ", ".join(map(repr, self.outputs)) or "()"
        place = f" on {self.device}" if self.device is not None else ""
        return f"{results} = {self.spec.name}({', '.join(map(render_view, self.inputs))}{attributes}){place}"


@dataclass(slots=True)
class Graph:
    """Nodes in an order in which they can run, named inputs and outputs."""

    inputs: dict[str, Value]
    nodes: list[Node]
    outputs: dict[str, View] = field(default_factory=dict)

    def uses(self) -> dict[Value, int]:
        """How many times each value is read, by nodes and as an output of the graph."""
        counts: dict[Value, int] = {}
        for value in self._all_reads():
            counts[value] = counts.get(value, 0) + 1
        return counts

    def _all_reads(self) -> Iterator[Value]:
        for node in self.nodes:
            yield from node.values_read()
        yield from (view.buffer for view in self.outputs.values() if isinstance(view.buffer, Value))

    def validate(self) -> None:
        """Raises GraphError where a value is read before it is made or made twice."""
        known = set(self.inputs.values())
        for node in self.nodes:
            for value in node.values_read():
                if value not in known:
                    raise GraphError(f"{node.spec.name} reads {value!r}, which nothing before it makes")
            for value in node.outputs:
                if value in known:
                    raise GraphError(f"{value!r} is made twice")
                known.add(value)

    def render(self) -> str:
        """The graph as text, a line for each input, node and output."""
        lines = [f"input {value!r}: {value.spec.dtype.name}{list(value.spec.shape)}" for value in self.inputs.values()]
        lines += [repr(node) for node in self.nodes]
        return "\n".join([*lines, *(f"output {name} = {render_view(view)}" for name, view in self.outputs.items())])


def render_view(view: View) -> str:
    """A view as text: the name, and its shape where it is not the whole."""
    name = repr(view.buffer) if isinstance(view.buffer, Value) else (view.buffer.name or "constant")
    whole = isinstance(view.buffer, Value) and view.shape == view.buffer.spec.shape and not view.offset
    return name if whole else f"{name}{list(view.shape)}"


def is_whole(view: View) -> bool:
    """Whether a view covers all of a value in row-major order (its shape may differ)."""
    if not isinstance(view.buffer, Value) or view.offset or not view.is_contiguous:
        return False
    return _count(view.shape) == _count(view.buffer.spec.shape)


def _count(shape: Shape) -> tuple[int, tuple[str, ...]]:
    total, names = 1, []
    for size in shape:
        if isinstance(size, Dim):
            names.append(size.name)
            total *= size.factor
        else:
            total *= size
    return total, tuple(names)


def same_view(one: View, other: View) -> bool:
    """Whether two views are the same elements in the same order."""
    return one.buffer is other.buffer and (one.shape, one.strides, one.offset) == (
        other.shape,
        other.strides,
        other.offset,
    )


def symbols(graph: Graph) -> set[str]:
    """The names of the symbolic dimensions of a graph's inputs."""
    shapes: Iterable[Shape] = (value.spec.shape for value in graph.inputs.values())
    return {size.name for shape in shapes for size in shape if isinstance(size, Dim)}
