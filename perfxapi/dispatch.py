"""From an op call to a kernel: one dict lookup when it is known, the candidates' `accepts` when it is not.

The chain of candidates is the device's own backend, then every other usable backend by priority; the reference accepts
everything. Any step down the chain is a fallback: counted in the ledger with its reason and the bytes it moved, and
subject to the one policy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from perfxapi.backend import REGISTRY, Kernel, OpCall
from perfxapi.device import Device
from perfxapi.errors import DeviceLostError, FallbackError, KernelError
from perfxapi.ledger import LEDGER, LedgerRow
from perfxapi.memory import Buffer, Range, View
from perfxapi.ops.spec import OpSpec, TensorSpec
from perfxapi.policy import fallback_policy, is_forced, report_fallback
from perfxapi.settings import settings

_MAX_CACHED = 8192


class Choice:
    """A kernel chosen for a call, where it runs, and why not on the device that was asked for (empty: it does)."""

    __slots__ = ("device", "kernel", "reason", "row")

    def __init__(self, kernel: Kernel, device: Device, reason: str, row: LedgerRow) -> None:
        self.kernel, self.device, self.reason, self.row = kernel, device, reason, row


class Tracer(Protocol):
    """A target of dispatch that records calls instead of running them."""

    def record(self, spec: OpSpec, inputs: Sequence[View], attributes: Mapping[str, Any]) -> tuple[View, ...]:
        """Adds a node; returns views of its results."""


_choices: dict[Any, Choice] = {}
_generation = -1


def describe(view: View) -> TensorSpec:
    """The spec of a view."""
    return TensorSpec(view.shape, view.dtype)


def infer(spec: OpSpec, inputs: Sequence[View], attributes: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    """The specs of an op's results. Raises InvalidArgumentError where the inputs do not fit."""
    spec.check_inputs(len(inputs))
    return spec.infer([describe(view) for view in inputs], attributes)


def candidates(op: str, device: Device) -> Iterator[tuple[Kernel | None, Device, str]]:
    """(kernel, device it runs on, problem) along the fallback chain; no usable kernel gives None and the reason."""
    entries = REGISTRY.usable()
    own = REGISTRY.of_device(device)
    disabled = settings().disable_kernels
    for entry in [own, *(other for other in entries if other is not own)]:
        runs_on = device if entry is own else entry.device_list[0]
        name = entry.manifest.name
        if f"{name}:{op}" in disabled or f"{name}:*" in disabled:
            yield None, runs_on, f"{name}:{op} is disabled by PERFXAPI_DISABLE_KERNELS"
            continue
        kernels = entry.backend.kernels(op) if entry.backend else ()
        if not kernels:
            yield None, runs_on, f"{name} has no kernel for {op}"
        for kernel in kernels:
            yield kernel, runs_on, ""


def choices(call: OpCall, device: Device, skip: Mapping[Kernel, str] | None = None) -> Iterator[Choice]:
    """Every kernel that accepts the call, in order, each with the reasons of those before it."""
    reasons: list[str] = []
    for kernel, runs_on, problem in candidates(call.op, device):
        refusal = problem or (skip or {}).get(kernel) or kernel.accepts(call) if kernel is not None else problem
        if kernel is None or refusal:
            reasons.append(str(refusal))
            continue
        reason = "; ".join(reasons)
        yield Choice(kernel, runs_on, reason, LEDGER.row(call.op, str(device), str(runs_on), reason))


def choose(call: OpCall, device: Device, skip: Mapping[Kernel, str] | None = None) -> Choice:
    """The first kernel that accepts the call. Raises FallbackError where the policy forbids what it takes."""
    choice = next(choices(call, device, skip))
    if choice.reason:
        _apply_policy(call.op, device, choice)
    return choice


def _apply_policy(op: str, device: Device, choice: Choice) -> None:
    if is_forced(device) or fallback_policy() == "error":
        report_fallback(str(device), str(choice.device), f"{op}: {choice.reason}", error=FallbackError)


