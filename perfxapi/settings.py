"""The settings of this process. Their model (`perfxapi.settings_model`) is imported on first use, not before."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from perfxapi.settings_model import Settings

FallbackPolicy = Literal["allow", "warn", "error"]
"""What happens when work cannot run where it was asked to."""


@cache
def settings() -> Settings:
    """The settings, read from the environment once; `settings.cache_clear()` makes the next call read it again."""
    from perfxapi.settings_model import read_settings

    return read_settings()


def cache_folder() -> Path:
    """The folder of this user for what can be made again: perfxapi in $XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "perfxapi"
