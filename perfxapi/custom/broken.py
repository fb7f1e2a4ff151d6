"""What stands for a kernel that could not be made."""

from __future__ import annotations

from perfxapi.backend import OpCall


class BrokenKernel:
    """Stands for kernels that could not be made. It takes every call and fails, so that what runs in its place is a
    fallback like any other: counted and warned of with the cause, or refused by the policy.
    """

    def __init__(self, op: str, error: Exception) -> None:
        self.op, self.error = op, error

    def accepts(self, call: OpCall) -> str | None:
        """Everything."""
        return None

    def workspace_bytes(self, call: OpCall) -> int:
        """None."""
        return 0

    def launch(self, call: OpCall) -> None:
        """Raises what went wrong."""
        raise self.error.with_traceback(None)  # else each call would add to the last one's
