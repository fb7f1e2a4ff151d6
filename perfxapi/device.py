"""Devices: values that name where work is done."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from perfxapi.errors import InvalidArgumentError

_PATTERN = re.compile(r"([a-z][a-z0-9_]*)(?::(\d+))?")


@dataclass(frozen=True, slots=True)
class Device:
    """One device of one backend, such as `cpu:0`.

    `description` is what the maker calls it; it takes no part in comparison. `memory_space` says which memory it
    computes on: devices with equal spaces share their bytes and never copy.
    """

    kind: str
    index: int = 0
    description: str = field(default="", compare=False)
    memory_space: str = field(default="host", compare=False)

    def __str__(self) -> str:
        return f"{self.kind}:{self.index}"

    def __repr__(self) -> str:
        return f"Device({str(self)!r})"


def parse_device_name(name: str) -> tuple[str, int]:
    """Splits "cpu" or "cpu:1" in kind and index. Raises InvalidArgumentError for anything else."""
    match = _PATTERN.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        raise InvalidArgumentError(f'device must look like "cpu" or "opencl:1", or be "auto"; got {name!r}')
    return match.group(1), int(match.group(2) or 0)
