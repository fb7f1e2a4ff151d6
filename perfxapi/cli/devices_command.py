"""Lists the devices that can be used here, in the order in which "auto" prefers them."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass

from perfxapi.backend import REGISTRY
from perfxapi.device import Device
from perfxapi.native import NativeBackend
from perfxapi.native.topology import read_topology
from perfxapi.policy import all_devices, get_device
from perfxapi.settings import processor_list
from perfxapi.tables import text_table


@dataclass(frozen=True, slots=True)
class ThreadsRow:
    """The pool of a native backend: how its threads are placed (none, compact, spread, numbers), who decided that, the
    processor of each thread (empty: the system chooses), and the processors of each cluster of the machine.
    """

    num_threads: int
    affinity: str
    decided_by: str
    processors: tuple[int, ...]
    clusters: list[list[int]]


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """One line. `is_default` marks the device that is used where none is named; `threads` is of processors only."""

    device: str
    backend: str
    description: str
    memory_space: str
    is_default: bool
    threads: ThreadsRow | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--verbose."""
    parser.add_argument("--verbose", action="store_true", help="print how the threads of processors are placed")


def rows() -> list[DeviceRow]:
    """One row for each usable device."""
    default = get_device()
    return [
        DeviceRow(
            str(device),
            REGISTRY.of_device(device).manifest.name,
            device.description,
            device.memory_space,
            device == default,
            _threads_row(device),
        )
        for device in all_devices()
    ]


def _threads_row(device: Device) -> ThreadsRow | None:
    backend = REGISTRY.of_device(device).backend
    if not isinstance(backend, NativeBackend):
        return None
    placed = backend.placement()
    clusters = read_topology().clusters
    return ThreadsRow(backend.num_threads, placed.policy, placed.reason, placed.processors, clusters)


def run(arguments: argparse.Namespace) -> int:
    """Prints the devices."""
    found = rows()
    if arguments.json:
        print(json.dumps([asdict(row) for row in found], indent=2))
        return 0
    header = ["", "device", "backend", "memory", "description"]
    cells = [["*" if r.is_default else "", r.device, r.backend, r.memory_space, r.description] for r in found]
    print(text_table(header, cells))
    for row in found if arguments.verbose else ():
        if row.threads is not None:
            print(f"\n{row.device}: {_threads_text(row.threads)}")
    return 0


def _threads_text(row: ThreadsRow) -> str:
    on = f" on processors {','.join(map(str, row.processors))}" if row.processors else ""
    clusters = " | ".join(map(processor_list, row.clusters))
    return f"threads {row.num_threads}, affinity {row.affinity}{on} ({row.decided_by})\nclusters: {clusters}"
