"""Runs cases on Oclgrind, in a process where it is the one OpenCL platform: `python oclgrind_child.py [OP...]`.

What Oclgrind finds goes to the file in OCLGRIND_LOG; what is wrong with results is printed. Each operand has a memory
object of its own, exactly as large as it is: what is read or written beyond it does not stay unnoticed in a pool.
"""

from __future__ import annotations

import sys

from collected import covering_cases

from perfxapi.allocator import StatisticsAllocator
from perfxapi.backend import REGISTRY
from perfxapi.conformance import all_cases, check_case
from perfxapi.conformance.cases import HOSTILE
from perfxapi.policy import use_device
from perfxapi_gpu_kernels.bindings import BINDINGS
from perfxapi_gpu_kernels.runtime import _DeviceAllocator


def main(ops: list[str]) -> None:
    with use_device("opencl:0", fallback="error") as device:
        backend = REGISTRY.of_device(device).backend
    runtime = backend.runtimes[device]
    runtime.memory.allocator = StatisticsAllocator(_DeviceAllocator(runtime.driver))
    wanted = ops or sorted(BINDINGS)
    cases = [case for case, _ in covering_cases(runtime.properties) if case.spec.name in wanted]
    cases += [case for case in all_cases(wanted) if case.arrangement == HOSTILE]
    counts = dict.fromkeys(wanted, 0)
    for case in cases:
        outcome = check_case(case, "opencl", device)
        counts[case.spec.name] += outcome.status == "ok"
        if outcome.status not in ("ok", "declined"):
            print(outcome)
    print(f"{len(cases)} cases on {device.description}", file=sys.stderr)
    for op in (op for op, count in counts.items() if not count):
        print(f"{op}: no case has run")


if __name__ == "__main__":
    main(sys.argv[1:])
