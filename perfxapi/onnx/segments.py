"""How a program runs: in segments, each one plan, cut where the values of a result decide what comes next.

A segment is traced with the shapes that its operands have, so sizes are numbers, and what follows from shapes alone is
computed while tracing. Where a translation needs values (a shape that is data, a condition), they are made known in one
of two ways. Of small operands of the segment, the values become part of the segment's key: the plan is made for them.
Otherwise the segment ends before that step, which then runs by itself, on concrete arrays, between two plans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from perfxapi.array import Array, is_traced, on_host
from perfxapi.device import Device
from perfxapi.graph import Executable, Graph, Node, compile
from perfxapi.graph import Value as GraphValue
from perfxapi.graph.trace import GraphTracer
from perfxapi.memory import View
from perfxapi.onnx.program import Program, Scope, Step, inline
from perfxapi.onnx.registry import Value, ValueNeeded
from perfxapi.ops.spec import INTEGERS, TensorSpec

_MAX_SEGMENTS = 256
"""Plans that a program keeps; the oldest goes first."""
_MAX_ELEMENTS = 1024
"""Elements of an operand (of whole numbers or truth values) whose values may be part of a key."""
_MAX_VARIANTS = 16
"""Different values of one operand for which plans are made; past them, the step that needs them runs by itself."""

Key: TypeAlias = tuple[Any, ...]


class _Opaque:
    """Stands in a trace for a value that no device holds (strings, ...): steps that read it run by themselves."""


_OPAQUE: Final = _Opaque()


@dataclass(frozen=True, slots=True)
class Planned:
    """Consecutive steps and the plan that runs them; without one, they run by themselves, or need nothing to run."""

    steps: tuple[Step, ...]
    executable: Executable | None
    between_plans: bool = False


class Segment:
    """Steps `first` to `stop` (exclusive) as one plan, for operands of given shapes and dtypes.

    `results` are the values that outlive it, by name: traced arrays, and those known already.
    """

    def __init__(self, first: int, stop: int, device: Device, tracer: GraphTracer, results: Mapping[str, Value]):
        self.first, self.stop, self._device, self._results = first, stop, device, results
        items = (item for name, value in results.items() for item in _items(name, value))
        outputs = {place: item.view for place, item in items if isinstance(item, Array) and is_traced(item.view)}
        self._outputs = frozenset(outputs)
        graph = _pruned(tracer, outputs)
        self._feeds = tuple(graph.inputs)
        self.executable = compile(graph, device=device, bounds={}) if graph.nodes else None
        self._bound = self.executable.bind() if self.executable is not None else None

    def run(self, scope: Scope) -> dict[str, Value]:
        """What is live after the segment and was made by it."""
        feeds = {place: item for name, value in scope.items() for place, item in _items(name, value)}
        if self._bound is not None:
            for name in self._feeds:
                self._bound.inputs[name][...] = _stored(feeds[name])
            self._bound.run()
        return {name: self._result(name, value, feeds) for name, value in self._results.items()}

    def _result(self, name: str, value: Value, feeds: Scope) -> Value:
        if isinstance(value, list):
            return [self._result(f"{name}[{index}]", item, feeds) for index, item in enumerate(value)]
        if name not in self._outputs:
            return value
        assert isinstance(value, Array)
        if self._bound is None:  # nothing but views of operands
            view = value.view
            whole = np.ascontiguousarray(_stored(feeds[view.buffer.name]))
            seen = View(None, view.dtype, view.shape, view.strides, view.offset).over(whole.reshape(-1).view(np.uint8))
            return on_host(np.array(seen), value.dtype, self._device)
        return on_host(self._bound.outputs[name].copy(), value.dtype, self._device)


def _pruned(tracer: GraphTracer, outputs: dict[str, View]) -> Graph:
    """The graph of what was traced, without nodes and inputs that no output needs."""
    needed = {view.buffer for view in outputs.values()}
    nodes: list[Node] = []
    for node in reversed(tracer.nodes):
        if node.spec.mutates or not needed.isdisjoint(node.outputs):
            nodes.append(node)
            needed.update(node.values_read())
    inputs = {name: value for name, value in tracer.inputs.items() if value in needed}
    return Graph(inputs, nodes[::-1], outputs)


def _items(name: str, value: Value) -> list[tuple[str, Value]]:
    """A tensor under its name; the items of a sequence under names of their own."""
    if isinstance(value, list):
        return [pair for index, item in enumerate(value) for pair in _items(f"{name}[{index}]", item)]
    return [(name, value)]


def _stored(value: Value) -> npt.NDArray[Any]:
    """A concrete array's elements on the host as they are stored (bfloat16 as bits)."""
    assert isinstance(value, Array)
    return value.view.host()


