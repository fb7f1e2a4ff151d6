"""Where each value lives in the arena: values whose lifetimes do not overlap share bytes (greedy by size, Pisarchyk and
Lee 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perfxapi.allocator import ALIGNMENT


@dataclass(frozen=True, slots=True)
class Block:
    """A block of memory needed from node `first` through node `last`."""

    nbytes: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """An offset for each block, and the size of the arena, in bytes."""

    offsets: tuple[int, ...]
    arena_bytes: int


def plan_memory(blocks: Sequence[Block]) -> MemoryPlan:
    """Places the largest blocks first, each at the lowest offset where it overlaps no block alive at the same time."""
    sizes = np.array([_aligned(block.nbytes) for block in blocks], np.int64)
    first = np.array([block.first for block in blocks], np.int64)
    last = np.array([block.last for block in blocks], np.int64)
    starts = np.zeros(len(blocks), np.int64)
    is_placed = np.zeros(len(blocks), bool)
    for index in np.argsort(-sizes, kind="stable"):
        alive = is_placed & (first <= last[index]) & (first[index] <= last)
        starts[index] = _lowest_gap(starts[alive], sizes[alive], int(sizes[index]))
        is_placed[index] = True
    return MemoryPlan(tuple(starts.tolist()), int((starts + sizes).max(initial=0)))


def _aligned(nbytes: int) -> int:
    return -(-max(nbytes, 1) // ALIGNMENT) * ALIGNMENT


def _lowest_gap(starts: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], size: int) -> int:
    offset = 0
    order = np.argsort(starts)
    for start, stop in zip(starts[order].tolist(), (starts + sizes)[order].tolist(), strict=True):
        if start - offset >= size:
            break
        offset = max(offset, stop)
    return offset
