"""Runs cases in child processes, so that a kernel that crashes or hangs is one failed case and not the end."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from perfxapi.backend import REGISTRY
from perfxapi.conformance.cases import all_cases
from perfxapi.conformance.check import check_case, kernels_of
from perfxapi.conformance.profiles import profile_named
from perfxapi.conformance.report import Outcome, Report
from perfxapi.custom import THIS_PROGRAM
from perfxapi.custom.compiler import COMPILE_SECONDS
from perfxapi.device import Device, parse_device_name
from perfxapi.errors import DeviceUnavailableError, InvalidArgumentError, KernelError
from perfxapi.ops.spec import all_ops, op_spec
from perfxapi.policy import use_device

_START_SECONDS = 60.0
"""How long the process may take to start, where a case may not take longer."""
_MAKE_SECONDS = COMPILE_SECONDS + 30.0
"""How long making the kernels of one op may take: a compiler that hangs is to end by its own limit."""
_MAX_FAILURES = 3
"""An op whose kernel crashed or hung this often is not tried further: each time costs a process."""

_ADVICE = "verify it with isolated=False"


def verify(
    target: str,
    ops: Sequence[str] | None = None,
    *,
    profile: str | None = None,
    seconds: float = 20.0,
    isolated: bool = True,
) -> Report:
    """Checks a backend ("cpu"), one of its devices ("opencl:1"), or kernels that joined a device ("fastnorm").

    `ops` limits it to some ops; `profile` ("minimal", "array", "language-model") says which may not decline their
    samples; `seconds` is how long one case may take. Ops and kernels that only this process knows of (`register_op`,
    `custom.add_kernels`) cannot be run in another: with `isolated=False` they run here, and one that crashes ends the
    process.

    Raises DeviceUnavailableError or UnknownNameError where there is no such backend, op or profile,
    InvalidArgumentError for ops and kernels of this process alone, KernelError where the child does not even start.
    """
    required = profile_named(profile) if profile is not None else None
    backend, device = resolve(target)
    wanted = [op_spec(op) for op in ops] if ops else all_ops()
    unsampled = [spec.name for spec in wanted if next(iter(spec.samples()), None) is None]
    if not isolated:
        outcomes = (check_case(case, backend, device) for case in all_cases(ops))
        return Report(backend, str(device), outcomes, required, ops=ops or (), unsampled=unsampled)
    if any(e.manifest.name == backend and e.distribution == THIS_PROGRAM for e in REGISTRY.entries()):
        raise InvalidArgumentError(f"{backend!r} was added by this program: {_ADVICE}")
    return Report(backend, str(device), _outcomes(target, ops, seconds), required, ops=ops or (), unsampled=unsampled)


def resolve(target: str) -> tuple[str, Device]:
    """The backend that a target names, and the device that its kernels run on."""
    kind, _ = parse_device_name(target)
    for entry in REGISTRY.entries():
        if entry.manifest.name == kind and entry.manifest.joins is not None:
            if not REGISTRY.load(entry):
                raise DeviceUnavailableError(f"backend {kind!r}: {entry.problem}")
            served = REGISTRY.devices_served(entry.manifest)
            if not served:
                raise DeviceUnavailableError(f"backend {kind!r}: there is no device for it ({entry.manifest.joins!r})")
            return kind, served[0]
    with use_device(target, fallback="error") as device:
        return REGISTRY.of_device(device).manifest.name, device


def _outcomes(target: str, ops: Sequence[str] | None, seconds: float) -> Iterator[Outcome]:
    first, failures = 0, Counter[str]()
    while True:
        given_up = [op for op, count in failures.items() if count >= _MAX_FAILURES]
        with _Child(target, ops, first, given_up, seconds) as child:
            yield from child.outcomes()
        if child.finished:
            return
        failed = child.failed_outcome()
        yield failed
        failures[failed.op] += 1
        first = child.number + 1


class _Child:
    """One child process, from case `first` on. `number` is the case it is at, `finished` whether it came to the end."""

    def __init__(
        self, target: str, ops: Sequence[str] | None, first: int, given_up: Sequence[str], seconds: float
    ) -> None:
        self.target, self.seconds, self.number, self.finished = target, seconds, first - 1, False
        self._began: dict[str, Any] = {}
        arguments = [target, str(first), ",".join(given_up), *(ops or ())]
        command = [sys.executable, "-m", "perfxapi.conformance.runner", *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._lines: queue.Queue[str] = queue.Queue()
        self._errors: list[str] = []
        self._threads = [threading.Thread(target=read, daemon=True) for read in (self._read_lines, self._read_errors)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for thread in self._threads:
            thread.join()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def _read_lines(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(line)
        self._lines.put("")

    def _read_errors(self) -> None:
        self._errors.extend(self._process.stderr or ())

    def outcomes(self) -> Iterator[Outcome]:
        """The outcomes of complete cases, until the child ends, crashes or hangs."""
        limit = max(self.seconds, _START_SECONDS)
        while True:
            try:
                line = self._lines.get(timeout=limit)
            except queue.Empty:
                self._began["hung"] = f"no answer within {limit:g} s"
                return
            if not line:
                self._process.wait()
                return
            message = json.loads(line)
            limit = max(self.seconds, _MAKE_SECONDS) if message.get("makes") else self.seconds
            if "outcome" in message:
                yield Outcome(**message["outcome"])
            elif "unknown" in message:
                raise InvalidArgumentError(f"op {message['unknown']!r} was added by this program: {_ADVICE}")
            elif "begin" in message:
                self.number, self._began = message["begin"], message["case"]
            else:
                self.finished = True

    def failed_outcome(self) -> Outcome:
        """What to say of the case that the child was at when it ended."""
        status = self._process.returncode
        hung = self._began.pop("hung", "")
        said = self._errors[-1].strip() if self._errors else "nothing"
        if "op" not in self._began:
            ended = f"ended with status {status} and said: {said}"
            what = f"gave {hung}; allow more (seconds=..., --seconds)" if hung else ended
            raise KernelError(f"verify {self.target}: its process {what}")
        name = signal.Signals(-status).name if status < 0 else f"exit status {status}: {said}"
        return Outcome(**self._began, status="hung" if hung else "crashed", detail=hung or name)


def _work(target: str, first: int, given_up: Sequence[str], ops: Sequence[str] | None) -> None:
    """The child: a line of JSON before and after each case."""
    backend, device = resolve(target)
    out = sys.stdout
    sys.stdout = sys.stderr  # whatever a plugin prints must not get between the lines
    known = {spec.name for spec in all_ops()}
    if unknown := [op for op in ops or () if op not in known]:
        print(json.dumps({"unknown": unknown[0]}), file=out, flush=True)
        return
    made = set[str]()
    for case in all_cases(ops):
        if case.number < first or case.spec.name in given_up:
            continue
        named = {
            "op": case.spec.name,
            "dtype": case.dtype.name,
            "sample": case.sample.label,
            "arrangement": case.arrangement,
        }
        if case.spec.name not in made:  # compiling takes longer than a case may
            print(json.dumps({"begin": case.number, "case": named, "makes": True}), file=out, flush=True)
            kernels_of(case.spec.name, backend, device)
            made.add(case.spec.name)
        print(json.dumps({"begin": case.number, "case": named}), file=out, flush=True)
        outcome = check_case(case, backend, device)
        print(json.dumps({"outcome": asdict(outcome)}), file=out, flush=True)
    print(json.dumps({"end": True}), file=out, flush=True)


def _main(arguments: Sequence[str]) -> None:
    if len(arguments) < 3:
        raise InvalidArgumentError("usage: python -m perfxapi.conformance.runner TARGET FIRST GIVEN_UP_OPS [OP...]")
    _work(arguments[0], int(arguments[1]), arguments[2].split(","), arguments[3:] or None)


if __name__ == "__main__":
    _main(sys.argv[1:])
