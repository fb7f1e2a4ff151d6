"""The progress bar of `LLM.generate`."""

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
