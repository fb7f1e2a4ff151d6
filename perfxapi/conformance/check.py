"""Runs one case on one backend, in this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from perfxapi import dtypes
from perfxapi.backend import Kernel, OpCall
from perfxapi.conformance.cases import HOSTILE, PLANNED, Case, build_call, storage_of
from perfxapi.conformance.compare import compare, relative_error, tolerance_of
from perfxapi.conformance.guard import ZONE, GuardedMemory, mark
from perfxapi.conformance.planned import PlannedCase
from perfxapi.conformance.report import Outcome
from perfxapi.device import Device
from perfxapi.dispatch import attempt, candidates, choices, describe_failure
from perfxapi.dtypes import DType
from perfxapi.errors import FallbackError, InvalidArgumentError
from perfxapi.memory import HOST, Buffer, View, memory_space
from perfxapi.ops.spec import BFloat16Array, QuantizedArray
from perfxapi.policy import use_device

Values = npt.NDArray[Any]


def check_case(case: Case, backend: str, device: Device) -> Outcome:
    """Runs a case by a kernel of `backend` on `device` and compares results, written operands and untouched ones."""
    kernels, problem = kernels_of(case.spec.name, backend, device)
    if not kernels:
        return _outcome(case, "declined", problem)
    if case.arrangement == PLANNED:
        return _planned(case, backend, device)
    memory, space = _Memory(case), device.memory_space
    call = build_call(case, memory.place, space)
    choice = next((choice for choice in choices(call, device) if choice.backend == backend), None)
    if choice is None:
        return _outcome(case, "declined", "; ".join(str(kernel.accepts(call)) for kernel in kernels))
    memory.watch(call, space)
    try:
        failure = attempt(case.spec, call, device, choice)
    except InvalidArgumentError as error:
        failure = error
    if damage := memory.damage(call, space):
        return _outcome(case, "wrong", f"it writes out of range: {damage}")
    if case.arrangement == HOSTILE and _is_refused(case, call):
        return _refused(case, call, failure)
    if failure is not None:
        return _outcome(case, "error", describe_failure(failure))
    return _compared(case, call, space)


class _Memory:
    """The memory of one case: guarded on the host; in the memory of another device, results end in a zone that is
    compared after the call.
    """

    def __init__(self, case: Case) -> None:
        self._case, self._guards = case, list[GuardedMemory]()

    def place(self, nbytes: int) -> npt.NDArray[np.uint8]:
        """Memory for the next operand."""
        number = len(self._guards)
        self._guards.append(GuardedMemory(nbytes, guard_after=self._case.number % 2 == 0, number=number))
        return self._guards[-1].data

    def watch(self, call: OpCall, space: str) -> None:
        """Prepares for the launch."""
        for guard, view in zip(self._guards, call.inputs, strict=False):
            guard.watch_gaps(view)
        for number, view in enumerate(call.outputs if space != HOST else ()):
            view.buffer = Buffer.from_host(mark(view.nbytes + ZONE, number))
            view.buffer.validate(space)

    def damage(self, call: OpCall, space: str) -> str | None:
        """What the launch has written outside of its operands, and of which."""
        names = [self._case.spec.input_name(index) for index in range(len(call.inputs))]
        names += [f"output {index}" for index in range(len(call.outputs))]
        for name, guard in zip(names, self._guards, strict=True):
            if problem := guard.damage():
                return f"{name}: {problem}"
        for number, view in enumerate(call.outputs if space != HOST else ()):
            expected = mark(view.nbytes + ZONE, number)[view.nbytes :]
            changed = np.flatnonzero(_bytes_in(view.buffer, space)[view.nbytes :] != expected)
            if changed.size:
                return f"output {number}: past its end: {changed.size} bytes, the nearest {changed[0] + 1} away"
        return None


def _outcome(case: Case, status: str, detail: str, error: float = 0.0) -> Outcome:
    return Outcome(case.spec.name, case.dtype.name, case.sample.label, case.arrangement, status, detail, error)


def kernels_of(op: str, backend: str, device: Device) -> tuple[list[Kernel], str]:
    """The kernels of a backend that may run an op on a device, made if need be, and, where there is none, why not."""
    found = [(kernel, problem) for kernel, e, _, problem in candidates(op, device) if e.manifest.name == backend]
    kernels = [kernel for kernel, _ in found if kernel is not None]
    return kernels, found[0][1] if found else f"{backend} takes no part in what runs on {device}"


def _is_refused(case: Case, call: OpCall) -> bool:
    """Whether the reference refuses the operands, in whatever words: it may leave it to NumPy."""
    try:
        with np.errstate(all="ignore"):
            case.spec.reference(*map(reference_copy, case.sample.inputs), **call.attributes)
    except Exception:  # a stranger's reference may raise anything
        return True
    return False


def _refused(case: Case, call: OpCall, failure: Exception | None) -> Outcome:
    """The outcome where the operands are wrong: the kernel must have said so, and have written nothing in place."""
    if failure is None:
        return _outcome(case, "wrong", "it computes with operands that the reference refuses")
    for index in case.spec.mutates:
        if compare(read(call.inputs[index]), np.asarray(case.sample.inputs[index]), 0.0) is not None:
            return _outcome(case, "wrong", f"it refuses, but has written to {case.spec.input_name(index)}")
    return _outcome(case, "ok", describe_failure(failure))


def _planned(case: Case, backend: str, device: Device) -> Outcome:
    """The outcome of the case as a plan: its kernel comes from the backend, or the case is declined."""
    with use_device(device, fallback="error"):
        try:
            planned = PlannedCase(case, device)
        except FallbackError as error:
            return _outcome(case, "declined", _reason(case, device, error))
        (place,) = planned.plan.explain()
        if place.backend != backend:
            return _outcome(case, "declined", f"{place.backend} comes before {backend}")
        try:
            found = planned.run()
        except Exception as error:  # whatever a stranger's kernel raises
            return _outcome(case, "error", _reason(case, device, error))
    return _judged(case, {name: (_widened(values, dtype), dtype) for name, (values, dtype) in found.items()})


def _reason(case: Case, device: Device, error: Exception) -> str:
    """What an error says, without what the outcome says."""
    return describe_failure(error).removeprefix(f"device {str(device)!r}: {case.spec.name}: ")


def _compared(case: Case, call: OpCall, space: str) -> Outcome:
    """The outcome of a call that was launched."""
    views = {f"output {index}": view for index, view in enumerate(call.outputs)}
    views |= {case.spec.input_name(index): view for index, view in enumerate(call.inputs)}
    return _judged(case, {name: (read(view, space), view.dtype) for name, view in views.items()})


def _judged(case: Case, found: Mapping[str, tuple[Values, DType]]) -> Outcome:
    """Compares results and operands with what the reference makes of the sample."""
    spec = case.spec
    operands = [reference_copy(value) for value in case.sample.inputs]
    with np.errstate(all="ignore"):
        results = spec.reference(*operands, **spec.check_attributes(case.sample.attributes))
    results = results if isinstance(results, tuple) else () if results is None else (results,)
    expected = {f"output {index}": value for index, value in enumerate(results)}
    may_change = {*expected, *(spec.input_name(index) for index in spec.mutates)}
    # operands that the op writes hold what the reference made of them; the others must be as they were
    expected |= {spec.input_name(index): value for index, value in enumerate(operands)}
    error = 0.0
    for name, (got, dtype) in found.items():
        want = expected[name].raw if isinstance(expected[name], QuantizedArray) else np.asarray(expected[name])
        mismatch = compare(got, want, tolerance_of(spec.tolerance, dtype) if name in may_change else 0.0)
        if mismatch is not None:
            what = name if name in may_change else f"{name} (which the op does not write)"
            return _outcome(case, "wrong", f"{what}: {mismatch}", relative_error(got, want))
        error = max(error, relative_error(got, want))
    return _outcome(case, "ok", "", error)


def reference_copy(value: Any) -> Any:
    """A sample's operand as the reference takes it, which may write to it."""
    if isinstance(value, QuantizedArray):
        return value
    if isinstance(value, BFloat16Array):
        return dtypes.bfloat16_to_float32(value.bits)
    return np.array(storage_of(value)[1])


def read(view: View, space: str = HOST) -> Values:
    """The elements of a view: from its home, or from `space` where that holds a valid copy."""
    home = view.buffer.home in (None, HOST)
    values = view.over(_bytes_in(view.buffer, space) if home else view.buffer.fetch([view.extent])[0])
    return _widened(values, view.dtype)


def _widened(values: Values, dtype: DType) -> Values:
    return dtypes.bfloat16_to_float32(values) if dtype is dtypes.bfloat16 else values


def _bytes_in(buffer: Buffer, space: str) -> npt.NDArray[np.uint8]:
    """The bytes of a buffer as they are in `space`; the host's where `space` has no valid copy."""
    if space == HOST or space not in buffer.valid_spaces:
        return np.asarray(buffer.readable(HOST)[0])
    copy = np.empty(buffer.nbytes, np.uint8)
    memory_space(space).read(buffer.readable(space)[0], 0, copy)
    return copy
