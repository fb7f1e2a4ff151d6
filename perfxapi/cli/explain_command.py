"""Shows for every op which backend would run it on a device, and why not the device's own where that declines."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from perfxapi.conformance.cases import Case, all_cases, build_call
from perfxapi.device import Device
from perfxapi.dispatch import choices
from perfxapi.ops.spec import op_spec
from perfxapi.policy import get_device
from perfxapi.tables import text_table


@dataclass(frozen=True, slots=True)
class PlacementRow:
    """One op in one dtype: what would run it, on which device, and the reasons of those that would not."""

    op: str
    dtype: str
    backend: str
    runs_on: str
    reason: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """OP..., --device."""
    parser.add_argument("ops", nargs="*", metavar="OP", help="ops to show (default: all)")
    parser.add_argument("--device", help='device asked for (default: the setting PERFXAPI_DEVICE, else "auto")')


def rows(device: Device, ops: Sequence[str] | None = None) -> list[PlacementRow]:
    """One row for each op and dtype, by the first sample in that dtype. Nothing is launched."""
    first: dict[tuple[str, str], Case] = {}
    for case in all_cases(ops):
        first.setdefault((case.spec.name, case.dtype.name), case)
    return [_row(case, device) for case in first.values()]


def _row(case: Case, device: Device) -> PlacementRow:
    call = build_call(case, lambda nbytes: np.empty(nbytes, np.uint8), device.memory_space)
    choice = next(choices(call, device))
    return PlacementRow(case.spec.name, case.dtype.name, choice.backend, str(choice.device), choice.reason)


def run(arguments: argparse.Namespace) -> int:
    """Prints the placement of each op."""
    for op in arguments.ops:
        op_spec(op)
    device = get_device(arguments.device)
    found = rows(device, arguments.ops or None)
    if arguments.json:
        print(json.dumps({"device": str(device), "placements": [asdict(row) for row in found]}, indent=2))
        return 0
    fallbacks = sum(bool(row.reason) for row in found)
    print(text_table(["op", "dtype", "backend", "runs on", "reason"], [list(asdict(row).values()) for row in found]))
    print(f"\n{device}: {len(found)} placements, {fallbacks} of them fallbacks")
    return 0
