"""`python -m bench.instructions`: instructions that the hottest kernels execute, counted by valgrind.

Counts do not depend on how busy a machine is, so a change of a percent shows. They are of the AVX2 variant on one
thread, for valgrind knows no AVX-512; what they say of a change to shared code holds for the other variants too.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import perfxapi as px
import perfxapi_backend_cpu
from bench.counting import CannotCountError, find_tool
from bench.process import ContenderError, run

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "docs/performance/instructions.json"
SOURCE = ROOT / "bench/native/instruction_bench.cpp"
PROGRAM = ROOT / "build/instruction_bench"
LIBRARY = Path(perfxapi_backend_cpu.__file__).with_name("_native.so")
VARIANT = "avx2"
INT16 = "2"
"""The number of the activations' format."""
ALLOWED_MORE = 0.02
"""A kernel may execute so much more, as a part of what is recorded: compilers differ by about that."""


@dataclass(frozen=True, slots=True)
class Case:
    """One kernel at one size: weights [rows, columns], activations [tokens, columns] rounded to int16."""

    name: str
    op: str
    dtype: str
    rows: int
    columns: int
    tokens: int
    calls: int


CASES = (
    Case("decode: gate and up", "gated_linear", "q5_0", 2048, 640, 1, 20),
    Case("decode: down", "linear", "q5_0", 640, 2048, 1, 20),
    Case("decode: vocabulary", "vocab_topk", "q8_0", 16384, 640, 1, 4),
    Case("prefill: gate and up", "gated_linear", "q5_0", 2048, 640, 128, 1),
)


def build() -> Path:
    """The program that runs a kernel, compiled again where its source or the library is newer."""
    newest = max(SOURCE.stat().st_mtime, LIBRARY.stat().st_mtime)
    if PROGRAM.exists() and PROGRAM.stat().st_mtime > newest:
        return PROGRAM
    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler) is None:
        raise CannotCountError(f"there is no C++ compiler named {compiler!r}: install one, or name it by CXX")
    PROGRAM.parent.mkdir(exist_ok=True)
    include = px.get_include()
    command = [compiler, "-std=c++17", "-O2", "-I", include, str(SOURCE), str(LIBRARY), "-o", str(PROGRAM)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotCountError(f"{SOURCE.name} does not compile: {done.stderr.strip()}")
    return PROGRAM


def count(case: Case, valgrind: str, program: Path) -> int:
    """Instructions of one call, pool included."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "callgrind.out"
        shape = (px.dtype_of(case.dtype).code, case.rows, case.columns, case.tokens)
        tool = [valgrind, "--tool=callgrind", "--toggle-collect=perfx_pool_run", f"--callgrind-out-file={out}"]
        try:
            run([*tool, str(program), case.op, *map(str, shape), VARIANT, INT16, str(case.calls)])
        except ContenderError as error:
            raise CannotCountError(str(error)) from None
        total = re.search(r"^(?:summary|totals): (\d+)", out.read_text(), re.MULTILINE)
    if total is None or not int(total.group(1)):
        raise CannotCountError(f"valgrind counted nothing for {case.name}")
    return round(int(total.group(1)) / case.calls)


def record() -> dict[str, Any]:
    """What is recorded: for each case its sizes and instructions."""
    valgrind = find_tool(["valgrind"], "install it with the system's package manager")
    program = build()
    kernels = [asdict(case) | {"instructions": count(case, valgrind, program)} for case in CASES]
    for kernel in kernels:
        del kernel["calls"]
    return {"variant": VARIANT, "threads": 1, "kernels": kernels}


def measure() -> list[dict[str, Any]]:
    """A row for each kernel. Raises as `record` does."""
    found = record()
    return [{**kernel, "variant": found["variant"]} for kernel in found["kernels"]]


def compare(found: dict[str, Any], recorded: dict[str, Any]) -> list[str]:
    """The kernels that execute more than they may, each in a line."""
    before = {kernel["name"]: kernel for kernel in recorded["kernels"]}
    worse = []
    for kernel in found["kernels"]:
        old = before.get(kernel["name"])
        sizes = {name: value for name, value in kernel.items() if name != "instructions"}
        if old is None or {name: old.get(name) for name in sizes} != sizes:
            worse.append(f"{kernel['name']}: not recorded at this size; record it with python -m bench.instructions")
        elif kernel["instructions"] > old["instructions"] * (1 + ALLOWED_MORE):
            change = kernel["instructions"] / old["instructions"] - 1
            worse.append(f"{kernel['name']}: {kernel['instructions']} instructions a call, {change:+.1%}")
    return worse


def main() -> int:
    """Records, or with --check compares. Exit code 1: a kernel executes more; 2: nothing could be counted."""
    options = argparse.ArgumentParser(prog="python -m bench.instructions", description=(__doc__ or "").splitlines()[0])
    options.add_argument("--json", type=Path, metavar="FILE", default=RECORD, help="the record (default: %(default)s)")
    options.add_argument("--check", action="store_true", help="compare with the record, more than 2%% above it fails")
    given = options.parse_args()
    try:
        found = record()
    except CannotCountError as error:
        print(f"bench.instructions: {error}", file=sys.stderr)
        return 2
    for kernel in found["kernels"]:
        size = f"{kernel['op']} {kernel['dtype']} [{kernel['rows']}, {kernel['columns']}], {kernel['tokens']} tokens"
        print(f"{kernel['instructions']:>12} instructions a call  {kernel['name']}: {size}")
    if not given.check:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        return 0
    if not given.json.exists():
        print(f"bench.instructions: there is no record at {given.json}", file=sys.stderr)
        return 2
    worse = compare(found, json.loads(given.json.read_text(encoding="utf-8")))
    print("\n".join(worse) if worse else "no kernel executes more than it may")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
