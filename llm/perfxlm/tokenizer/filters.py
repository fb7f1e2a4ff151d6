"""The filters, tests and functions that chat templates use, paid for from a budget and careful with origins."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, NoReturn

from jinja2.environment import Environment
from jinja2.exceptions import SecurityError, TemplateRuntimeError
from jinja2.filters import FILTERS as JINJA_FILTERS
from jinja2.filters import do_indent, make_attrgetter
from jinja2.runtime import Undefined
from jinja2.tests import TESTS as JINJA_TESTS
from jinja2.utils import pass_environment
from markupsafe import escape as escape_markup

from perfxlm.tokenizer.budget import pay, pay_deep, spend
from perfxlm.tokenizer.origin import join, settle

_MAX_INDENT = 64
_PART = 32
"""Work units of handling a part of a text, on top of its characters."""

_WIDE_FIELD = re.compile(r"\d{4}|\*|\{[^{}]*\{")
"""A field width over 999, or one that is only known when the text is formatted."""

_KEEPING = (
    "abs attr count d default dictsort first float int items last length list map reject rejectattr select selectattr"
)
"""Jinja's own filters that hand on what is inside their argument, or make numbers."""
_COMPARING = "max min reverse sort unique"
"""The same, and they may look at all that is inside."""
_RECASING = "capitalize lower title upper"


def to_text(value: Any) -> str:
    """What Jinja prints for a value, with its origin."""
    if isinstance(value, str):
        return value
    if isinstance(value, Undefined):
        return str(value)
    if callable(value):
        raise SecurityError(f"printing a {type(value).__name__} is refused")
    pay_deep(value)
    text = str(value)
    pay(text)
    made: str = settle(text, value)
    return made


def check_field_widths(text: str) -> None:
    """Refuses format strings with a huge field width. Raises SecurityError."""
    if _WIDE_FIELD.search(text):
        raise SecurityError("a format with a field width over 999, or one given by another value, is refused")


def replace(text: str, old: str, new: str, count: int = -1) -> str:
    """`text.replace(old, new, count)`, paid for before it is done."""
    found = text.count(old)
    spend(len(text) + (min(found, count) if count >= 0 else found) * (len(new) + _PART))
    made: str = settle(text.replace(old, new, count), text, new)
    return made


def join_parts(separator: str, values: Iterable[Any]) -> str:
    """`separator.join(values)` with each value as text, paid for before it is done."""
    parts: list[str] = []
    for value in values:
        parts.append(to_text(value))
        spend(len(parts[-1]) + len(separator))
    return join(separator, parts)


def ticked(iterable: Iterable[Any]) -> Iterator[Any]:
    """The same items; each is paid for."""
    return _tick(iter(iterable))


def _tick(iterator: Iterator[Any]) -> Iterator[Any]:
    for item in iterator:
        spend()
        yield item


def weighed(value: Any) -> Any:
    """The same value, after all that is inside has been paid for."""
    pay_deep(value)
    return value


def raise_exception(message: str) -> NoReturn:
    """Lets a template refuse a conversation."""
    raise TemplateRuntimeError(str(message))


def strftime_now(pattern: str) -> str:
    """Today's date and time."""
    return datetime.now().strftime(str(pattern)[:256])


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON that keeps non-ASCII characters, as chat templates expect; Jinja's own escapes for HTML."""
    parts, depth = pay_deep(value)
    if indent is not None:
        spend(parts * depth * _checked_indent(indent))
    text = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    pay(text)
    made: str = settle(text, value)
    return made


def _indent(value: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    text = to_text(value)
    columns = len(width) if isinstance(width, str) else width
    spend(len(text) + (text.count("\n") + 1) * _checked_indent(columns))
    made: str = settle(do_indent(text, width, first, blank), text, width)
    return made


def _checked_indent(width: int) -> int:
    if not isinstance(width, int) or not 0 <= width <= _MAX_INDENT:
        raise SecurityError(f"an indentation of {width!r} is refused: at most {_MAX_INDENT}")
    return width


def _replace(value: Any, old: Any, new: Any, count: int | None = None) -> str:
    return replace(to_text(value), to_text(old), to_text(new), -1 if count is None else count)


@pass_environment
def _join(environment: Environment, value: Iterable[Any], d: Any = "", attribute: str | int | None = None) -> str:
    values = value if attribute is None else map(make_attrgetter(environment, attribute), value)
    return join_parts(to_text(d), values)


def _trim(value: Any, chars: str | None = None) -> str:
    text = to_text(value)
    pay(text)
    return text.strip(chars)


def _format(value: Any, *args: Any, **kwargs: Any) -> str:
    text = to_text(value)
    check_field_widths(text)
    pay_deep([args, kwargs])
    made: str = settle(str.__mod__(text, kwargs or args), text, args, kwargs)
    return made


def _escape(value: Any) -> str:
    text = to_text(value)
    spend(6 * len(text))
    made: str = settle(str.__str__(escape_markup(text)), text)
    return made


def _guarded(function: Any, before: Callable[[Any], Any], *, settles: bool) -> Callable[..., Any]:
    """One of Jinja's own functions, with its arguments paid for by `before`, and its result too."""
    first = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        for value in args[first:]:
            before(value)
        result = function(*args, **kwargs)
        pay(result)
        return settle(result, *args[first:]) if settles else result

    return guarded


FILTERS: dict[str, Callable[..., Any]] = {
    **{name: _guarded(JINJA_FILTERS[name], pay, settles=False) for name in _KEEPING.split()},
    **{name: _guarded(JINJA_FILTERS[name], pay_deep, settles=False) for name in _COMPARING.split()},
    **{name: _guarded(JINJA_FILTERS[name], pay, settles=True) for name in _RECASING.split()},
    "e": _escape,
    "escape": _escape,
    "format": _format,
    "indent": _indent,
    "join": _join,
    "replace": _replace,
    "safe": to_text,
    "string": to_text,
    "tojson": _tojson,
    "trim": _trim,
}
"""All filters that a template can name."""

_LIGHT_TESTS = ("defined", "undefined", "none", "string", "mapping")
TESTS: dict[str, Callable[..., Any]] = {
    name: _guarded(test, pay if name in _LIGHT_TESTS else pay_deep, settles=False) for name, test in JINJA_TESTS.items()
}
"""All tests (`is ...`) that a template can name."""
