"""Plans: a Graph placed on devices, its values laid out in an arena for each memory space, compiled, and run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from perfxapi.array import Array
from perfxapi.backend import REGISTRY, CompiledSegment, OpCall, PlannedCall, Stop
from perfxapi.device import Device
from perfxapi.dims import Dim
from perfxapi.dispatch import Choice, Failures, choose, note_loss, run_call
from perfxapi.errors import DeviceLostError, InvalidArgumentError, KernelError
from perfxapi.graph.arenas import Arenas, Scratch, Transfers
from perfxapi.graph.barriers import mark_barriers
from perfxapi.graph.calls import BoundCalls
from perfxapi.graph.ir import Graph, Node, Value, symbols
from perfxapi.graph.runs import Copy, Run, Schedule, reads_foreign_state
from perfxapi.ledger import LEDGER
from perfxapi.memory import HOST, Buffer, View, bind
from perfxapi.policy import fallback_policy, get_device

_MAX_BOUND = 256
"""Sizes for which an executable remembers what is bound to them."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one node runs, and whose kernel it is. `reason` says why not where it was asked to (empty: it does)."""

    node: str
    device: str
    backend: str
    reason: str


@dataclass(frozen=True, slots=True)
class Launching:
    """How a run of consecutive nodes on a device is launched, in words."""

    num_nodes: int
    device: str
    how: str


