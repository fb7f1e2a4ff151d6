"""`python -m bench.devices`: Gemma 3 270M on every device of this machine, each with its divergence.

The devices take turns in one process, so that all see the same machine; a figure is the median. `share` is that of
the first device named. With `--write` the table goes to docs/performance/devices.md, as Markdown.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import perfxapi as px
from bench import machine
from perfxapi.tables import text_table
from perfxlm import LLM, benchmark, evaluation

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "tests" / "data" / "gemma3-270m-reference.npz"
PAGE = ROOT / "docs" / "performance" / "devices.md"
HEADERS = ["device", "prefill, tok/s", "share", "decode, tok/s", "share", "mean KL", "same top token"]


@dataclass(frozen=True, slots=True)
class DeviceResult:
    """One device: tokens per second, and how far its numbers are from float32 arithmetic on the same weights."""

    device: str
    description: str
    prefill: float
    decode: float
    mean_kl: float
    top1_agreement: float
    fallbacks: int


def usable_devices() -> list[str]:
    """Every device but the reference."""
    return [str(device) for device in px.all_devices() if device.kind != "numpy"]


def measure(model: str, names: list[str], load: benchmark.BenchmarkLoad, repeats: int) -> list[DeviceResult]:
    """All devices in turns. One run each to warm up comes before."""
    models = {name: LLM(model, device=name, max_model_len=1024) for name in names}
    runs: dict[str, list[benchmark.BenchmarkResult]] = {name: [] for name in names}
    for _ in range(repeats):
        for name, llm in models.items():
            runs[name].append(benchmark.run_benchmark(llm, load))
            print(f"{name}: {runs[name][-1].decode_tokens_per_second:.1f} tok/s", file=sys.stderr)
    reference = evaluation.read_reference(REFERENCE)
    found = []
    for name, llm in models.items():
        agreement = evaluation.compare(llm, reference)
        found.append(
            DeviceResult(
                name,
                px.get_device(name).description,
                statistics.median(run.prefill_tokens_per_second for run in runs[name]),
                statistics.median(run.decode_tokens_per_second for run in runs[name]),
                agreement.mean_kl,
                agreement.top1_agreement,
                sum(row.count for row in px.explain().fallbacks if row.device == name),
            )
        )
    return found


def rows(results: list[DeviceResult]) -> list[list[str]]:
    """The table's rows."""
    first = results[0]
    return [
        [
            f"{r.device} {r.description}",
            f"{r.prefill:.0f}",
            f"{r.prefill / first.prefill:.2f}",
            f"{r.decode:.1f}",
            f"{r.decode / first.decode:.2f}",
            f"{r.mean_kl:.1e}",
            f"{100 * r.top1_agreement:.1f} %",
        ]
        for r in results
    ]


def page(results: list[DeviceResult], load: benchmark.BenchmarkLoad) -> str:
    """The table as a document."""
    facts = machine.describe()
    lines = [
        "# One model on every device of a machine",
        "",
        f"Gemma 3 270M (Q4_K_M), prompts of {load.prompt_tokens} tokens, then {load.gen_tokens} greedy tokens; "
        f"{facts['processor']}, {facts['usable_processors']} processors. Written by `python -m bench.devices --write`.",
        "Divergence from float32 arithmetic on the same weights; that of llama.cpp on this file is 6.0e-03 and 95.9 %.",
        "",
        "| " + " | ".join(HEADERS) + " |",
        "|" + " --- |" * len(HEADERS),
        *("| " + " | ".join(row) + " |" for row in rows(results)),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="gemma3-270m")
    parser.add_argument("--devices", nargs="+", default=None, metavar="DEVICE", help="default: all but the reference")
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--gen-tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3, help="turns (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    arguments = parser.parse_args()
    load = benchmark.BenchmarkLoad(arguments.prompt_tokens, arguments.gen_tokens, repeats=1, with_full_logits=False)
    results = measure(arguments.model, arguments.devices or usable_devices(), load, arguments.repeats)
    if arguments.write:
        PAGE.write_text(page(results, load), encoding="utf-8")
    print(json.dumps([asdict(r) for r in results], indent=1) if arguments.json else text_table(HEADERS, rows(results)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
