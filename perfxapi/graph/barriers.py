"""Which calls of a run must wait for those before them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from perfxapi.backend import PlannedCall
from perfxapi.graph.arenas import Arenas
from perfxapi.graph.ir import Node, Value
from perfxapi.memory import View

Range: TypeAlias = tuple[int, int]


def mark_barriers(
    nodes: Sequence[Node], planned: Sequence[PlannedCall], first: int, arenas: Arenas, space: str
) -> None:
    """A barrier is needed only before a node that touches what was written since the last one, or writes what was read.

    The nodes are those of one run, from number `first` on, and work in one space.
    """
    read: list[Range] = []
    written: list[Range] = []
    for index, (node, call) in enumerate(zip(nodes, planned, strict=True), first):
        reads, writes = _touched(node, index, arenas, space)
        call.barrier_before = _overlap(reads, written) or _overlap(writes, written) or _overlap(writes, read)
        if call.barrier_before:
            read, written = [], []
        read += reads
        written += writes


def _touched(node: Node, index: int, arenas: Arenas, space: str) -> tuple[list[Range], list[Range]]:
    """The ranges that a node reads and writes; constants are left out."""
    mutates = node.spec.mutates
    reads = _ranges((view for i, view in enumerate(node.inputs) if i not in mutates), arenas, space)
    writes = _ranges((view for i, view in enumerate(node.inputs) if i in mutates), arenas, space)
    writes += _ranges((value.view() for value in node.outputs), arenas, space)
    if index in arenas.workspaces:
        writes.append(arenas.workspaces[index].extent)
    return reads, writes


def _ranges(views: Iterable[View], arenas: Arenas, space: str) -> list[Range]:
    """Where views lie in the arena; each state has a range of its own below it."""
    found = []
    for view in views:
        if isinstance(view.buffer, Value):
            found.append(arenas.extent(space, view.buffer))
        elif view.buffer.home is not None:
            found.append((-id(view.buffer), 1 - id(view.buffer)))
    return found


def _overlap(some: list[Range], others: list[Range]) -> bool:
    return any(start < stop_other and start_other < stop for start, stop in some for start_other, stop_other in others)
