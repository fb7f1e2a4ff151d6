"""From an op call to a kernel: one dict lookup when it is known, the candidates' `accepts` when it is not.

The chain of candidates for a device: kernels that joined its memory space with a higher priority than its backend's,
the device's own backend, then every other usable backend by priority; the reference accepts everything. Running
anywhere but on the device is a fallback: counted in the ledger with its reason and the bytes it moved, and subject to
the one policy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any, Protocol, TypeAlias

from perfxapi.backend import REGISTRY, BackendEntry, Kernel, OpCall, SmallKernel
from perfxapi.device import Device
from perfxapi.errors import DeviceLostError, FallbackError, InvalidArgumentError, PerfXError
from perfxapi.ledger import LEDGER, LedgerRow
from perfxapi.memory import HOST, Buffer, Range, View, check_addressable
from perfxapi.ops.spec import OpSpec, TensorSpec, op_spec
from perfxapi.policy import fallback_policy, is_forced, refuse_fallback, warn_of_fallback
from perfxapi.settings import settings
from perfxapi.tuning import TUNER, is_worth_measuring

_MAX_CACHED = 8192


class Choice:
    """A kernel chosen for a call: whose it is, where it runs, and why not where it was asked to (empty: it does)."""

    __slots__ = ("backend", "device", "kernel", "reason", "row")

    def __init__(self, kernel: Kernel, backend: str, device: Device, reason: str, row: LedgerRow) -> None:
        self.kernel, self.backend, self.device, self.reason, self.row = kernel, backend, device, reason, row


class Tracer(Protocol):
    """A target of dispatch that records calls instead of running them."""

    def record(self, spec: OpSpec, inputs: Sequence[View], attributes: Mapping[str, Any]) -> tuple[View, ...]:
        """Adds a node; returns views of its results."""


_choices: dict[Any, Choice] = {}
_made_for: tuple[Any, ...] = ()
Failures: TypeAlias = dict[Kernel, Exception]
"""Kernels that were tried in vain, and what they raised."""
_Staged: TypeAlias = dict[int, tuple[View, Any, list[Range]]]
"""By operand, state that was staged on the host: its view, the host's bytes, the ranges that they hold."""


def describe(view: View) -> TensorSpec:
    """The spec of a view."""
    return TensorSpec(view.shape, view.dtype)


