"""What the clients of a measurement noted, judged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from spectacles.lab.compare.rows import CHECKED, VERDICTS
from spectacles.lab.compare.workload import RESERVE, SMALL
from spectacles.lab.judge.linearizability import Counterexample, Operation, Verdict, check, split_list

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from spectacles.lab.compare.rows import Row
    from spectacles.lab.compare.workload import Notes, Workload

CHECK_TIME = 5.0  # seconds for the checker


class Entry(NamedTuple):
    """One request in the history of all clients: who asked, then as workload.Request."""

    client: int
    kind: str
    show: int
    seats: int
    result: Any
    call: int
    ret: int | None


def judge(row: Row, notes: Sequence[Notes], work: Workload, final: Mapping[int, int]) -> Counterexample | None:
    """Note in `row` what is wrong beyond the sum: refusals that make no sense, lost answers, an impossible history.

    final: the seats of each show in the file, after everything. Returns the shortest counter-example of such a history,
    None without one. Blocks, CHECK_TIME at most.
    """
    row.problems += [f"un client : {note.problem}" for note in notes if note.problem]
    wrongly = sum(count for note in notes for show, count in note.refused.items() if show != SMALL)
    if wrongly:
        row.problems.append(f"{wrongly} refus pour des spectacles où il reste des places")
    history, whole = recorded(notes)
    row.checked = len(history)
    operations = [operation for entry in history for operation in _operations(row.question, entry)]
    initial = dict(enumerate(work.shows))
    report = check(operations, initial, time_limit=CHECK_TIME, final=final if whole else None)
    row.linearizable = VERDICTS[report.verdict]
    if report.verdict is not Verdict.INVALID:
        return None
    shortest = min(report.counterexamples, key=lambda example: len(example.explain()), default=None)
    told = report.explain() if shortest is None else shortest.explain()
    row.problems.append("aucun guichet tenu par une seule personne n'aurait répondu cela :\n" + told)
    return shortest


def recorded(notes: Sequence[Notes]) -> tuple[list[Entry], bool]:
    """Return the first CHECKED requests or fewer of all clients, sorted by call, and whether these are all.

    Cut at one instant for all clients: a request called before it and answered after it counts as unanswered, since
    what it was answered may rest on requests beyond the cut.
    """
    entries = [Entry(client, *request) for client, note in enumerate(notes) for request in note.history]
    entries.sort(key=lambda entry: entry.call)
    cuts = [note.until for note in notes if note.until is not None]
    if len(entries) > CHECKED:
        cuts.append(entries[CHECKED].call)
    if not cuts:
        return entries, True
    cut = min(cuts)
    return [
        entry if entry.ret is not None and entry.ret < cut else entry._replace(result=None, ret=None)
        for entry in entries
        if entry.call < cut
    ], False


def _operations(question: str, entry: Entry) -> list[Operation]:
    client, kind, show, seats, result, call, ret = entry
    if kind == RESERVE or ret is None or question == "q1_pipes":
        return [Operation(client, "reserve" if kind == RESERVE else "consult", show, seats, result, call, ret)]
    return split_list(client, dict(enumerate(result)), call, ret)
