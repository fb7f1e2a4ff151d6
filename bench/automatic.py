"""`python -m bench.automatic`: plans on the device "auto" beside the same plans on each single device.

A plan is a chain of products with float32 weights. The devices take turns in random order in one process, so that all
see the same machine; before each turn the machine rests, for threads of the device before may still spin. A figure is
the median of the turns, each the shortest of some runs. `over` is what "auto" takes more than the best single device.
What "auto" knows is measured in this run: what earlier ones stored may be of another hour of a shared machine.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass

import numpy as np

import perfxapi as px
from bench.devices import usable_devices
from perfxapi.graph.automatic import measuring
from perfxapi.settings import settings
from perfxapi.tables import text_table

AUTO = "auto"
_REST_SECONDS = 0.3
_RUNS = 9


@dataclass(frozen=True, slots=True)
class AutoResult:
    """One size: milliseconds by device, and the devices that "auto" chose."""

    rows: int
    milliseconds: dict[str, float]
    placed_on: list[str]

    @property
    def over(self) -> float:
        """What "auto" takes more than the best single device, as a part of it; negative where it takes less."""
        return self.milliseconds[AUTO] / min(ms for name, ms in self.milliseconds.items() if name != AUTO) - 1


def make_plan(device: str, rows: int, size: int, count: int, seconds: float) -> px.graph.Executable:
    """A chain of `count` products of [rows, size] with constant [size, size] on a device."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(0, size**-0.5, (size, size)).astype(np.float32) for _ in range(count)]

    def chain(x: px.Array) -> px.Array:
        for weight in weights:
            x = px.matmul(x, px.asarray(weight))
        return x

    graph = px.graph.trace(chain, {"x": px.TensorSpec((rows, size), px.float32)}, device=device)
    with measuring(seconds):
        return px.graph.compile(graph, device=device, bounds={})


def measure(names: list[str], rows: int, size: int, count: int, turns: int, seconds: float) -> AutoResult:
    """All devices and "auto" in turns."""
    plans = {name: make_plan(name, rows, size, count, seconds) for name in [*names, AUTO]}
    bound = {name: plan.bind() for name, plan in plans.items()}
    x = np.random.default_rng(1).normal(size=(rows, size)).astype(np.float32)
    for one in bound.values():
        one.inputs["x"][...] = x
    found: dict[str, list[float]] = {name: [] for name in plans}
    for _ in range(turns):
        for name in random.sample(list(bound), len(bound)):
            time.sleep(_REST_SECONDS)
            found[name].append(min(_milliseconds(bound[name]) for _ in range(_RUNS)))
    placed = sorted({place.device for place in plans[AUTO].explain()})
    return AutoResult(rows, {name: statistics.median(times) for name, times in found.items()}, placed)


def _milliseconds(bound: px.graph.BoundExecutable) -> float:
    start = time.perf_counter()
    bound.run()
    return (time.perf_counter() - start) * 1e3


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", nargs="+", default=None, metavar="DEVICE", help="default: all but the reference")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 64, 512])
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--count", type=int, default=6, help="products in a plan (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--tune-seconds", type=float, default=30, help='for measuring what "auto" does not know yet')
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PERFXAPI_TUNING_FILE"] = f"{folder}/tuning.json"
        settings.cache_clear()
        names = options.devices or usable_devices()
        sizes = (options.size, options.count, options.turns, options.tune_seconds)
        results = [measure(names, rows, *sizes) for rows in options.rows]
    if options.json:
        print(json.dumps([asdict(result) | {"over": result.over} for result in results], indent=1))
        return 0
    cells = [
        [str(r.rows), *(f"{r.milliseconds[name]:.2f}" for name in [*names, AUTO]), f"{r.over:+.1%}", *r.placed_on]
        for r in results
    ]
    print(text_table(["rows", *(f"{name}, ms" for name in [*names, AUTO]), "over", "placed on"], cells))
    return 0


if __name__ == "__main__":
    sys.exit(main())
