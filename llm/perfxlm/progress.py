"""The progress bars of `LLM.generate`, of `perfxlm eval` and of `perfxlm tune`."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from perfxlm.outputs import RequestOutput

Advance = Callable[[RequestOutput], None]


@contextlib.contextmanager
def show_progress(num_requests: int, is_shown: bool) -> Iterator[Advance]:
    """Within the context, calling the given function with each finished request moves a bar on standard error.

    Nothing is shown (and nothing imported) where standard error is no terminal.
    """
    if not is_shown or not sys.stderr.isatty():
        yield lambda output: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("Processed prompts"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"))
    start, num_tokens = time.monotonic(), 0
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=num_requests, speed="")

        def advance(output: RequestOutput) -> None:
            nonlocal num_tokens
            num_tokens += sum(len(completion.token_ids) for completion in output.outputs)
            speed = num_tokens / max(time.monotonic() - start, 1e-9)
            progress.update(task, advance=1, speed=f"{speed:.1f} tokens/s")

        yield advance


@contextlib.contextmanager
def show_positions(num_positions: int) -> Iterator[Callable[[], None]]:
    """Within the context, each call of the given function moves a bar of so many positions on standard error.

    Nothing is shown where standard error is no terminal.
    """
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("Evaluated positions"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=num_positions)
        yield lambda: progress.advance(task)


@contextlib.contextmanager
def show_measuring(seconds: float) -> Iterator[Callable[[str, float], None]]:
    """Within the context, calling the given function with what is measured next and the seconds spent moves a bar of
    `seconds` on standard error.

    Where standard error is no terminal, each call writes a line instead.
    """
    if not sys.stderr.isatty():
        yield lambda what, spent: print(f"measuring {what} ({spent:.0f} of {seconds:.0f} s)", file=sys.stderr)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        TextColumn("Measuring"),
        BarColumn(),
        TextColumn("{task.fields[time]}"),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("the model is loaded", total=seconds, time="")

        def move(what: str, spent: float) -> None:
            time = f"{spent:.0f} of {seconds:.0f} s"
            progress.update(task, completed=min(spent, seconds), description=what, time=time)

        yield move
