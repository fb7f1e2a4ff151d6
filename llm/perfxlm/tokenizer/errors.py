"""What goes wrong with chat templates."""

from __future__ import annotations

from perfxapi.errors import PerfXError


class ChatTemplateError(PerfXError, ValueError):
    """A chat template is missing, malformed, refuses the conversation or does what it must not; names the line."""

    def __init__(self, problem: str, line: int | None = None) -> None:
        """line: where in the template, from 1."""
        self.line = line
        super().__init__(problem if line is None else f"chat template, line {line}: {problem}")
