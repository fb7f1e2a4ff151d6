"""Show what a model is: its configuration, tensors, memory, and the graph with the place of every node."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from perfxlm.cli.common import add_json_argument, add_model_arguments, format_bytes, open_llm, print_json

if TYPE_CHECKING:
    from perfxlm.llm import LLM


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `perfxlm show`."""
    add_model_arguments(parser)
    parser.add_argument(
        "--graph", action="store_true", help="also list every node of the decode graph and where it runs"
    )
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs `perfxlm show`."""
    llm = open_llm(arguments)
    description = describe(llm)
    if arguments.json:
        print_json(description)
        return 0
    print(f"{llm.model_path}: {description['architecture']}")
    for title in ("config", "memory"):
        print(f"\n{title}")
        for name, value in description[title].items():
            print(f"  {name:24} {format_bytes(value) if name.endswith('_bytes') else value}")
    print("\ntensors")
    for dtype, totals in description["tensors"].items():
        print(f"  {dtype:24} {totals['count']:5}  {format_bytes(totals['bytes'])}")
    print("\ngraph of a decode step")
    for device, count in description["placement"].items():
        print(f"  {count} nodes on {device}")
    for run in description["launching"]:
        print(f"  {run['num_nodes']} nodes of {run['device']} are launched: {run['how']}")
    if arguments.graph:
        print("\n".join(f"  {row['device']:10} {row['node']} {row['reason']}" for row in description["nodes"]))
    return 0


def describe(llm: LLM) -> dict[str, Any]:
    """Everything `show` prints, as plain values."""
    executable = next(iter(llm.engine.runner.executables().values()))
    nodes = [asdict(placement) for placement in executable.explain()]
    plan, specs = llm.plan, llm.engine.runner.model.kv_specs
    token_bytes = sum(2 * spec.num_kv_heads * spec.head_dim * spec.dtype.itemsize for spec in specs)
    tensors = _tensor_totals(llm)
    return {
        "model": str(llm.model_path),
        "architecture": llm.model_config.architecture,
        "config": _plain_config(llm),
        "tensors": tensors,
        "memory": {
            "weights_bytes": sum(totals["bytes"] for totals in tensors.values()),
            "kv_cache_bytes": token_bytes * plan.num_blocks * plan.block_size,
            "kv_cache_tokens": plan.num_blocks * plan.block_size,
            "kv_bytes_per_token": token_bytes,
            "decode_arena_bytes": sum(executable.arena_bytes.values()),
            "max_model_len": plan.limits.max_model_len,
        },
        "placement": dict(Counter(node["device"] for node in nodes)),
        "launching": [asdict(run) for run in executable.launching()],
        "nodes": nodes,
    }


def _tensor_totals(llm: LLM) -> dict[str, dict[str, int]]:
    """Number and bytes of the file's tensors, by dtype."""
    from perfxlm.weights import GGUFFile, SafetensorsFile

    path = llm.model_path
    tensors = (SafetensorsFile.open(path) if path.is_dir() else GGUFFile.open(path)).tensors
    totals: dict[str, dict[str, int]] = {}
    for tensor in tensors.values():
        total = totals.setdefault(tensor.dtype.name, {"count": 0, "bytes": 0})
        total["count"] += 1
        total["bytes"] += tensor.num_bytes
    return totals


def _plain_config(llm: LLM) -> dict[str, Any]:
    """The configuration with its per-layer entries summed up."""
    config = asdict(llm.model_config)
    config["windows"] = dict(Counter(config["windows"]))
    config["ropes"] = dict(Counter(map(str, config["ropes"])))
    return config