class Executable:
    """A compiled graph.

    Call it with NumPy arrays by input name; it returns Arrays over planned memory, valid until the next call. Nodes run
    on the plan's device, but for those that are for another one and those that the device lacks. When a device is lost,
    a graph without state is planned again on what is left, if the fallback policy allows it; else DeviceLostError is
    raised.
    """

    def __init__(self, graph: Graph, device: Device, bounds: Mapping[str, int], *, is_fused: bool = False) -> None:
        """`is_fused`: the graph is taken as it is."""
        missing = symbols(graph) - set(bounds)
        if missing:
            raise InvalidArgumentError(f"compile: no bound is given for {', '.join(sorted(missing))}")
        self.device, self.bounds = device, dict(bounds)
        self._source = graph
        calls = BoundCalls(self.bounds)
        self.graph = graph if is_fused else calls.fused(graph, device)
        self._choices = [choose(calls.at(node), self._device_of(node)) for node in self.graph.nodes]
        self._runs = self._divide()
        self._plan_memory(calls)
        self._planned = [self._plan_node(index) for index in range(len(self.graph.nodes))]
        for run in self._runs:
            self._compile(run)
        self._describe_inputs()
        self._bound: dict[tuple[tuple[str, int], ...], BoundExecutable] = {}
        self._replacement: Executable | None = None

    # ---- planning

    def _values(self) -> list[Value]:
        return [*self.graph.inputs.values(), *(value for node in self.graph.nodes for value in node.outputs)]

    def _device_of(self, node: Node) -> Device:
        return node.device or self.device

    def _nbytes(self, sizes: Mapping[str, int]) -> dict[Value, int]:
        """The bytes of each value at given sizes."""
        return {value: bind(value.view(), None, sizes).nbytes for value in self._values()}  # type: ignore[arg-type]

    def _divide(self) -> list[Run]:
        """Runs of nodes whose kernels compute on the same memory and, off the host, on the same device."""
        runs: list[Run] = []
        for index, (node, choice) in enumerate(self._nodes_chosen()):
            run = Run(index, index, choice.device, reads_foreign_state(node, choice.device.memory_space))
            if not runs or not runs[-1].takes(run):
                runs.append(run)
            runs[-1].stop = index + 1
        for run in runs:
            run.tally = LEDGER.tally(Counter(choice.row for choice in self._choices[run.first : run.stop]))
        return runs

    def _plan_memory(self, calls: BoundCalls) -> None:
        nbytes = self._nbytes(self.bounds)
        self._schedule = Schedule(self.graph, self._choices, self._runs, nbytes)
        scratch = [
            Scratch(choice.device.memory_space, choice.kernel.workspace_bytes(calls.at(node)), index)
            for index, (node, choice) in enumerate(self._nodes_chosen())
        ]
        self._arenas = Arenas(self._schedule, nbytes, [one for one in scratch if one.nbytes])
        self._buffers = {value: Buffer(size, name=value.name) for value, size in nbytes.items()}
        self._arenas.place(self._buffers)

    def _nodes_chosen(self) -> list[tuple[Node, Choice]]:
        return list(zip(self.graph.nodes, self._choices, strict=True))

    def _plan_node(self, index: int) -> PlannedCall:
        node = self.graph.nodes[index]
        inputs = tuple(self._with_memory(view) for view in node.inputs)
        outputs = tuple(self._with_memory(value.view()) for value in node.outputs)
        call = OpCall(node.spec.name, inputs, outputs, node.attributes)
        workspace = self._arenas.workspaces.get(index)
        storage = workspace.storage if workspace is not None else None
        return PlannedCall(call, self._choices[index].kernel, True, storage)

    def _with_memory(self, view: View) -> View:
        if not isinstance(view.buffer, Value):
            return view
        return View(self._buffers[view.buffer], view.dtype, view.shape, view.strides, view.offset)

    def _compile(self, run: Run) -> None:
        """Has a run compiled by the backend that owns its device; on the host, by the first that compiles."""
        nodes, planned = self.graph.nodes[run.first : run.stop], self._planned[run.first : run.stop]
        for node in nodes:
            for value in (*node.values_read(), *node.outputs):
                self._buffers[value].restore((run.space,))
        if run.is_staged:
            return
        mark_barriers(nodes, planned, run.first, self._arenas, run.space)
        devices = dict.fromkeys(choice.device for choice in self._choices[run.first : run.stop])
        if run.space == self.device.memory_space == HOST:
            devices = {self.device: None, **devices}
        for device in devices:
            backend = REGISTRY.of_device(device).backend
            try:
                run.segment = backend.compile(planned, self.bounds) if backend is not None else None
            except DeviceLostError as error:
                note_loss(error, device)
                raise
            if run.segment is not None:
                run.device = device
                return

    def _describe_inputs(self) -> None:
        """For each input its memory at the bounds, and the symbol of its first dimension."""
        self._inputs: dict[str, tuple[npt.NDArray[Any], Dim | None]] = {}
        for name, value in self.graph.inputs.items():
            shape = value.spec.shape
            if any(isinstance(size, Dim) for size in shape[1:]):
                raise InvalidArgumentError(f"input {name!r}: only the first dimension can be symbolic")
            dim = shape[0] if shape and isinstance(shape[0], Dim) else None
            buffer = self._buffers[value]
            self._inputs[name] = bind(value.view(), buffer, self.bounds).over(buffer.host_memory), dim

    # ---- running

    def __call__(self, **inputs: Any) -> dict[str, Array]:
        """Runs the graph.

        Sizes of symbolic dimensions come from the inputs' shapes. Raises InvalidArgumentError where they do not fit.
        """
        values = {name: np.asarray(value) for name, value in inputs.items()}
        bound = self.bind(**self._sizes_of(values))
        for name, value in values.items():
            bound.inputs[name][...] = value
        replacement = self.execute(bound, to_host=False)
        return bound.arrays(self.device) if replacement is None else replacement(**values)

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

    def execute(self, bound: BoundExecutable, *, to_host: bool) -> Executable | None:
        """Runs the plan at bound sizes; `to_host`: then copies what it wrote to the host.

        Returns None; where a device was lost, the plan that takes this one's place, which has not run yet. Raises
        DeviceLostError where there can be none.
        """
        if self._replacement is not None:
            return self._replacement
        device = self.device
        try:
            for run, arriving in bound.steps:
                device = run.device
                if arriving is not None:
                    arriving.perform()
                if run.segment is None:
                    for index in range(run.first, run.stop):
                        self._run_node(run, index, bound, "")
                elif (stop := run.segment.run(bound.sizes, 0)) is None:
                    run.tally.runs += 1
                else:
                    self._go_on(run, run.segment, stop, bound)
            if to_host and bound.leaving is not None:
                bound.leaving.perform()
        except DeviceLostError as error:
            note_loss(error, device)
            self._replacement = self._plan_again(error)
        return self._replacement

    def _plan_again(self, error: DeviceLostError) -> Executable:
        """The same graph on what is left. Raises the error where state was lost too, or by policy."""
        has_state = any(view.buffer.home is not None for node in self._source.nodes for view in node.inputs)
        if has_state or self._schedule.inputs_written or fallback_policy() == "error":
            raise error
        return Executable(self._source, get_device(self.device), self.bounds)

    def _go_on(self, run: Run, segment: CompiledSegment, stop: Stop | None, bound: BoundExecutable) -> None:
        """Runs the node where a segment stopped by dispatch, then the rest of the segment, and so on."""
        first = run.first
        while stop is not None:
            index = run.first + stop.index
            self._count(first, index)
            self._run_node(run, index, bound, stop.reason)
            first = index + 1
            stop = segment.run(bound.sizes, stop.index + 1)
        self._count(first, run.stop)

    def _count(self, first: int, stop: int) -> None:
        for choice in self._choices[first:stop]:
            choice.row.count += 1

    def _run_node(self, run: Run, index: int, bound: BoundExecutable, failure: str) -> None:
        """Runs one node by dispatch. `failure` says why its planned kernel could not (empty: it was not tried).

        What it reads is valid in the run's space, and so is what it wrote afterwards.
        """
        node, choice, device = self.graph.nodes[index], self._choices[index], self._device_of(self.graph.nodes[index])
        call = self._planned[index].call.at(bound.sizes)
        for value in (*node.values_read(), *node.outputs):
            buffer = self._buffers[value]
            buffer.nbytes = bound.nbytes[value]
            buffer.restore((run.space,))
        failures: Failures = {choice.kernel: KernelError(failure)} if failure else {}
        if failure:
            choice = choose(call, device, failures)
        choice = run_call(node.spec, call, device, choice, failures, run.space)
        for value in node.values_written():
            choice.row.bytes_moved += self._buffers[value].validate(run.space)
        if run.space != HOST and (lost := REGISTRY.lost(run.device)):
            raise DeviceLostError(lost)

    # ---- looking

    @property
    def arena_bytes(self) -> dict[str, int]:
        """Bytes of planned memory in each memory space."""
        return self._arenas.nbytes

    def explain(self) -> list[Placement]:
        """Where each node runs, and why."""
        return [Placement(repr(node), str(c.device), c.backend, c.reason) for node, c in self._nodes_chosen()]

    def launching(self) -> list[Launching]:
        """How the nodes are launched, run by run."""
        found = []
        for run in self._runs:
            how = "node by node" if run.segment is None else getattr(run.segment, "description", "all at once")
            found.append(Launching(run.stop - run.first, str(run.device), how))
        return found

    def profile(self, enabled: bool = True) -> list[tuple[str, int]]:
        """Turns timing of each node on or off; returns (op, nanoseconds so far).

        Nodes that are not part of a segment with a profile have 0; where there is none, the list is empty.
        """
        found: list[tuple[str, int]] = []
        profilers = [getattr(run.segment, "profile", None) for run in self._runs]
        for run, profiler in zip(self._runs, profilers, strict=True):
            ops = [node.spec.name for node in self.graph.nodes[run.first : run.stop]]
            found += profiler(enabled) if profiler is not None else [(op, 0) for op in ops]
        return found if any(profiler is not None for profiler in profilers) else []


