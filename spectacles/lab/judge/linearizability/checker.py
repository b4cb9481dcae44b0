"""A whole history judged, show by show, and what is said of it."""

from __future__ import annotations

import math
import textwrap
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from spectacles.lab.judge.linearizability.counterexample import WIDTH, Counterexample, counterexample
from spectacles.lab.judge.linearizability.history import FINAL_CLIENT, Operation, is_integer, validate
from spectacles.lab.judge.linearizability.search import Verdict, search
from spectacles.lab.judge.linearizability.words import count, places


@dataclass(frozen=True, slots=True)
class Report:
    """Outcome of `check`.

    verdict: INVALID if any show is, else UNKNOWN if any show is, else VALID.
    shows: verdict of each show of the history, of `final`, in increasing order of number.
    counterexamples: one for each invalid show, in the same order.
    operations: operations checked (without those that `final` adds).
    elapsed: seconds taken, reduction of the counterexamples included.
    """

    verdict: Verdict
    shows: Mapping[int, Verdict]
    counterexamples: tuple[Counterexample, ...]
    operations: int
    elapsed: float

    def explain(self) -> str:
        """Tell the outcome in French, in lines of 100 columns at most, without a final newline."""
        size = f"{count(self.operations, 'opération')}, {count(len(self.shows), 'spectacle')}"
        seconds = f"{self.elapsed:.2f} s".replace(".", ",")
        paragraphs: list[str] = []
        if self.verdict is Verdict.VALID:
            paragraphs.append(f"Historique linéarisable ({size}, {seconds}).")
        paragraphs += [example.explain() for example in self.counterexamples]
        undecided = [str(show) for show, verdict in self.shows.items() if verdict is Verdict.UNKNOWN]
        if undecided:
            noun = "spectacle" if len(undecided) == 1 else "spectacles"
            text = f"Indécis faute de temps ({size}, {seconds}) : {noun} {', '.join(undecided)}."
            paragraphs.append(textwrap.fill(text, WIDTH))
        return "\n\n".join(paragraphs)


def check(
    operations: Iterable[Operation],
    initial: Mapping[int, int],
    *,
    time_limit: float = 10.0,
    final: Mapping[int, int] | None = None,
    absent: Collection[int] = (),
) -> Report:
    """Check a whole history, show by show: shows are independent objects, and linearizability is local, so that a
    history is linearizable if and only if its restriction to each show is.

    operations: in any order.
    initial: seats (0 or more) of each show before the first operation.
    time_limit: seconds for all shows together, the reduction of counterexamples included. Blocks so long at most.
    final: seats of some shows after everything (what the file says once the server has stopped), checked like a
        consult called after the last event of the history.
    absent: shows that do not exist (slots with id 0), which need no initial seats; every reserve of them must be
        refused, and a consult can only see 0 or a negative error value.

    Raises ValueError when the history is malformed, or when the initial seats of a show that occurs in the history or
    in `final` are not given: guessing them would make the verdict worthless.
    """
    started = time.monotonic()
    deadline = _deadline(time_limit)
    ops = list(operations)
    validate(ops)
    by_show: dict[int, list[Operation]] = {}
    for op in ops:
        if op.client == FINAL_CLIENT:
            raise ValueError(f"le nom de client {FINAL_CLIENT!r} est réservé : {op}")
        by_show.setdefault(op.show, []).append(op)
    for show, seats in (final or {}).items():
        if not is_integer(seats):
            raise ValueError(f"spectacle {show} : état final {seats!r} (attendu : entier)")
        by_show.setdefault(show, [])
    unknown = sorted(show for show in by_show if show not in initial and show not in absent)
    if unknown:
        raise ValueError(
            f"nombre de places initial inconnu pour : {', '.join(map(str, unknown))} (il ne se devine pas)"
        )
    for show, seats in initial.items():
        _validate_seats(show, seats)
        if show in absent and seats != 0:
            raise ValueError(f"spectacle {show} donné à la fois absent et avec {places(seats)}")

    last = max((op.call if op.ret is None else op.ret for op in ops), default=0) + 1
    for show, seats in (final or {}).items():
        by_show[show].append(Operation(FINAL_CLIENT, "consult", show, 0, seats, last, last))

    cases = {show: _without_error_values(by_show[show], show in absent) for show in sorted(by_show)}
    shows = {show: search(case, initial.get(show, 0), deadline) for show, case in cases.items()}
    # All verdicts first: reducing a counterexample may only use the time that they leave.
    examples = tuple(
        counterexample(cases[show], show, initial.get(show, 0), show in absent, deadline)
        for show, verdict in shows.items()
        if verdict is Verdict.INVALID
    )
    overall = next((v for v in (Verdict.INVALID, Verdict.UNKNOWN) if v in shows.values()), Verdict.VALID)
    return Report(overall, shows, examples, len(ops), time.monotonic() - started)


def check_show(
    operations: Iterable[Operation], initial: int, *, time_limit: float = 10.0, absent: bool = False
) -> Verdict:
    """Check the operations of one show that starts with `initial` seats (0 or more).

    time_limit: seconds after which the answer is UNKNOWN (0 or more, may be infinite). Blocks so long at most.
    absent: the show does not exist (its slot of the table has id 0): `initial` must be 0, every reserve must be
        refused, and a consult can only see 0 or a negative error value.

    Raises ValueError when the history is malformed or bears on several shows.
    """
    ops = list(operations)
    validate(ops)
    shows = sorted({op.show for op in ops})
    if len(shows) > 1:
        raise ValueError(f"un seul spectacle attendu, l'historique en contient {len(shows)} : {shows}")
    _validate_seats(shows[0] if shows else 0, initial)
    if absent and initial != 0:
        raise ValueError(f"un spectacle absent n'a pas de places, initial vaut {initial}")
    return search(_without_error_values(ops, absent), initial, _deadline(time_limit))


def _validate_seats(show: int, seats: object) -> None:
    if not isinstance(seats, int) or isinstance(seats, bool) or seats < 0:
        raise ValueError(f"spectacle {show} : nombre de places initial {seats!r} (attendu : entier positif)")


def _deadline(time_limit: float) -> float:
    if math.isnan(time_limit) or time_limit < 0:
        raise ValueError(f"durée limite {time_limit!r} (attendu : secondes, positives)")
    return time.monotonic() + time_limit


def _without_error_values(operations: Sequence[Operation], absent: bool) -> Sequence[Operation]:
    """Return the operations on an absent show as those on a show without seats, whatever way its consults say so."""
    if not absent:
        return operations
    return [
        replace(op, result=0) if op.kind == "consult" and op.result is not None and op.result < 0 else op
        for op in operations
    ]
