"""`python -m bench.affinity`: where threads run best on this machine, for its row in perfxapi/native/chips.py.

A child process for each placement and number of threads, in turns, so that all see the same machine; they repeat the
turn. A figure is the median of the ratios to `none` in the same turn, with the smallest and the largest. A placement
is better where even its smallest ratio is above 1.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import asdict, dataclass
from typing import Any

from bench import machine
from bench.contenders import PERFXLM
from bench.process import run
from perfxapi.native.chips import chip_identities
from perfxapi.native.topology import allowed_processors, read_topology
from perfxapi.settings import processor_list
from perfxapi.tables import text_table

POLICIES = ("none", "compact", "spread")
SPEEDS = ("prefill_tokens_per_second", "decode_tokens_per_second")
Ratios = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class PlacementResult:
    """One placement: the median, the smallest and the largest ratio of its speeds to those of `none`."""

    num_threads: int
    affinity: str
    prefill: Ratios
    decode: Ratios


def speeds(arguments: argparse.Namespace, affinity: str, num_threads: int) -> list[float]:
    """Tokens per second of prefill and of greedy decoding in a process of their own."""
    command = [PERFXLM, "bench", arguments.model, "--json", "--greedy-only", "--repeats", str(arguments.repeats)]
    command += ["--prompt-tokens", str(arguments.prompt_tokens), "--gen-tokens", str(arguments.gen_tokens)]
    environment = {"PERFXAPI_AFFINITY": affinity, "PERFXAPI_NUM_THREADS": str(num_threads)}
    found: dict[str, Any] = run(command, environment).json()
    return [found[name] for name in SPEEDS]


def ratios(runs: list[dict[str, list[float]]], affinity: str, speed: int) -> Ratios:
    """The median, the smallest and the largest over the turns."""
    found = [turn[affinity][speed] / turn["none"][speed] for turn in runs]
    return statistics.median(found), min(found), max(found)


def measure(arguments: argparse.Namespace, num_threads: int) -> list[PlacementResult]:
    """All placements of that many threads, in turns."""
    runs: list[dict[str, list[float]]] = []
    for _ in range(arguments.turns):
        runs.append({affinity: speeds(arguments, affinity, num_threads) for affinity in POLICIES})
        shown = ", ".join(f"{name} {found[0]:.0f} {found[1]:.1f}" for name, found in runs[-1].items())
        print(f"{num_threads} threads, prefill and decode: {shown}", file=sys.stderr)
    return [
        PlacementResult(num_threads, affinity, ratios(runs, affinity, 0), ratios(runs, affinity, 1))
        for affinity in POLICIES[1:]
    ]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.affinity", description=__doc__)
    parser.add_argument("--model", default="gemma3-270m", help="a name or a file (default: %(default)s)")
    parser.add_argument("--threads", help="comma-separated (default: of all processors, and of half)")
    parser.add_argument("--turns", type=int, default=7, help="(default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="of each turn (default: %(default)s)")
    parser.add_argument("--prompt-tokens", type=int, default=256, help="(default: %(default)s)")
    parser.add_argument("--gen-tokens", type=int, default=64, help="(default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    usable = len(allowed_processors())
    wanted = [int(number) for number in arguments.threads.split(",")] if arguments.threads else [usable, usable // 2]
    found = [result for number in dict.fromkeys(filter(None, wanted)) for result in measure(arguments, number)]
    facts = {
        "machine": machine.describe(),
        "chip": sorted(chip_identities()),
        "clusters": [processor_list(cluster) for cluster in read_topology().clusters],
    }
    if arguments.json:
        print(json.dumps({**facts, "results": [asdict(result) for result in found]}, indent=1))
        return 0
    for name, fact in facts.items():
        print(f"{name}: {fact}")
    lines = [[str(r.num_threads), r.affinity, *map(_shown, (r.prefill, r.decode))] for r in found]
    print(text_table(["threads", "affinity", "prefill to none", "decode to none"], lines))
    return 0


def _shown(found: Ratios) -> str:
    return "{:.2f} ({:.2f} to {:.2f})".format(*found)


if __name__ == "__main__":
    sys.exit(main())
