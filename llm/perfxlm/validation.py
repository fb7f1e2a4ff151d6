"""Checks of user input, shared by everything that takes parameters.

Each raises InvalidArgumentError naming the parameter.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable
from typing import Any

from perfxapi.errors import InvalidArgumentError

_INT64_LIMIT = 2**63
_SHOWN_CHARACTERS = 60


def shown(value: object) -> str:
    """`repr`, shortened: error messages must not repeat a megabyte of input."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."


def check_int(name: str, value: Any, low: int, high: int = _INT64_LIMIT - 1) -> int:
    """`value` as an int within [low, high]; bools and floats are refused."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise InvalidArgumentError(f"{name} must be an integer; got {shown(value)}")
    number = int(value)
    if not low <= number <= high:
        upper = f" and at most {high}" if high < _INT64_LIMIT - 1 else ""
        raise InvalidArgumentError(f"{name} must be at least {low}{upper}; got {shown(value)}")
    return number


def check_optional_int(name: str, value: Any, low: int, high: int = _INT64_LIMIT - 1) -> int | None:
    """`check_int`, with None passed through."""
    return None if value is None else check_int(name, value, low, high)


def check_float(name: str, value: Any, low: float, high: float = math.inf, *, open_low: bool = False) -> float:
    """`value` as a finite float within [low, high], or (low, high] with `open_low`; bools are refused."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InvalidArgumentError(f"{name} must be a number; got {shown(value)}")
    number = float(value)
    if not math.isfinite(number) or not low <= number <= high or (open_low and number == low):
        lower = f"above {low:g}" if open_low else f"at least {low:g}"
        upper = f" and at most {high:g}" if math.isfinite(high) else ""
        raise InvalidArgumentError(f"{name} must be finite, {lower}{upper}; got {shown(value)}")
    return number


def check_bool(name: str, value: Any) -> bool:
    """`value` if it is a bool."""
    if not isinstance(value, bool):
        raise InvalidArgumentError(f"{name} must be True or False; got {shown(value)}")
    return value


def check_strings(name: str, value: Any, max_items: int, max_characters: int) -> list[str]:
    """None, one string or several as a list of non-empty strings within the limits."""
    items = _as_list(name, [value] if isinstance(value, str) else value, max_items)
    for item in items:
        if not isinstance(item, str) or not item:
            raise InvalidArgumentError(f"{name} must hold non-empty strings; got {shown(item)}")
        if len(item) > max_characters:
            raise InvalidArgumentError(f"{name}: a string of {len(item)} characters is longer than {max_characters}")
    return items


def check_token_ids(name: str, value: Any, max_items: int) -> list[int]:
    """None or several token ids as a list of non-negative ints; the vocabulary is checked elsewhere."""
    return [check_int(name, item, 0, 2**31 - 1) for item in _as_list(name, value, max_items)]


def _as_list(name: str, value: Any, max_items: int) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, str | bytes | dict) or not isinstance(value, Iterable):
        raise InvalidArgumentError(f"{name} must be a list; got {shown(value)}")
    items: list[Any] = []
    for item in value:
        if len(items) == max_items:
            raise InvalidArgumentError(f"{name} has more than {max_items} entries")
        items.append(item)
    return items
