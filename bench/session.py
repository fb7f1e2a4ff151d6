"""Engines in alternation, round by round, so that what disturbs the machine disturbs all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from bench.contenders import Contender
from bench.process import ContenderError

Result = TypeVar("Result")
Log = Callable[[str], None]

NOT_OFFERED = "it offers no way to measure this"


@dataclass(slots=True)
class Record(Generic[Result]):
    """What one engine did in each round. `problem` says why there is nothing."""

    name: str
    problem: str = ""
    results: list[Result] = field(default_factory=list)

    def fail(self, problem: str) -> None:
        """Drops what there is: half a series cannot be compared."""
        self.problem, self.results = problem, []


@dataclass(frozen=True, slots=True)
class Session:
    """Engines (ours first), how many rounds, and where progress is told."""

    contenders: Sequence[Contender]
    rounds: int
    log: Log

    def alternate(self, title: str, measure: Callable[[Contender], Result | None]) -> list[Record[Result]]:
        """Every engine in every round; every other round runs backwards."""
        records: list[Record[Result]] = [Record(one.name, one.problem()) for one in self.contenders]
        pairs = list(zip(self.contenders, records, strict=True))
        for number in range(self.rounds):
            for contender, record in pairs if number % 2 == 0 else reversed(pairs):
                if not record.problem:
                    self.log(f"{title}: round {number + 1} of {self.rounds}: {record.name}")
                    _attempt(contender, record, measure)
        for record in records:
            if record.problem:
                self.log(f"{title}: {record.name}: not measured: {record.problem}")
        return records


def _attempt(contender: Contender, record: Record[Result], measure: Callable[[Contender], Result | None]) -> None:
    try:
        result = measure(contender)
    except ContenderError as error:
        record.fail(str(error))
        return
    if result is None:
        record.fail(NOT_OFFERED)
    else:
        record.results.append(result)
