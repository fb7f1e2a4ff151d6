"""Lists the devices that can be used here, in the order in which "auto" prefers them."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass

from perfxapi.backend import REGISTRY
from perfxapi.policy import all_devices, get_device
from perfxapi.tables import text_table


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """One line. `is_default` marks the device that is used where none is named."""

    device: str
    backend: str
    description: str
    memory_space: str
    is_default: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


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
        )
        for device in all_devices()
    ]


def run(arguments: argparse.Namespace) -> int:
    """Prints the devices."""
    found = rows()
    if arguments.json:
        print(json.dumps([asdict(row) for row in found], indent=2))
        return 0
    header = ["", "device", "backend", "memory", "description"]
    cells = [["*" if r.is_default else "", r.device, r.backend, r.memory_space, r.description] for r in found]
    print(text_table(header, cells))
    return 0
