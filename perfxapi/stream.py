"""Streams (ordered work on a device) and events (points in them)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from perfxapi.device import Device


@runtime_checkable
class Event(Protocol):
    """A point in a stream."""

    def is_complete(self) -> bool:
        """Whether all work before the event is done."""

    def wait(self) -> None:
        """Blocks until it is."""


@runtime_checkable
class Stream(Protocol):
    """Work on one device that happens in the order it was given (OpenCL calls it a queue)."""

    device: Device

    def record(self) -> Event:
        """An event that completes when all work given so far is done."""

    def synchronize(self) -> None:
        """Blocks until all work given so far is done."""


@dataclass(frozen=True, slots=True)
class CompletedEvent:
    """The event of a device that has finished every call when it returns."""

    def is_complete(self) -> bool:
        """Always true."""
        return True

    def wait(self) -> None:
        """Returns at once."""


@dataclass(slots=True)
class SynchronousStream:
    """The stream of a host device: each call is complete when it returns."""

    device: Device
    num_recorded: int = field(default=0)

    def record(self) -> Event:
        """An event that is complete already."""
        self.num_recorded += 1
        return CompletedEvent()

    def synchronize(self) -> None:
        """Returns at once."""