def infer(spec: OpSpec, inputs: Sequence[View], attributes: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    """The specs of an op's results. Raises InvalidArgumentError where the inputs do not fit."""
    spec.check_inputs(len(inputs))
    return spec.infer([describe(view) for view in inputs], attributes)


# ---- choosing


def _chain(device: Device) -> Iterator[tuple[BackendEntry, Device]]:
    """Backends in the order in which they are asked, and the device that each would run on. Loads them one by one."""
    own = REGISTRY.of_device(device)
    entries = REGISTRY.entries()
    before = [e for e in entries if e.manifest.joins and e.manifest.priority > own.manifest.priority]
    first = [entry for entry in before if entry.manifest.serves(device)]
    rest = [entry for entry in entries if entry is not own and entry not in first]
    if device.memory_space == HOST:  # nothing leaves the host's memory: the reference there takes every call
        rest = [entry for entry in rest if entry.manifest.works_on_host]
    for entry in [*first, own, *rest]:
        if not REGISTRY.load(entry):
            continue
        if entry is own or entry.manifest.serves(device):
            yield entry, device
        elif entry.manifest.joins:
            yield from ((entry, host) for host in REGISTRY.devices_served(entry.manifest)[:1])
        else:
            yield from ((entry, working) for working in REGISTRY.working_devices(entry)[:1])


def candidates(op: str, device: Device) -> Iterator[tuple[Kernel | None, BackendEntry, Device, str]]:
    """(kernel, whose, device it runs on, problem) along the chain; a backend without a usable kernel gives None."""
    disabled = settings().disable_kernels
    for entry, runs_on in _chain(device):
        name = entry.manifest.name
        if lost := REGISTRY.lost(runs_on):
            yield None, entry, runs_on, lost
        elif f"{name}:{op}" in disabled or f"{name}:*" in disabled:
            yield None, entry, runs_on, f"{name}:{op} is disabled by PERFXAPI_DISABLE_KERNELS"
        else:
            kernels = entry.backend.kernels_on(runs_on, op) if entry.backend else ()
            if not kernels:
                yield None, entry, runs_on, f"{name} has no kernel for {op}"
            for kernel in kernels:
                yield kernel, entry, runs_on, ""


def choices(call: OpCall, device: Device, failed: Failures | None = None) -> Iterator[Choice]:
    """Every kernel that accepts the call, in order, each with the reasons of those before it.

    `failed` are kernels that were tried in vain. A kernel that runs on the device itself is no fallback, unless
    another one failed. Raises InvalidArgumentError where a result fits no memory.
    """
    for view in call.outputs:
        check_addressable(call.op, view.shape, view.dtype)
    reasons: list[str] = []
    failures = failed or {}
    for kernel, entry, runs_on, problem in candidates(call.op, device):
        refusal: str | None = problem
        if kernel is not None:
            refusal = describe_failure(failures.get(kernel)) or _foreign_state(call, runs_on) or kernel.accepts(call)
        if kernel is None or refusal:
            if kernel is not None or not entry.manifest.joins or _has_kernel(entry, call.op):
                reasons.append(str(refusal))
            continue
        reason = "; ".join(reasons) if runs_on != device or failures else ""
        ran_on = f"{entry.manifest.name} on {runs_on}" if entry.manifest.joins else str(runs_on)
        if label := getattr(kernel, "label", ""):
            ran_on += f" ({label})"
        row = LEDGER.row(call.op, str(device), ran_on, reason)
        yield Choice(kernel, entry.manifest.name, runs_on, reason, row)


def _has_kernel(entry: BackendEntry, op: str) -> bool:
    """Whether a backend has kernels for an op; they are not made for it."""
    return entry.backend is not None and op in entry.backend.kernel_ops()


def _foreign_state(call: OpCall, runs_on: Device) -> str:
    """Why a device cannot take part in the state of a call: ranges of it are staged on the host, and nowhere else."""
    space = runs_on.memory_space
    homes = {view.buffer.home for view in call.inputs if view.buffer.home not in (None, space)}
    return f"state of {call.op} lives in {', '.join(sorted(homes))}" if homes and space != HOST else ""


def choose(call: OpCall, device: Device, failed: Failures | None = None) -> Choice:
    """The first kernel that accepts the call.

    Raises FallbackError (DeviceLostError after a loss) where the policy forbids what it takes, the last of the failures
    where every kernel has failed.
    """
    choice = next(choices(call, device, failed), None)
    if choice is None:
        raise list((failed or {}).values())[-1]
    if choice.reason:
        lost = any(isinstance(failure, DeviceLostError) for failure in (failed or {}).values())
        refuse_fallback(str(device), f"{call.op}: {choice.reason}", error=DeviceLostError if lost else FallbackError)
        if not failed and is_forced(device):
            _warn(call.op, device, choice)
    return choice


def describe_failure(error: Exception | None) -> str:
    """What to say of a kernel that failed; an empty string for None."""
    if error is None:
        return ""
    return str(error) if isinstance(error, PerfXError) else f"{type(error).__name__}: {error}"


def _warn(op: str, device: Device, choice: Choice) -> None:
    warn_of_fallback(str(device), str(choice.device), f"{op}: {choice.reason}")


def _signature(view: View) -> tuple[Any, ...]:
    return view.dtype.code, view.shape, view.strides, view.buffer.constant, view.buffer.home


def cached_choice(call: OpCall, device: Device) -> Choice:
    """`choose`, remembered for calls of the same signature in the same circumstances."""
    global _made_for
    circumstances = REGISTRY.generation, settings()
    if _made_for != circumstances or len(_choices) > _MAX_CACHED:
        _choices.clear()
        _made_for = circumstances
    key = (
        call.op,
        device,
        tuple(map(_signature, call.inputs)),
        tuple(call.attributes.values()),
        fallback_policy(),
    )
    choice = _choices.get(key)
    if choice is None:
        choice = _choices[key] = _tuned(call, device, choose(call, device))
    return choice


def _tuned(call: OpCall, device: Device, first: Choice) -> Choice:
    """The quickest of the kernels that the first choice's backend offers for a call on its operands.

    A small call that the first choice runs without dispatch is its own: describing the call would take longer.
    """
    entry = next((entry for entry in REGISTRY.entries() if entry.manifest.name == first.backend), None)
    if entry is None or entry.backend is None or len(entry.backend.kernels_on(first.device, call.op)) < 2:
        return first
    if first.reason or not is_worth_measuring(op_spec(call.op), call):
        return first
    if isinstance(first.kernel, SmallKernel) and first.kernel.launcher(call) is not None:
        return first
    rivals = {c.kernel: c for c in takewhile(lambda choice: choice.backend == first.backend, choices(call, device))}
    backend, where, space = entry.backend, first.device, first.device.memory_space
    for view in call.inputs:
        view.buffer.readable(space)
    for view in call.outputs:
        view.buffer.overwrite(space)
    circumstances = f"{where.description} {backend.circumstances()}"
    return rivals[TUNER.quickest(list(rivals), call, circumstances, lambda: backend.finish(where))]


# ---- running


def call_op(
    spec: OpSpec, inputs: Sequence[View], attributes: Mapping[str, Any], device: Device
) -> tuple[tuple[View, ...], Device]:
    """Runs an op on concrete views. Returns the results and where they are: on `device`, unless it was lost."""
    checked = spec.check_attributes(attributes)
    specs = infer(spec, inputs, checked)
    call = OpCall(spec.name, tuple(inputs), tuple(_new_output(result, spec.name) for result in specs), checked)
    choice = run_call(spec, call, device, cached_choice(call, device))
    return call.outputs, choice.device if REGISTRY.lost(device) else device


def _new_output(spec: TensorSpec, name: str) -> View:
    view = View(None, spec.dtype, spec.shape)
    view.buffer = Buffer(view.nbytes, name=name)
    return view


def run_call(
    spec: OpSpec,
    call: OpCall,
    device: Device,
    choice: Choice,
    failed: Failures | None = None,
    space: str | None = None,
) -> Choice:
    """Runs a call by the kernel chosen for it; where that fails, by the next. Returns the choice that did it.

    `failed` are kernels that were tried before; `space` is where the results are wanted (None: on the device, unless it
    is lost). Raises FallbackError where the policy forbids to go on, DeviceLostError where operands are lost, and what
    the last kernel raised where none is left.
    """
    failures = failed or {}
    while failure := attempt(spec, call, device, choice, space):
        failures[choice.kernel] = failure
        choice = choose(call, device, failures)
    if failures:
        _warn(call.op, device, choice)
    return choice


def note_loss(error: DeviceLostError, device: Device) -> None:
    """Takes a lost device out of use: those on the memory that the error names, else the one that was at work."""
    known = [one for entry in REGISTRY.entries() if entry.backend is not None for one in entry.device_list]
    for lost in [one for one in known if one.memory_space == error.space] if error.space else [device]:
        if not REGISTRY.lost(lost):
            REGISTRY.mark_lost(lost, str(error))


def attempt(spec: OpSpec, call: OpCall, device: Device, choice: Choice, space: str | None = None) -> Exception | None:
    """Launches and counts. Returns what the kernel raised; the operands are then as they were before.

    InvalidArgumentError (the operands are wrong, whoever computes) and the loss of operands are raised.
    """
    valid = [(view.buffer, view.buffer.valid_spaces) for view in (*call.inputs, *call.outputs)]
    try:
        launched, moved, staged = _stage(spec, call, choice.device.memory_space)
        choice.kernel.launch(launched)
    except Exception as error:  # a stranger's kernel may raise anything; the next in the chain takes over
        for buffer, spaces in valid:
            buffer.restore(spaces)
        if isinstance(error, DeviceLostError):
            note_loss(error, choice.device)
        if isinstance(error, InvalidArgumentError) or _lost_operands(error, choice):
            raise
        return error
    try:
        choice.row.bytes_moved += moved + _bring_home(spec, call, staged, space or _space_of(device))
    except DeviceLostError as error:
        note_loss(error, choice.device)
        raise
    choice.row.count += 1
    return None


def _lost_operands(error: Exception, choice: Choice) -> bool:
    """Whether memory that operands lie in is lost, and it is not that of the device which was to compute."""
    return isinstance(error, DeviceLostError) and error.space not in ("", choice.device.memory_space)


def _space_of(device: Device) -> str | None:
    """The memory in which results of calls for a device are expected; None where it is lost: they stay."""
    return None if REGISTRY.lost(device) else device.memory_space


def _bring_home(spec: OpSpec, call: OpCall, staged: _Staged, space: str | None) -> int:
    """After a launch: writes state back, makes results valid in `space`. Returns how many bytes were moved."""
    moved = 0
    for index, (view, staging, ranges) in staged.items():
        if index in spec.mutates:
            moved += view.buffer.store(staging, ranges)
    if space is not None:
        moved += sum(view.buffer.validate(space) for view in call.outputs)
    return moved


def _stage(spec: OpSpec, call: OpCall, space: str) -> tuple[OpCall, int, _Staged]:
    """The call with every operand valid in `space`, the bytes moved for it, and the state staged on the host."""
    moved = 0
    staged: _Staged = {}
    views = list(call.inputs)
    for index, view in enumerate(views):
        if view.buffer.home is not None and view.buffer.home != space:
            ranges = _state_ranges(spec, call, index)
            staging, cost = view.buffer.fetch(ranges)
            staged[index] = (view, staging, ranges)
            substitute = Buffer.from_host(staging, name=view.buffer.name)
            views[index] = View(substitute, view.dtype, view.shape, view.strides, view.offset)
        elif index in spec.mutates:
            cost = view.buffer.writable(space)[1]
        else:
            cost = view.buffer.validate(space)
        moved += cost
    for view in call.outputs:
        view.buffer.overwrite(space)
    return OpCall(call.op, tuple(views), call.outputs, call.attributes), moved, staged


def _state_ranges(spec: OpSpec, call: OpCall, index: int) -> list[Range]:
    """The byte ranges of a state operand that the op reads or writes: what its spec says, else what its view covers."""
    if spec.ranges is not None and index in spec.state:
        return spec.ranges(call.inputs, call.attributes)[index]
    return [call.inputs[index].extent]


__all__ = [
    "Choice",
    "Tracer",
    "attempt",
    "cached_choice",
    "call_op",
    "candidates",
    "choices",
    "choose",
    "describe",
    "describe_failure",
    "infer",
    "note_loss",
    "run_call",
]
