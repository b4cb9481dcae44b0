"""What one measurement has found: a row of the tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spectacles.lab.display.french import in_words
from spectacles.lab.judge.accounts import add_up
from spectacles.lab.judge.linearizability import Verdict
from spectacles.lab.kernel.processes import Memory

if TYPE_CHECKING:
    from collections.abc import Sequence

PYTHON, C, LOCKLESS = "Python", "C", "sans verrou"
CHECKED = 20_000  # requests of one measurement that the linearizability checker gets: the first ones
POINTS = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0))
# The shares of requests in the curve of a row: equal steps of log(1 - p), from the median to one in 100,000.
CURVE = tuple(1 - 0.5 * 10 ** (-step / 10) for step in range(48))
VERDICTS = {Verdict.VALID: "oui", Verdict.INVALID: "NON", Verdict.UNKNOWN: "indécis"}


@dataclass
class Row:
    """One measurement: one server, one number of clients. Times in seconds unless said otherwise, memory in kB.

    latency: ns, by kind (consult, reserve, "" for both), then by point of POINTS. curve: ns at the points of CURVE.
    cpu: microseconds of the server per request. switches: context switches of the server per request.
    memory: of each process of the server, after the load, the clients gone.
    spread: the least and the greatest throughput, where the measurement was made several times; this is the median one.
    sold, left, left_in_file: seats, over all shows. checked: requests that the checker got. problems: what is wrong.
    """

    question: str
    variant: str
    clients: int
    requests: int = 0
    throughput: float = 0.0
    latency: dict[str, dict[str, int]] = field(default_factory=dict)
    curve: list[int] = field(default_factory=list)
    cpu: float = 0.0
    switches: float = 0.0
    start_up: float = 0.0
    processes: int = 0
    threads_at_rest: int = 0
    threads: int = 0
    memory: list[Memory] = field(default_factory=list)
    initial: int = 0
    sold: int = 0
    left: int | None = None
    left_in_file: int | None = None
    refused: int = 0
    late: int = 0
    linearizable: str = VERDICTS[Verdict.UNKNOWN]
    checked: int = 0
    spread: tuple[float, float] = (0.0, 0.0)
    problems: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What the tables call it."""
        return self.question if self.variant == PYTHON else f"{self.question[:2]} {self.variant}"

    @property
    def full_name(self) -> str:
        """What a sentence about it calls it: with its number of clients."""
        return f"{self.name}, {in_words(self.clients)}"

    @property
    def sum_is_right(self) -> bool:
        """Whether initial = left + sold, in the answer and in the file."""
        return add_up(self.initial, self.sold, self.left, self.left_in_file)

    @property
    def correct(self) -> bool:
        """Whether nothing is known to be wrong; a verdict that took too long to reach accuses nobody."""
        return self.sum_is_right and not self.problems and self.linearizable != VERDICTS[Verdict.INVALID]

    @property
    def rss(self) -> int:
        """The VmRSS of all processes, added up."""
        return sum(memory.rss for memory in self.memory)

    @property
    def pss(self) -> int:
        """The PSS of all processes, added up: what the server really takes."""
        return sum(memory.pss for memory in self.memory)

    @property
    def private(self) -> int:
        """The private memory of all processes, added up."""
        return sum(memory.private for memory in self.memory)

    @property
    def estimate(self) -> int:
        """The original's estimate: the parent's VmRSS times the number of processes."""
        return self.memory[0].rss * len(self.memory) if self.memory else 0


def median(rounds: Sequence[Row]) -> Row:
    """Return the row of median throughput out of several measurements of the same, with what went wrong in any.

    A round that went wrong counts: it is the one returned.
    """
    ordered = sorted(rounds, key=lambda row: row.throughput)
    wrong = next((row for row in rounds if not row.correct), None)
    chosen = wrong or ordered[(len(ordered) - 1) // 2]
    if len(rounds) > 1:
        chosen.spread = ordered[0].throughput, ordered[-1].throughput
    return chosen


def qualified(row: Row, rows: Sequence[Row]) -> str:
    """Return the name of a row shown beside others, with its number of clients where theirs is larger: question 1."""
    alone = row.clients < max(other.clients for other in rows)
    return f"{row.name} ({in_words(row.clients)})" if alone else row.name


def grouped(rows: Sequence[Row]) -> list[list[Row]]:
    """Return the rows of each question and variant together, in their order."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.name, []).append(row)
    return list(groups.values())
