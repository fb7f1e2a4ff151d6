"""What is measured, and how much of the time for it is spent: one line on standard error that is written again."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

_WIDTH = 30
_CLEAR = "\r\x1b[K"


@contextlib.contextmanager
def progress_line(seconds: float) -> Iterator[Callable[[str, float], None]]:
    """Within the context, calling the given function with what is measured next and the seconds spent moves a bar of
    `seconds`.

    Where standard error is no terminal, each call writes a line instead.
    """
    if not sys.stderr.isatty():
        yield lambda what, spent: print(f"measuring {what} ({spent:.0f} of {seconds:.0f} s)", file=sys.stderr)
        return

    def show(what: str, spent: float) -> None:
        filled = round(_WIDTH * min(spent / max(seconds, 1e-9), 1.0))
        bar = "#" * filled + "-" * (_WIDTH - filled)
        print(f"{_CLEAR}[{bar}] {spent:.0f} of {seconds:.0f} s: {what}", end="", file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        print(_CLEAR, end="", file=sys.stderr, flush=True)
