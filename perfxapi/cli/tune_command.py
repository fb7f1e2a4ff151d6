"""Measures what makes backends quicker here, and copies to and from each device; shows what is known for "auto".

Nodes of plans are measured when a plan is made for "auto" that needs them; `perfxlm tune` does so for a model.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

from perfxapi.backend import REGISTRY
from perfxapi.cli.progress_line import progress_line
from perfxapi.graph.automatic import candidates
from perfxapi.graph.costs import Budget, copy_cost
from perfxapi.memory import HOST
from perfxapi.tables import text_table
from perfxapi.tuning import CHOICES, COPIES, NODES, PLANS, TUNER


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--seconds`, `--forget`."""
    parser.add_argument("--seconds", type=float, default=60.0, metavar="S", help="most time to spend (default: 60)")
    parser.add_argument("--forget", action="store_true", help="begin anew: drop all that was measured before")


def run(arguments: argparse.Namespace) -> int:
    """Measures what is not known, and prints it."""
    if arguments.forget:
        TUNER.clear()
    try:
        with progress_line(arguments.seconds) as note:
            found = measured(Budget(arguments.seconds, note))
    except KeyboardInterrupt:
        print(f"perfxapi: interrupted; what was measured until then is kept in {TUNER.path()}", file=sys.stderr)
        return 130
    if arguments.json:
        print(json.dumps(found, indent=2))
        return 0
    rows = [
        [name, f"{1e6 * cost['latency']:.1f}", *(f"{1e-9 * cost[way]:.1f}" for way in ("write_rate", "read_rate"))]
        for name, cost in found["copies"].items()
    ]
    print(text_table(["device", "us a copy", "GB/s there", "GB/s back"], rows))
    print(", ".join(f"{count} {name}" for name, count in found["known"].items()), "known in", found["file"])
    return 0


def measured(budget: Budget) -> dict[str, Any]:
    """The file, what copies of each device take, and how many figures of each kind are known."""
    devices = [device for device in candidates() if device.memory_space != HOST]
    for entry in REGISTRY.usable():
        for what, search in entry.backend.searches() if entry.backend else ():
            budget.spend(what, search)
    costs = {str(device): copy_cost(device, budget) for device in devices}
    return {
        "file": str(TUNER.path()),
        "copies": {name: asdict(cost) for name, cost in costs.items() if cost is not None},
        "known": {section: TUNER.known(section) for section in (CHOICES, NODES, COPIES, PLANS)},
    }
