"""Where nodes run so that all of them, and the copies between memories, take the least time.

Dynamic programming over the nodes in their order. A state says, for each value that is still needed, in which memory
spaces it is valid; of the ways to get there the quickest is kept. Values are copied when they are read, for a copy that
is made earlier costs the same; from device to device they pass through the host, and are then valid there too. The
result is exact as long as no more states are alive at once than `beam_of` the number of nodes; past that the quickest
go on (a beam), so that the search for a model's graph takes a second or so.

States are dropped that cannot be part of the best: those that another one beats in time and in what is valid where, and
those that with the least that is left to do take longer than the best single device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from perfxapi.memory import HOST


def beam_of(num_nodes: int) -> int:
    """States that are kept: 2,048 for graphs of up to 8 nodes, and 64 for those of 256 and more."""
    return max(64, 2048 * 8 // max(num_nodes, 8))


@dataclass(frozen=True, slots=True)
class CopyCost:
    """Seconds that a copy between a memory space and the host takes: `latency`, and the bytes at a rate each way."""

    latency: float
    write_rate: float
    read_rate: float

    def write(self, nbytes: int) -> float:
        """Seconds to copy so many bytes from the host."""
        return self.latency + nbytes / self.write_rate

    def read(self, nbytes: int) -> float:
        """Seconds to copy so many bytes to the host."""
        return self.latency + nbytes / self.read_rate


@dataclass(frozen=True, slots=True)
class Work:
    """A node: the values that it reads, those that it writes (new ones, or in place), its seconds on each device."""

    reads: tuple[int, ...]
    writes: tuple[int, ...]
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Problem:
    """Nodes in their order. Values are numbers, of `nbytes`; `given` are on the host before, `wanted` afterwards.

    `spaces` is the memory space of each device (there is one at least), `copies` what copies between a space and the
    host cost.
    """

    nodes: Sequence[Work]
    nbytes: Sequence[int]
    spaces: Mapping[str, str]
    copies: Mapping[str, CopyCost]
    given: frozenset[int]
    wanted: frozenset[int]


@dataclass(frozen=True, slots=True)
class Solution:
    """A device for each node, and the seconds that all takes."""

    devices: tuple[str, ...]
    seconds: float


_Trail: TypeAlias = "tuple[str, _Trail] | None"
_States: TypeAlias = "dict[int, tuple[float, _Trail]]"
"""By the masks of the live values side by side in one number: seconds so far, and the devices so far, last first."""


class _Search:
    """The states of one problem. Memory spaces are bits of a mask."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        spaces = dict.fromkeys([HOST, *problem.spaces.values()])
        self.names = list(spaces)
        self.bit = {space: 1 << index for index, space in enumerate(spaces)}
        self.host = self.bit[HOST]
        self.width, self.full = len(spaces), (1 << len(spaces)) - 1
        self.live = self._find_live()

    def _find_live(self) -> list[tuple[int, ...]]:
        """Before each node, and after the last, the values that are there and still needed."""
        needed = set(self.problem.wanted)
        found = [tuple(sorted(needed))]
        for work in reversed(self.problem.nodes):
            needed -= set(work.writes) - set(work.reads)
            needed |= set(work.reads)
            found.append(tuple(sorted(needed)))
        return found[::-1]

    def pack(self, masks: Mapping[int, int], values: Sequence[int]) -> int:
        """The masks of values side by side: one state covers another where all bits of the other are set in it."""
        packed = 0
        for value in values:
            packed = packed << self.width | masks[value]
        return packed

    def unpack(self, packed: int, values: Sequence[int]) -> dict[int, int]:
        """The masks of values by value."""
        masks = {}
        for value in reversed(values):
            masks[value] = packed & self.full
            packed >>= self.width
        return masks

    def bring(self, masks: dict[int, int], value: int, space: str) -> float:
        """Makes a value valid in a space; what that takes."""
        mask, seconds = masks[value], 0.0
        if mask & self.bit[space]:
            return seconds
        nbytes = self.problem.nbytes[value]
        if not mask & self.host:
            source = next(name for name in self.names if mask & self.bit[name])
            seconds += self.problem.copies[source].read(nbytes)
            mask |= self.host
        if space != HOST:
            seconds += self.problem.copies[space].write(nbytes)
        masks[value] = mask | self.bit[space]
        return seconds

    def step(self, masks: dict[int, int], work: Work, device: str) -> float:
        """Runs a node on a device; what that takes with its copies."""
        space = self.problem.spaces[device]
        seconds = sum(self.bring(masks, value, space) for value in dict.fromkeys(work.reads))
        masks.update(dict.fromkeys(work.writes, self.bit[space]))
        return seconds + work.seconds[device]

    def begin(self) -> dict[int, int]:
        """What is valid where before the first node."""
        return dict.fromkeys(self.problem.given, self.host)

    def finish(self, masks: dict[int, int]) -> float:
        """What it takes to bring to the host what is wanted there."""
        return sum(self.bring(masks, value, HOST) for value in self.problem.wanted)


