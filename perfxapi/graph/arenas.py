"""The memory of a plan: one arena in each memory space, and the copies between them at given sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from perfxapi.allocator import ALIGNMENT
from perfxapi.graph.ir import Value
from perfxapi.graph.memory_plan import Block, plan_memory
from perfxapi.graph.runs import SMALL, Copy, Schedule
from perfxapi.ledger import LedgerRow
from perfxapi.memory import HOST, Allocation, Buffer, memory_space, read_from, write_to

_GAP = 32 << 10
"""Bytes between two values up to which one copy of both takes less time than two."""


@dataclass(frozen=True, slots=True)
class Scratch:
    """Scratch memory of one node."""

    space: str
    nbytes: int
    node: int


@dataclass(frozen=True, slots=True)
class Workspace:
    """The scratch memory that a node was given: storage, and from where to where it lies in the arena."""

    storage: Any
    extent: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Group:
    """Values that lie side by side, in the same way in each of `spaces`, so that one copy moves them all: `is_early`
    ones from the host, others to it.
    """

    places: dict[Value, int]
    nbytes: int
    spaces: tuple[str, ...]
    is_early: bool


class Arenas:
    """Where each value and each node's scratch memory lies, in each memory space where it is needed."""

    def __init__(self, schedule: Schedule, nbytes: Mapping[Value, int], scratch: Sequence[Scratch]) -> None:
        self._schedule, self._nbytes = schedule, nbytes
        self._offsets: dict[tuple[str, Value], int] = {}
        self._groups = self._make_groups()
        self._group_of = {value: group for group in self._groups for value in group.places}
        self._allocations: dict[str, Allocation] = {}
        self.workspaces: dict[int, Workspace] = {}
        spaces = {HOST, *(space for space, _ in schedule.lifetimes), *(one.space for one in scratch)}
        for space in sorted(spaces):
            self._plan(space, [one for one in scratch if one.space == space])

    @property
    def nbytes(self) -> dict[str, int]:
        """The size of the arena in each memory space."""
        return {space: allocation.nbytes for space, allocation in self._allocations.items()}

    def extent(self, space: str, value: Value) -> tuple[int, int]:
        """From where to where a value lies in an arena; a byte at least."""
        start = self._offsets[space, value]
        return start, start + max(self._nbytes[value], 1)

    def place(self, buffers: Mapping[Value, Buffer]) -> None:
        """Gives buffers their memory."""
        for (space, value), offset in self._offsets.items():
            allocation = self._allocations[space]
            storage = memory_space(space).slice(allocation.storage, offset, self._nbytes[value])
            buffers[value].adopt(storage, space, part_of=allocation)

    # ---- planning

    def _make_groups(self) -> list[_Group]:
        """The small inputs that devices read; for each device its small results."""
        schedule = self._schedule
        groups = []
        if schedule.early:
            readers = {space for space, value in schedule.lifetimes if value in schedule.early}
            groups.append(self._group(schedule.early, tuple(sorted(readers)), is_early=True))
        for space in sorted({copy.source for copy in schedule.leaving}):
            values = [c.value for c in schedule.leaving if c.source == space and self._nbytes[c.value] <= SMALL]
            groups.append(self._group(values, (HOST, space), is_early=False))
        return groups

    def _group(self, values: Iterable[Value], spaces: tuple[str, ...], *, is_early: bool) -> _Group:
        places, end = {}, 0
        for value in sorted(values, key=lambda value: self._nbytes[value]):  # most padding is in the largest, the last
            places[value] = end
            end += -(-self._nbytes[value] // ALIGNMENT) * ALIGNMENT
        return _Group(places, end, spaces, is_early)

    def _plan(self, space: str, scratch: Sequence[Scratch]) -> None:
        lifetimes = self._schedule.lifetimes
        blocks: list[Block] = []
        members: list[dict[Value, int]] = []
        for group in self._groups:
            alive = [lifetimes[space, value] for value in group.places if (space, value) in lifetimes]
            if space in group.spaces and alive:
                blocks.append(Block(group.nbytes, min(one.first for one in alive), max(one.last for one in alive)))
                members.append(group.places)
        for (where, value), alive_from_to in lifetimes.items():
            group_of = self._group_of.get(value)
            if where == space and (group_of is None or space not in group_of.spaces):
                blocks.append(Block(self._nbytes[value], alive_from_to.first, alive_from_to.last))
                members.append({value: 0})
        blocks += [Block(one.nbytes, one.node, one.node) for one in scratch]
        plan = plan_memory(blocks)
        allocation = Allocation(memory_space(space).allocator, plan.arena_bytes)
        self._allocations[space] = allocation
        for start, places in zip(plan.offsets, members, strict=False):
            self._offsets.update({(space, v): start + at for v, at in places.items() if (space, v) in lifetimes})
        for start, one in zip(plan.offsets[len(members) :], scratch, strict=True):
            storage = memory_space(space).slice(allocation.storage, start, one.nbytes)
            self.workspaces[one.node] = Workspace(storage, (start, start + one.nbytes))

    # ---- copying

    def transfers(self, copies: Sequence[Copy], nbytes: Mapping[Value, int]) -> Transfers:
        """Copies when the values have so many bytes: as few as may be, those to the host first."""
        extents = []
        charges: dict[LedgerRow, int] = {}
        for copy in copies:
            charges[copy.row] = charges.get(copy.row, 0) + nbytes[copy.value]
            space, to_host = (copy.source, True) if copy.target == HOST else (copy.target, False)
            places = self._offsets[space, copy.value], self._offsets[HOST, copy.value]
            group = self._group_of.get(copy.value)
            joins = id(group) if group is not None and group.is_early != to_host and space in group.spaces else 0
            if nbytes[copy.value]:
                extents.append(_Extent(not to_host, space, joins, *places, nbytes[copy.value]))
        host = self._allocations[HOST].storage
        found = [
            Transfer(
                extent.space,
                self._allocations[extent.space].storage,
                extent.offset,
                host[extent.host_offset : extent.host_offset + extent.nbytes],
                not extent.to_device,
            )
            for extent in _merged(sorted(extents, key=_Extent.order))
        ]
        return Transfers(found, list(charges.items()))


@dataclass(slots=True)
class _Extent:
    """Bytes to copy. Those that `join` the same group lie alike on both sides."""

    to_device: bool
    space: str
    joins: int
    offset: int
    host_offset: int
    nbytes: int

    def order(self) -> tuple[bool, str, int, int]:
        return self.to_device, self.space, self.joins, self.offset


def _merged(extents: Iterable[_Extent]) -> list[_Extent]:
    """Neighbors of one group become one. What lies between them is padding, or the same on both sides."""
    found: list[_Extent] = []
    for extent in extents:
        last = found[-1] if found else None
        alike = last is not None and (last.to_device, last.space, last.joins) == extent.order()[:3] and extent.joins
        if last is not None and alike and extent.offset - last.offset - last.nbytes <= _GAP:
            last.nbytes = extent.offset + extent.nbytes - last.offset
        else:
            found.append(extent)
    return found


@dataclass(frozen=True, slots=True)
class Transfer:
    """One copy between the host's arena and another."""

    space: str
    storage: Any
    offset: int
    host: npt.NDArray[np.uint8]
    to_host: bool


class Transfers:
    """Copies that are made together, and the rows of the ledger that their bytes count for."""

    def __init__(self, transfers: Sequence[Transfer], charges: Sequence[tuple[LedgerRow, int]]) -> None:
        self.transfers, self._charges = transfers, charges

    def __bool__(self) -> bool:
        return bool(self.transfers)

    def perform(self) -> None:
        """Makes the copies. Raises DeviceLostError."""
        for one in self.transfers:
            copy = read_from if one.to_host else write_to
            copy(one.space, one.storage, one.offset, one.host)
        for row, nbytes in self._charges:
            row.bytes_moved += nbytes
