"""Which nodes of a plan are launched together, and when values are copied from one memory space to another.

Consecutive nodes whose kernels compute on the same memory (off the host: on the same device) are one *run*. Before a
run, what it reads and what was written elsewhere is made valid in its space; a value that was copied once is valid
there for all that read it later, until it is written in place. All copies have one end on the host.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from perfxapi.backend import CompiledSegment
from perfxapi.device import Device
from perfxapi.dispatch import Choice
from perfxapi.graph.ir import Graph, Node, Value
from perfxapi.ledger import LedgerRow, Tally
from perfxapi.memory import HOST

SMALL = 64 << 10
"""Bytes of an input or a result up to which it is copied together with others."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A value that becomes valid in another memory space, and the row of the ledger where its bytes are counted."""

    value: Value
    source: str
    target: str
    row: LedgerRow


@dataclass(slots=True)
class Run:
    """The nodes `first` to `stop` (exclusive). `arriving` are the copies before it.

    `is_staged`: it reads or writes state that lives elsewhere, which dispatch stages on the host. `segment` is what
    launches all of it; without one, its nodes are launched one by one. `tally` counts runs of the whole.
    """

    first: int
    stop: int
    device: Device
    is_staged: bool
    tally: Tally = field(default_factory=lambda: Tally({}))
    arriving: list[Copy] = field(default_factory=list)
    segment: CompiledSegment | None = None

    @property
    def space(self) -> str:
        """The memory that its kernels compute on."""
        return self.device.memory_space

    def takes(self, other: Run) -> bool:
        """Whether nodes that follow can be launched with these."""
        alike = self.device == other.device or self.space == other.space == HOST
        return alike and not self.is_staged and not other.is_staged


@dataclass(slots=True)
class Lifetime:
    """The first and the last node between which a value must have a place in a memory space."""

    first: int
    last: int

    def touch(self, index: int) -> None:
        """It is needed at that node too."""
        self.first, self.last = min(self.first, index), max(self.last, index)


def reads_foreign_state(node: Node, space: str) -> bool:
    """Whether state that a node touches lives in another memory than it computes on."""
    return any(view.buffer.home not in (None, space) for view in node.inputs)


class Schedule:
    """Where each value is valid as the runs of a plan go by.

    `lifetimes` says in which spaces a value needs a place, and for how long; `leaving` are the copies after the last
    run that make results, and inputs written in place, valid on the host; `early` are small inputs, which go to a space
    together, before its first run that reads any; `valid_at_end` is where a result can be found afterwards.
    """

    def __init__(
        self, graph: Graph, choices: Sequence[Choice], runs: Sequence[Run], nbytes: Mapping[Value, int]
    ) -> None:
        self.runs, self._graph, self._choices = runs, graph, choices
        self._end = len(graph.nodes)
        self.lifetimes: dict[tuple[str, Value], Lifetime] = {}
        self._valid: dict[Value, set[str]] = {value: {HOST} for value in graph.inputs.values()}
        self._writer: dict[Value, Choice] = {}
        written = {value for node in graph.nodes for value in node.values_written()}
        self.inputs_written = [value for value in graph.inputs.values() if value in written]
        self._first_readers = self._find_first_readers()
        foreign = {value for space, value in self._first_readers if space != HOST}
        small = [v for v in graph.inputs.values() if v in foreign and v not in written and nbytes[v] <= SMALL]
        self.early = dict.fromkeys(small)
        self.leaving: list[Copy] = []
        for value in graph.inputs.values():
            self._touch(HOST, value, 0, self._end)
        for run in runs:
            self._pass(run)
        self._leave()
        self.valid_at_end = {value: frozenset(self._valid[value]) for value in self.results()}

    def _find_first_readers(self) -> dict[tuple[str, Value], Choice]:
        readers: dict[tuple[str, Value], Choice] = {}
        for node, choice in zip(self._graph.nodes, self._choices, strict=True):
            for value in node.values_read():
                readers.setdefault((choice.device.memory_space, value), choice)
        return readers

    def _touch(self, space: str, value: Value, *times: int) -> None:
        lifetime = self.lifetimes.setdefault((space, value), Lifetime(times[0], times[0]))
        for time in times:
            lifetime.touch(time)

    def _pass(self, run: Run) -> None:
        for index in range(run.first, run.stop):
            node, choice = self._graph.nodes[index], self._choices[index]
            for value in node.values_read():
                self._bring(value, run)
                self._touch(run.space, value, index)
            for value in (*node.outputs, *node.values_written()):
                self._valid[value] = {run.space}
                self._writer[value] = choice
                self._touch(run.space, value, index)

    def _bring(self, value: Value, run: Run) -> None:
        """Makes a value valid in the space of a run before it starts."""
        if run.space in self._valid[value]:
            return
        together = self.early if value in self.early else (value,)
        for other in together:
            reader = self._first_readers.get((run.space, other))
            if reader is None or run.space in self._valid[other]:
                continue
            row = self._payer(other, reader)
            if HOST not in self._valid[other]:
                self._copy(other, next(iter(self._valid[other])), HOST, row, run.first, run.arriving)
            if run.space != HOST:
                self._copy(other, HOST, run.space, row, run.first, run.arriving)

    def _copy(self, value: Value, source: str, target: str, row: LedgerRow, time: int, copies: list[Copy]) -> None:
        self._touch(source, value, time)
        self._touch(target, value, time)
        self._valid[value].add(target)
        copies.append(Copy(value, source, target, row))

    def _payer(self, value: Value, reader: Choice | None) -> LedgerRow:
        """The row that a copy counts for: that of the end which is not where it was asked to be, else the reader's."""
        writer = self._writer.get(value)
        if reader is None or (writer is not None and writer.reason and not reader.reason):
            assert writer is not None
            return writer.row
        return reader.row

    def _leave(self) -> None:
        for value in dict.fromkeys((*self.results(), *self.inputs_written)):
            self._touch(HOST, value, self._end)
            spaces = self._valid[value]
            if HOST not in spaces:
                source = next(iter(spaces))
                self._touch(source, value, self._end)
                self.leaving.append(Copy(value, source, HOST, self._payer(value, None)))

    def results(self) -> Iterable[Value]:
        """The values that outputs of the graph are views of, once each."""
        return dict.fromkeys(view.buffer for view in self._graph.outputs.values())
