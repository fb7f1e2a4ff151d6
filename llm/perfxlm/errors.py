"""Exceptions of PerfXLM, below PerfXAPI's root `PerfXError`."""

from __future__ import annotations

from perfxapi.errors import InvalidArgumentError, PerfXError


class UnsupportedFeatureError(InvalidArgumentError):
    """A known feature that is not built (yet). Names it and what to do instead."""


class UnknownModelError(PerfXError, LookupError):
    """MODEL is neither a path nor the name of an installed model package."""


class EngineStoppedError(PerfXError, RuntimeError):
    """The engine lost its device again and again, or was shut down, with requests unfinished."""
