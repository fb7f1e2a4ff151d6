"""Runs kernels on Oclgrind, in a process where it is the one platform: `python oclgrind_child.py samples [OP...]`.

What Oclgrind finds goes to the file in OCLGRIND_LOG; what is wrong with results is printed. Each operand has a memory
object of its own, exactly as large as it is: what is read or written beyond it does not stay unnoticed in a pool.
Programs are compiled without optimization: Oclgrind does not know all that LLVM's passes make.
"""

from __future__ import annotations

import sys

import numpy as np
from collected import covering_cases

import perfxapi_backend_opencl.backend  # noqa: F401  the platforms are found before pyopencl is imported
from perfxapi.allocator import StatisticsAllocator
from perfxapi.backend import REGISTRY
from perfxapi.conformance import all_cases, check_case
from perfxapi.conformance.cases import HOSTILE
from perfxapi.device import Device
from perfxapi.policy import use_device
from perfxapi_backend_opencl import driver as opencl
from perfxapi_gpu_kernels.bindings import BINDINGS
from perfxapi_gpu_kernels.runtime import Runtime, _DeviceAllocator
from perfxapi_gpu_kernels.sources import Program, source_text

BROKEN = {
    "range": "KERNEL tested(OPERAND(float, x)) { OPEN(float, x); x[GLOBAL_ID(0) + 1] = 1; }",
    "race": "KERNEL tested(OPERAND(float, x)) { OPEN(float, x); LOCAL_ARRAY(float, y, 16); int id = LOCAL_ID(0);"
    " y[id] = x[id]; x[id] = y[15 - id]; }",
}
"""Kernels of which Oclgrind must find something."""


def run_samples(runtime: Runtime, device: Device, ops: list[str]) -> None:
    cases = [case for case, _ in covering_cases(runtime.properties) if case.spec.name in ops]
    cases += [case for case in all_cases(ops) if case.arrangement == HOSTILE]
    ran = set[str]()
    for case in cases:
        outcome = check_case(case, "opencl", device)
        if outcome.status == "ok":
            ran.add(case.spec.name)
        elif outcome.status != "declined":
            print(outcome)
    for op in sorted(set(ops) - ran):
        print(f"{op}: no case has run")


def run_broken(runtime: Runtime, text: str) -> None:
    source = source_text(Program("broken", text=text), runtime.properties)
    kernel = runtime.driver.compile(source, ["tested"])["tested"]
    x = runtime.upload(np.zeros(16, np.float32))
    runtime.driver.enqueue(runtime.driver.bind(kernel, (1, 1, 1), (16, 1, 1), [x]))
    runtime.driver.finish()


def main(what: str, *ops: str) -> None:
    opencl._OPTIONS.append("-cl-opt-disable")
    with use_device("opencl:0", fallback="error") as device:
        backend = REGISTRY.of_device(device).backend
    runtime = backend.runtimes[device]
    assert "Oclgrind" in device.description, device.description
    runtime.memory.allocator = StatisticsAllocator(_DeviceAllocator(runtime.driver))
    if what in BROKEN:
        run_broken(runtime, BROKEN[what])
    else:
        run_samples(runtime, device, list(ops) or sorted(BINDINGS))


if __name__ == "__main__":
    main(*sys.argv[1:])
