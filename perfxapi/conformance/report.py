"""What became of each case, and the table of what a backend supports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from textwrap import fill
from typing import Any

from perfxapi.conformance.profiles import Profile
from perfxapi.tables import text_table

FAILURES = ("wrong", "error", "crashed", "hung")
PLAIN = "contiguous"
"""The arrangement in which a sample stands in memory as it comes."""
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
    """All outcomes of one backend. `str(report)` is the support matrix; `to_json()` has everything.

    With a profile, what it requires and the backend declines is in `missing`. `ops` are those that were named, and of
    which a sample must have run; `unsampled` are ops that have no samples to run.
    """

    def __init__(
        self,
        backend: str,
        device: str,
        outcomes: Iterable[Outcome],
        profile: Profile | None = None,
        *,
        ops: Sequence[str] = (),
        unsampled: Sequence[str] = (),
    ) -> None:
        self.backend, self.device, self.outcomes, self.profile = backend, device, list(outcomes), profile
        self.ops, self.unsampled = tuple(ops), tuple(unsampled)

    @property
    def failures(self) -> list[Outcome]:
        """Cases that were accepted and then went wrong."""
        return [outcome for outcome in self.outcomes if outcome.status in FAILURES]

    @property
    def missing(self) -> list[Outcome]:
        """Samples that were declined and that the profile requires."""
        required = self.profile.requires if self.profile is not None else lambda op, dtype: False
        return [o for o in self._samples() if o.status == "declined" and required(o.op, o.dtype)]

    @property
    def idle(self) -> list[str]:
        """The named ops of which the backend's own kernels ran no sample."""
        return [op for op in self.ops if not self.native_samples(op)[0]]

    @property
    def passed(self) -> bool:
        """Whether nothing failed or is missing, and something was run: of each named op, and under a profile at all."""
        ran = bool(self.outcomes) and not self.idle and (self.profile is None or self.native_samples()[0] > 0)
        return ran and not self.failures and not self.missing

    def _samples(self, op: str | None = None) -> list[Outcome]:
        """The samples as they stand in memory, in no other arrangement."""
        return [o for o in self.outcomes if o.arrangement == PLAIN and op in (None, o.op)]

    def native_samples(self, op: str | None = None) -> tuple[int, int]:
        """How many samples (of one op, or of all) the backend's own kernels run, of how many."""
        plain = self._samples(op)
        return sum(outcome.status != "declined" for outcome in plain), len(plain)

    def native_ops(self) -> tuple[int, int]:
        """How many ops the backend has kernels of its own for that run at least one sample, of how many."""
        plain = self._samples()
        return len({o.op for o in plain if o.status != "declined"}), len({o.op for o in plain})

    def share(self, op: str | None = None) -> float:
        """The part of the samples (of one op, or of all) that the backend's own kernels run, as it stands in memory."""
        ran, count = self.native_samples(op)
        return ran / count if count else 0.0

    def cell(self, op: str, dtype: str) -> str:
        """One cell of the matrix: what failed, "yes", how many samples of how many, "no", or nothing to test."""
        found = [o for o in self.outcomes if (o.op, o.dtype) == (op, dtype)]
        failed = [outcome.status for outcome in found if outcome.status in FAILURES]
        if failed:
            return _SHORT[failed[0]]
        plain = [outcome.status for outcome in found if outcome.arrangement == PLAIN]
        passed = plain.count("ok")
        if not plain:
            return ""
        return "yes" if passed == len(plain) else f"{passed}/{len(plain)}" if passed else "no"

    def __str__(self) -> str:
        ops = list(dict.fromkeys(outcome.op for outcome in self.outcomes))
        none = [op for op in ops if all(o.status == "declined" for o in self.outcomes if o.op == op)]
        shown = [op for op in ops if op not in none]
        kinds = list(dict.fromkeys(outcome.dtype for outcome in self.outcomes if outcome.op in shown))
        rows = [[op, *(self.cell(op, kind) for kind in kinds), f"{self.share(op):.0%}"] for op in shown]
        parts = [text_table(["op", *kinds, "own kernels"], rows)] if shown else []
        parts += [fill(f"no kernel: {', '.join(none)}", 100, subsequent_indent="  ")] if none else []
        parts += [f"no samples: {', '.join(self.unsampled)}"] if self.unsampled else []
        return "\n\n".join([*parts, self.summary()])

    def summary(self) -> str:
        """How many cases there were, how many failed, the native share, and what the profile misses."""
        (ops, all_ops), (samples, all_samples) = self.native_ops(), self.native_samples()
        declined = sum(outcome.status == "declined" for outcome in self.outcomes)
        counts = f"{len(self.outcomes)} cases, {declined} declined, {len(self.failures)} failed"
        lines = [
            f"{self.backend} on {self.device}: {counts}",
            f"own kernels: {ops} of {all_ops} ops, {samples} of {all_samples} samples ({self.share():.0%})",
        ]
        if self.profile is not None:
            missing = f"{len(self.missing)} samples missing" if samples else "none of its own kernels ran"
            lines.append(f"profile {self.profile.name}: {'passed' if self.passed else f'not passed, {missing}'}")
        if self.idle:
            lines.append(f"not passed: of {', '.join(self.idle)} none of its own kernels ran a sample")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return {
            "backend": self.backend,
            "device": self.device,
            "profile": self.profile.name if self.profile is not None else None,
            "passed": self.passed,
            "num_cases": len(self.outcomes),
            "num_failures": len(self.failures),
            "native_ops": self.native_ops(),
            "native_samples": self.native_samples(),
            "share": self.share(),
            "idle": self.idle,
            "unsampled": list(self.unsampled),
            "missing": [asdict(outcome) for outcome in self.missing],
            "outcomes": [asdict(outcome) for outcome in self.outcomes],
        }
