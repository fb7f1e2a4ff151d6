"""Which instructions a call executes, by the log of an emulator; and the loop in which most of it happens."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from bench.process import ContenderError
from bench.riscv.toolchain import Tools, processor

_TRACE = re.compile(rb"/0*([0-9a-f]+)/")
_LINE = re.compile(r"^\s+([0-9a-f]+):\s+(\S.*)$")
_TARGET = re.compile(r"0x([0-9a-f]+)(?: <.*>)?$")
_BRANCH = re.compile(r"^(?:b\w+|j)\s")
_VECTOR_TYPE = re.compile(r"^vseti?vli\s.*\be(\d+), (mf?\d)")


@dataclass(frozen=True, slots=True)
class Loop:
    """Straight code that is run again and again. `share`: of all executed instructions; the vector type: on entry."""

    instructions: tuple[str, ...]
    iterations: int
    share: float
    element_bits: int
    group: str


@dataclass(frozen=True, slots=True)
class Trace:
    """What `calls` calls execute: how often the instruction at each address."""

    executed: Counter[int]
    calls: int

    @property
    def instructions(self) -> float:
        """Of one call."""
        return self.executed.total() / self.calls


def _executed(tools: Tools, command: Sequence[str], vector_bits: int) -> Counter[int]:
    emulator = [tools.qemu, tools.one_by_one(), "-d", "nochain,exec", "-D", "/dev/stdout"]
    with subprocess.Popen([*emulator, *command], stdout=subprocess.PIPE, env=processor(vector_bits)) as child:
        assert child.stdout is not None
        found = Counter(
            int(match.group(1), 16)
            for line in child.stdout
            if line.startswith(b"Trace") and (match := _TRACE.search(line))
        )
    if child.returncode:
        raise ContenderError(f"{' '.join(command)} ended with {child.returncode} at vectors of {vector_bits} bits")
    return found


def trace(tools: Tools, command: Sequence[str], vector_bits: int, calls: int = 1) -> Trace:
    """What `calls` calls execute; the number of calls is the command's last argument. Raises ContenderError.

    A run of as many calls is subtracted from a run of twice as many: what comes before and after the calls cancels.
    """
    once = _executed(tools, [*command, str(calls)], vector_bits)
    twice = _executed(tools, [*command, str(2 * calls)], vector_bits)
    twice.subtract(once)
    return Trace(+twice, calls)


@cache
def disassembly(objdump: str, program: str) -> dict[int, str]:
    """The instructions of a program by address."""
    command = [objdump, "-d", "--no-show-raw-insn", "--mattr=+v,+zfh,+zvfh,+f,+d,+a,+m,+c", program]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = (_LINE.match(line) for line in listing.splitlines())
    return {int(line.group(1), 16): line.group(2).replace("\t", " ") for line in lines if line}


def hottest_loop(found: Trace, code: dict[int, str]) -> Loop:
    """The innermost loop that executes most instructions. Raises ContenderError where nothing is repeated."""
    addresses = sorted(address for address in code if address in found.executed)
    best: tuple[int, int, int] = (0, 0, 0)
    for address in addresses:
        target = _TARGET.search(code[address]) if _BRANCH.match(code[address]) else None
        if target is None or (start := int(target.group(1), 16)) >= address:
            continue
        count = found.executed[address]
        body = [place for place in addresses if start <= place <= address]
        # an inner loop or a part that is skipped would have another count
        if any(not 0.9 * count <= found.executed[place] <= 1.1 * count + found.calls for place in body):
            continue
        best = max(best, (len(body) * count, start, address))
    if best[0] == 0:
        raise ContenderError("no loop was found in the trace")
    _, start, end = best
    before = [match for place in addresses if place < start and (match := _VECTOR_TYPE.match(code[place]))]
    bits, group = before[-1].groups() if before else ("8", "m1")
    body = tuple(code[place] for place in addresses if start <= place <= end)
    share = best[0] / found.executed.total()
    return Loop(body, round(found.executed[end] / found.calls), share, int(bits), group)


def cycles(tools: Tools, loop: Loop, core: str, iterations: int = 100) -> float:
    """Cycles of one iteration in llvm-mca's model of a core. Raises ContenderError."""
    lines = [f"# LLVM-MCA-RISCV-LMUL {loop.group.upper()}", f"# LLVM-MCA-RISCV-SEW E{loop.element_bits}", "loop:"]
    lines += [_TARGET.sub("loop", text) if _BRANCH.match(text) else text for text in loop.instructions]
    command = [tools.llvm_mca, "-mtriple=riscv64", f"-mcpu={core}", "-mattr=+v,+zfh,+zvfh", f"-iterations={iterations}"]
    done = subprocess.run(command, input="\n".join(lines) + "\n", capture_output=True, text=True, check=False)
    total = re.search(r"^Total Cycles:\s+(\d+)", done.stdout, re.MULTILINE)
    if done.returncode or total is None:
        raise ContenderError(f"llvm-mca cannot read a loop: {done.stderr.strip()[:400]}")
    return int(total.group(1)) / iterations
