"""Which device is asked for, and what happens when it, or an operator on it, cannot be had: one policy for all."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from typing import get_args

from perfxapi.backend import REGISTRY
from perfxapi.device import Device, parse_device_name
from perfxapi.errors import DeviceUnavailableError, FallbackWarning, InvalidArgumentError, UnknownNameError
from perfxapi.ledger import LEDGER
from perfxapi.settings import FallbackPolicy, settings

KNOWN_KINDS = {
    "cpu": "perfxapi-backend-cpu",
    "riscv": "perfxapi-backend-riscv",
    "opencl": "perfxapi-backend-opencl",
    "cuda": "perfxapi-backend-cuda",
    "hip": "perfxapi-backend-hip",
}
"""Kinds of device that some distribution serves, installed or not."""

_device: ContextVar[str | Device | None] = ContextVar("perfxapi_device", default=None)
_scope: ContextVar[object] = ContextVar("perfxapi_device_scope", default=None)
_fallback: ContextVar[FallbackPolicy | None] = ContextVar("perfxapi_fallback", default=None)
_warned: set[tuple[str, str, str]] = set()
_SIZES = re.compile(r"\[[\d, ]*\]")


def fallback_policy() -> FallbackPolicy:
    """The policy in force here: a context's, else the setting's."""
    return _fallback.get() or settings().fallback


def requested_device() -> str | Device:
    """The device in force here: a context's, else the setting's; may be "auto"."""
    return _device.get() or settings().device


def device_scope() -> object:
    """What tells the innermost context that names a device from others; None outside of all."""
    return _scope.get()


def is_forced(device: Device) -> bool:
    """Whether the user named a device here, rather than leaving the choice to "auto"."""
    return requested_device() != "auto" or device != _best_device()


@contextlib.contextmanager
def use_device(device: str | Device | None = None, *, fallback: FallbackPolicy | None = None) -> Iterator[Device]:
    """Within the context, new arrays live on `device` and `fallback` ("allow", "warn" or "error") is the policy."""
    if fallback is not None and fallback not in get_args(FallbackPolicy):
        raise InvalidArgumentError(f'fallback must be "allow", "warn" or "error"; got {fallback!r}')
    fallback_token = _fallback.set(fallback or _fallback.get())
    device_token = _device.set(device or _device.get())
    scope_token = _scope.set(object() if device else _scope.get())
    try:
        yield get_device()
    finally:
        _scope.reset(scope_token)
        _device.reset(device_token)
        _fallback.reset(fallback_token)


def get_device(device: str | Device | None = None) -> Device:
    """The device to use for a request: a Device, a name, "auto", or None for the one in force here.

    A known kind of device that this machine lacks follows the fallback policy. A name that nothing answers to raises
    UnknownNameError.
    """
    asked = device or requested_device()
    if isinstance(asked, Device):
        return _unless_lost(asked)
    if asked == "auto":
        return _automatic_device()
    kind, index = parse_device_name(asked)
    entries = REGISTRY.serving(kind)
    for entry in entries:
        if REGISTRY.load(entry):
            found = [known for known in entry.device_list if known.kind == kind and known.index == index]
            if found:
                return _unless_lost(found[0])
    return _unavailable(asked, *_why_unavailable(asked, kind, index))


def all_devices() -> list[Device]:
    """Every usable device, in the order in which "auto" prefers them."""
    return [device for entry in REGISTRY.usable() for device in entry.device_list]


def _best_device() -> Device:
    return REGISTRY.working_devices(REGISTRY.best())[0]


def _unless_lost(device: Device) -> Device:
    REGISTRY.of_device(device)
    lost = REGISTRY.lost(device)
    return _unavailable(str(device), lost, "start a new process") if lost else device


def _automatic_device() -> Device:
    """The best device. Where that is a last resort (the reference), the policy has a say."""
    device = _best_device()
    if REGISTRY.of_device(device).manifest.priority >= 0:
        return device
    return _unavailable("auto", *_why_unavailable("cpu", "cpu", 0))


def _why_unavailable(asked: str, kind: str, index: int) -> tuple[str, str]:
    """Why there is no such device, and the command that mends it. Raises UnknownNameError for a kind nobody knows."""
    entries = REGISTRY.serving(kind)
    if entries and entries[0].problem:
        return entries[0].problem, entries[0].manifest.mend or "perfxapi backends --verbose"
    if entries:
        return f"there is no {kind} device number {index}", "perfxapi devices"
    if kind in REGISTRY.failures:
        return REGISTRY.failures[kind], "perfxapi backends --verbose"
    if kind in KNOWN_KINDS:
        return f"no backend for {kind!r} is installed", f"pip install {KNOWN_KINDS[kind]}"
    known = {*KNOWN_KINDS, "auto", *(k for entry in REGISTRY.entries() for k in entry.manifest.kinds)}
    raise UnknownNameError("device", asked, sorted(known))


def _unavailable(asked: str, reason: str, mend: str) -> Device:
    """What to use in the place of a device that cannot be had, if the policy allows it."""
    substitute = _best_device()
    message = f"{reason}; to mend it: {mend}"
    refuse_fallback(asked, message, error=DeviceUnavailableError)
    warn_of_fallback(asked, str(substitute), message)
    LEDGER.record_device(asked, str(substitute), reason)
    return substitute


def refuse_fallback(wanted: str, reason: str, *, error: type[Exception]) -> None:
    """Raises `error` where the policy is "error"."""
    if fallback_policy() == "error":
        raise error(f"device {wanted!r}: {reason}")


def warn_of_fallback(wanted: str, used: str, reason: str) -> None:
    """Warns where the policy is "warn", once for each cause; sizes in square brackets do not make another cause."""
    cause = (wanted, used, _SIZES.sub("[]", reason))
    if fallback_policy() == "warn" and cause not in _warned:
        _warned.add(cause)
        warnings.warn(f"device {wanted!r}: {reason}. The work runs on {used}.", FallbackWarning, stacklevel=4)
