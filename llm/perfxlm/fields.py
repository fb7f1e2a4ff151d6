"""Typed, bounded reading of untrusted configuration: the metadata of a GGUF file, or a decoded config.json."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from perfxapi.errors import PerfXError


class ConfigError(PerfXError, ValueError):
    """A configuration lacks a field or holds a value that cannot be. Names the source, the field and the value."""

    def __init__(self, source: str, field: str, problem: str) -> None:
        self.source, self.field, self.problem = source, field, problem
        super().__init__(f"{source}: {field}: {problem}")


class UnsupportedModelError(ConfigError):
    """A valid model that asks for something PerfXLM does not compute. Refused, since the results would be wrong."""


class Fields:
    """The values of a configuration, read one by one and checked as they are read. JSON's null counts as absent.

    `prefix` is put before every key ("gemma3." in GGUF metadata). Every method raises ConfigError naming the key:
    where a key is absent and no default is given, where the type is wrong, and where the value is out of bounds.
    """

    def __init__(self, values: Mapping[str, Any], source: str, prefix: str = "") -> None:
        self.values, self.source, self.prefix = values, source, prefix

    def __contains__(self, key: str) -> bool:
        return self.values.get(self.prefix + key) is not None

    def error(self, key: str, problem: str) -> ConfigError:
        """A ConfigError about `key`."""
        return ConfigError(self.source, self.prefix + key, problem)

    def unsupported(self, key: str, problem: str) -> UnsupportedModelError:
        """An UnsupportedModelError about `key`."""
        return UnsupportedModelError(self.source, self.prefix + key, problem)

    def value(self, key: str, default: Any = None) -> Any:
        """The raw value, or the default."""
        found = self.values.get(self.prefix + key)
        if found is None:
            found = default
        if found is None:
            raise self.error(key, "the field is missing")
        return found

    def integer(self, key: str, default: int | None = None, *, low: int = 1, high: int) -> int:
        """An integer in [low, high]."""
        return self._check_integer(key, self.value(key, default), low, high)

    def uniform_integer(self, key: str, default: int | None = None, *, low: int = 1, high: int) -> int:
        """An integer, or an array of integers (one per layer) that are all the same."""
        value = self.value(key, default)
        if not isinstance(value, np.ndarray):
            return self._check_integer(key, value, low, high)
        distinct = sorted({self._check_integer(key, each, low, high) for each in np.unique(value).tolist()})
        if len(distinct) != 1:
            raise self.unsupported(key, f"layers of different sizes are not supported; got {distinct[:8]}")
        return distinct[0]

    def number(self, key: str, default: float | None = None, *, low: float = 0.0, high: float = math.inf) -> float:
        """A finite number in [low, high]."""
        value = self.value(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(key, f"a number is expected; got {_show(value)}")
        if not low <= value <= min(high, sys.float_info.max):
            raise self.error(key, f"a finite number from {low:g} to {high:g} is expected; got {_show(value)}")
        return float(value)

    def flag(self, key: str, default: bool | None = None) -> bool:
        """A boolean."""
        value = self.value(key, default)
        if not isinstance(value, bool):
            raise self.error(key, f"true or false is expected; got {_show(value)}")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """A string."""
        value = self.value(key, default)
        if not isinstance(value, str):
            raise self.error(key, f"a string is expected; got {_show(value)}")
        return value

    def texts(self, key: str, count: int) -> list[str]:
        """A list of exactly `count` strings."""
        value = self.value(key)
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self.error(key, f"a list of strings is expected; got {_show(value)}")
        if len(value) != count:
            raise self.error(key, f"{count} entries are expected; got {len(value)}")
        return value

    def child(self, key: str) -> Fields:
        """The fields of a nested object; empty where the key is absent."""
        value = self.values.get(self.prefix + key)
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            raise self.error(key, f"an object is expected; got {_show(value)}")
        return Fields(value, f"{self.source}: {self.prefix}{key}")

    def require_absent(self, *keys: str) -> None:
        """Raises UnsupportedModelError where one of `keys` is set to anything but null, false, zero or nothing."""
        for key in keys:
            value = self.values.get(self.prefix + key)
            if value:
                raise self.unsupported(key, f"{_show(value)} is not supported")

    def require_choice(self, key: str, default: str, *choices: str) -> str:
        """A string out of `choices`; another raises UnsupportedModelError."""
        value = self.text(key, default)
        if value not in choices:
            raise self.unsupported(key, f"{_show(value)} is not supported; supported: {', '.join(choices)}")
        return value

    def _check_integer(self, key: str, value: Any, low: int, high: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(key, f"an integer is expected; got {_show(value)}")
        if not low <= value <= high:
            raise self.error(key, f"an integer from {low} to {high} is expected; got {_show(value)}")
        return value


def _show(value: Any) -> str:
    """A short rendering of an untrusted value."""
    text = hex(value) if isinstance(value, int) and abs(value) >> 64 else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
