"""Measure where a model runs quickest.

With --device auto (the default), what the nodes of its graphs take is measured on every device, so that they are placed
where all is done soonest. What was measured is kept for this machine.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from typing import Any

from perfxlm.cli.common import add_json_argument, add_model_arguments, open_llm, print_json
from perfxlm.progress import show_measuring


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `perfxlm tune`."""
    add_model_arguments(parser)
    parser.add_argument("--seconds", type=float, default=120.0, metavar="S", help="most time to spend (default: 120)")
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs `perfxlm tune`."""
    import perfxapi as px

    try:
        with show_measuring(arguments.seconds) as note, px.graph.measuring(arguments.seconds, note):
            llm = open_llm(arguments, skip_tokenizer_init=True)
            llm.engine.runner.prepare_all()
    except KeyboardInterrupt:
        print("perfxlm: interrupted; what was measured until then is kept", file=sys.stderr)
        return 130
    found: list[dict[str, Any]] = []
    for size, executable in llm.engine.runner.executables().items():
        devices = Counter(placement.device for placement in executable.explain())
        found.append({"num_tokens": size.num_tokens, "num_rows": size.num_rows, "nodes": dict(devices)})
    if arguments.json:
        print_json({"plans": found})
        return 0
    for plan in found:
        places = ", ".join(f"{count} nodes on {device}" for device, count in plan["nodes"].items())
        print(f"steps of up to {plan['num_tokens']} tokens, {plan['num_rows']} of them sampled: {places}")
    return 0
