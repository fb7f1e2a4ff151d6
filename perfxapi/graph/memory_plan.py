"""Where each value lives in the arena: values whose lifetimes do not overlap share bytes (greedy by size, Pisarchyk and
Lee 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from perfxapi.allocator import ALIGNMENT


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A block of memory needed from node `first` through node `last`."""

    nbytes: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """An offset for each lifetime, and the size of the arena, in bytes."""

    offsets: tuple[int, ...]
    arena_bytes: int


def plan_memory(lifetimes: Sequence[Lifetime]) -> MemoryPlan:
    """Places the largest blocks first, each at the lowest offset where it overlaps no other block alive at the same
    time.
    """
    offsets = [0] * len(lifetimes)
    placed: list[int] = []
    arena = 0
    for index in sorted(range(len(lifetimes)), key=lambda i: (-lifetimes[i].nbytes, i)):
        block = lifetimes[index]
        size = _aligned(block.nbytes)
        alive = [
            (offsets[other], offsets[other] + _aligned(lifetimes[other].nbytes))
            for other in placed
            if lifetimes[other].first <= block.last and block.first <= lifetimes[other].last
        ]
        offsets[index] = _lowest_gap(sorted(alive), size)
        placed.append(index)
        arena = max(arena, offsets[index] + size)
    return MemoryPlan(tuple(offsets), arena)


def _aligned(nbytes: int) -> int:
    return -(-max(nbytes, 1) // ALIGNMENT) * ALIGNMENT


def _lowest_gap(taken: Sequence[tuple[int, int]], size: int) -> int:
    offset = 0
    for start, stop in taken:
        if start - offset >= size:
            break
        offset = max(offset, stop)
    return offset
