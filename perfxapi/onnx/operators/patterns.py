"""Regular expressions from files nobody vouches for: matched in time that grows as the text's length.

Python's own matcher goes back and tries again, which takes years for (a+)+ and the like. Here all ways are followed at
once, character by character (Thompson, Regular expression search algorithm, 1968).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from re import _compiler, _parser  # type: ignore[attr-defined]
from typing import Any

from perfxapi.errors import InvalidArgumentError

_MAX_LENGTH = 1000
_MAX_STATES = 10_000
_CHARACTERS = {"LITERAL", "NOT_LITERAL", "ANY", "IN"}
_REPEATS = {"MAX_REPEAT", "MIN_REPEAT"}


@dataclass(slots=True)
class _State:
    """A point between parts of a pattern: to go on from it `atom` (a character, or a place such as a word's end) must
    match where there is one.
    """

    atom: re.Pattern[str] | None
    targets: list[int]


class Pattern:
    """A regular expression. Raises InvalidArgumentError for what is none, is too large, or is not RE2's."""

    def __init__(self, text: str) -> None:
        if len(text) > _MAX_LENGTH:
            raise InvalidArgumentError(f"a pattern of {len(text)} characters is longer than {_MAX_LENGTH}")
        self._text = text
        self._states = [_State(None, [])]
        try:
            self._start = self._build(_parser.parse(text), 0, 0)
        except (re.error, RecursionError, OverflowError) as error:
            raise InvalidArgumentError(f"the pattern {text!r} is no regular expression: {error}") from error

    def matches(self, string: str) -> bool:
        """Whether all of a string matches."""
        active = {self._start}
        for place in range(len(string) + 1):
            reached, active = self._followed(active, string, place)
            if not active:
                break
        return place == len(string) and 0 in reached

    def _followed(self, active: set[int], string: str, place: int) -> tuple[set[int], set[int]]:
        """All states at a place of the string, and those that its next character leads to."""
        reached, ahead, waiting = set(active), set(), list(active)
        while waiting:
            state = self._states[waiting.pop()]
            match = state.atom.match(string, place) if state.atom is not None else None
            if state.atom is not None and match is None:
                continue
            if match is not None and match.end() > place:
                ahead.update(state.targets)
                continue
            waiting.extend(target for target in state.targets if target not in reached)
            reached.update(state.targets)
        return reached, ahead

    # ---- from a parsed pattern to states, from the end on

    def _added(self, atom: re.Pattern[str] | None, *targets: int) -> int:
        if len(self._states) >= _MAX_STATES:
            raise InvalidArgumentError(f"the pattern {self._text!r} is too large: its repeats multiply")
        self._states.append(_State(atom, list(targets)))
        return len(self._states) - 1

    def _build(self, parsed: Any, flags: int, after: int) -> int:
        """The first state of parts in a row that are followed by the state `after`."""
        for code, argument in reversed(parsed):
            after = self._part(str(code), argument, parsed.state, flags | parsed.state.flags, after)
        return after

    def _part(self, name: str, argument: Any, state: Any, flags: int, after: int) -> int:
        if name in _CHARACTERS or name == "AT":
            atom = _parser.SubPattern(state, [(getattr(_parser, name), argument)])
            return self._added(_compiler.compile(atom, flags), after)
        if name == "BRANCH":
            return self._added(None, *(self._build(way, flags, after) for way in argument[1]))
        if name == "SUBPATTERN":
            _, added, removed, inner = argument
            return self._build(inner, (flags | added) & ~removed, after)
        if name in _REPEATS:
            return self._repeat(argument, flags, after)
        raise InvalidArgumentError(f"the pattern {self._text!r} has a {name.lower()}, which RE2 has not")

    def _repeat(self, argument: Any, flags: int, after: int) -> int:
        least, most, inner = argument
        first = after
        if most == _parser.MAXREPEAT:
            first = self._added(None, after)
            self._states[first].targets.append(self._build(inner, flags, first))
        else:
            for _ in range(most - least):
                first = self._added(None, self._build(inner, flags, first), after)
        for _ in range(least):
            before, first = first, self._build(inner, flags, first)
            if first == before:  # the part is empty
                break
        return first
