"""What ran where: counts for every (op, device asked for, backend that ran it), with reasons and bytes moved."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace

from perfxapi.tables import text_table


@dataclass(slots=True, eq=False)
class LedgerRow:
    """One line of the table. `reason` is empty where the op ran where it was asked to."""

    op: str
    device: str
    ran_on: str
    count: int
    bytes_moved: int
    reason: str


class Tally:
    """Runs of something that launches the same ops each time: counted by one number until rows are read."""

    __slots__ = ("__weakref__", "_rows", "runs")

    def __init__(self, launches: Mapping[LedgerRow, int]) -> None:
        self._rows, self.runs = dict(launches), 0

    def settle(self) -> None:
        """Adds what is outstanding to the rows."""
        runs, self.runs = self.runs, 0
        for row, launches in self._rows.items():
            row.count += runs * launches

    def __del__(self) -> None:
        self.settle()


class Explanation:
    """The table that `px.explain()` returns: `rows`, `fallbacks`, text by str(), JSON by `to_json()`."""

    def __init__(self, rows: Iterable[LedgerRow]) -> None:
        self.rows = list(rows)

    @property
    def fallbacks(self) -> list[LedgerRow]:
        """The rows where something did not run where it was asked to."""
        return [row for row in self.rows if row.reason]

    def to_json(self) -> str:
        """A JSON array with an object for each row."""
        import json

        return json.dumps([asdict(row) for row in self.rows])

    def __str__(self) -> str:
        header = ("op", "asked", "ran on", "count", "bytes moved", "reason")
        rows = [(r.op, r.device, r.ran_on, str(r.count), str(r.bytes_moved), r.reason) for r in self.rows]
        return text_table(header, rows)


class Ledger:
    """Counts launches by dispatch and by plans."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str, str, str], LedgerRow] = {}
        self._tallies: weakref.WeakSet[Tally] = weakref.WeakSet()
        self._lock = threading.Lock()

    def row(self, op: str, device: str, ran_on: str, reason: str = "") -> LedgerRow:
        """The row for these names, made if need be. Callers on a hot path keep it and add to its counts."""
        if _aside.get():
            return LedgerRow(op, device, ran_on, 0, 0, reason)
        key = (op, device, ran_on, reason)
        with self._lock:
            if key not in self._rows:
                self._rows[key] = LedgerRow(op, device, ran_on, 0, 0, reason)
            return self._rows[key]

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is planned within the context is not listed: it is run to be measured."""
        token = _aside.set(True)
        try:
            yield
        finally:
            _aside.reset(token)

    def tally(self, launches: Mapping[LedgerRow, int]) -> Tally:
        """A tally of runs of which each adds so many launches to rows of this ledger."""
        tally = Tally(launches)
        with self._lock:
            self._tallies.add(tally)
        return tally

    def _settle(self) -> None:
        for tally in self._tallies:
            tally.settle()

    def record_device(self, asked: str, used: str, reason: str) -> None:
        """Counts a request for a device that cannot be had."""
        self.row("(device)", asked, used, reason).count += 1

    def explain(self) -> Explanation:
        """The table so far, fallbacks first, then by count."""
        with self._lock:
            self._settle()
            rows = [replace(row) for row in self._rows.values() if row.count]
        return Explanation(sorted(rows, key=lambda row: (not row.reason, -row.count, row.op)))

    def clear(self) -> None:
        """Starts counting anew. Rows that plans hold on to go on counting from zero."""
        with self._lock:
            self._settle()
            for row in self._rows.values():
                row.count = row.bytes_moved = 0


_aside: ContextVar[bool] = ContextVar("perfxapi_ledger_aside", default=False)
LEDGER = Ledger()
"""The ledger of this process."""
