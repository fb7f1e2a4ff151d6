"""Installs the wheels of dist/ in an emulated Debian of another architecture, as users do, and checks what runs there.

    make wheels && python scripts/emulated_tests.py riscv64 [--positions N] [--every-op] [--jobs N] [--write]

(riscv64 or aarch64; as root.) For each of some processors: `perfxapi devices` shows the backend's device as that
processor has it; `perfxapi verify` passes for the ops of a language model, or for every op; Gemma 3 270M keeps its
distance from float32 arithmetic and from this machine, in each activation format, over the first N positions of the
stored prompts (0: all of them). Then the backend is uninstalled: its device falls back, and says so. `--write` records
each processor's row and puts the table of all recorded ones into docs/performance. Speed under emulation means nothing;
the seconds only say what a check costs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from perfxapi.conformance import PROFILES
from perfxlm import LLM, evaluation
from perfxlm.model_packages import find_model

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "tests" / "data" / "gemma3-270m-reference.npz"
RECORD = ROOT / "docs" / "performance" / "emulated.json"
BEGIN, END = "<!-- emulated:begin -->", "<!-- emulated:end -->"
FORMATS = ("int16", "int8")
PROFILE = "language-model"

MOST_KL_FROM_FLOAT32 = 0.0060
"""llama.cpp's divergence on this model."""
MOST_KL_FROM_HOST = 1e-4
"""Between two backends in the same activation format."""


class CheckError(Exception):
    """Something that was checked is not so; says what."""


@dataclass(frozen=True, slots=True)
class Processor:
    """What QEMU_CPU says, and what the device's description must say because of it."""

    qemu: str
    shown: str


@dataclass(frozen=True, slots=True)
class Machine:
    """An architecture: its backend, the distributions that are installed, the processors that are tried."""

    architecture: str
    backend: str
    page: Path
    processors: tuple[Processor, ...]

    @property
    def distributions(self) -> list[str]:
        """Names for pip."""
        return [f"perfxapi-backend-{self.backend}", "perfxapi-plugin-signal", "perfxlm"]


def _vectors(bits: int) -> Processor:
    return Processor(f"rv64,v=true,vext_spec=v1.0,vlen={bits}", f"{bits} bits")


MACHINES = {
    "riscv64": Machine(
        "riscv64",
        "riscv",
        ROOT / "docs" / "performance" / "riscv.md",
        (
            *map(_vectors, (128, 256, 512, 1024)),
            Processor("max,vlen=256", "rvv256_zvfhmin"),
            Processor("rv64", "scalar"),
        ),
    ),
    "aarch64": Machine(
        "aarch64",
        "cpu",
        ROOT / "docs" / "performance" / "arm.md",
        (Processor("max", "i8mm"), Processor("neoverse-n1", "dotprod"), Processor("cortex-a57", "neon")),
    ),
}


@dataclass(frozen=True, slots=True)
class Divergence:
    """Mean KL divergence, and how often the likeliest token is the same: float32 arithmetic, and this machine."""

    from_float32: float
    from_host: float
    top1_of_float32: float
    top1_of_host: float

    def __str__(self) -> str:
        return f"KL {self.from_float32:.1e} from float32, {self.from_host:.1e} from {platform.machine()}"


@dataclass(slots=True)
class Row:
    """What was found on one processor (its `qemu`); `divergence` by activation format."""

    processor: str
    every_op: bool
    num_positions: int
    device: str = ""
    num_verified: int = 0
    verify_seconds: float = 0.0
    divergence: dict[str, Divergence] = field(default_factory=dict)
    model_seconds: float = 0.0

    @classmethod
    def read(cls, record: dict[str, Any]) -> Row:
        """From what asdict() made of it."""
        return cls(**record | {"divergence": {name: Divergence(**kl) for name, kl in record["divergence"].items()}})


