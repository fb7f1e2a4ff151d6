"""Every program that the samples of the conformance kit launch, for a kind of device, without running any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar

import numpy as np

from perfxapi.conformance.cases import HOSTILE, PLANNED, Case, all_cases, build_call
from perfxapi.device import Device
from perfxapi_gpu_kernels.bindings import BINDINGS
from perfxapi_gpu_kernels.driver import Bytes, Properties, Region
from perfxapi_gpu_kernels.launches import Launch
from perfxapi_gpu_kernels.runtime import Runtime
from perfxapi_gpu_kernels.sources import Program

T = TypeVar("T")
CUDA = Properties(
    dialect="cuda", identity="samples", max_group_size=1024, has_double=True, has_subgroups=True, has_dot4=True
)
HIP = Properties(
    dialect="hip", identity="samples", max_group_size=1024, has_double=True, has_subgroups=True, has_dot4=True
)


class NoDevice:
    """A driver that stores nothing and runs nothing."""

    def __init__(self, properties: Properties) -> None:
        self.properties = properties

    def allocate(self, nbytes: int) -> None:
        return None

    def zeros(self, nbytes: int) -> None:
        return None

    def free(self, memory: None) -> None:
        pass

    def read(self, region: Region, out: Bytes) -> None:
        out.fill(0)

    def write(self, region: Region, data: Bytes) -> None:
        pass

    def compile(self, source: str, entries: Sequence[str]) -> dict[str, Any]:
        return dict.fromkeys(entries)

    def num_arguments(self, function: Any) -> None:
        return None

    def bind(self, function: Any, groups: Any, local: Any, arguments: Sequence[Any]) -> None:
        return None

    def enqueue(self, bound: Any) -> None:
        pass

    def record(self, bound: Sequence[Any]) -> None:
        return None

    def recording(self) -> str:
        return "nothing runs"

    def finish(self) -> None:
        pass


def launches_of(case: Case, runtime: Runtime) -> list[Launch]:
    """The launches of a case; none where the binding declines it."""
    call = build_call(case, lambda nbytes: np.zeros(nbytes, np.uint8))
    binding = BINDINGS[case.spec.name]
    if binding.accepts(call, runtime.properties) is not None:
        return []
    workspace = binding.workspace(call, runtime.properties)
    return runtime.launches(binding, call, Region(None, 0, workspace) if workspace else None)


@cache
def all_launched(properties: Properties) -> tuple[tuple[Case, frozenset[Program]], ...]:
    """The cases that a kind of device takes, each with the programs that it launches."""
    runtime = Runtime(
        Device("samples", 0, "nothing", f"{properties.dialect} {properties.identity}"), NoDevice(properties)
    )
    cases = [case for case in all_cases(sorted(BINDINGS)) if case.arrangement not in (HOSTILE, PLANNED)]
    found = ((case, frozenset(launch.program for launch in launches_of(case, runtime))) for case in cases)
    return tuple((case, programs) for case, programs in found if programs)


def all_programs(properties: Properties) -> list[Program]:
    """The programs of all cases, in an order that never changes."""
    return sorted({program for _, programs in all_launched(properties) for program in programs}, key=repr)


def covering_cases(properties: Properties) -> list[tuple[Case, frozenset[Program]]]:
    """Few cases that together have each op, and each value of each define of each kernel file."""

    def found(launched: tuple[Case, frozenset[Program]]) -> set[object]:
        case, programs = launched
        return {("op", case.spec.name), *(feature for program in programs for feature in features(program))}

    return covering(all_launched(properties), found)


def covering_programs(properties: Properties) -> list[Program]:
    """Few programs that together have each value of each define of each kernel file."""
    return covering(all_programs(properties), features)


def covering(offered: Sequence[T], features_of: Callable[[T], set[object]]) -> list[T]:
    """Of what is offered, some that together have all features: the one that adds most, again and again (Chvatal, A
    Greedy Heuristic for the Set-Covering Problem, 1979).
    """
    lacking = {index: features_of(one) for index, one in enumerate(offered)}
    chosen = []
    while lacking:
        best = max(lacking, key=lambda index: len(lacking[index]))
        chosen.append(offered[best])
        added = lacking.pop(best)
        lacking = {index: rest for index, one in lacking.items() if (rest := one - added)}
    return chosen


def features(program: Program) -> set[object]:
    """What one program has in common with others: the file, and in it each define with its value."""
    return {("file", program.source), *((program.source, *define) for define in program.defines)}
