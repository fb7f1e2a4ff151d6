"""`python -m bench.overhead`: what a small call costs in Python, beside NumPy; and a step of a traced plan.

A figure is the fastest of many short batches. The two sides of a pair take turns, so that both see the same machine.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import perfxapi as px
from bench import machine

ELEMENTS = 16
_BATCHES, _CALLS = 100, 200
_NODES = 8


def _seconds_per_call(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    for _ in range(_CALLS):
        function()
    return (time.perf_counter() - start) / _CALLS


def _pair(name: str, ours: Callable[[], Any], theirs: Callable[[], Any], beside: str) -> dict[str, Any]:
    """Microseconds of a call, of its peer, and how much more ours costs."""
    ours(), theirs()
    batches = [(_seconds_per_call(ours), _seconds_per_call(theirs)) for _ in range(_BATCHES)]
    mine, other = (1e6 * min(batch[side] for batch in batches) for side in range(2))
    return {
        "name": name,
        "microseconds": mine,
        "beside": beside,
        "beside_microseconds": other,
        "more_microseconds": mine - other,
    }


def measure_calls() -> list[dict[str, Any]]:
    """Functions and operators on two float32 arrays of 16 elements."""
    rng = np.random.default_rng(0)
    first, second = (rng.standard_normal(ELEMENTS).astype(np.float32) for _ in range(2))
    a, b = px.asarray(first), px.asarray(second)
    number = np.float32(2)
    return [
        _pair("px.add(a, b)", lambda: px.add(a, b), lambda: np.add(first, second), "np.add"),
        _pair("px.multiply(a, b)", lambda: px.multiply(a, b), lambda: np.multiply(first, second), "np.multiply"),
        _pair("a + b", lambda: a + b, lambda: first + second, "a + b of NumPy"),
        _pair("a * 2.0", lambda: a * 2.0, lambda: first * number, "a * np.float32(2)"),
        _pair("px.exp(a)", lambda: px.exp(a), lambda: np.exp(first), "np.exp"),
    ]


def measure_plan() -> list[dict[str, Any]]:
    """A traced plan of a few small nodes: the time of a step that is not inside native code."""

    def chain(x: px.Array, y: px.Array) -> px.Array:
        for _ in range(_NODES):
            x = x + y
        return x

    spec = px.TensorSpec((px.Dim("n"), ELEMENTS), px.float32)
    executable = px.graph.compile(px.graph.trace(chain, {"x": spec, "y": spec}), bounds={"n": 4})
    bound = executable.bind(n=1)
    values = {name: np.ones((1, ELEMENTS), np.float32) for name in ("x", "y")}
    for name, operand in bound.inputs.items():
        operand[...] = values[name]
    return [
        _outside_native("a step of a plan, bound: run()", bound.run),
        _outside_native("a step of a plan, called with arrays", lambda: executable(**values)),
    ]


def _outside_native(name: str, step: Callable[[], Any]) -> dict[str, Any]:
    step()
    found = []
    for _ in range(_BATCHES):
        native = px.native_seconds()
        wall = _seconds_per_call(step)
        found.append(wall - (px.native_seconds() - native) / _CALLS)
    return {"name": name, "microseconds": min(found) * 1e6}


def measure() -> list[dict[str, Any]]:
    """All figures: name and microseconds, and where there is a peer, what it costs and how much more ours does."""
    return [*measure_calls(), *measure_plan()]


def main() -> int:
    """Prints the figures; writes them as JSON too where a file is named."""
    options = argparse.ArgumentParser(prog="python -m bench.overhead", description=(__doc__ or "").splitlines()[0])
    options.add_argument("--json", type=Path, metavar="FILE", help="write the figures and the machine to this file")
    path = options.parse_args().json
    figures = measure()
    for figure in figures:
        line = f"{figure['microseconds']:8.2f} us  {figure['name']}"
        if "beside" in figure:
            more, other = figure["more_microseconds"], figure["beside_microseconds"]
            line += f"; {figure['beside']}: {other:.2f} us; {more:+.2f} us"
        print(line)
    if path is not None:
        result = {"machine": machine.describe(), "figures": figures}
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
