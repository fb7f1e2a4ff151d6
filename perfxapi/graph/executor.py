"""Plans: a Graph placed on devices, its values laid out in one arena, compiled into segments, and run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from perfxapi.array import Array
from perfxapi.backend import REGISTRY, OpCall, PlannedCall
from perfxapi.device import Device
from perfxapi.dims import Dim
from perfxapi.dispatch import Choice, Failures, choices, choose, run_call
from perfxapi.errors import DeviceLostError, InvalidArgumentError, KernelError
from perfxapi.graph.fuse import fuse
from perfxapi.graph.ir import Graph, Node, Value, symbols
from perfxapi.graph.memory_plan import Lifetime, plan_memory
from perfxapi.ledger import LEDGER
from perfxapi.memory import HOST, Buffer, View, bind, memory_space
from perfxapi.policy import get_device

_MAX_BOUND = 256
"""Sizes for which an executable remembers what is bound to them."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one node runs, and whose kernel it is. `reason` says why not on the plan's device (empty: it does)."""

    node: str
    device: str
    backend: str
    reason: str


class Executable:
    """A compiled graph.

    Call it with NumPy arrays by input name; it returns Arrays over planned memory, valid until the next call.
    """

    def __init__(self, graph: Graph, device: Device, bounds: Mapping[str, int]) -> None:
        missing = symbols(graph) - set(bounds)
        if missing:
            raise InvalidArgumentError(f"compile: no bound is given for {', '.join(sorted(missing))}")
        self.device, self.bounds = device, dict(bounds)
        self._bound_calls: dict[int, tuple[Node, OpCall]] = {}
        self.graph = fuse(graph, self._supports)
        self._buffers = {value: Buffer(0, name=value.name) for value in self._values()}
        self._choices = [choose(self._at_bounds(node), device) for node in self.graph.nodes]
        self._plan_memory()
        self._planned = [self._plan_node(index) for index in range(len(self.graph.nodes))]
        self._mark_barriers()
        backend = REGISTRY.of_device(device).backend
        self._segment = backend.compile(self._planned, self.bounds) if backend is not None else None
        self._foreign_space = any(choice.device.memory_space != HOST for choice in self._choices)
        self._tally = LEDGER.tally(Counter(choice.row for choice in self._choices))
        self._describe_inputs()
        self._bound_calls.clear()
        self._bound: dict[tuple[tuple[str, int], ...], BoundExecutable] = {}

    # ---- planning

    def _values(self) -> list[Value]:
        return [*self.graph.inputs.values(), *(value for node in self.graph.nodes for value in node.outputs)]

    def _supports(self, node: Node) -> bool:
        """Whether the plan's own device has a kernel for a fused node."""
        choice = next(choices(self._at_bounds(node), self.device))
        return not choice.reason

    def _at_bounds(self, node: Node) -> OpCall:
        """The call of a node at its largest sizes, without memory."""
        if id(node) not in self._bound_calls:
            self._bound_calls[id(node)] = (node, self._bind_call(node))
        return self._bound_calls[id(node)][1]

    def _bind_call(self, node: Node) -> OpCall:
        inputs = tuple(bind(view, view.buffer, self.bounds) for view in node.inputs)
        outputs = tuple(bind(value.view(), value, self.bounds) for value in node.outputs)  # type: ignore[arg-type]
        return OpCall(node.spec.name, inputs, outputs, node.attributes)

    def _plan_memory(self) -> None:
        values = self._values()
        first, last = self._lifetimes()
        blocks = [Lifetime(bind(v.view(), None, self.bounds).nbytes, first[v], last[v]) for v in values]  # type: ignore[arg-type]
        scratch = [choice.kernel.workspace_bytes(self._at_bounds(node)) for node, choice in self._nodes_chosen()]
        blocks += [Lifetime(nbytes, index, index) for index, nbytes in enumerate(scratch)]
        self.memory_plan = plan_memory(blocks)
        self.arena: npt.NDArray[np.uint8] = memory_space(HOST).allocator.allocate(self.memory_plan.arena_bytes)
        for value, offset, block in zip(values, self.memory_plan.offsets, blocks, strict=False):
            self._buffers[value].adopt(self.arena[offset : offset + block.nbytes])
        places = zip(self.memory_plan.offsets[len(values) :], scratch, strict=True)
        self._workspaces = [self.arena[offset : offset + nbytes] if nbytes else None for offset, nbytes in places]

    def _nodes_chosen(self) -> list[tuple[Node, Choice]]:
        return list(zip(self.graph.nodes, self._choices, strict=True))

    def _lifetimes(self) -> tuple[dict[Value, int], dict[Value, int]]:
        """First and last node of each value.

        Inputs and outputs of the graph live throughout: the user reads and writes them.
        """
        end = len(self.graph.nodes)
        first = dict.fromkeys(self.graph.inputs.values(), 0)
        last = dict.fromkeys(self.graph.inputs.values(), end)
        for index, node in enumerate(self.graph.nodes):
            for value in node.outputs:
                first[value] = last[value] = index
            for value in node.values_read():
                last[value] = max(last[value], index)
        for view in self.graph.outputs.values():
            last[view.buffer] = end
        return first, last

    def _plan_node(self, index: int) -> PlannedCall:
        node = self.graph.nodes[index]
        inputs = tuple(self._with_memory(view) for view in node.inputs)
        outputs = tuple(self._with_memory(value.view()) for value in node.outputs)
        call = OpCall(node.spec.name, inputs, outputs, node.attributes)
        return PlannedCall(call, self._choices[index].kernel, True, self._workspaces[index])

    def _with_memory(self, view: View) -> View:
        if not isinstance(view.buffer, Value):
            return view
        return View(self._buffers[view.buffer], view.dtype, view.shape, view.strides, view.offset)

    def _mark_barriers(self) -> None:
        """A barrier is needed only before a node that touches what was written (or writes what was read) since the last
        one.
        """
        read: list[tuple[int, int]] = []
        written: list[tuple[int, int]] = []
        for planned, node in zip(self._planned, self.graph.nodes, strict=True):
            reads, writes = _touched(planned, node.spec.mutates)
            clash = _overlap(reads, written) or _overlap(writes, written) or _overlap(writes, read)
            planned.barrier_before = clash
            if clash:
                read, written = [], []
            read += reads
            written += writes

    def _describe_inputs(self) -> None:
        """For each input its memory at the bounds, and the symbol of its first dimension."""
        self._inputs: dict[str, tuple[npt.NDArray[Any], Dim | None]] = {}
        for name, value in self.graph.inputs.items():
            shape = value.spec.shape
            if any(isinstance(size, Dim) for size in shape[1:]):
                raise InvalidArgumentError(f"input {name!r}: only the first dimension can be symbolic")
            dim = shape[0] if shape and isinstance(shape[0], Dim) else None
            self._inputs[name] = bind(value.view(), self._buffers[value], self.bounds).host(), dim

    # ---- running

    def __call__(self, **inputs: Any) -> dict[str, Array]:
        """Runs the graph.

        Sizes of symbolic dimensions come from the inputs' shapes. Raises InvalidArgumentError where they do not fit.
        """
        values = {name: np.asarray(value) for name, value in inputs.items()}
        bound = self.bind(**self._sizes_of(values))
        for name, value in values.items():
            bound.inputs[name][...] = value
        self._run(bound.sizes)
        views = ((name, self._with_memory(view)) for name, view in self.graph.outputs.items())
        return {name: Array(bind(view, view.buffer, bound.sizes), self.device) for name, view in views}

    def bind(self, **sizes: int) -> BoundExecutable:
        """The plan at given sizes of its symbolic dimensions, ready to run again and again.

        A size that is not given is its bound. Raises InvalidArgumentError for one that is negative or past its bound.
        """
        key = tuple(sizes.items())
        if key not in self._bound:
            for name, size in sizes.items():
                if not 0 <= size <= self.bounds.get(name, -1):
                    raise InvalidArgumentError(f"bind: {name}={size!r} does not lie within the bounds {self.bounds}")
            if len(self._bound) >= _MAX_BOUND:
                self._bound.clear()
            self._bound[key] = BoundExecutable(self, {**self.bounds, **sizes})
        return self._bound[key]

    def _sizes_of(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, int]:
        if inputs.keys() != self._inputs.keys():
            wrong = sorted(inputs.keys() ^ self._inputs.keys())
            raise InvalidArgumentError(
                f"the graph takes inputs {', '.join(self._inputs)}; missing or unknown: {', '.join(wrong)}"
            )
        sizes: dict[str, int] = {}
        for name, (memory, dim) in self._inputs.items():
            values, spec = inputs[name], self.graph.inputs[name].spec
            fits = values.dtype == memory.dtype and values.ndim == memory.ndim and values.shape[1:] == memory.shape[1:]
            if not fits or (values.shape != memory.shape if dim is None else values.shape[0] % dim.factor):
                raise InvalidArgumentError(
                    f"input {name!r} must be {spec.dtype.name} of shape {spec.shape}; "
                    f"got {values.dtype} of {values.shape}"
                )
            if dim is not None:
                size = values.shape[0] // dim.factor
                if sizes.setdefault(dim.name, size) != size or size > self.bounds[dim.name]:
                    raise InvalidArgumentError(
                        f"input {name!r}: {dim.name} is {size}; it must be at most {self.bounds[dim.name]} "
                        "and the same in all inputs"
                    )
        return sizes

    def _run(self, sizes: dict[str, int]) -> None:
        if self._foreign_space:
            self._resize_buffers(sizes)
        if self._segment is not None:
            self._run_segment(sizes)
        else:
            for index in range(len(self._planned)):
                self._run_node(index, sizes, "")

    def _run_segment(self, sizes: dict[str, int]) -> None:
        assert self._segment is not None
        first = 0
        while True:
            try:
                stop = self._segment.run(sizes, first)
            except DeviceLostError as error:
                REGISTRY.mark_lost(self.device, str(error))
                raise
            if stop is None and first == 0 and not self._foreign_space:
                self._tally.runs += 1
                return
            last = len(self._planned) if stop is None else stop.index
            for choice in self._choices[first:last]:
                choice.row.count += 1
            if self._foreign_space:
                self._note_written(first, last)
            if stop is None:
                return
            self._run_node(stop.index, sizes, stop.reason)
            first = stop.index + 1

    def _resize_buffers(self, sizes: dict[str, int]) -> None:
        """Before a run that touches memory other than the host's: each buffer holds as much as this run needs."""
        for value, buffer in self._buffers.items():
            buffer.nbytes = bind(value.view(), buffer, sizes).nbytes
            buffer.overwrite(HOST)

    def _note_written(self, first: int, last: int) -> None:
        """A segment wrote to host memory by itself: copies elsewhere of what it wrote are no longer valid."""
        for planned, node in zip(self._planned[first:last], self.graph.nodes[first:last], strict=True):
            written = (*planned.call.outputs, *(planned.call.inputs[index] for index in node.spec.mutates))
            for view in written:
                if view.buffer.home is None:
                    view.buffer.overwrite(HOST)

    def _run_node(self, index: int, sizes: dict[str, int], failure: str) -> None:
        """Runs one node by dispatch. `failure` says why its planned kernel could not (empty: it was not tried)."""
        node, choice = self.graph.nodes[index], self._choices[index]
        call = self._concrete(self._planned[index].call, sizes)
        failures: Failures = {choice.kernel: KernelError(failure)} if failure else {}
        if failure:
            choice = choose(call, self.device, failures)
        run_call(node.spec, call, self.device, choice, failures)
        if self._segment is not None and self._foreign_space:
            for mutated in node.spec.mutates:
                if call.inputs[mutated].buffer.home is None:
                    call.inputs[mutated].buffer.readable(HOST)

    @staticmethod
    def _concrete(call: OpCall, sizes: dict[str, int]) -> OpCall:
        inputs = tuple(bind(view, view.buffer, sizes) for view in call.inputs)
        outputs = tuple(bind(view, view.buffer, sizes) for view in call.outputs)
        return OpCall(call.op, inputs, outputs, call.attributes)

    # ---- looking

    def explain(self) -> list[Placement]:
        """Where each node runs, and why."""
        return [Placement(repr(node), str(c.device), c.backend, c.reason) for node, c in self._nodes_chosen()]

    def profile(self, enabled: bool = True) -> list[tuple[str, int]]:
        """Turns timing of each node on or off (compiled plans only); returns (op, nanoseconds so far)."""
        profiler = getattr(self._segment, "profile", None)
        return profiler(enabled) if profiler is not None else []


