"""`python -m bench.arm`: the inner loops of the cpu backend's kernels on Arm, as llvm-mca sees them.

No Arm machine is needed: zig compiles the kernels as it does for wheels, the innermost loop with most multiply-adds is
cut out of the assembly, and llvm-mca says how many cycles an iteration takes on models of processors, with all data in
the first cache. `share` is that of what the vector units could multiply and add. With `--write` the tables go to
docs/performance/arm.md.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.counting import CannotCountError, find_llvm, zig
from bench.tables import replaced_between

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "bench/native/arm_loops.cpp"
PAGE = ROOT / "docs/performance/arm.md"
MARKS = ("<!-- loops -->\n", "<!-- end of loops -->\n")
ITERATIONS = 200

MULTIPLY_ADDS = {"fmla": 4, "smlal": 4, "smlal2": 4, "smull": 4, "smull2": 4, "sdot": 16, "usdot": 16, "usmmla": 32}
"""Multiply-adds of one instruction on 128 bits; those of float64 are half as many."""


@dataclass(frozen=True, slots=True)
class Processor:
    """A model of llvm-mca and its vector units, 128 bits each."""

    name: str
    vector_units: int


@dataclass(frozen=True, slots=True)
class Variant:
    """An instruction set of the cpu backend, as zig is told of it, and where its loops are looked at."""

    name: str
    cpu: str
    processors: tuple[Processor, ...]


N1 = Processor("neoverse-n1", 2)
V2 = Processor("neoverse-v2", 4)
M1 = Processor("apple-m1", 3)
A55 = Processor("cortex-a55", 2)
VARIANTS = (
    Variant("neon", "generic", (A55, N1, V2, M1)),
    Variant("dotprod", "generic+dotprod", (A55, N1, V2, M1)),
    Variant("i8mm", "generic+dotprod+i8mm", (V2,)),
)


@dataclass(frozen=True, slots=True)
class Loop:
    """One innermost loop: its instructions, and the multiply-adds of one iteration."""

    name: str
    instructions: list[str]
    multiply_adds: float
    largest: int
    """Multiply-adds of the instruction that does most of the work."""


def compile_loops(variant: Variant) -> str:
    """The assembly of arm_loops.cpp."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "loops.s"
        flags = ["-std=c++17", "-O3", "-ffp-contract=off", "-fno-math-errno", f"-mcpu={variant.cpu}", "-g0"]
        places = ["-I", str(ROOT / "perfxapi/include"), "-I", str(ROOT / "backends/cpu/csrc")]
        command = [*zig("c++", "aarch64-linux-gnu.2.28"), *flags, *places]
        command += [f"-DPERFX_VARIANT={variant.name}", "-S", str(SOURCE), "-o", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CannotCountError(f"{SOURCE.name} does not compile: {done.stderr.strip()}")
        return out.read_text()


def parts_of(assembly: str) -> dict[str, list[str]]:
    """The lines of each function and constant, by symbol."""
    parts: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in assembly.splitlines():
        if label := re.match(r"^([A-Za-z_]\w*):", line):
            lines = parts.setdefault(label.group(1), [])
        else:
            lines.append(line.split("//")[0].rstrip())
    return parts


def is_instruction(line: str) -> bool:
    """Not a label, a directive or nothing."""
    return line.startswith("\t") and not line.startswith("\t.")


def expanded(lines: list[str], parts: dict[str, list[str]]) -> list[str]:
    """The instructions among some lines, those of functions that are called in the places of the calls."""
    found = []
    for line in filter(is_instruction, lines):
        call = re.match(r"\tbl\t(\w+)$", line)
        if call and call.group(1) in parts:
            found += expanded([part for part in parts[call.group(1)] if part != "\tret"], parts)
        else:
            found.append(line)
    return found


def innermost_loops(lines: list[str]) -> list[list[str]]:
    """The lines of each loop that holds no other: from a label to the branch back to it."""
    labels = {line[:-1]: at for at, line in enumerate(lines) if re.match(r"^\.L\w+:$", line)}
    loops = []
    for at, line in enumerate(lines):
        branch = re.match(r"\t(?:b|b\.\w+|cbn?z|tbn?z)\t.*?(\.L\w+)$", line)
        if branch and labels.get(branch.group(1), at) < at:
            loops.append((labels[branch.group(1)], at))
    inner = [a for a in loops if not any(b != a and b[0] >= a[0] and b[1] <= a[1] for b in loops)]
    return [lines[first : last + 1] for first, last in inner]


def reachable(symbol: str, parts: dict[str, list[str]]) -> list[str]:
    """A function and those that it calls or ends in."""
    found, waiting = [], [symbol]
    while waiting:
        name = waiting.pop()
        if name in parts and name not in found:
            found.append(name)
            waiting += re.findall(r"\tbl?\t(\w+)", "\n".join(parts[name]))
    return found


def multiply_adds(instructions: list[str], dominant: str) -> int:
    """Of the dominant kind of instruction; the high and the low products of int16 are two of them."""
    kinds = {"smlal": ("smlal", "smlal2", "smull", "smull2")}.get(dominant, (dominant,))
    return sum(MULTIPLY_ADDS[line.split("\t")[1]] for line in instructions if line.split("\t")[1] in kinds)


def find_loops(assembly: str) -> list[Loop]:
    """The loops that arm_loops.cpp names."""
    parts = parts_of(assembly)
    loops = []
    for symbol in filter(lambda name: name.startswith("loop_"), parts):
        function = re.search(r"\t\.xword\t(\w+)", "\n".join(parts[symbol]))
        assert function is not None
        bodies = [
            expanded(loop, parts)
            for name in reachable(function.group(1), parts)
            for loop in innermost_loops(parts[name])
        ]
        kinds = ("usmmla", "usdot", "sdot", "smlal", "fmla")
        name = symbol.removeprefix("loop_")
        dominant = next(k for k in kinds if any(line.startswith(f"\t{k}\t") for body in bodies for line in body))
        body = max(bodies, key=lambda instructions: multiply_adds(instructions, dominant))
        divisor = 2 if "float64" in name or ("int16" in name and dominant != "smlal") else 1
        count = multiply_adds(body, dominant) / divisor
        loops.append(Loop(name, body, count, MULTIPLY_ADDS[dominant] // divisor))
    return loops


def cycles(loop: Loop, processor: Processor, analyzer: str) -> float:
    """Cycles of an iteration, once it runs steadily."""
    kept = [line for line in loop.instructions if not re.match(r"\t(?:b|b\.\w+|bl|cbn?z|tbn?z)\t", line)]
    command = [analyzer, "-mtriple=aarch64", f"-mcpu={processor.name}", "-mattr=+dotprod,+i8mm"]
    command += [f"-iterations={ITERATIONS}", "-"]
    done = subprocess.run(command, input="\n".join(kept), capture_output=True, text=True, check=False)
    total = re.search(r"Total Cycles:\s+(\d+)", done.stdout)
    if total is None:
        raise CannotCountError(f"llvm-mca does not read the loop {loop.name}: {done.stderr.strip()}")
    return int(total.group(1)) / ITERATIONS


def table(variant: Variant, analyzer: str) -> str:
    """One variant's loops, as Markdown."""
    header = ["loop", "instructions", "multiply-adds", "each"]
    header += [f"{p.name}: cycles, a cycle, share" for p in variant.processors]
    lines = ["| " + " | ".join(header) + " |", "| --- |" + " ---: |" * (len(header) - 1)]
    for loop in find_loops(compile_loops(variant)):
        if variant.name != VARIANTS[0].name and not loop.name.startswith("q"):
            continue
        per_instruction = len(loop.instructions) / loop.multiply_adds
        cells = [f"`{loop.name}`", str(len(loop.instructions)), f"{loop.multiply_adds:.0f}", f"{per_instruction:.3f}"]
        for processor in variant.processors:
            taken = cycles(loop, processor, analyzer)
            rate = loop.multiply_adds / taken
            share = rate / (processor.vector_units * loop.largest)
            cells.append(f"{taken:.1f}, {rate:.1f}, {share:.0%}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Prints the tables, or with --write puts them into the page. Exit code 2: nothing could be counted."""
    options = argparse.ArgumentParser(prog="python -m bench.arm", description=(__doc__ or "").splitlines()[0])
    options.add_argument("--write", action="store_true", help=f"write the tables to {PAGE.relative_to(ROOT)}")
    given = options.parse_args()
    try:
        analyzer = find_llvm("llvm-mca")
        tables = "".join(f"\n### {v.name}\n\n{table(v, analyzer)}" for v in VARIANTS)
        if given.write:
            PAGE.write_text(replaced_between(PAGE.read_text(encoding="utf-8"), MARKS, tables + "\n"), encoding="utf-8")
        else:
            print(tables)
    except CannotCountError as error:
        print(f"bench.arm: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