class BoundExecutable:
    """An executable at given sizes: operands are written where it reads them, results are read where it writes them.

    `inputs` and `outputs` are NumPy arrays over planned memory of the host (bit patterns for bfloat16); `sizes` has the
    size of every symbolic dimension. All runs of the executable share that memory: results are valid until the next.
    `steps` are the runs with the copies before each, `leaving` the copies of what they wrote to the host.
    """

    def __init__(self, executable: Executable, sizes: dict[str, int]) -> None:
        self.sizes, self._executable = sizes, executable
        self._nbytes: dict[Value, int] = {}
        inputs = {name: executable._with_memory(value.view()) for name, value in executable.graph.inputs.items()}
        outputs = {name: executable._with_memory(view) for name, view in executable.graph.outputs.items()}
        self._results = {name: bind(view, view.buffer, sizes) for name, view in outputs.items()}
        self._valid = [
            (executable._buffers[value], bind(value.view(), None, sizes).nbytes, spaces)  # type: ignore[arg-type]
            for value, spaces in executable._schedule.valid_at_end.items()
        ]
        self.inputs = {name: self._memory(view) for name, view in inputs.items()}
        self.outputs = {name: self._memory(view) for name, view in self._results.items()}
        self.steps = [(run, self._transfers(run.arriving)) for run in executable._runs]
        self.leaving = self._transfers(executable._schedule.leaving)

    @property
    def nbytes(self) -> dict[Value, int]:
        """The bytes of each value at these sizes."""
        if not self._nbytes:
            self._nbytes = self._executable._nbytes(self.sizes)
        return self._nbytes

    def _transfers(self, copies: list[Copy]) -> Transfers | None:
        return self._executable._arenas.transfers(copies, self.nbytes) if copies else None

    def _memory(self, view: View) -> npt.NDArray[Any]:
        return bind(view, view.buffer, self.sizes).over(view.buffer.host_memory)

    def arrays(self, device: Device) -> dict[str, Array]:
        """The results as Arrays over planned memory, wherever it is."""
        for buffer, nbytes, spaces in self._valid:
            buffer.nbytes = nbytes
            buffer.restore(spaces)
        return {name: Array(view, device) for name, view in self._results.items()}

    def run(self) -> None:
        """Runs the plan on what `inputs` hold. Raises what calling the executable does."""
        replacement = self._executable.execute(self, to_host=True)
        if replacement is not None:
            self._run_elsewhere(replacement.bind(**self.sizes))

    def _run_elsewhere(self, other: BoundExecutable) -> None:
        """A device was lost: another plan runs on these inputs, and its results come here."""
        for name, operand in other.inputs.items():
            operand[...] = self.inputs[name]
        other.run()
        for name, result in other.outputs.items():
            self.outputs[name][...] = result
