"""How a program runs: in segments, each one plan, cut where the values of a result decide what comes next.

A segment is traced with the shapes that its operands have, so sizes are numbers, and what follows from shapes alone is
computed while tracing. Where a translation needs values (a shape that is data, a condition), they are made known in one
of two ways. Of small operands of the segment, the values become part of the segment's key: the plan is made for them.
Otherwise the segment ends before that step, which then runs by itself, on concrete arrays, between two plans.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from perfxapi.onnx.program import Inlining, Program, Scope, Step
from perfxapi.onnx.registry import Value, ValueNeeded
from perfxapi.ops.spec import INTEGERS, TensorSpec

_MAX_SEGMENTS = 256
_MAX_BYTES = 1 << 28
"""Plans that a program keeps, and the memory of their values; the one that was not used for longest goes first."""
_MAX_ELEMENTS = 1024
"""Elements of an operand (of whole numbers or truth values) whose values may be part of a key."""
_MAX_VARIANTS = 16
"""Different values of one operand for which plans are made; past them, the step that needs them runs by itself."""

Key: TypeAlias = tuple[Any, ...]
Place: TypeAlias = tuple[Any, ...]
"""(name,) of a tensor, (name, index, ...) of an item of a sequence."""


class _Opaque:
    """Stands in a trace for a value that no device holds (strings, ...): steps that read it run by themselves."""


_OPAQUE: Final = _Opaque()


@dataclass(frozen=True, slots=True)
class Planned:
    """Consecutive steps and the plan that runs them; without one, they run by themselves, or need nothing to run."""

    steps: tuple[Step, ...]
    executable: Executable | None
    between_plans: bool = False


class _Trace:
    """A trace of steps that is being made: the inputs of its graph are operands, by their places."""

    def __init__(self, device: Device) -> None:
        self.tracer = GraphTracer()
        self.places: dict[GraphValue, Place] = {}
        self._device = device

    def operand(self, place: Place, value: Array) -> Array:
        """An array without values that stands for an operand."""
        name = f"{place[0]}#{len(self.places)}"  # no two are alike, whatever the names in the file are
        array = self.tracer.add_input(name, TensorSpec(value.shape, value.dtype), self._device)
        self.places[array.view.buffer] = place
        return array

    def sources(self, value: GraphValue) -> list[Place]:
        """The operands that a traced value is computed from."""
        needed = {value}
        for node in reversed(self.tracer.nodes):
            if not needed.isdisjoint(node.outputs):
                needed.update(node.values_read())
        return [place for source, place in self.places.items() if source in needed]

    def graph(self, outputs: dict[str, View]) -> Graph:
        """What was traced, without nodes and inputs that no output needs."""
        needed = {view.buffer for view in outputs.values()}
        nodes: list[Node] = []
        for node in reversed(self.tracer.nodes):
            if node.spec.mutates or not needed.isdisjoint(node.outputs):
                nodes.append(node)
                needed.update(node.values_read())
        inputs = {name: value for name, value in self.tracer.inputs.items() if value in needed}
        return Graph(inputs, nodes[::-1], outputs)


class Segment:
    """Steps `first` to `stop` (exclusive) as one plan, for operands of given shapes and dtypes.

    `results` are the values that outlive it, by name: traced arrays, and those known already.
    """

    def __init__(self, first: int, stop: int, device: Device, trace: _Trace, results: Mapping[str, Value]):
        self.first, self.stop, self._device, self._results = first, stop, device, results
        traced = [(place, item) for name, value in results.items() for place, item in _items((name,), value)]
        views = {place: item.view for place, item in traced if isinstance(item, Array) and is_traced(item.view)}
        self._outputs = {place: str(number) for number, place in enumerate(views)}
        graph = trace.graph({self._outputs[place]: view for place, view in views.items()})
        self._feeds = [(name, trace.places[value]) for name, value in graph.inputs.items()]
        self._places = trace.places
        self.executable = compile(graph, device=device, bounds={}) if graph.nodes else None
        self._bound = self.executable.bind() if self.executable is not None else None
        self.nbytes = sum(self.executable.arena_bytes.values()) if self.executable is not None else 0

    def run(self, scope: Scope) -> dict[str, Value]:
        """What is live after the segment and was made by it, in memory of its own."""
        feeds = {place: item for name, value in scope.items() for place, item in _items((name,), value)}
        if self._bound is not None:
            for name, place in self._feeds:
                self._bound.inputs[name][...] = _stored(feeds[place])
            self._bound.run()
        return {name: self._result((name,), value, feeds) for name, value in self._results.items()}

    def _result(self, place: Place, value: Value, feeds: Mapping[Place, Value]) -> Value:
        if isinstance(value, list):
            return [self._result((*place, index), item, feeds) for index, item in enumerate(value)]
        if not isinstance(value, Array):
            return None if value is None else value.copy()
        if place not in self._outputs:
            return copied(value)
        if self._bound is not None:
            return on_host(self._bound.outputs[self._outputs[place]].copy(), value.dtype, self._device)
        view = value.view  # of an operand: there is nothing to compute
        whole = np.ascontiguousarray(_stored(feeds[self._places[view.buffer]])).reshape(-1).view(np.uint8)
        seen = View(None, view.dtype, view.shape, view.strides, view.offset).over(whole)
        return on_host(np.array(seen), value.dtype, self._device)


def copied(value: Array) -> Array:
    """A concrete array in memory of its own."""
    return on_host(np.array(_stored(value)), value.dtype, value.device)


def _items(place: Place, value: Value) -> Iterator[tuple[Place, Value]]:
    """A tensor with its place; the items of a sequence with places of their own."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _items((*place, index), item)
    else:
        yield place, value


