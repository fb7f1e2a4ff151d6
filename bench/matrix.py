"""`python -m bench.matrix`: products of dense float32 matrices beside NumPy's OpenBLAS, in alternation, and the limits.

For each shape: `px.matmul` as a user calls it (with the kernel that measuring chose), our own kernel alone, and
`numpy.matmul` into a ready result with as many OpenBLAS threads. The limit of a shape is the longer of two times: the
operands read once at the machine's read bandwidth, the operations at the peak of its arithmetic, both measured in the
same run (`bench.yardstick`).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench import machine, yardstick

ROOT = Path(__file__).resolve().parent.parent
SHAPES: tuple[tuple[int, int, int, int], ...] = (
    (1, 2048, 2048, 2048),
    (1, 4096, 4096, 16),
    *((1, 12288, 4096, columns) for columns in (1, 2, 4, 8, 16, 32, 64, 128)),
    *((1, rows, 4096, 1) for rows in (1024, 2048, 4096, 8192, 16384)),
    (1, 1, 8192, 4096),
    (1, 1, 4096, 8192),
    (64, 32, 32, 32),
)
"""Batch, rows, inner size, columns."""
_SECONDS = 0.6
_PAUSE = 0.03
"""After OpenBLAS its threads spin for some 20 ms; ours should not pay for that, nor it for ours."""


def _time(function: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def _alternated(functions: Sequence[Callable[[], Any]], pause: float) -> list[list[float]]:
    """Seconds of each function, in rounds, after one run of each."""
    for function in functions:
        function()
    rounds: list[list[float]] = []
    begin = time.perf_counter()
    while len(rounds) < 5 or time.perf_counter() - begin < _SECONDS:
        times = []
        for function in functions:
            time.sleep(pause)
            times.append(_time(function))
        rounds.append(times)
    return [list(times) for times in zip(*rounds, strict=True)]


def _measure_shape(shape: tuple[int, int, int, int], threads: int) -> dict[str, Any]:
    import numpy as np

    import perfxapi as px
    from perfxapi.backend import OpCall
    from perfxapi.dispatch import choices

    batch, rows, inner, columns = shape
    rng = np.random.default_rng(0)
    lead = (batch,) if batch > 1 else ()
    a, b = (rng.standard_normal((*lead, *size), np.float32) for size in ((rows, inner), (inner, columns)))
    x, y, result = (
        px.asarray(a, device="cpu"),
        px.asarray(b, device="cpu"),
        np.empty((*lead, rows, columns), np.float32),
    )
    px.reset_explain()
    product = px.matmul(x, y)
    ran_on = px.explain().rows[0].ran_on
    call = OpCall("matmul", (x.view, y.view), (product.view,), {})
    own = next(choices(call, x.device)).kernel
    functions = [lambda: px.matmul(x, y), lambda: own.launch(call), lambda: np.matmul(a, b, out=result)]
    ours, native, peer = _alternated(functions, _PAUSE if threads > 1 else 0.0)
    return {
        "shape": f"{f'{batch} x ' if batch > 1 else ''}{rows} x {inner} x {columns}",
        "threads": threads,
        "kernel": "openblas" if "openblas" in ran_on else "own",
        "flops": 2 * batch * rows * inner * columns,
        "read_bytes": a.nbytes + b.nbytes,
        "seconds": min(ours),
        "own_seconds": min(native),
        "openblas_seconds": min(peer),
    }


def _worker(threads: int) -> list[dict[str, Any]]:
    return [_measure_shape(shape, threads) for shape in SHAPES]


def _with_limits(row: dict[str, Any], figures: dict[str, float]) -> dict[str, Any]:
    reading, computing = row["read_bytes"] / figures["read_bytes"], row["flops"] / figures["float32_operations"]
    limit = max(reading, computing)
    return {
        **row,
        "ratio": row["openblas_seconds"] / row["seconds"],
        "own_ratio": row["openblas_seconds"] / row["own_seconds"],
        "limit": "memory" if reading > computing else "arithmetic",
        "limit_seconds": limit,
        "fraction_of_limit": limit / row["seconds"],
    }


def measure(threads: int) -> list[dict[str, Any]]:
    """Rows for one thread, and for that many."""
    return [row for count in sorted({1, threads}) for row in measure_with(count)]


def measure_with(threads: int) -> list[dict[str, Any]]:
    """A row for each shape, measured in a child process with that many threads of ours and of OpenBLAS.

    A limit is what reading every operand from memory would cost: what fits into a cache may be quicker.
    """
    figures = yardstick.measure(threads)["all"]
    with tempfile.TemporaryDirectory() as folder:
        settings = {"PERFXAPI_NUM_THREADS": str(threads), "PERFXAPI_TUNING_FILE": f"{folder}/tuning.json"}
        settings |= {"PERFXAPI_TUNE": "1", "OPENBLAS_NUM_THREADS": str(threads)}
        command = [sys.executable, "-m", "bench.matrix", "--worker", "--threads", str(threads)]
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, **settings}, stdout=subprocess.PIPE, check=True)
    return [_with_limits(row, figures) for row in json.loads(done.stdout)]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| shape | threads | ours, GFLOP/s | GB/s | kernel chosen | own kernel / OpenBLAS | ours / OpenBLAS | limit "
        "| of it |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        speed, reading = row["flops"] / row["seconds"] / 1e9, row["read_bytes"] / row["seconds"] / 1e9
        cells = [row["shape"], row["threads"], f"{speed:.1f}", f"{reading:.1f}", row["kernel"]]
        cells += [f"{row['own_ratio']:.2f}", f"{row['ratio']:.2f}", row["limit"], f"{row['fraction_of_limit']:.2f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main() -> int:
    """Measures, prints, and writes `matrix.json` and `matrix.md`."""
    options = argparse.ArgumentParser(prog="python -m bench.matrix", description=(__doc__ or "").splitlines()[0])
    options.add_argument(
        "--threads", type=int, action="append", help="threads of both; may be repeated (default 1 and 2)"
    )
    options.add_argument("--json", type=Path, default=ROOT / "docs/performance/matrix.json", help="where the rows go")
    options.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.worker:
        print(json.dumps(_worker(chosen.threads[0])))
        return 0
    rows = [row for threads in chosen.threads or (1, 2) for row in measure_with(threads)]
    described = machine.describe()
    chosen.json.write_text(json.dumps({"machine": described, "rows": rows}, indent=1) + "\n")
    title = f"# Products of dense float32 matrices\n\n`python -m bench.matrix` on {described['processor']}. "
    title += "Shapes are rows x inner x columns; times are the shortest of alternated runs.\n\n"
    chosen.json.with_suffix(".md").write_text(title + table(rows) + "\n")
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