def _signature(view: View) -> tuple[Any, ...]:
    return view.dtype.code, view.shape, view.strides, view.buffer.constant


def _cached_choice(call: OpCall, device: Device) -> tuple[Any, Choice]:
    global _generation
    if _generation != REGISTRY.generation or len(_choices) > _MAX_CACHED:
        _choices.clear()
        _generation = REGISTRY.generation
    key = (
        call.op,
        device,
        tuple(map(_signature, call.inputs)),
        tuple(call.attributes.values()),
        id(settings()),
        fallback_policy(),
    )
    choice = _choices.get(key)
    if choice is None:
        choice = _choices[key] = choose(call, device)
    return key, choice


def call_op(spec: OpSpec, inputs: Sequence[View], attributes: Mapping[str, Any], device: Device) -> tuple[View, ...]:
    """Runs an op on concrete views; results are readable on `device`."""
    checked = spec.check_attributes(attributes)
    specs = infer(spec, inputs, checked)
    outputs = tuple(_new_output(result, spec.name) for result in specs)
    run_call(spec, OpCall(spec.name, tuple(inputs), outputs, checked), device)
    for view in outputs:
        view.buffer.readable(device.memory_space)
    return outputs


def _new_output(spec: TensorSpec, name: str) -> View:
    view = View(None, spec.dtype, spec.shape)
    view.buffer = Buffer(view.nbytes, name=name)
    return view


def run_call(spec: OpSpec, call: OpCall, device: Device) -> None:
    """Runs a call with given outputs by the best kernel; where that fails in mid-run, by the next.

    Raises per the policy.
    """
    key, choice = _cached_choice(call, device)
    failures: dict[Kernel, str] = {}
    while True:
        try:
            choice.row.bytes_moved += launch(spec, call, choice.kernel, choice.device.memory_space)
            choice.row.count += 1
            return
        except (KernelError, DeviceLostError) as error:
            failures[choice.kernel] = f"{type(error).__name__}: {error}"
            _choices.pop(key, None)
            choice = choose(call, device, failures)


def launch(spec: OpSpec, call: OpCall, kernel: Kernel, space: str) -> int:
    """Makes every operand valid in `space`, launches, and returns how many bytes were moved for it."""
    moved = 0
    staged: dict[int, tuple[View, Any, list[Range]]] = {}
    views = list(call.inputs)
    for index, view in enumerate(views):
        if view.buffer.home is not None and view.buffer.home != space:
            views[index], cost = _stage_state(spec, call, index, staged)
            moved += cost
        elif index in spec.mutates:
            view.buffer.writable(space)
        else:
            moved += view.buffer.readable(space)[1]
    for view in call.outputs:
        # a view of a whole buffer is replaced; one that covers a part must keep the rest
        (view.buffer.overwrite if view.nbytes == view.buffer.nbytes else view.buffer.writable)(space)
    kernel.launch(OpCall(call.op, tuple(views), call.outputs, call.attributes))
    for index, (view, staging, ranges) in staged.items():
        if index in spec.mutates:
            moved += view.buffer.store(staging, ranges)
    return moved


def _stage_state(spec: OpSpec, call: OpCall, index: int, staged: dict[int, Any]) -> tuple[View, int]:
    """A host copy of the ranges of a state operand that the op reads or writes."""
    view = call.inputs[index]
    if spec.ranges is not None and index in spec.state:
        ranges = spec.ranges(call.inputs, call.attributes)[index]
    else:
        ranges = [(0, view.buffer.nbytes)]
    staging, moved = view.buffer.fetch(ranges)
    staged[index] = (view, staging, ranges)
    substitute = Buffer.from_host(staging, name=view.buffer.name)
    return View(substitute, view.dtype, view.shape, view.strides, view.offset), moved


__all__ = ["Choice", "Tracer", "call_op", "choices", "choose", "describe", "infer", "launch", "run_call"]
