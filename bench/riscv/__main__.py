"""`python -m bench.riscv`: instructions and estimated cycles of the RISC-V kernels, beside llama.cpp's.

Writes docs/performance/riscv.json and the tables in docs/performance/riscv.md. With `--llama-cpp FOLDER`, a checkout of
llama.cpp, its kernels are compiled by the same compiler and counted in the same way.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import perfxapi as px
from bench.counting import CannotCountError
from bench.process import ContenderError
from bench.riscv.toolchain import ROOT, Tools, our_program, peer_program
from bench.riscv.traces import cycles, disassembly, hottest_loop, trace
from bench.tables import replaced_between, table

PAGE = ROOT / "docs" / "performance" / "riscv.md"
MARKS = ("<!-- bench.riscv -->\n", "<!-- end of bench.riscv -->\n")
LENGTHS = (128, 256, 512, 1024)
CORES = {128: "sifive-p670", 512: "sifive-x280"}
"""Processors whose model LLVM 19 knows, by the length of their vectors in bits."""
PEAK = {"sifive-p670": 8.0, "sifive-x280": 8.0}
"""Multiply-adds of float32 a cycle: two pipes of 128 bits, one pipe of 256 bits."""
FORMATS = ("float32", "int8", "int16")
"""Of activations, by their numbers."""
LEAST_SHARE = 0.5
"""Of the executed instructions: a loop with less says nothing about the call."""
ROWS, COLUMNS = 256, 512
"""Of the weights."""
MATMUL = (256, 384)
"""Columns of the result and of the left operand of a product of matrices."""


@dataclass(frozen=True, slots=True)
class Case:
    """One product: weights [ROWS, COLUMNS] of a dtype, tokens in a format of activations."""

    op: str
    dtype: str
    activations: str
    tokens: int

    @property
    def name(self) -> str:
        """As the tables have it."""
        return f"{self.op} {self.dtype}, {self.activations}, {self.tokens} token{'s' * (self.tokens > 1)}"

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Columns of the result, columns that are summed over, tokens."""
        return (*(MATMUL if self.op == "matmul" else (ROWS, COLUMNS)), self.tokens)

    def command(self, program: Path, variant: str) -> list[str]:
        """The program's arguments but the number of calls."""
        numbers = (px.dtype_of(self.dtype).code, *self.sizes, variant, FORMATS.index(self.activations))
        return [str(program), self.op, *map(str, numbers)]

    @property
    def multiply_adds(self) -> int:
        """Of one call."""
        return math.prod(self.sizes)


CASES = (
    *(
        Case("linear", dtype, activations, tokens)
        for dtype in ("q4_k", "q8_0", "q6_k", "q4_0", "q5_0", "int4_g128")
        for activations in ("int8", "int16")
        for tokens in (1, 8)
    ),
    Case("linear", "float32", "float32", 1),
    Case("linear", "float16", "float32", 1),
    Case("matmul", "float32", "float32", 56),
)
PEER_DTYPES = ("q4_k", "q8_0", "q6_k", "q4_0", "q5_0")


@dataclass(frozen=True, slots=True)
class Figure:
    """One kernel at one vector length, for each multiply-add: instructions, and cycles of its hottest loop."""

    engine: str
    case: str
    vector_bits: int
    instructions: float
    core: str | None
    cycles: float | None


def measure_one(tools: Tools, engine: str, name: str, command: list[str], bits: int, multiply_adds: int) -> Figure:
    """Counts one kernel. Raises ContenderError."""
    found = trace(tools, command, bits)
    core = CORES.get(bits) if engine != "ours, scalar" else None
    estimated = None
    if core is not None:
        loop = hottest_loop(found, disassembly(tools.objdump, command[0]))
        if loop.share >= LEAST_SHARE:
            estimated = cycles(tools, loop, core) * loop.iterations / multiply_adds
    return Figure(engine, name, bits, found.instructions / multiply_adds, core, estimated)


def measure(tools: Tools, cases: Sequence[Case], program: Path, peer: Path | None) -> Iterator[Figure]:
    """Every case at every vector length. Raises ContenderError."""
    for case in cases:
        if case.tokens == 1 or case.op == "matmul":
            yield measure_one(
                tools, "ours, scalar", case.name, case.command(program, "scalar"), 128, case.multiply_adds
            )
        for bits in LENGTHS:
            command = case.command(program, f"rvv{bits}_zvfhmin")
            yield measure_one(tools, "ours", case.name, command, bits, case.multiply_adds)
    for dtype in PEER_DTYPES if peer else ():
        name = Case("linear", dtype, "int8", 1).name
        if name not in {case.name for case in cases}:
            continue
        for bits in LENGTHS:
            command = [str(peer), dtype, str(ROWS), str(COLUMNS)]
            yield measure_one(tools, "llama.cpp", name, command, bits, ROWS * COLUMNS)


