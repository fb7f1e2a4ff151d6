"""The device "auto" for plans: nodes are placed where they and the copies between them take the least time.

Candidates are the devices that work and are no last resort. Nodes with state stay where it lives, nodes that the traced
code put on a device stay there. What each node takes on each device is measured by `perfxlm tune` (or when it is first
needed, within the seconds that the settings allow: by default none) and kept for this machine. Where nothing is known
no other backend is loaded. The best single device runs all, unless several together are predicted to be quicker by at
least 5%, and are when both are tried. A device of which too little is known takes no part; until the preferred device
is known, it runs all.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from perfxapi.backend import REGISTRY
from perfxapi.device import Device
from perfxapi.dispatch import choices, describe
from perfxapi.graph.calls import BoundCalls
from perfxapi.graph.costs import Budget, Note, copy_cost, node_seconds
from perfxapi.graph.ir import Graph, Node, Value
from perfxapi.graph.placement import CopyCost, Problem, Solution, Work, place, single_devices
from perfxapi.graph.rehearsal import seconds_side_by_side
from perfxapi.graph.runs import SMALL, reads_foreign_state
from perfxapi.memory import HOST, bind
from perfxapi.settings import settings
from perfxapi.tuning import NODES, TUNER

WORTH = 0.95
"""Of the best single device's seconds: what a placement over several must be predicted to take at most."""
_LEAST_OPERATIONS = 1 << 26
"""Bytes and operations of a graph below which no copy to another device can pay."""

_LOGGER = logging.getLogger(__name__)
_budget: Budget | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """A graph that is fused, whose nodes name devices where they are not on the plan's."""

    graph: Graph
    device: Device
    seconds: float


@contextmanager
def measuring(seconds: float, note: Note = lambda what, spent: None) -> Iterator[None]:
    """Within the context, so much time may be spent on measuring instead of what the settings say.

    `note` is called with what is measured next and the seconds that were spent. The figures of a node are kept as soon
    as they are known: an exception in between costs those of the node that was being measured.
    """
    global _budget
    before, _budget = _budget, Budget(seconds, note)
    try:
        yield
    finally:
        _budget = before


def _current_budget() -> Budget:
    """What is left of the seconds of this process."""
    global _budget
    if _budget is None:
        _budget = Budget(settings().tune_seconds, lambda what, spent: _LOGGER.info("measuring %s", what))
    return _budget


def candidates() -> list[Device]:
    """The devices that "auto" chooses from, best first."""
    entries = (entry for entry in REGISTRY.entries() if entry.manifest.priority >= 0 and REGISTRY.load(entry))
    return [device for entry in entries for device in REGISTRY.working_devices(entry)]


def place_by_cost(graph: Graph, bounds: Mapping[str, int]) -> Placed | None:
    """The graph placed where it is quickest; None where there is no choice, or too little is known to choose."""
    if not settings().tune or _operations(graph, bounds) < _LEAST_OPERATIONS:
        return None
    budget = _current_budget()
    if budget.left <= 0 and not TUNER.known(NODES):
        return None
    devices = candidates()
    if len({device.memory_space for device in devices}) < 2:
        return None
    calls = BoundCalls(bounds)
    named = {node.device for node in graph.nodes if node.device is not None}
    copies = {d.memory_space: copy_cost(d, budget) for d in (*devices, *named) if d.memory_space != HOST}
    known = {space: cost for space, cost in copies.items() if cost is not None}
    if any(device.memory_space not in (HOST, *known) for device in named):
        return None
    usable = [device for device in devices if device.memory_space in (HOST, *known)]
    cases = []
    for device in usable:
        case = _Case(calls.fused(graph, device), calls, usable, known, budget)
        if devices[0] in case.unknown or not all(work.seconds for work in case.problem.nodes):
            return None
        cases.append((single_devices(case.problem)[str(device)], device, case))
    single, device, case = min(cases, key=lambda found: found[0].seconds)
    alone = case.placed(single, device)
    solution = place(case.problem)
    if solution is not None and solution.seconds <= WORTH * single.seconds:
        mixed = case.placed(solution, device)
        tried = budget.spend("two plans", lambda: seconds_side_by_side(alone.graph, mixed.graph, device, calls))
        if tried is not None and tried[1] <= WORTH * tried[0]:
            return mixed
    return alone


