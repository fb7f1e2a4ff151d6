"""Plans tried against each other before one is chosen: what nodes take alone does not say how devices get on together.

Devices may share memory bandwidth or processors, so a placement over several of them is run beside the best single one,
on operands of zeros and with state of its own. What was tried is remembered for this machine.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence

from perfxapi.device import Device
from perfxapi.errors import OutOfMemoryError
from perfxapi.graph.calls import BoundCalls
from perfxapi.graph.executor import BoundExecutable, Executable
from perfxapi.graph.ir import Graph, Node
from perfxapi.graph.resting import wait_for_rest
from perfxapi.ledger import LEDGER
from perfxapi.memory import HOST, Buffer, View
from perfxapi.policy import use_device
from perfxapi.tuning import PLANS, TUNER, size_class

_SECONDS = 1.0
_LEAST_ROUNDS = 3
_MOST_STATE = 256 << 20
"""Bytes of state off the host that a second copy may be made of."""


def plan_key(graph: Graph, device: Device, calls: BoundCalls) -> str:
    """The name of a placed graph at its bounds."""
    nodes = (f"{size_class(calls.at(node), str(node.device or device))}" for node in graph.nodes)
    return hashlib.sha256("\n".join(nodes).encode()).hexdigest()[:32]


def seconds_side_by_side(one: Graph, other: Graph, device: Device, calls: BoundCalls) -> tuple[float, float]:
    """What two placed graphs take, run in turns. Raises OutOfMemoryError where there is no room for their state."""
    keys = [plan_key(graph, device, calls) for graph in (one, other)]
    known = TUNER.recall(PLANS, " ".join(keys))
    if not isinstance(known, list):
        held = _Held((*one.nodes, *other.nodes))
        try:
            known = _measured([one, other], device, calls.bounds)
        finally:
            held.drop_new()
        TUNER.record(PLANS, " ".join(keys), known)
    first, second = known
    return first, second


def _measured(graphs: Sequence[Graph], device: Device, bounds: Mapping[str, int]) -> list[float]:
    with use_device(device, fallback="allow"), LEDGER.aside():
        plans = [Executable(_with_own_state(graph), device, bounds, is_fused=True).bind() for graph in graphs]
        for plan in plans:
            for operand in plan.inputs.values():
                operand[...] = 0
            plan.run()
        best, begin, rounds = [float("inf")] * len(plans), time.perf_counter(), 0
        while rounds < _LEAST_ROUNDS or time.perf_counter() - begin < _SECONDS:
            best = [min(seconds, _seconds(plan)) for seconds, plan in zip(best, plans, strict=True)]
            rounds += 1
    return best


def _seconds(plan: BoundExecutable) -> float:
    wait_for_rest()
    start = time.perf_counter()
    plan.run()
    return time.perf_counter() - start


def _with_own_state(graph: Graph) -> Graph:
    """The same graph on state of zeros, so that a run changes nothing that anybody holds."""
    homes = {view.buffer: view.buffer.home for node in graph.nodes for view in node.inputs if view.buffer.home}
    if sum(buffer.nbytes for buffer, home in homes.items() if home != HOST) > _MOST_STATE:
        raise OutOfMemoryError(f"no second copy is made of more than {_MOST_STATE} bytes of state")
    own = {buffer: Buffer.state(buffer.nbytes, home) for buffer, home in homes.items()}
    nodes = []
    for node in graph.nodes:
        views = (View(own.get(v.buffer, v.buffer), v.dtype, v.shape, v.strides, v.offset) for v in node.inputs)
        nodes.append(Node(node.spec, tuple(views), node.outputs, node.attributes, node.device))
    return Graph(graph.inputs, nodes, graph.outputs)


class _Held:
    """What backends have made of the constants of nodes, and where these are valid."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        buffers = {view.buffer for node in nodes for view in node.inputs if view.buffer.constant}
        self._before = {buffer: (set(buffer.derived), buffer.valid_spaces) for buffer in buffers}

    def drop_new(self) -> None:
        """Gives back what was made since, off the host: the plan that is chosen makes what it needs."""
        for buffer, (keys, spaces) in self._before.items():
            for space in buffer.valid_spaces - spaces - {HOST}:
                buffer.drop(space)
            for key in set(buffer.derived) - keys:
                del buffer.derived[key]