class Runner:
    """Runs one program on a device, and keeps the plans it made."""

    def __init__(self, program: Program, device: Device) -> None:
        self.program, self.device = program, device
        self._segments: dict[Key, Segment | None] = {}
        self._by_value: dict[int, dict[str, set[bytes]]] = {}
        self._blocked: set[tuple[int, str]] = set()
        self._runners: dict[Program, Runner] = {}

    def run(self, outer: Scope, operands: Sequence[Value]) -> tuple[Value, ...]:
        """The program's results. `outer` is the scope around it."""
        program = self.program
        scope = program.start(outer, operands)
        index = 0
        while index < len(program.steps):
            live = program.live(index)
            scope = {name: value for name, value in scope.items() if name in live}
            segment = self._segment(index, scope)
            if segment is None:
                scope.update(program.steps[index].apply({**program.constants, **scope}, self._enter))
                index += 1
            else:
                scope.update(segment.run(scope))
                index = segment.stop
        return program.results({**program.constants, **scope})

    def _enter(self, program: Program, scope: Scope, operands: Sequence[Value]) -> tuple[Value, ...]:
        """Runs a subgraph of a step that runs by itself."""
        if program not in self._runners:
            self._runners[program] = Runner(program, self.device)
        return self._runners[program].run(scope, operands)

    def planned(self) -> list[Planned]:
        """What runs how, in the order in which plans were made; subgraphs that run by themselves come after."""
        found = []
        for key, segment in self._segments.items():
            if segment is None:
                found.append(Planned((self.program.steps[key[0]],), None, between_plans=True))
            else:
                found.append(Planned(self.program.steps[segment.first : segment.stop], segment.executable))
        return found + [planned for runner in self._runners.values() for planned in runner.planned()]

    # ---- making segments

    def _segment(self, index: int, scope: Scope) -> Segment | None:
        """The plan from step `index` on; None where that step runs by itself."""
        key = self._key(index, scope)
        if key not in self._segments:
            self._count_variants(index, scope)
            segment = self._make(index, scope)
            while len(self._segments) >= _MAX_SEGMENTS:
                del self._segments[next(iter(self._segments))]
            key = self._key(index, scope)  # it may have come to depend on values
            self._segments[key] = segment
        return self._segments[key]

    def _key(self, index: int, scope: Scope) -> Key:
        by_value = self._by_value.get(index, {})
        return (index, *((name, _signature(value, name in by_value)) for name, value in scope.items()))

    def _count_variants(self, index: int, scope: Scope) -> None:
        """Notes the values for which a plan is about to be made; of an operand with too many, they are left out."""
        by_value = self._by_value.get(index, {})
        for name, seen in list(by_value.items()):
            seen.add(_stored(scope[name]).tobytes())
            if len(seen) > _MAX_VARIANTS:
                self._blocked.add((index, name))
                del by_value[name]

    def _make(self, index: int, scope: Scope) -> Segment | None:
        while True:
            tracer = GraphTracer()
            by_value = self._by_value.get(index, {})
            traced: dict[str, Any] = dict(self.program.constants)
            traced.update((name, self._operand(tracer, name, value, name in by_value)) for name, value in scope.items())
            stop, needed = self._trace(index, traced)
            if needed is not None and self._specialize(index, tracer, needed, scope):
                continue
            if stop == index:
                return None
            made = {name: traced[name] for name in self.program.live(stop) if name in traced}
            results = {n: v for n, v in made.items() if n not in scope and n not in self.program.constants}
            return Segment(index, stop, self.device, tracer, results)

    def _trace(self, index: int, traced: dict[str, Any]) -> tuple[int, Array | None]:
        """Traces from step `index` on; where it stopped, and the array whose values were needed to go on."""
        for place, step in enumerate(self.program.steps[index:], index):
            if step.translation is not None and step.translation.between_plans:
                return place, None
            if any(traced.get(name) is _OPAQUE for name in step.reads):
                return place, None
            try:
                traced.update(step.apply(traced, inline))
            except ValueNeeded as need:
                return place, need.array
        return len(self.program.steps), None

    def _specialize(self, index: int, tracer: GraphTracer, needed: Array, scope: Scope) -> bool:
        """Makes the values behind `needed` part of the key of what starts at `index`; False where they may not be."""
        names = _sources(tracer, needed.view.buffer)
        for name in names:
            value = scope.get(name)
            if (index, name) in self._blocked or not isinstance(value, Array) or int(value.size) > _MAX_ELEMENTS:
                return False
            if value.dtype.kind not in ("bool", *INTEGERS):  # data: the next values would be others
                return False
        by_value = self._by_value.setdefault(index, {})
        by_value.update((name, {_stored(scope[name]).tobytes()}) for name in names)
        return bool(names)

    def _operand(self, tracer: GraphTracer, name: str, value: Value, by_value: bool) -> Any:
        """How the trace sees an operand: constants and what the key holds as they are, all else without values."""
        if not _is_held(value):
            return _OPAQUE
        if isinstance(value, list):
            return [self._operand(tracer, f"{name}[{index}]", item, False) for index, item in enumerate(value)]
        if not isinstance(value, Array) or value.view.buffer.constant:
            return value
        if by_value:
            return on_host(_stored(value).copy(), value.dtype, self.device)
        return tracer.add_input(name, TensorSpec(value.shape, value.dtype), self.device)


def _sources(tracer: GraphTracer, value: GraphValue) -> list[str]:
    """The inputs that a traced value is computed from."""
    needed = {value}
    for node in reversed(tracer.nodes):
        if not needed.isdisjoint(node.outputs):
            needed.update(node.values_read())
    return [name for name, source in tracer.inputs.items() if source in needed]


def _is_held(value: Value) -> bool:
    """Whether a device can hold a value, or there is none."""
    if isinstance(value, list):
        return all(_is_held(item) for item in value)
    return value is None or isinstance(value, Array)


def _signature(value: Value, by_value: bool) -> Any:
    """What of an operand a plan depends on."""
    if isinstance(value, list):
        return tuple(_signature(item, False) for item in value)
    if not isinstance(value, Array):
        return value is None
    if value.view.buffer.constant:
        return id(value.view.buffer)
    return value.shape, value.dtype.code, _stored(value).tobytes() if by_value else b""
