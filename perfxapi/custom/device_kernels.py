"""Kernels for custom ops in source that a device's own compiler takes: OpenCL C, CUDA C++, HIP."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from perfxapi import dtypes
from perfxapi.backend import REGISTRY, Backend, Kernel, OpCall
from perfxapi.custom.broken import BrokenKernel
from perfxapi.custom.compiler import check_name
from perfxapi.device import Device
from perfxapi.errors import CompileError, InvalidArgumentError, PerfXError, PluginError
from perfxapi.ops.spec import TensorSpec, op_spec

Size = tuple[int, int, int]
GROUP = 64
"""Work-items in a group where the kernel does not say."""


@dataclass(frozen=True, slots=True)
class DeviceKernel:
    """A kernel for one op on devices of `kinds`, compiled by each device when it is first used.

    `source` is text or a file, in the dialect of the GPU kernels (docs/gpu.md), which serves every kind, or in one
    API's own language. The function `entry` (the op's name, if not given) takes, for each input and then each output, a
    pointer and the offset in bytes from there as an int64 (OPERAND of the dialect); then the attributes in order, a
    float for a float and an int64 for anything else (of a choice its index); then, as an int64, the number of elements
    of the first output. `sizes(call)` gives the number of work-groups and their size in three dimensions; without
    it there is a work-item for each element, rounded up to whole groups of 64. `accepts(call)` says None, or why not;
    without it, calls whose operands have no gaps are taken.
    """

    op: str
    source: str | Path
    entry: str = ""
    kinds: tuple[str, ...] = ("opencl", "cuda", "hip")
    sizes: Callable[[OpCall], tuple[Size, Size]] | None = None
    accepts: Callable[[OpCall], str | None] | None = None

    def refusal(self, call: OpCall) -> str | None:
        """None, or why the call is not taken."""
        if self.accepts is not None:
            return self.accepts(call)
        whole = all(view.is_contiguous and not view.dtype.is_quantized for view in call.inputs)
        return None if whole else f"{self.op}: an operand has gaps between its elements"

    def work(self, call: OpCall) -> tuple[Size, Size]:
        """The number of work-groups and their size. Raises InvalidArgumentError where `sizes` gives anything else."""
        if self.sizes is None:
            return (max(-(-self.num_elements(call) // GROUP), 1), 1, 1), (GROUP, 1, 1)
        found = self.sizes(call)
        if not _are_sizes(found):
            raise InvalidArgumentError(
                f"{self.op}: sizes returned {found!r}; it must return two triples of whole numbers from 1 on"
            )
        return found

    def num_elements(self, call: OpCall) -> int:
        """Elements of the first output; of the first input where there is none."""
        return math.prod(int(size) for size in (*call.outputs, *call.inputs)[0].shape)

    def scalars(self, call: OpCall) -> list[Any]:
        """What follows the operands."""
        values: list[Any] = []
        for attribute in op_spec(self.op).attributes:
            value = call.attributes[attribute.name]
            if attribute.kind in (tuple, list):
                raise InvalidArgumentError(
                    f"{self.op}: attribute {attribute.name} is a {attribute.kind.__name__}, which kernels in source do "
                    "not take"
                )
            number = attribute.choices.index(value) if attribute.choices else value
            values.append(np.float32(number) if attribute.kind is float else np.int64(number))
        return [*values, np.int64(self.num_elements(call))]

    def num_arguments(self) -> int | None:
        """How many arguments the function gets; None where that depends on the call."""
        spec = op_spec(self.op)
        sample = next(iter(spec.samples()), None)
        if spec.is_variadic or sample is None:
            return None
        operands = [TensorSpec(np.shape(value), dtypes.float32) for value in sample.inputs]
        try:
            num_outputs = len(spec.infer(operands, spec.check_attributes(sample.attributes)))
        except PerfXError:
            return None
        return 2 * (len(spec.inputs) + num_outputs) + len(spec.attributes) + 1

    def text(self, name: str) -> str:
        """The source. Raises CompileError where the file cannot be read."""
        if isinstance(self.source, str):
            return self.source
        try:
            return self.source.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CompileError(name, f"its source {self.source} cannot be read: {error}") from error


def _are_sizes(found: object) -> bool:
    """Whether a user's function gave a number of work-groups and their size."""
    if not isinstance(found, tuple) or len(found) != 2:
        return False
    return all(
        isinstance(part, tuple) and len(part) == len("xyz") and all(type(n) is int and n > 0 for n in part)
        for part in found
    )


class DeviceKernels(Backend):
    """Kernels of one name on all devices of their kinds."""

    def __init__(self, name: str, parts: Sequence[DeviceKernel]) -> None:
        check_name(name)
        self.name = name
        self._parts = {part.op: part for part in parts}
        self._made: dict[tuple[Device, str], Kernel] = {}

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of devices that the kernels serve."""
        return tuple(dict.fromkeys(kind for part in self._parts.values() for kind in part.kinds))

    def kernels_on(self, device: Device, op: str) -> Sequence[Kernel]:
        """The kernel of an op on a device, compiled on first use."""
        part = self._parts.get(op)
        if part is None or device.kind not in part.kinds:
            return ()
        if (device, op) not in self._made:
            try:
                self._made[device, op] = self.make(part, device)
            except Exception as error:  # whatever a stranger's source brings about: it is the reason of a fallback
                self._made[device, op] = BrokenKernel(op, error)
        return (self._made[device, op],)

    def kernel_ops(self) -> Iterator[str]:
        """The ops that have a kernel."""
        return iter(self._parts)

    def make(self, part: DeviceKernel, device: Device) -> Kernel:
        """Compiles a kernel for a device. Raises CompileError, or PluginError where its backend takes no sources."""
        backend = REGISTRY.of_device(device).backend
        compile_kernel = getattr(backend, "compile_kernel", None)
        if compile_kernel is None:
            raise PluginError(f"{self.name}: the backend of {device} takes no kernels in source")
        kernel: Kernel = compile_kernel(device, self.name, part)
        return kernel

    def make_all(self) -> None:
        """Compiles every kernel for every device that is there now."""
        for entry in REGISTRY.usable():
            for device in REGISTRY.working_devices(entry):
                for op, part in self._parts.items():
                    if device.kind in part.kinds:
                        self._made[device, op] = self.make(part, device)


_PLACE = re.compile(
    r"(?:^|\s)(?P<file>[\w.]+)[:(](?P<line>\d+)(?::(?P<column>\d+)|\))?:?\s*(?:error:)?\s*(?P<words>.*)"
)


def compile_error(name: str, file: str, source: str, output: str) -> CompileError:
    """The error for a source that a device's compiler refuses: the first line at fault, and what was said of it."""
    lines = source.splitlines()
    for said in output.splitlines():
        found = _PLACE.search(said)
        if found and found["file"] == file and "error" in said and 0 < int(found["line"]) <= len(lines):
            number = int(found["line"])
            return CompileError(name, f"{file}:{number}: {found['words']}\n    {lines[number - 1].strip()}", output)
    return CompileError(name, f"{file} does not compile:\n{output}", output)


def argument_error(name: str, file: str, source: str, entry: str, problem: str) -> CompileError:
    """The error for a kernel that takes other arguments than it is given, with the line where it begins."""
    lines = source.splitlines()
    number = next((index for index, line in enumerate(lines, 1) if re.search(rf"\b{entry}\s*\(", line)), 1)
    return CompileError(
        name,
        f"{file}:{number}: {entry} takes {problem}: for each operand a pointer and an offset (OPERAND), then the "
        f"attributes, then the number of elements\n    {lines[number - 1].strip()}",
    )
