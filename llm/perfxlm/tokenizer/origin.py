"""Text that knows who wrote each of its characters, so that a user's words never pass for a chat template's.

A template's literals are plain `str`. Text of messages is `OriginText`, a `str` with one byte per character; operations
that templates use carry the bytes along, and `settle` marks what any other operation made of such text as a whole. So
a mistake here can only take trust away.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, SupportsIndex

TEMPLATE: Final = 0
"""Written by the template's author."""
MESSAGE: Final = 1
"""Written by a user, a tool or the model."""
FINAL_MESSAGE: Final = 2
"""MESSAGE, in the last message of the conversation."""

_NUMBERS = (int, float, type(None))


class OriginText(str):
    """A string with the origin of each character."""

    _origins: bytes

    def __new__(cls, text: str, origins: bytes) -> OriginText:
        """text: any string; origins: TEMPLATE, MESSAGE or FINAL_MESSAGE for each of its characters."""
        made = super().__new__(cls, text)
        made._origins = origins
        return made

    def __str__(self) -> str:
        return self

    def __add__(self, other: str) -> str:
        return join("", (self, other))

    def __radd__(self, other: str) -> str:
        return join("", (other, self))

    def __mul__(self, count: SupportsIndex) -> str:
        return OriginText(str.__mul__(self, count), self._origins * count)

    __rmul__ = __mul__

    def __getitem__(self, key: SupportsIndex | slice) -> str:
        found = str.__getitem__(self, key)
        if isinstance(key, slice):
            return OriginText(found, self._origins[key])
        return OriginText(found, bytes([self._origins[key]]))

    def __iter__(self) -> Iterator[str]:
        return (
            OriginText(character, bytes([origin]))
            for character, origin in zip(str.__iter__(self), self._origins, strict=True)
        )

    def lstrip(self, chars: str | None = None, /) -> str:
        """As for str."""
        return self[len(self) - len(str.lstrip(self, chars)) :]

    def rstrip(self, chars: str | None = None, /) -> str:
        """As for str."""
        return self[: len(str.rstrip(self, chars))]

    def strip(self, chars: str | None = None, /) -> str:
        """As for str."""
        return self.rstrip(chars).lstrip(chars)

    def removeprefix(self, prefix: str, /) -> str:
        """As for str."""
        return self[len(prefix) :] if self.startswith(prefix) else self

    def removesuffix(self, suffix: str, /) -> str:
        """As for str."""
        return self[: len(self) - len(suffix)] if suffix and self.endswith(suffix) else self

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        """As for str."""
        return self._located(str.split(self, sep, maxsplit), len(sep or ""))

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        """As for str."""
        return self._located(str.rsplit(self, sep, maxsplit), len(sep or ""))

    def splitlines(self, keepends: bool = False) -> list[str]:
        """As for str."""
        return self._located(str.splitlines(self, keepends), 0)

    def partition(self, sep: str, /) -> tuple[str, str, str]:
        """As for str."""
        before, found, after = self._located(list(str.partition(self, sep)), 0)
        return before, found, after

    def rpartition(self, sep: str, /) -> tuple[str, str, str]:
        """As for str."""
        before, found, after = self._located(list(str.rpartition(self, sep)), 0)
        return before, found, after

    def replace(self, old: str, new: str, count: SupportsIndex = -1, /) -> str:
        """As for str. What is put in keeps its own origin."""
        if not old:
            return mark(str.replace(self, old, new, count), max(self._origins, default=TEMPLATE))
        return join(new, self.split(old, count))

    def join(self, parts: Iterable[str], /) -> str:
        """As for str."""
        return join(self, parts)

    def upper(self) -> str:
        """As for str."""
        return self._recased(str.upper(self))

    def lower(self) -> str:
        """As for str."""
        return self._recased(str.lower(self))

    def _recased(self, text: str) -> str:
        same_length = len(text) == len(self)
        return OriginText(text, self._origins) if same_length else mark(text, max(self._origins))

    def _located(self, parts: list[str], gap: int) -> list[str]:
        """Parts that stand in this text one after the other, `gap` characters apart (0: apart by unknown much)."""
        located: list[str] = []
        position = 0
        for part in parts:
            position = self.index(part, position)
            located.append(self[position : position + len(part)])
            position += len(part) + gap
        return located


def origins_of(text: str) -> bytes:
    """The origin of each character. A string of an unknown kind is not trusted."""
    if isinstance(text, OriginText):
        return text._origins
    return bytes(len(text)) if type(text) is str else bytes([MESSAGE]) * len(text)


def mark(text: str, origin: int) -> str:
    """`text` with one origin throughout."""
    return OriginText(text, bytes([origin]) * len(text)) if origin != TEMPLATE else str.__str__(text)


def join(separator: str, parts: Iterable[str]) -> str:
    """`separator.join(parts)`, every character with its origin."""
    parts = list(parts)
    text = str.join(separator, parts)
    if type(separator) is str and all(type(part) is str for part in parts):
        return text
    return OriginText(text, origins_of(separator).join(map(origins_of, parts)))


def origin_in(value: Any) -> int:
    """The least trusted origin inside a value. An object that cannot be looked into is not trusted."""
    if isinstance(value, OriginText):
        return max(value._origins, default=TEMPLATE)
    if type(value) is str or isinstance(value, _NUMBERS):
        return TEMPLATE
    if isinstance(value, Mapping):
        return max(max(origin_in(key), origin_in(item)) for key, item in value.items()) if value else TEMPLATE
    if isinstance(value, list | tuple):
        return max(map(origin_in, value), default=TEMPLATE)
    return MESSAGE


def settle(result: Any, *sources: Any) -> Any:
    """The result of an operation on `sources` that is not known to keep origins: new text takes their least trusted."""
    if isinstance(result, OriginText) or not isinstance(result, str | list | tuple):
        return result
    origin = origin_in(sources)
    if origin == TEMPLATE:
        return result
    if isinstance(result, str):
        return mark(result, origin)
    return type(result)([mark(item, origin) if type(item) is str else item for item in result])


def mark_values(value: Any, origin: int) -> Any:
    """A copy of a JSON-like value in which every string, keys too, has this origin.

    Raises TypeError for anything else, which a template could call methods of.
    """
    if isinstance(value, str):
        return mark(value, origin)
    if isinstance(value, Mapping):
        return {mark_values(key, origin): mark_values(item, origin) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [mark_values(item, origin) for item in value]
    if isinstance(value, _NUMBERS):
        return value
    raise TypeError(f"{type(value).__name__} is none")