def _stored(value: Value) -> npt.NDArray[Any]:
    """A concrete array's elements on the host as they are stored (bfloat16 as bits)."""
    assert isinstance(value, Array)
    return value.view.host()


class Runner:
    """Runs one program on a device, and keeps the plans it made. One thread at a time.

    `outer` are the constants of the graphs around it.
    """

    def __init__(self, program: Program, device: Device, outer: Scope | None = None) -> None:
        self.program, self.device = program, device
        self._constants: Scope = {**(outer or {}), **program.constants}
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
                scope.update(program.steps[index].apply({**self._constants, **scope}, self._enter))
                index += 1
            else:
                scope.update(segment.run(scope))
                index = segment.stop
        return program.results({**program.constants, **scope})

    def _enter(self, program: Program, scope: Scope, operands: Sequence[Value]) -> tuple[Value, ...]:
        """Runs a subgraph of a step that runs by itself."""
        if program not in self._runners:
            self._runners[program] = Runner(program, self.device, self._constants)
        return self._runners[program].run(scope, operands)

    def planned(self) -> list[Planned]:
        """What runs how, in the order of the steps; subgraphs that run by themselves come after."""
        found = []
        for key, segment in sorted(self._segments.items(), key=lambda item: item[0][0]):
            if segment is None:
                found.append(Planned((self.program.steps[key[0]],), None, between_plans=True))
            else:
                found.append(Planned(self.program.steps[segment.first : segment.stop], segment.executable))
        return found + [planned for runner in self._runners.values() for planned in runner.planned()]

    # ---- making segments

    def _segment(self, index: int, scope: Scope) -> Segment | None:
        """The plan from step `index` on; None where that step runs by itself."""
        key = self._key(index, scope)
        if key in self._segments:
            segment = self._segments.pop(key)
        else:
            self._count_variants(index, scope)
            segment = self._make(index, scope)
            self._make_room(segment.nbytes if segment is not None else 0)
            key = self._key(index, scope)  # it may have come to depend on values
        self._segments[key] = segment
        return segment

    def _make_room(self, nbytes: int) -> None:
        """Forgets the plans that were not used for longest until another one of that size has room."""
        taken = sum(segment.nbytes for segment in self._segments.values() if segment is not None)
        while self._segments and (len(self._segments) >= _MAX_SEGMENTS or taken + nbytes > _MAX_BYTES):
            oldest = self._segments.pop(next(iter(self._segments)))
            taken -= oldest.nbytes if oldest is not None else 0

    def _is_constant(self, name: str, value: Value) -> bool:
        """Whether a value is one that the file holds, the same in each run."""
        return value is not None and self._constants.get(name) is value

    def _key(self, index: int, scope: Scope) -> Key:
        by_value = self._by_value.get(index, {})
        varying = ((name, value) for name, value in scope.items() if not self._is_constant(name, value))
        return (index, *((name, _signature(value, name in by_value)) for name, value in varying))

    def _count_variants(self, index: int, scope: Scope) -> None:
        """Notes the values for which a plan is about to be made; of an operand with too many, they are left out."""
        by_value = self._by_value.get(index, {})
        for name, seen in list(by_value.items()):
            value = scope.get(name)
            if isinstance(value, Array):
                seen.add(_stored(value).tobytes())
            if len(seen) > _MAX_VARIANTS:
                self._blocked.add((index, name))
                del by_value[name]

    def _make(self, index: int, scope: Scope) -> Segment | None:
        while True:
            trace = _Trace(self.device)
            by_value = self._by_value.get(index, {})
            traced: dict[str, Any] = dict(self._constants)
            for name, value in scope.items():
                if not self._is_constant(name, value):
                    traced[name] = self._operand(trace, (name,), value, name in by_value)
            stop, needed = self._trace(index, traced)
            if needed is not None and self._specialize(index, trace, needed, scope):
                continue
            if stop == index:
                return None
            made = {name: traced[name] for name in self.program.live(stop) if name in traced}
            results = {n: v for n, v in made.items() if n not in scope and n not in self._constants}
            return Segment(index, stop, self.device, trace, results)

    def _trace(self, index: int, traced: dict[str, Any]) -> tuple[int, Array | None]:
        """Traces from step `index` on; where it stopped, and the array whose values were needed to go on."""
        enter = Inlining()
        for place, step in enumerate(self.program.steps[index:], index):
            if step.between_plans:
                return place, None
            if any(traced.get(name) is _OPAQUE for name in step.reads):
                return place, None
            try:
                traced.update(step.apply(traced, enter))
            except ValueNeeded as need:
                return place, need.array
        return len(self.program.steps), None

    def _specialize(self, index: int, trace: _Trace, needed: Array, scope: Scope) -> bool:
        """Makes the values behind `needed` part of the key of what starts at `index`; False where they may not be."""
        places = trace.sources(needed.view.buffer)
        for place in places:
            value = scope.get(place[0]) if len(place) == 1 else None
            if (index, place[0]) in self._blocked or not isinstance(value, Array) or int(value.size) > _MAX_ELEMENTS:
                return False
            if value.dtype.kind not in ("bool", *INTEGERS):  # data: the next values would be others
                return False
        by_value = self._by_value.setdefault(index, {})
        by_value.update((place[0], {_stored(scope[place[0]]).tobytes()}) for place in places)
        return bool(places)

    def _operand(self, trace: _Trace, place: Place, value: Value, by_value: bool) -> Any:
        """How the trace sees an operand: what the key holds as it is, all else without values."""
        if not _is_held(value):
            return _OPAQUE
        if isinstance(value, list):
            return [self._operand(trace, (*place, index), item, False) for index, item in enumerate(value)]
        if not isinstance(value, Array):
            return value
        return copied(value) if by_value else trace.operand(place, value)


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
    return value.shape, value.dtype.code, _stored(value).tobytes() if by_value else b""
