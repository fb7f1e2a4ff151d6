"""Which processors share a core, a cache and memory, and in which order threads take them.

Read from what Linux tells below /sys/devices/system/cpu (its documents cputopology.rst and ABI/testing/
sysfs-devices-system-cpu); what a file that is missing would say is taken to be shared by all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from perfxapi.settings import processor_numbers

SYSTEM = Path("/sys/devices/system/cpu")
_FULL_CAPACITY = 1024


@cache
def allowed_processors() -> tuple[int, ...]:
    """The processors that this process may use, as they were when first asked: a pool pins its caller too."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a processor is. A group is named by its smallest processor, a memory node by its own number.

    rank: which of its core's hyperthreads it is. capacity: its speed as Linux tells it, 1024 where all are alike. A
    cluster is the processors that share a level-2 cache, where cores share one; else a level-3 cache, else the package.
    """

    processor: int
    rank: int
    capacity: int
    package: int
    node: int
    level3: int
    cluster: int
    core: int

    @property
    def groups(self) -> tuple[int, ...]:
        """The groups that it is in, from the outermost inwards."""
        return (self.package, self.node, self.level3, self.cluster, self.core)


@dataclass(frozen=True, slots=True)
class Topology:
    """The places of the processors that may be used."""

    places: tuple[Place, ...]

    @property
    def clusters(self) -> list[list[int]]:
        """The processors of each cluster."""
        found: dict[int, list[int]] = {}
        for place in sorted(self.places, key=lambda place: place.processor):
            found.setdefault(place.cluster, []).append(place.processor)
        return list(found.values())

    def compact(self) -> list[int]:
        """All processors, neighbors first: one cluster is filled before the next."""
        return [place.processor for tier in self._tiers() for place in tier]

    def spread(self) -> list[int]:
        """All processors, strangers first: in turn from each package, in it from each memory node, and so on."""
        return [place.processor for tier in self._tiers() for place in _in_turn(tier, 0)]

    def _tiers(self) -> list[list[Place]]:
        """Places that all come before those of the next tier: hyperthread siblings come last, slower cores late."""
        tiers: dict[tuple[int, int], list[Place]] = {}
        for place in sorted(self.places, key=lambda place: (*place.groups, place.processor)):
            tiers.setdefault((place.rank, -place.capacity), []).append(place)
        return [tiers[key] for key in sorted(tiers)]


def _in_turn(places: Sequence[Place], depth: int) -> list[Place]:
    if len(places) < 2 or depth == len(places[0].groups):
        return list(places)
    groups: dict[int, list[Place]] = {}
    for place in places:
        groups.setdefault(place.groups[depth], []).append(place)
    ordered = [_in_turn(group, depth + 1) for group in groups.values()]
    turns = range(max(map(len, ordered)))
    return [group[turn] for turn in turns for group in ordered if turn < len(group)]


def read_topology(folder: Path = SYSTEM, allowed: Iterable[int] | None = None) -> Topology:
    """The topology of the processors that may be used; `allowed` are those of this process where it is None."""
    usable = frozenset(allowed_processors() if allowed is None else allowed)
    return Topology(tuple(_place(folder / f"cpu{number}", number, usable) for number in sorted(usable)))


def _place(folder: Path, number: int, usable: frozenset[int]) -> Place:
    """Groups are of all processors: a cluster of which one processor may be used is still a cluster."""

    def listed(name: str) -> frozenset[int]:
        return frozenset(processor_numbers(_text(folder / "topology" / name)))

    siblings = listed("thread_siblings_list") | {number}
    package = (listed("package_cpus_list") or listed("core_siblings_list") or usable) | siblings
    caches = _caches(folder / "cache")
    level2 = caches.get(2, listed("cluster_cpus_list"))
    level3 = caches.get(3, package)
    cluster = next((group for group in (level2, level3) if group > siblings), package)
    capacity = _text(folder / "cpu_capacity")
    return Place(
        number,
        sorted(siblings & usable).index(number),
        int(capacity) if capacity.isdigit() else _FULL_CAPACITY,
        min(package),
        _node(folder),
        min(level3 | siblings),
        min(cluster),
        min(siblings),
    )


def _caches(folder: Path) -> dict[int, frozenset[int]]:
    """The processors that share the cache of data of each level."""
    found = {}
    for index in sorted(folder.glob("index[0-9]*")):
        level, shared = _text(index / "level"), _text(index / "shared_cpu_list")
        if level.isdigit() and shared and _text(index / "type") != "Instruction":
            found[int(level)] = frozenset(processor_numbers(shared))
    return found


def _node(folder: Path) -> int:
    return min((int(node.name[4:]) for node in folder.glob("node[0-9]*")), default=0)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