def single_devices(problem: Problem) -> dict[str, Solution]:
    """For each device the placement of all on it, but for nodes that it cannot run: they are on the first that can."""
    search, found = _Search(problem), {}
    for device in problem.spaces:
        devices = tuple(device if device in work.seconds else next(iter(work.seconds)) for work in problem.nodes)
        masks = search.begin()
        steps = zip(problem.nodes, devices, strict=True)
        seconds = sum(search.step(masks, work, where) for work, where in steps) + search.finish(masks)
        found[device] = Solution(devices, seconds)
    return found


def place(problem: Problem, max_states: int | None = None) -> Solution | None:
    """The quickest placement, found with at most so many states (None: `beam_of`); None where a node runs nowhere."""
    most = max_states or beam_of(len(problem.nodes))
    if not all(work.seconds for work in problem.nodes):
        return None
    search = _Search(problem)
    best = min(single_devices(problem).values(), key=lambda single: single.seconds)
    left = [0.0]
    for work in reversed(problem.nodes):
        left.append(left[-1] + min(work.seconds.values()))
    left.reverse()
    states: _States = {search.pack(search.begin(), search.live[0]): (0.0, None)}
    for index, work in enumerate(problem.nodes):
        limit = best.seconds * (1 + 1e-9) - left[index + 1]
        states = _thinned(_after(search, states, index, work, limit), most)
    ends = [
        (seconds + search.finish(search.unpack(packed, search.live[-1])), trail)
        for packed, (seconds, trail) in states.items()
    ]
    seconds, trail = min(ends, key=lambda end: end[0], default=(float("inf"), None))
    return Solution(_devices(trail), seconds) if seconds < best.seconds else best


def _after(search: _Search, states: _States, index: int, work: Work, limit: float) -> _States:
    """The states after a node: for each the quickest way, if it takes no longer than `limit`."""
    before, after = search.live[index], search.live[index + 1]
    found: _States = {}
    for packed, (seconds, trail) in states.items():
        for device in work.seconds:
            masks = search.unpack(packed, before)
            total = seconds + search.step(masks, work, device)
            reached = search.pack(masks, after)
            if total <= limit and (reached not in found or total < found[reached][0]):
                found[reached] = total, (device, trail)
    return found


def _thinned(states: _States, max_states: int) -> _States:
    """Without states that are beaten by one that is as quick and has all values valid wherever they have."""
    kept: _States = {}
    for packed, way in sorted(states.items(), key=lambda item: item[1][0]):
        if len(kept) >= max_states:
            break
        if not any(other & packed == packed for other in kept):
            kept[packed] = way
    return kept


def _devices(trail: _Trail) -> tuple[str, ...]:
    found: list[str] = []
    while trail is not None:
        device, trail = trail
        found.append(device)
    return tuple(reversed(found))
