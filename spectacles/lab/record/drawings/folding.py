"""What is not drawn row by row: patterns that come again, what a task opens and closes, the middle of a long run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spectacles.lab.display.french import number
from spectacles.lab.record.drawings import said
from spectacles.lab.record.drawings.timeline import HOUSEKEEPING, Part
from spectacles.lab.record.model import Action

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spectacles.lab.record.drawings.timeline import Row

PERIOD = 12  # rows of a pattern that is folded when it is repeated
TIMES = 3  # that a pattern must be there, to be folded...
SAVES = 6  # ...and rows that this must save: what each row says is worth more than a few lines


@dataclass(frozen=True)
class Fold:
    """Rows that are not drawn one by one. at: the place of the last one."""

    at: float
    words: str


def folded(rows: Sequence[Row], most: int) -> list[Row | Fold]:
    """Return at most `most` of `rows`, folds among them, in order."""
    items = _repeats(_housekeeping(rows))
    if len(items) <= most:
        return items
    first, last = most * 2 // 3, most // 3
    out = items[first:-last]
    fold = Fold(max(item.at for item in out), f"… {steps(len(out))}, au milieu, que la page montre")
    return [*items[:first], fold, *items[-last:]]


def steps(count: int) -> str:
    """Return "1 étape", "12 étapes"."""
    return f"{number(count)} étape{'s' if count > 1 else ''}"


def _housekeeping(rows: Sequence[Row]) -> list[Row | Fold]:
    """Fold what a task opens, closes and makes in a row, nobody else doing anything in between."""
    found: list[Row | Fold] = []
    place = 0
    while place < len(rows):
        end = place
        while end < len(rows) and _dull(rows[end]) and rows[end].step.task == rows[place].step.task:
            end += 1
        if end - place < 4:
            found += rows[place : max(end, place + 1)]
        else:
            calls = Counter(said.harmless(row.step.call or row.step.action.value, 20) for row in rows[place:end])
            told = ", ".join(f"{call} × {times}" if times > 1 else call for call, times in calls.most_common(6))
            more = ", …" if len(calls) > 6 else ""
            found.append(Fold(rows[end - 1].at, f"… {steps(end - place)} : {told}{more}"))
        place = max(end, place + 1)
    return found


def _dull(row: Row) -> bool:
    return row.step.action in HOUSEKEEPING and not row.step.errno and row.part is Part.WHOLE


def _repeats(items: Sequence[Row | Fold]) -> list[Row | Fold]:
    """Fold a pattern of rows that comes TIMES or more in a row: it is drawn once."""
    keys = [_key(item) for item in items]
    found: list[Row | Fold] = []
    place = 0
    while place < len(items):
        best, times = 0, 1
        for period in range(1, PERIOD + 1):
            again = 1
            while keys[place : place + period] == keys[place + again * period : place + (again + 1) * period]:
                again += 1
                if place + again * period >= len(items):
                    break
            if again >= TIMES and again * period > best * times and period * (again - 1) >= SAVES:
                best, times = period, again
        if not best:
            found.append(items[place])
            place += 1
            continue
        found += items[place : place + best]
        end = place + best * times
        rows = best * (times - 1)
        told = "la précédente" if best == 1 else f"les {best} précédentes"
        found.append(Fold(items[end - 1].at, f"… {steps(rows)} : {told}, {number(times - 1)} fois de plus"))
        place = end
    return found


def _key(item: Row | Fold) -> object:
    if isinstance(item, Fold):
        return item.words
    step = item.step
    if step.action in (Action.DECISION, Action.NOTE, Action.BIRTH, Action.DEATH):
        return step.seq  # each of them is told
    nothing = step.result == 0 and step.action is Action.RECEIVE  # the end of a stream
    return step.task, step.action, step.object, step.call, step.errno, nothing, item.part
