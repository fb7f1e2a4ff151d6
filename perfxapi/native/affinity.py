"""Where the threads of a pool run: what the setting PERFXAPI_AFFINITY, or the table of chips, means on this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass

from perfxapi.errors import InvalidArgumentError
from perfxapi.native.chips import Chip, known_chip
from perfxapi.native.topology import Topology, read_topology
from perfxapi.settings import AffinityPolicy, processor_list, settings

VARIABLE = "PERFXAPI_AFFINITY"


@dataclass(frozen=True, slots=True)
class Placement:
    """The processor of each thread of a pool; none at all where the system chooses.

    policy: none, compact, spread or numbers. reason: who decided it.
    """

    policy: str
    reason: str
    processors: tuple[int, ...]


def current_placement(num_threads: int) -> Placement:
    """The placement of a pool of this process. Raises InvalidArgumentError as `place` does."""
    wanted = settings().affinity
    chip = known_chip() if wanted == "" else None
    return place(wanted, num_threads, read_topology(), chip)


def place(
    wanted: AffinityPolicy | tuple[int, ...], num_threads: int, topology: Topology, chip: Chip | None
) -> Placement:
    """Where `num_threads` threads run. More threads than processors take them again in the same order.

    Raises InvalidArgumentError for numbers that are not one for each thread or not of processors that this process may
    use, and where the system has no affinity.
    """
    reason = VARIABLE
    if wanted == "":
        wanted, reason = (chip.affinity, f"{chip.name}: {chip.source}") if chip else ("none", "default")
    if wanted == "none":
        return Placement("none", reason, ())
    if not hasattr(os, "sched_setaffinity"):
        raise InvalidArgumentError(f"{VARIABLE} must be none here: this system has no affinity of threads")
    if isinstance(wanted, tuple):
        _check_numbers(wanted, num_threads, topology)
        return Placement("numbers", reason, wanted)
    order = topology.compact() if wanted == "compact" else topology.spread()
    return Placement(wanted, reason, tuple(order[index % len(order)] for index in range(num_threads)))


def _check_numbers(numbers: tuple[int, ...], num_threads: int, topology: Topology) -> None:
    allowed = [place.processor for place in topology.places]
    foreign = sorted(set(numbers) - set(allowed))
    if foreign:
        raise InvalidArgumentError(
            f"{VARIABLE} names processors that this process may not use or that are not there: "
            f"{processor_list(foreign)}; it may use {processor_list(allowed)}"
        )
    if len(numbers) != num_threads:
        raise InvalidArgumentError(
            f"{VARIABLE} names {len(numbers)} processors for {num_threads} threads: name one for each, or set "
            f"PERFXAPI_NUM_THREADS={len(numbers)}"
        )
