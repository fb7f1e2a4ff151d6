"""What one rendering of a chat template may spend: work, which stands for memory too, and processor time."""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import Any

from jinja2.exceptions import TemplateRuntimeError

_CHECK_TIME_EVERY = 32
_CHECK_TIME_ABOVE = 1 << 16
_ENTRY = 8
"""Work units of a list entry; a character is one."""


class Budget:
    """Counts down. An operation is paid for before it is done, by the size of what it makes or walks through."""

    def __init__(self, work: int, seconds: float) -> None:
        """work: characters made in all, a list entry counting as 8; seconds: processor time of the thread."""
        self._work, self._seconds = work, seconds
        self._left = work
        self._deadline = time.thread_time() + seconds
        self._until_check = _CHECK_TIME_EVERY

    def spend(self, amount: int) -> None:
        """Pays for an operation. Raises TemplateRuntimeError when a limit is reached."""
        self._left -= amount + 1
        if self._left < 0:
            raise TemplateRuntimeError(f"the template makes more than the {self._work} characters it may")
        self._until_check -= 1
        if self._until_check <= 0 or amount > _CHECK_TIME_ABOVE:
            self._until_check = _CHECK_TIME_EVERY
            if time.thread_time() > self._deadline:
                raise TemplateRuntimeError(f"the template runs longer than the {self._seconds:.2f} s it may")


BUDGET: ContextVar[Budget] = ContextVar("BUDGET")
"""The budget of the rendering that runs in this context."""


def spend(amount: int = 0) -> None:
    """Pays `amount` units and one for the operation. Raises TemplateRuntimeError when a limit is reached."""
    BUDGET.get().spend(amount)


def size_of(value: Any) -> int:
    """Units of a string or container, without what is inside a container."""
    if isinstance(value, str):
        return len(value)
    return len(value) * _ENTRY if isinstance(value, list | tuple | dict) else 0


def pay(*values: Any) -> None:
    """Pays for making or reading values, without what is inside containers."""
    spend(sum(map(size_of, values)))


def pay_deep(value: Any) -> tuple[int, int]:
    """Pays for all that is inside a value, as often as it is in there; returns the number of parts and their depth.

    A list that holds the same list twice, which does so in turn, is small in memory and huge to print or compare.
    """
    budget = BUDGET.get()
    parts = deepest = 0
    stack = [(value, 1)]
    while stack:
        part, depth = stack.pop()
        parts, deepest = parts + 1, max(deepest, depth)
        budget.spend(size_of(part))
        if isinstance(part, dict):
            stack += [(item, depth + 1) for pair in part.items() for item in pair]
        elif isinstance(part, list | tuple):
            stack += [(item, depth + 1) for item in part]
    return parts, deepest
