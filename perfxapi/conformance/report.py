"""What became of each case, and the table of what a backend supports."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from perfxapi.tables import text_table

FAILURES = ("wrong", "error", "crashed", "hung")
_SHORT = {"wrong": "WRONG", "error": "ERROR", "crashed": "CRASHED", "hung": "HUNG"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One case. `status` is ok, declined or one of FAILURES; `error` is relative to the largest magnitude."""

    op: str
    dtype: str
    sample: str
    arrangement: str
    status: str
    detail: str = ""
    error: float = 0.0

    def __str__(self) -> str:
        return f"{self.op} {self.dtype} ({self.sample}; {self.arrangement}): {self.status}: {self.detail}"


class Report:
    """All outcomes of one backend. `str(report)` is the support matrix; `to_json()` has everything."""

    def __init__(self, backend: str, device: str, outcomes: Iterable[Outcome]) -> None:
        self.backend, self.device, self.outcomes = backend, device, list(outcomes)

    @property
    def failures(self) -> list[Outcome]:
        """Cases that were accepted and then went wrong."""
        return [outcome for outcome in self.outcomes if outcome.status in FAILURES]

    def share(self, op: str | None = None) -> float:
        """The part of the samples (of one op, or of all) that the backend's own kernels run, as it stands in memory."""
        plain = [o for o in self.outcomes if o.arrangement == "contiguous" and op in (None, o.op)]
        return sum(outcome.status != "declined" for outcome in plain) / len(plain) if plain else 0.0

    def cell(self, op: str, dtype: str) -> str:
        """One cell of the matrix: what failed, "yes", how many samples of how many, "no", or nothing to test."""
        found = [o for o in self.outcomes if (o.op, o.dtype) == (op, dtype)]
        failed = [outcome.status for outcome in found if outcome.status in FAILURES]
        if failed:
            return _SHORT[failed[0]]
        plain = [outcome.status for outcome in found if outcome.arrangement == "contiguous"]
        passed = plain.count("ok")
        if not plain:
            return ""
        return "yes" if passed == len(plain) else f"{passed}/{len(plain)}" if passed else "no"

    def __str__(self) -> str:
        ops = list(dict.fromkeys(outcome.op for outcome in self.outcomes))
        kinds = list(dict.fromkeys(outcome.dtype for outcome in self.outcomes))
        rows = [[op, *(self.cell(op, kind) for kind in kinds), f"{self.share(op):.0%}"] for op in ops]
        summary = (
            f"{self.backend} on {self.device}: {len(self.outcomes)} cases, {len(self.failures)} failed, "
            f"{self.share():.0%} of the samples run by its own kernels"
        )
        return "\n".join([text_table(["op", *kinds, "own kernels"], rows), "", summary])

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return {
            "backend": self.backend,
            "device": self.device,
            "num_cases": len(self.outcomes),
            "num_failures": len(self.failures),
            "share": self.share(),
            "outcomes": [asdict(outcome) for outcome in self.outcomes],
        }
