"""What was tried, how often, and what was lost: the table at the end of a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import pytest

COLUMNS = ("promise", "question", "tries", "requests", "in doubt", "slowest answer", "lost")


@dataclass
class Row:
    """One line of the table: sums over the tests that add to it.

    tries: kill rounds, hostile messages, connections, as `promise` says. requests: of real clients, that were answered.
    doubt: requests without an answer because somebody was killed. slowest: seconds, of the answered. lost: what a
    promise forbids (acknowledged seats that are not in the file, seats sold twice, clients without an answer).
    """

    tries: int = 0
    requests: int = 0
    doubt: int = 0
    slowest: float = 0.0
    lost: int = 0


@dataclass
class Ledger:
    """The rows by (promise, question), in the order in which they first came."""

    rows: dict[tuple[str, str], Row] = field(default_factory=dict)

    def add(
        self,
        promise: str,
        question: str,
        *,
        tries: int = 0,
        requests: int = 0,
        doubt: int = 0,
        slowest: float = 0.0,
        lost: int = 0,
    ) -> None:
        """Add to a row."""
        row = self.rows.setdefault((promise, question), Row())
        row.tries += tries
        row.requests += requests
        row.doubt += doubt
        row.slowest = max(row.slowest, slowest)
        row.lost += lost

    def dump(self) -> list[tuple[str, str, dict[str, float]]]:
        """Return the rows as plain data, for another process to merge()."""
        return [(promise, question, asdict(row)) for (promise, question), row in self.rows.items()]

    def merge(self, rows: list[tuple[str, str, dict[str, float]]]) -> None:
        """Add the rows that another process has dumped."""
        for promise, question, row in rows:
            self.add(promise, question, **row)  # type: ignore[arg-type]

    def lines(self) -> list[str]:
        """Return the table as text, [] if nothing was tried."""
        if not self.rows:
            return []
        cells = [COLUMNS]
        for (promise, question), row in sorted(self.rows.items()):
            slowest = f"{row.slowest:.2f} s" if row.slowest else "-"
            numbers = (f"{row.tries:,}", f"{row.requests:,}", f"{row.doubt:,}", slowest, f"{row.lost:,}")
            cells.append((promise, question, *numbers))
        widths = [max(len(line[column]) for line in cells) for column in range(len(COLUMNS))]
        rule = tuple("-" * width for width in widths)
        return [
            "  ".join(
                cell.ljust(width) if column < 2 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in (cells[0], rule, *cells[1:])
        ]


LEDGER = pytest.StashKey[Ledger]()
SEEDS = pytest.StashKey[dict[str, int]]()