def instruction_rows(figures: list[Figure]) -> Iterator[list[str]]:
    """Of each case: ours, llama.cpp's and how many times fewer, for each vector length; and against scalar code."""
    found = {(figure.engine, figure.case, figure.vector_bits): figure for figure in figures}
    for case in dict.fromkeys(figure.case for figure in figures):
        cells = []
        for bits in LENGTHS:
            ours, peer = found["ours", case, bits], found.get(("llama.cpp", case, bits))
            beside = f" / {peer.instructions:.3f} = {peer.instructions / ours.instructions:.1f}x" if peer else ""
            cells.append(f"{ours.instructions:.3f}{beside}")
        scalar, ours = found.get(("ours, scalar", case, 128)), found["ours", case, 128]
        cells.append(f"{scalar.instructions:.2f} = {scalar.instructions / ours.instructions:.1f}x" if scalar else "")
        yield [case, *cells]


def cycle_rows(figures: list[Figure]) -> Iterator[list[str]]:
    """Of each case: multiply-adds a cycle on each core, ours, llama.cpp's; of float32, the part of the peak."""
    found = {(figure.engine, figure.case, figure.core): figure for figure in figures if figure.core}
    for case in dict.fromkeys(figure.case for figure in figures):
        cells = []
        for core in CORES.values():
            ours, peer = found["ours", case, core], found.get(("llama.cpp", case, core))
            cell = f"{1 / ours.cycles:.1f}" if ours.cycles else "-"
            if peer:
                cell += f" / {1 / peer.cycles:.1f}" if peer.cycles else " / -"
            if peer and peer.cycles and ours.cycles:
                cell += f" = {peer.cycles / ours.cycles:.1f}x"
            if "float32, float32" in case and ours.cycles:
                cell += f" ({1 / ours.cycles / PEAK[core]:.0%} of the peak)"
            cells.append(cell)
        yield [case, *cells]


def page(figures: list[Figure]) -> str:
    """The tables with what they say."""
    peer = any(figure.engine == "llama.cpp" for figure in figures)
    beside = " / llama.cpp's = times fewer" if peer else ""
    return "\n\n".join(
        [
            "## Instructions of a multiply-add",
            f"Weights of {ROWS} rows and {COLUMNS} columns (matmul: {MATMUL[1]} by {MATMUL[0]}),"
            " counted by qemu over whole calls, the rounding of the activations included. Written by"
            " `python -m bench.riscv --llama-cpp FOLDER`.",
            table(
                ["kernel", *(f"VLEN {bits}: ours{beside}" for bits in LENGTHS), "scalar = times fewer at VLEN 128"],
                instruction_rows(figures),
            ),
            "## Multiply-adds a cycle, by llvm-mca",
            "The loop of a call that executes most instructions, in LLVM's models of two cores, where every load hits"
            " the first cache; -: no loop has half of the instructions. "
            + "; ".join(f"{core} has vectors of {bits} bits" for bits, core in CORES.items())
            + ".",
            table(
                ["kernel", *(f"{core}: ours{' / llama.cpp' if peer else ''}" for core in CORES.values())],
                cycle_rows(figures),
            ),
        ]
    )


def collect(figures: Iterable[Figure]) -> list[Figure]:
    """All of them, each shown as it comes."""
    found = []
    for figure in figures:
        estimated = f", {figure.cycles:.3f} cycles on {figure.core}" if figure.cycles else ""
        name = f"{figure.engine}, VLEN {figure.vector_bits}, {figure.case}"
        print(f"{name}: {figure.instructions:.3f} instructions{estimated}", file=sys.stderr)
        found.append(figure)
    return found


def main() -> int:
    """Measures, and writes where all kernels were measured. Exit code 2: a tool or a count is missing."""
    options = argparse.ArgumentParser(prog="python -m bench.riscv", description=(__doc__ or "").split("\n\n")[0])
    options.add_argument("--llama-cpp", type=Path, metavar="FOLDER", help="a checkout of llama.cpp to count beside")
    options.add_argument(
        "--qemu", metavar="PROGRAM", help="the emulator (default: the one installed; version 8 or later)"
    )
    options.add_argument("--json", type=Path, metavar="FILE", default=PAGE.with_suffix(".json"), help="the record")
    options.add_argument("--only", action="append", metavar="TEXT", help="print kernels whose name holds this text")
    given = options.parse_args()
    cases = [case for case in CASES if not given.only or any(text in case.name for text in given.only)]
    try:
        tools = Tools.find(given.qemu)
        peer = peer_program(given.llama_cpp) if given.llama_cpp else None
        figures = collect(measure(tools, cases, our_program(), peer))
        if given.only:
            print(page(figures))
            return 0
        given.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=1) + "\n", encoding="utf-8")
        text = replaced_between(PAGE.read_text(encoding="utf-8"), MARKS, f"\n{page(figures)}\n\n")
        PAGE.write_text(text, encoding="utf-8")
    except (CannotCountError, ContenderError) as error:
        print(f"bench.riscv: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
