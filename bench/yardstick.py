"""What the machine can do at most at this moment, measured by a small native program."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from bench.process import ContenderError, run

SOURCE = Path(__file__).parent / "native" / "yardstick.cpp"

Yardstick = dict[str, Any]
"""By number of threads ("one", "all"): threads, read_bytes, float32_operations, int8_operations, each a second."""


def measure(threads: int) -> Yardstick:
    """Compiles the program with the C++ compiler ($CXX, else c++) and runs it. Raises ContenderError."""
    compiler = os.environ.get("CXX", "c++").split()
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(folder) / "yardstick")
        run([*compiler, "-std=c++17", "-O3", "-pthread", str(SOURCE), "-o", program])
        result: Yardstick = run([program, str(threads)]).json()
        return result


def try_measure(threads: int) -> Yardstick:
    """The same; empty where there is no compiler."""
    try:
        return measure(threads)
    except ContenderError:
        return {}


def best(first: Yardstick, second: Yardstick) -> Yardstick:
    """The larger figure of two measurements: limits are what the machine can do undisturbed."""
    if not second:
        return first
    return {
        name: {key: max(value, second[name][key]) for key, value in values.items()} for name, values in first.items()
    }