def _operations(graph: Graph, bounds: Mapping[str, int]) -> int:
    """Bytes and operations of a graph, as far as its ops say."""
    total = 0
    for node in graph.nodes:
        if node.spec.cost is not None:
            inputs = [describe(bind(view, view.buffer, bounds)) for view in node.inputs]
            cost = node.spec.cost(inputs, node.attributes)
            total += cost.nbytes + cost.flops
    return total


class _Case:
    """A graph as a problem of placement. Small inputs, which are copied together, are one value.

    `unknown` are devices on which some node that they could run is not measured.
    """

    def __init__(
        self,
        graph: Graph,
        calls: BoundCalls,
        devices: Sequence[Device],
        copies: Mapping[str, CopyCost],
        budget: Budget,
    ) -> None:
        self._graph, self._calls, self._devices, self._budget = graph, calls, devices, budget
        self._by_name = {str(device): device for device in devices}
        written = {value for node in graph.nodes for value in node.values_written()}
        inputs = list(graph.inputs.values())
        nbytes = {value: self._nbytes(value) for node in graph.nodes for value in (*node.values_read(), *node.outputs)}
        nbytes.update((value, self._nbytes(value)) for value in inputs)
        small = [value for value in inputs if value not in written and nbytes[value] <= SMALL]
        self._numbers = dict.fromkeys(small, 0)
        sizes = [sum(nbytes[value] for value in small)]
        for value in nbytes:
            if value not in self._numbers:
                self._numbers[value] = len(sizes)
                sizes.append(nbytes[value])
        wanted = {self._numbers[view.buffer] for view in graph.outputs.values()}
        wanted |= {self._numbers[value] for value in inputs if value in written}
        given = frozenset({0, *(self._numbers[value] for value in inputs)})
        self.unknown: set[Device] = set()
        works = [self._work(node) for node in graph.nodes]
        spaces = {name: device.memory_space for name, device in self._by_name.items()}
        self.problem = Problem(works, sizes, spaces, copies, given, frozenset(wanted))

    def placed(self, solution: Solution, device: Device) -> Placed:
        """The graph with the devices of a solution, for a plan on a device."""
        where = [self._by_name[name] for name in solution.devices]
        nodes = [
            Node(node.spec, node.inputs, node.outputs, node.attributes, node.device or (one if one != device else None))
            for node, one in zip(self._graph.nodes, where, strict=True)
        ]
        return Placed(Graph(self._graph.inputs, nodes, self._graph.outputs), device, solution.seconds)

    def _nbytes(self, value: Value) -> int:
        return bind(value.view(), None, self._calls.bounds).nbytes  # type: ignore[arg-type]

    def _work(self, node: Node) -> Work:
        reads = dict.fromkeys(self._numbers[value] for value in node.values_read())
        writes = dict.fromkeys(self._numbers[value] for value in (*node.outputs, *node.values_written()))
        return Work(tuple(reads), tuple(writes), self._seconds(node))

    def _seconds(self, node: Node) -> dict[str, float]:
        """What a node takes on each device that can run it. Where there is no choice it does not matter."""
        possible = [device for device in self._devices if self._can_run(node, device)]
        if node.device is not None:
            self._by_name.setdefault(str(node.device), node.device)
            possible = [node.device]
        if len(possible) == 1 or any(view.buffer.home is not None for view in node.inputs):
            return {str(device): 0.0 for device in possible}
        call = self._calls.at(node)
        found = node_seconds(node, call, possible, self._budget)
        self.unknown.update(device for device in possible if device not in found)
        return {str(device): seconds for device, seconds in found.items()}

    def _can_run(self, node: Node, device: Device) -> bool:
        """Whether a node runs in the memory of a device, with its state."""
        choice = next(choices(self._calls.at(node), device), None)
        space = device.memory_space
        return choice is not None and choice.device.memory_space == space and not reads_foreign_state(node, space)