class BoundExecutable:
    """An executable at given sizes: operands are written where it reads them, results are read where it writes them.

    `inputs` and `outputs` are NumPy arrays over planned memory (bit patterns for bfloat16); `sizes` has the size of
    every symbolic dimension. All runs of the executable share that memory: results are valid until the next one.
    """

    def __init__(self, executable: Executable, sizes: dict[str, int]) -> None:
        self.sizes = sizes
        self._run, self._is_foreign = executable._run, executable._foreign_space
        inputs = {name: executable._with_memory(value.view()) for name, value in executable.graph.inputs.items()}
        outputs = {name: executable._with_memory(view) for name, view in executable.graph.outputs.items()}
        self.inputs = {name: self._memory(view) for name, view in inputs.items()}
        self.outputs = {name: self._memory(view) for name, view in outputs.items()}
        self._results = [view.buffer for view in outputs.values()]

    def _memory(self, view: View) -> npt.NDArray[Any]:
        return bind(view, view.buffer, self.sizes).over(view.buffer.host_memory)

    def run(self) -> None:
        """Runs the plan on what `inputs` hold. Raises what calling the executable does."""
        self._run(self.sizes)
        if self._is_foreign:
            for buffer in self._results:
                buffer.readable(HOST)


def _touched(planned: PlannedCall, mutates: tuple[int, ...]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Address ranges that a call reads and writes; constants are left out."""
    reads = [
        _extent(v) for index, v in enumerate(planned.call.inputs) if index not in mutates and not v.buffer.constant
    ]
    writes = [_extent(view) for index, view in enumerate(planned.call.inputs) if index in mutates]
    writes += [_extent(view) for view in planned.call.outputs]
    if planned.workspace is not None:
        writes.append(_range_of(planned.workspace))
    return reads, writes


def _extent(view: View) -> tuple[int, int]:
    buffer = view.buffer
    if buffer.home not in (None, HOST):
        return (-id(buffer), 1 - id(buffer))
    return _range_of(buffer.readable(HOST)[0])


def _range_of(storage: npt.NDArray[np.uint8]) -> tuple[int, int]:
    start = storage.__array_interface__["data"][0]
    return start, start + max(storage.nbytes, 1)


def _overlap(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> bool:
    return any(start < stop_other and start_other < stop for start, stop in some for start_other, stop_other in others)


def compile(graph: Graph, *, device: Device | str | None = None, bounds: Mapping[str, int]) -> Executable:
    """Plans a graph for a device: fuses, chooses a kernel for each node, lays out memory, compiles.

    `bounds` gives the largest size of each symbolic dimension. The plan serves every size up to it.
    """
    return Executable(graph, get_device(device), bounds)
