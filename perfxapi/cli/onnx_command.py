"""Runs an ONNX file (`onnx run`), or shows how it would run: where each op is placed, fallbacks, memory (`onnx show`).

Inputs that are not given are made: normal random numbers (seed 0) for floating-point numbers, zeros for the rest. Sizes
that the file leaves open are 1, or what --shape says.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from perfxapi.errors import FileFormatError, InvalidArgumentError
from perfxapi.tables import text_table

if TYPE_CHECKING:
    from perfxapi.onnx import Model
    from perfxapi.onnx.program import Port


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """ACTION, FILE, inputs, device, output."""
    parser.add_argument("action", choices=("run", "show"), help="what to do")
    parser.add_argument("file", metavar="FILE", help="an ONNX model")
    parser.add_argument("--device", help='device asked for (default: the setting PERFXAPI_DEVICE, else "auto")')
    parser.add_argument(
        "--input", action="append", default=[], metavar="NAME=FILE.npy", help="an input's values; once for each"
    )
    parser.add_argument(
        "--shape", action="append", default=[], metavar="NAME=1x3x224x224", help="the shape of an input that is made"
    )
    parser.add_argument("--output", metavar="FOLDER", type=Path, help="run: write tensors there as NAME.npy")
    parser.add_argument("--repeat", type=int, default=1, help="run: how many times; the median time is shown")


def run(arguments: argparse.Namespace) -> int:
    """Runs or shows the model."""
    import perfxapi.onnx

    if arguments.repeat < 1:
        raise InvalidArgumentError(f"--repeat must be 1 or more; got {arguments.repeat}")
    model = perfxapi.onnx.load(arguments.file, device=arguments.device)
    inputs, made = _inputs(model, arguments)
    outputs, seconds = _run(model, inputs, arguments.repeat)
    shown = _placements(model) if arguments.action == "show" else _outputs(outputs, seconds, arguments.output)
    described: dict[str, Any] = {
        "file": model.path, "device": str(model.device), "opsets": dict(model.opsets), "producer": model.producer,
        "inputs": _ports(model.inputs, inputs), "outputs": _ports(model.outputs, outputs), "made": made,
    }  # fmt: skip
    if arguments.json:
        print(json.dumps({**described, **shown}, indent=2))
        return 0
    opsets = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in model.opsets.items())
    print(f"{model.path}: {sum(model.operators().values())} nodes, opset {opsets}, on {model.device}")
    for kind in ("inputs", "outputs"):
        for name, port in described[kind].items():
            note = " (made)" if kind == "inputs" and name in made else ""
            print(f"  {kind[:-1]} {name}: {port['declared']}, here {port['here']}{note}")
    (_print_placements if arguments.action == "show" else _print_outputs)(shown)
    return 0


# ---- inputs


def _inputs(model: Model, arguments: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """The inputs by name, and which of them were made."""
    given = {name: _array(path) for name, path in _pairs("--input", arguments.input, model)}
    shapes = {name: _sizes(text) for name, text in _pairs("--shape", arguments.shape, model)}
    rng = np.random.default_rng(0)
    if both := given.keys() & shapes.keys():
        raise InvalidArgumentError(f"--shape {min(both)!r}: this input is given by --input")
    made = [port for port in model.required_inputs if port.name not in given]
    return {**given, **{port.name: _make(port, shapes.get(port.name), rng) for port in made}}, [p.name for p in made]


def _pairs(option: str, texts: list[str], model: Model) -> list[tuple[str, str]]:
    names = [port.name for port in model.inputs]
    pairs = []
    for text in texts:
        name, separator, value = text.rpartition("=")
        if not separator or name not in names:
            raise InvalidArgumentError(f"{option} {text!r}: must be NAME=...; the inputs are {', '.join(names)}")
        pairs.append((name, value))
    return pairs


def _array(path: str) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise FileFormatError(path, "file", f"is no array of NumPy: {error}") from error


def _sizes(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(size) for size in text.split("x") if size)
        if any(size < 0 for size in sizes):
            raise ValueError
        return sizes
    except ValueError:
        raise InvalidArgumentError(f"--shape: {text!r} is no list of sizes such as 1x3x224x224") from None


def _make(port: Port, shape: tuple[int, ...] | None, rng: np.random.Generator) -> Any:
    from perfxapi.onnx.element_types import host_dtype

    if port.kind != "tensor" or (port.shape is None and shape is None):
        raise InvalidArgumentError(f"input {port.name!r} cannot be made: give it by --input, or its --shape")
    sizes = shape or tuple(size if isinstance(size, int) else 1 for size in port.shape or ())
    dtype = host_dtype(port.code)
    if dtype.kind == "O":
        return np.full(sizes, "", object)
    return rng.standard_normal(sizes).astype(dtype) if dtype.kind in "fV" else np.zeros(sizes, dtype)


# ---- running


def _run(model: Model, inputs: dict[str, Any], repeat: int) -> tuple[dict[str, Any], float]:
    """The outputs, and the median time of a run; the first one, which makes the plans, counts where there is one."""
    outputs: dict[str, Any] = model.run(inputs)
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        outputs = model.run(inputs)
        times.append(time.perf_counter() - start)
    return outputs, float(np.median(times))


def _ports(ports: tuple[Port, ...], values: dict[str, Any]) -> dict[str, dict[str, str]]:
    from perfxapi.onnx.model import describe

    return {port.name: {"declared": describe(port), "here": _described(values.get(port.name))} for port in ports}


def _described(value: Any) -> str:
    if isinstance(value, list):
        return f"{len(value)} items"
    return "left out" if value is None else f"{value.dtype.name}{list(value.shape)}"


def _outputs(outputs: dict[str, Any], seconds: float, folder: Path | None) -> dict[str, Any]:
    from perfxapi.onnx import to_host

    summary, written = {}, {}
    for name, value in outputs.items():
        values = to_host(value) if not isinstance(value, list) and value is not None else None
        summary[name] = _summary(values)
        if folder is not None and values is not None:
            folder.mkdir(parents=True, exist_ok=True)
            written[name] = str(folder / (quote(name, safe="") + ".npy"))
            np.save(written[name], _storable(values), allow_pickle=False)
    return {"seconds": seconds, "values": summary, "written": written}


def _storable(values: Any) -> Any:
    """What a file of NumPy can hold: strings as its own, the narrow types of ONNX as float32."""
    if values.dtype.kind == "O":
        return values.astype(np.str_)
    return values.astype(np.float32) if values.dtype.kind == "V" else values


def _summary(values: Any) -> dict[str, float]:
    if values is None or values.dtype.kind not in "biuf" or not values.size:
        return {}
    wide = values.astype(np.float64)
    return {"min": float(wide.min()), "max": float(wide.max()), "mean": float(wide.mean())}


def _print_outputs(shown: dict[str, Any]) -> None:
    rows = [
        [name, *(f"{found[key]:.6g}" if found else "" for key in ("min", "max", "mean"))]
        for name, found in shown["values"].items()
    ]
    print(text_table(["output", "min", "max", "mean"], rows))
    for name, path in shown["written"].items():
        print(f"{name}: written to {path}")
    print(f"{shown['seconds'] * 1000:.2f} ms")


# ---- showing


def _placements(model: Model) -> dict[str, Any]:
    """Of all plans: what runs where and why, the memory, and what runs between them."""
    counts: Counter[tuple[str, str, str, str]] = Counter()
    between: Counter[str] = Counter()
    plans = []
    for planned in model.planned():
        if planned.between_plans:
            between.update(str(step.node) for step in planned.steps)
        if planned.executable is not None:
            placements = planned.executable.explain()
            ops = [node.spec.name for node in planned.executable.graph.nodes]
            counts.update((op, p.backend, p.device, p.reason) for op, p in zip(ops, placements, strict=True))
            arena = sum(planned.executable.arena_bytes.values())
            plans.append({"nodes": len(planned.steps), "ops": len(ops), "arena_bytes": arena})
    rows = sorted(counts.items(), key=lambda item: (not item[0][3], -item[1], item[0]))
    keys = ("op", "backend", "runs_on", "reason")
    return {
        "plans": plans,
        "placements": [{**dict(zip(keys, key, strict=True)), "count": count} for key, count in rows],
        "between_plans": dict(between),
    }


def _print_placements(shown: dict[str, Any]) -> None:
    rows = [
        [row["op"], str(row["count"]), row["backend"], row["runs_on"], row["reason"]] for row in shown["placements"]
    ]
    print(text_table(["op", "count", "backend", "runs on", "why not where it was asked to"], rows))
    for number, plan in enumerate(shown["plans"], 1):
        size = plan["arena_bytes"] / 1e6
        print(f"plan {number}: {plan['nodes']} nodes as {plan['ops']} ops, {size:.2f} MB for all values between them")
    for node, count in shown["between_plans"].items():
        print(f"between plans, on values: {node}" + (f", {count} times" if count > 1 else ""))
    fallbacks = sum(row["count"] for row in shown["placements"] if row["reason"])
    print(f"{sum(row['count'] for row in shown['placements'])} ops, {fallbacks} of them fallbacks")
