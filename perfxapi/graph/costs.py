"""What nodes take on a device, and copies to and from it: measured once for each size class, kept on disk.

A node is measured as plans run it: a plan of it alone against a plan of it several times over, so that what either
costs besides (operands that go there, a result that comes back) does not count. The devices take turns, so that a
minute in which other work slows the machine slows them all. Weights are repeated from their first rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeAlias, TypeVar

import numpy as np

from perfxapi.backend import REGISTRY, OpCall
from perfxapi.device import Device
from perfxapi.graph.executor import BoundExecutable, Executable
from perfxapi.graph.ir import Graph, Node, Value
from perfxapi.graph.placement import CopyCost
from perfxapi.graph.resting import wait_for_rest
from perfxapi.ledger import LEDGER
from perfxapi.memory import HOST, Allocation, Buffer, View, memory_space
from perfxapi.ops.spec import TensorSpec
from perfxapi.policy import use_device
from perfxapi.tuning import COPIES, NODES, TUNER, size_class

_REPEATS = 8
_SECONDS = 0.02
"""How long a plan runs in a turn, but for its first run."""
_TURNS = 2
"""After the first."""
_LONG = 0.005
"""Seconds of a node past which what is besides it does not matter."""
_KEPT_WHOLE = 1 << 20
"""Bytes of a constant up to which a copy of it is measured with; of larger ones, rows are repeated."""
_ROWS = 64
_COPIED = 4 << 20
"""Bytes of the copy that tells a rate."""


_Measured = TypeVar("_Measured")


Note: TypeAlias = Callable[[str, float], None]
"""Told of what is measured next, and of the seconds that were spent before it."""


class Budget:
    """Seconds that may be spent on measuring."""

    def __init__(self, seconds: float, note: Note = lambda what, spent: None) -> None:
        self.seconds, self.left, self.note = seconds, seconds, note

    def spend(self, what: str, measure: Callable[[], _Measured]) -> _Measured | None:
        """What `measure` returns; None where nothing is left or it fails. A measurement that has begun is ended."""
        if self.left <= 0:
            return None
        self.note(what, self.seconds - self.left)
        start = time.perf_counter()
        try:
            return measure()
        except Exception:  # a stranger's kernel may raise anything; what is not known takes no part
            return None
        finally:
            self.left -= time.perf_counter() - start


def node_seconds(node: Node, call: OpCall, devices: Iterable[Device], budget: Budget) -> dict[Device, float]:
    """Seconds of a node, whose call at its sizes is given, on each device; those where it is not known are left out."""
    keys = {device: size_class(call, _circumstances(device)) for device in devices}
    found: dict[Device, float] = {}
    trials: dict[Device, _Trial] = {}
    for device, key in keys.items():
        known = TUNER.recall(NODES, key)
        if isinstance(known, float):
            found[device] = known
        elif trial := budget.spend(_what(node, device), partial(_Trial, node, call, device)):
            trials[device] = trial
    for _ in range(_TURNS):
        for device, trial in list(trials.items()):
            if budget.spend(_what(node, device), trial.run) is None and budget.left > 0:
                del trials[device]
    for device, trial in trials.items():
        if not REGISTRY.lost(device):  # what is lost while it is measured is measured elsewhere
            found[device] = trial.seconds
            TUNER.record(NODES, keys[device], trial.seconds)
    return found


def _what(node: Node, device: Device) -> str:
    return f"{node.spec.name} on {device}"


def copy_cost(device: Device, budget: Budget) -> CopyCost | None:
    """What copies between a device's memory and the host's take; None where it is not known."""
    key = _circumstances(device)
    known = TUNER.recall(COPIES, key)
    if not isinstance(known, list):
        known = [
            budget.spend(f"copies of {device}", lambda: _latency(device)),
            budget.spend(f"copies of {device}", lambda: _rate(device, is_write=True)),
            budget.spend(f"copies of {device}", lambda: _rate(device, is_write=False)),
        ]
        if None in known:
            return None
        TUNER.record(COPIES, key, known)
    return CopyCost(*known)


def _circumstances(device: Device) -> str:
    """What figures of a device hold for."""
    backend = REGISTRY.of_device(device).backend
    return f"{device} {device.description} {backend.circumstances() if backend is not None else ''}"


# ---- nodes


class _Trial:
    """A node on a device: a plan of it and, where that is short, a plan of it several times over."""

    def __init__(self, node: Node, call: OpCall, device: Device) -> None:
        """Compiles, and measures for the first time."""
        self._device, constants = device, dict[Buffer, Buffer]()
        with use_device(device, fallback="allow"), LEDGER.aside():
            self._plans = [_plan_of(node, call, device, constants, 1)]
            self._best = [_quickest(self._plans[0])]
            if self._best[0] <= _LONG:
                self._plans.append(_plan_of(node, call, device, constants, 1 + _REPEATS))
                self._best.append(_quickest(self._plans[1]))

    def run(self) -> bool:
        """Measures once more."""
        with use_device(self._device, fallback="allow"), LEDGER.aside():
            self._best = [min(best, _quickest(plan)) for best, plan in zip(self._best, self._plans, strict=True)]
        return True

    @property
    def seconds(self) -> float:
        """Of the node, from the shortest runs of all turns."""
        first, *more = self._best
        return max((more[0] - first) / _REPEATS, 1e-7) if more else first


def _quickest(bound: BoundExecutable) -> float:
    """The shortest of some runs."""
    wait_for_rest()
    bound.run()
    best, begin = float("inf"), time.perf_counter()
    while (start := time.perf_counter()) - begin < _SECONDS or best == float("inf"):
        bound.run()
        best = min(best, time.perf_counter() - start)
    return best


def _plan_of(node: Node, call: OpCall, device: Device, constants: dict[Buffer, Buffer], count: int) -> BoundExecutable:
    """A plan that runs a node so many times on operands of its own. `constants` are those made already."""
    values = _values_like(node, call)
    views = []
    for view, bound in zip(node.inputs, call.inputs, strict=True):
        if not isinstance(view.buffer, Value) and view.buffer not in constants:
            constants[view.buffer] = _like(view.buffer, bound)
        buffer = values[view.buffer] if isinstance(view.buffer, Value) else constants[view.buffer]
        views.append(View(buffer, bound.dtype, bound.shape, bound.strides, bound.offset))
    nodes = []
    for _ in range(count):
        outputs = tuple(Value("result", TensorSpec(view.shape, view.dtype)) for view in call.outputs)
        nodes.append(Node(node.spec, tuple(views), outputs, node.attributes))
    inputs = {f"operand {index}": value for index, value in enumerate(values.values())}
    results = {"result": nodes[-1].outputs[0].view()} if node.outputs else {}
    plan = Executable(Graph(inputs, nodes, results), device, {}, is_fused=True).bind()
    rng = np.random.default_rng(0)
    for operand in plan.inputs.values():  # whole numbers may be places in other operands
        operand[...] = rng.standard_normal(operand.shape) if operand.dtype.kind == "f" else 0
    return plan


def _values_like(node: Node, call: OpCall) -> dict[Value, Value]:
    """For each value that a node reads an input of one dimension, as long as what it reads of it."""
    ends: dict[Value, int] = {}
    for view, bound in zip(node.inputs, call.inputs, strict=True):
        if isinstance(view.buffer, Value):
            ends[view.buffer] = max(ends.get(view.buffer, 0), sum(bound.extent))
    return {
        value: Value("operand", TensorSpec((-(-end // value.spec.dtype.itemsize),), value.spec.dtype))
        for value, end in ends.items()
    }


def _like(buffer: Buffer, view: View) -> Buffer:
    """A constant that is read as a given one is."""
    original = buffer.readable(HOST)[0]
    rows, columns = (int(size) for size in view.shape) if len(view.shape) == 2 else (1, 0)
    if buffer.nbytes <= _KEPT_WHOLE or rows <= _ROWS or view.offset or not view.is_contiguous:
        return Buffer.from_host(original.copy(), constant=True)
    part = np.asarray(original[: _ROWS * view.dtype.row_bytes(columns)])
    return Buffer.from_host(np.resize(part, buffer.nbytes), constant=True)


# ---- copies


def _timed(function: Callable[[], None]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _latency(device: Device) -> float:
    """Seconds of a copy of a few bytes: half of one there and one back."""
    space = memory_space(device.memory_space)
    held, host = Allocation(space.allocator, 64), np.zeros(64, np.uint8)

    def there_and_back() -> None:
        space.write(held.storage, 0, host)
        space.read(held.storage, 0, host)

    return min(_timed(there_and_back) for _ in range(50)) / 2


def _rate(device: Device, *, is_write: bool) -> float:
    """Bytes a second of a large copy; one that is written is waited for by reading a few of its bytes."""
    space = memory_space(device.memory_space)
    held, host, few = Allocation(space.allocator, _COPIED), np.zeros(_COPIED, np.uint8), np.zeros(64, np.uint8)

    def copy() -> None:
        if is_write:
            space.write(held.storage, 0, host)
            space.read(held.storage, 0, few)
        else:
            space.read(held.storage, 0, host)

    return _COPIED / max(min(_timed(copy) for _ in range(5)), 1e-9)