class Emulated:
    """The emulated Debian; the model is at /model.gguf, a folder shared with it at /shared, an environment at /venv."""

    def __init__(self, machine: Machine, model: Path, shared: Path, environment: Path, jobs: int) -> None:
        """Makes the Debian if there is none yet, which takes minutes. `jobs` programs at once share the processors."""
        self._num_threads = max(1, len(os.sched_getaffinity(0)) // jobs)
        self._command = [str(ROOT / "scripts" / "emulated_debian.sh"), "--bind", f"{model}:/model.gguf"]
        self._command += ["--bind", f"{shared}:/shared", "--writable", f"{environment}:/venv", machine.architecture]

    def run(self, *command: str, processor: Processor | None = None) -> str:
        """Standard output of a command of /venv, or of a path. Raises CheckError with all it said where it fails."""
        program = command[0] if command[0].startswith("/") else f"/venv/bin/{command[0]}"
        environment = os.environ | {"PERFXAPI_NUM_THREADS": str(self._num_threads)}
        environment |= {"QEMU_CPU": processor.qemu} if processor else {}
        arguments = [*self._command, program, *command[1:]]
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CheckError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def install(self, distributions: Sequence[str]) -> None:
        """A fresh environment over Debian's packages, into which pip puts the wheels and what else they need."""
        self.run("/usr/bin/python3", "-m", "venv", "--without-pip", "--system-site-packages", "/venv")
        self.pip("install", "--no-compile", "--only-binary=:all:", "--find-links=/checkout/dist", *distributions)

    def pip(self, *arguments: str) -> None:
        """Debian's pip, for /venv."""
        self.run("/usr/bin/python3", "-m", "pip", "--python=/venv/bin/python", "--quiet", *arguments)


def references(model: Path, folder: Path, num_positions: int) -> None:
    """Writes the stored float32 reference, cut, and what this machine's cpu backend predicts in each format."""
    prompts = [
        evaluation.ReferencePrompt(*(part[:end] for part in (one.token_ids, one.top_ids, one.top_logprobs)))
        for one, end in _cut(evaluation.read_reference(REFERENCE), num_positions)
    ]
    evaluation.write_reference(folder / "float32.npz", prompts)
    for activation_format in FORMATS:
        llm = LLM(model, device="cpu", fallback="error", activation_format=activation_format, max_model_len=256)
        ours = evaluation.make_reference(llm, [one.token_ids.tolist() for one in prompts])
        evaluation.write_reference(folder / f"{activation_format}.npz", ours)


def _cut(
    prompts: Sequence[evaluation.ReferencePrompt], num_positions: int
) -> Iterator[tuple[evaluation.ReferencePrompt, int]]:
    """The first prompts, and how much of each, until there are so many positions."""
    left = num_positions
    for one in prompts:
        if left > 0:
            yield one, min(left, len(one.token_ids))
            left -= len(one.token_ids)


def check_device(debian: Emulated, machine: Machine, processor: Processor, row: Row) -> None:
    """The device is there, is what is used where none is named, and says which instructions it uses."""
    devices = json.loads(debian.run("perfxapi", "devices", "--json", processor=processor))
    (first,) = [device for device in devices if device["is_default"]]
    row.device = f"{first['device']} {first['description']}"
    if first["backend"] != machine.backend or processor.shown not in first["description"]:
        raise CheckError(f"with QEMU_CPU={row.processor} the device is {row.device}")


def check_kernels(debian: Emulated, machine: Machine, processor: Processor, row: Row) -> None:
    """The conformance suite: the ops of a language model, none of which may be declined, or every op."""
    start = time.perf_counter()
    arguments = ["verify", machine.backend, "--json", "--profile", PROFILE, "--seconds", "600"]
    arguments += [] if row.every_op else [f"--op={op}" for op in PROFILES[PROFILE].required]
    report = json.loads(debian.run("perfxapi", *arguments, processor=processor))
    row.num_verified = sum(outcome["status"] == "ok" for outcome in report["outcomes"])
    row.verify_seconds = time.perf_counter() - start


def check_model(debian: Emulated, machine: Machine, processor: Processor, row: Row) -> None:
    """The divergence from float32 arithmetic and from this machine, in each activation format."""
    start = time.perf_counter()
    for activation_format in FORMATS:
        files = [f"/shared/{name}.npz" for name in ("float32", activation_format)]
        options = ["--device", machine.backend, "--fallback", "error", "--activation-format", activation_format]
        options += ["--max-model-len", "256", *(f"--reference={file}" for file in files), "--json"]
        found = json.loads(debian.run("perfxlm", "eval", "/model.gguf", *options, processor=processor))
        kl = Divergence(*(found[file]["mean_kl"] for file in files), *(found[file]["top1_agreement"] for file in files))
        if kl.from_float32 > MOST_KL_FROM_FLOAT32 or kl.from_host > MOST_KL_FROM_HOST:
            raise CheckError(f"{row.processor}, {activation_format}: {kl}")
        row.divergence[activation_format] = kl
    row.model_seconds = time.perf_counter() - start


def check_fallback(debian: Emulated, machine: Machine) -> str:
    """Without the backend its device is asked for: what runs instead, and the warning that says how to mend it."""
    distribution = f"perfxapi-backend-{machine.backend}"
    debian.pip("uninstall", "--yes", distribution)
    program = (
        "import sys, numpy as np, perfxapi as px; sys.stderr = sys.stdout; "
        "a = px.asarray(np.ones((3, 3), np.float32), device='%s'); "
        "print(a.device, np.asarray(px.matmul(a, a)).sum())"
    )
    said = debian.run("python", "-W", "always", "-c", program % machine.backend)
    if f"pip install {distribution}" not in said or "numpy:0 27.0" not in said:
        raise CheckError(f"after the uninstallation of {distribution}: {said}")
    return said.strip().splitlines()[0]


def check_processor(debian: Emulated, machine: Machine, processor: Processor, row: Row) -> Row:
    """Fills the row of a processor. Raises CheckError."""
    check_device(debian, machine, processor, row)
    print(f"{row.processor}: {row.device}", flush=True)
    check_kernels(debian, machine, processor, row)
    print(f"{row.processor}: {row.num_verified} cases verified in {row.verify_seconds:.0f} s", flush=True)
    check_model(debian, machine, processor, row)
    for name, kl in row.divergence.items():
        print(f"{row.processor}: {name}: {kl}", flush=True)
    return row


def check(machine: Machine, model: Path, wanted: Sequence[tuple[Processor, Row]], jobs: int) -> Iterator[Row]:
    """Installs, then checks each processor, `jobs` at a time; at last what is left without the backend."""
    with tempfile.TemporaryDirectory() as shared, tempfile.TemporaryDirectory() as environment:
        references(model, Path(shared), wanted[0][1].num_positions)
        debian = Emulated(machine, model, Path(shared), Path(environment), jobs)
        start = time.perf_counter()
        debian.install(machine.distributions)
        print(f"pip installed {', '.join(machine.distributions)} in {time.perf_counter() - start:.0f} s", flush=True)
        with ThreadPoolExecutor(jobs) as pool:
            yield from pool.map(lambda one: check_processor(debian, machine, *one), wanted)
        print(f"without the backend: {check_fallback(debian, machine)}")


def table(machine: Machine, rows: Sequence[Row]) -> str:
    """What was found, in Markdown."""
    header = ["processor (QEMU_CPU)", "device", "cases verified", "positions"]
    for name in FORMATS:
        header += [f"{name}: KL from float32", f"from {platform.machine()}", "same top token"]
    lines = [header, ["---"] * len(header)]
    for row in rows:
        ops = "all ops" if row.every_op else PROFILE
        cells = [f"`{row.processor}`", row.device, f"{row.num_verified}: {ops} ({row.verify_seconds:.0f} s)"]
        cells += [f"{row.num_positions} ({row.model_seconds:.0f} s)"]
        for kl in row.divergence.values():
            cells += [f"{kl.from_float32:.1e}", f"{kl.from_host:.1e}", f"{kl.top1_of_host:.1%}"]
        lines.append(cells)
    said = [
        f"Wheels of `make wheels`, installed by pip in a Debian of {machine.architecture} under qemu. Verified: what",
        f"`perfxapi verify {machine.backend}` runs and finds right, of all ops or of the profile {PROFILE}'s.",
        "The model is Gemma 3 270M (Q4_K_M) over positions of the stored prompts, in both formats of activations.",
        f"Written by `python scripts/emulated_tests.py {machine.architecture} --write`.",
    ]
    return "\n".join([*said, "", *("| " + " | ".join(cells) + " |" for cells in lines)])


def record(machine: Machine, row: Row) -> None:
    """Puts a row in the place of the one of the same processor, in the record and in the page's table."""
    kept = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    of_machine = kept.setdefault(machine.architecture, {})
    of_machine[row.processor] = asdict(row)
    RECORD.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    rows = [Row.read(of_machine[one.qemu]) for one in machine.processors if one.qemu in of_machine]
    write(machine.page, table(machine, rows))


def write(page: Path, body: str) -> None:
    """Replaces what stands between the two marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise CheckError(f"{page} has no marks {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n{body}\n{END}{after}", encoding="utf-8")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Check the wheels in an emulated Debian of another architecture.")
    parser.add_argument("architecture", choices=MACHINES)
    parser.add_argument("--processor", action="append", metavar="QEMU_CPU", help="one of the table's (default: all)")
    parser.add_argument("--positions", type=int, default=24, metavar="N", help="0: all (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processors at a time (default: %(default)s)")
    parser.add_argument("--every-op", action="store_true", help="verify all ops, not those of a language model alone")
    parser.add_argument("--write", action="store_true", help="record it, put the table into docs/performance")
    arguments = parser.parse_args()
    machine = MACHINES[arguments.architecture]
    known = {one.qemu: one for one in machine.processors}
    if unknown := set(arguments.processor or ()) - set(known):
        parser.error(f"--processor {unknown.pop()} is not among {', '.join(known)}")
    if arguments.jobs < 1 or arguments.positions < 0:
        parser.error("--jobs is at least 1, --positions at least 0")
    model = find_model("gemma3-270m")
    positions = arguments.positions or sum(len(one.token_ids) for one in evaluation.read_reference(REFERENCE))
    wanted = [(known[name], Row(name, arguments.every_op, positions)) for name in arguments.processor or known]
    rows: list[Row] = []
    for row in check(machine, model, wanted, arguments.jobs):
        rows.append(row)
        if arguments.write:  # after each: an interruption costs those that were being checked
            record(machine, row)
    print(table(machine, rows))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CheckError as error:
        sys.exit(f"emulated_tests: {error}")
