"""The settings of this process. Their model (`perfxapi.settings_model`) is imported on first use, not before."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from perfxapi.settings_model import Settings

FallbackPolicy = Literal["allow", "warn", "error"]
"""What happens when work cannot run where it was asked to."""

AffinityPolicy = Literal["", "none", "compact", "spread"]
"""How threads are placed on processors; empty: as is best known for the chip."""

MAX_PROCESSORS = 8192
"""As many as Linux can be built for."""


@cache
def settings() -> Settings:
    """The settings, read from the environment once; `settings.cache_clear()` makes the next call read it again."""
    from perfxapi.settings_model import read_settings

    return read_settings()


def processor_numbers(text: str) -> tuple[int, ...]:
    """The numbers in a list as Linux writes it, `0-3,8`. Raises ValueError for anything else."""
    found: list[int] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        first, dash, last = part.partition("-")
        begin, end = int(first), int(last if dash else first)
        if not 0 <= begin <= end < MAX_PROCESSORS:
            raise ValueError(f"{part} is no range of processors")
        found += range(begin, end + 1)
    return tuple(found)


def processor_list(numbers: Iterable[int]) -> str:
    """Numbers of processors as Linux writes them, `0-3,8`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def cache_folder() -> Path:
    """The folder of this user for what can be made again: perfxapi in $XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "perfxapi"
