"""The few operations that no order explains, and their drawing: one line each, with a bar for the time it took."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from spectacles.lab.judge.linearizability.history import ACKNOWLEDGED, FINAL_CLIENT, READS, Operation, role
from spectacles.lab.judge.linearizability.reduction import Reduction
from spectacles.lab.judge.linearizability.words import accusation, clip, count, microseconds, places, what, who

WIDTH = 100  # columns
MAX_LINES = 40  # beyond this many, the oldest reservations of a counterexample are summed up in one line
MOST_LINES = 200  # beyond this many, which what cannot be summed up hardly ever reaches, only the last ones are shown


@dataclass(frozen=True, slots=True)
class Counterexample:
    """Operations of one show that no sequential order explains.

    show, initial, absent: the show, the seats it started with, whether it does not exist.
    operations: what is needed, sorted by call; operations that had not returned at the end of the shortest invalid
        prefix are given as unanswered.
    total: operations of this show in the history checked.
    minimal: False when time ran out before the operations could be reduced to a minimum.
    """

    show: int
    initial: int
    absent: bool
    operations: tuple[Operation, ...]
    total: int
    minimal: bool

    @property
    def culprit(self) -> Operation:
        """The operation whose return made the history inexplicable: the last one to return."""
        # Ties are broken as when the prefix was chosen (see Reduction).
        returns = ((op.ret, op.call, k) for k, op in enumerate(self.operations) if op.ret is not None)
        return self.operations[max(returns)[2]]

    def explain(self) -> str:
        """Tell the counterexample in French: one line per operation, 100 columns at most."""
        folded, shown, hidden = self._shared_out()
        lines = textwrap.wrap(self._title(), WIDTH)
        if folded:
            spent = sum(op.seats for op in folded)
            lines += textwrap.wrap(
                f"Avant cela, {count(len(folded), 'réservation')} : {places(spent)} en tout, "
                f"il en restait au plus {self.initial - spent}.",
                WIDTH,
            )
        if hidden:
            lines.append(f"(Les {hidden} opérations suivantes, trop nombreuses, ne sont pas montrées.)")
        lines += _drawing(shown)
        lines += textwrap.wrap(accusation(self.culprit, self.operations, self.initial, self.absent), WIDTH)
        return "\n".join(lines)

    def _shared_out(self) -> tuple[list[Operation], list[Operation], int]:
        """Return the operations to be summed up, those to be drawn, and how many are neither."""
        culprit = self.culprit
        excess = max(0, len(self.operations) - MAX_LINES)
        folded = [op for op in _settled(self.operations) if op is not culprit][:excess]
        summed_up = {id(op) for op in folded}
        shown = [op for op in self.operations if id(op) not in summed_up]
        hidden = max(0, len(shown) - MOST_LINES)
        # The culprit is among the last called, unless it lasted: it is shown anyway.
        return folded, [op for place, op in enumerate(shown) if place >= hidden or op is culprit], hidden

    def _title(self) -> str:
        had = "n'existe pas" if self.absent else f"{places(self.initial)} au départ"
        clients = [op for op in self.operations if op.client != FINAL_CLIENT]
        consults = sum(op.kind == "consult" for op in clients)
        parts = [
            text
            for text, number in (
                (count(consults, "consultation"), consults),
                (count(len(clients) - consults, "réservation"), len(clients) - consults),
                ("l'état final", len(self.operations) - len(clients)),
            )
            if number
        ]
        return (
            f"Spectacle {self.show} ({had}) : historique non linéarisable. "
            f"Contre-exemple : {' et '.join(parts)}, sur {count(self.total, 'opération')}"
            + ("." if self.minimal else " (non réduit au minimum, faute de temps).")
        )


def counterexample(
    operations: Sequence[Operation], show: int, initial: int, absent: bool, deadline: float
) -> Counterexample:
    """Return the counterexample of an invalid history of one show. Blocks until `deadline` at most."""
    reduction = Reduction(operations, initial, deadline)
    found = sorted(reduction.run(), key=lambda op: (op.call, math.inf if op.ret is None else op.ret))
    total = sum(op.client != FINAL_CLIENT for op in operations)
    return Counterexample(show, initial, absent, tuple(found), total, reduction.minimal)


def _settled(operations: Sequence[Operation]) -> list[Operation]:
    """Return the acknowledged reserves that returned before every read was called, whose order is immaterial."""
    first = min((op.call for op in operations if role(op) in READS), default=math.inf)
    settled = [op for op in operations if role(op) == ACKNOWLEDGED and op.ret is not None and op.ret < first]
    return sorted(settled, key=lambda op: op.ret or 0)


def _drawing(operations: Sequence[Operation]) -> list[str]:
    """Return a heading, and a line for each operation: when, who, what, and a bar from its call to its return."""
    start = min(op.call for op in operations)
    stop = max(op.ret if op.ret is not None else op.call for op in operations)
    cells = [("appel µs", "retour µs", "client", "opération")]
    cells += [
        (
            clip(microseconds(op.call - start), 16),
            "…" if op.ret is None else clip(microseconds(op.ret - start), 16),
            clip(who(op), 16),
            clip(what(op), 28),
        )
        for op in operations
    ]
    called, returned, name, told = (max(map(len, column)) for column in zip(*cells, strict=True))
    room = min(40, WIDTH - called - returned - name - told - 10)
    bars = ["", *(_bar(op, start, stop, room) for op in operations)]
    return [
        f"{cell[0]:>{called}}  {cell[1]:>{returned}}  {cell[2]:<{name}}  {cell[3]:<{told}}  {bar}".rstrip()
        for cell, bar in zip(cells, bars, strict=True)
    ]


def _bar(op: Operation, start: int, stop: int, width: int) -> str:
    def column(instant: int) -> int:
        return (instant - start) * (width - 1) // max(1, stop - start)

    left = column(op.call)
    if op.ret is None:
        return "." * left + "[" + "=" * (width - left - 2) + ">" * (left < width - 1)
    right = column(op.ret)
    middle = "|" if left == right else "[" + "=" * (right - left - 1) + "]"
    return "." * left + middle + "." * (width - 1 - right)
