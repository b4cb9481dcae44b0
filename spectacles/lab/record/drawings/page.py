"""A run as one page, or two beside each other: what a class looks at together, step by step.

The page asks the network for nothing. Its rows are data in it, which templates/run.js draws; without a script there is
the drawing in characters. All texts are made harmless here, are escaped by the template, and are put into the page as
text; should one of the three fail, the content policy runs no script but ours.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectacles.lab.display import page
from spectacles.lab.display.french import duration, number, unbroken
from spectacles.lab.kernel import words
from spectacles.lab.record.drawings import said, terminal
from spectacles.lab.record.drawings.timeline import FROM, HOUSEKEEPING, TO, Part, Timeline
from spectacles.lab.record.model import TASKS, Action, LaneKind, Run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spectacles.lab.record.drawings.timeline import Row, Span
    from spectacles.lab.record.model import Lane

TEMPLATE = Path(__file__).with_name("templates") / "run.html"
SCRIPT = TEMPLATE.with_name("run.js")
MOST = 5000  # rows of a run; of a longer one the middle is left out
MATCHED = 1500  # rows of two runs together, up to which what is alike after the first difference is put side by side
VALUE = 1000  # characters of a field that are shown
KINDS = {
    LaneKind.PROCESS: "processus",
    LaneKind.THREAD: "thread",
    LaneKind.QUEUE: "file de messages",
    LaneKind.FIFO: "FIFO",
    LaneKind.PIPE: "tube",
    LaneKind.SOCKET: "socket",
    LaneKind.SEMAPHORE: "sémaphore",
    LaneKind.LOCK: "verrou",
    LaneKind.MEMORY: "mémoire partagée",
    LaneKind.FILE: "fichier",
    LaneKind.OTHER: "objet",
}


@dataclass(frozen=True)
class Side:
    """One of the runs of a page. good: whether the verdict is a good one, None for neither.

    notes: what to say beside a step, by its seq: "places en mémoire : -1". title: instead of the run's own.
    """

    run: Run
    title: str = ""
    verdict: str = ""
    good: bool | None = None
    notes: Mapping[int, str] = field(default_factory=dict)


def render(run: Run) -> str:
    """Return the page of a run, HTML for UTF-8. Raises SpectaclesError when jinja2 is not installed."""
    return compare(Side(run))


def compare(*sides: Side, title: str = "", lead: str = "") -> str:
    """Return the page of one run or of two, beside each other and aligned at their first difference.

    title: of the page, the first run's where there is none. lead: a sentence about both, below it. Raises
    SpectaclesError when jinja2 is not installed.
    """
    drawn = [_Drawn(side) for side in sides]
    pairs, differs = (
        _aligned(*drawn) if len(drawn) == 2 else ([(place, None) for place in range(len(drawn[0].rows))], -1)
    )
    return page.render(
        TEMPLATE,
        SCRIPT,
        title=said.harmless(title) or said.harmless(sides[0].title or sides[0].run.title) or "spectacles trace",
        lead=said.harmless(lead, VALUE),
        sides=[one.heading() for one in drawn],
        data={"sides": [one.data() for one in drawn], "pairs": pairs, "differs": differs},
        about=[_about(side.run) for side in sides],
        texts=[terminal.draw(side.run) for side in sides],
    )


def _about(run: Run) -> list[tuple[str, str]]:
    return [(said.harmless(str(name), 80), said.harmless(str(value), VALUE)) for name, value in run.about.items()]


class _Drawn:
    """A run as data for the script."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.timeline = Timeline(side.run)
        self.lanes = side.run.lanes
        self.place = {lane.id: place for place, lane in enumerate(self.lanes)}
        rows = self.timeline.rows
        self.left_out = max(len(rows) - MOST, 0)
        self.first = MOST * 4 // 5 if self.left_out else len(rows)
        self.rows = [*rows[: self.first], *rows[self.first + self.left_out :]]
        self._ats = [row.at for row in self.rows]
        self._row_of = {
            row.step.seq: place for place, row in enumerate(self.rows)
        }  # of two the one where it took effect
        self._mates: dict[int, list[int]] = defaultdict(list)
        for transfer in side.run.transfers:
            if transfer.send in self._row_of and transfer.receive in self._row_of:
                send, receive = self._row_of[transfer.send], self._row_of[transfer.receive]
                self._mates[send].append(receive)
                self._mates[receive].append(send)

    def heading(self) -> dict[str, Any]:
        """Return what stands above a run."""
        side = self.side
        return {
            "title": said.harmless(side.title or side.run.title),
            "verdict": said.harmless(side.verdict),
            "good": side.good,
            "remarks": [
                *((True, said.cycle(tasks, self.timeline)) for tasks in self.timeline.cycles()),
                *((False, text) for text in said.left(self.timeline)),
                *(
                    [(False, f"{number(self.left_out)} étapes au milieu ne sont pas dessinées")]
                    if self.left_out
                    else []
                ),
            ],
        }

    def data(self) -> dict[str, Any]:
        """Return lanes, rows and spans. A row is named by its place among the rows, a lane by its place among lanes."""
        return {
            "lanes": [self._lane(place) for place in range(len(self.lanes))],
            "rows": [self._row(place, row) for place, row in enumerate(self.rows)],
            "gap": self.first if self.left_out else -1,
            "left": number(self.left_out),
            "lies": [
                [self.place[lane], *self._reach(span), self._row_of.get(span.step.seq, -1)]
                for lane, spans in self.timeline.lying.items()
                for span in spans
                if span.step is not None
            ],
            "holds": [
                [self.place[lane], *self._reach(span), said.held(hold, self.timeline)]
                for lane, spans in self.timeline.held.items()
                for span, hold in spans
                if lane in self.place
            ],
            "waits": [
                [self.place[task], *self._reach(span), self._row_of.get(span.step.seq, -1)]
                for task, spans in self.timeline.waits.items()
                for span in spans
                if span.step is not None and task in self.place
            ],
        }

    def _reach(self, span: Span) -> tuple[int, int]:
        """Return the first row at which a span is, and the first after it."""
        return bisect_left(self._ats, span.since), bisect_left(self._ats, span.until)

    def _lane(self, place: int) -> dict[str, Any]:
        lane = self.lanes[place]
        steps = [step for step in self.side.run.steps if lane.id in (step.task, step.object)]
        task = lane.kind in TASKS
        return {
            "label": said.label(lane),
            "kind": KINDS[lane.kind],
            "task": task,
            "pid": lane.pid if task else 0,
            "dull": not lane.died and all(step.action in HOUSEKEEPING for step in steps),
        }

    def _row(self, place: int, row: Row) -> dict[str, Any]:
        step = row.step
        begins = row.part is Part.BEGINS
        only = not begins or not step.until  # of two rows of a step the second, and the first where there is no other
        outcome = "" if begins else said.outcome(step)
        found: dict[str, Any] = {
            "n": step.until if row.part is Part.ENDS else step.seq,
            "t": self.place.get(step.task, -1),
            "o": self.place.get(step.object, -1) if step.object != step.task else -1,
            "go": _direction(row),
            "kind": _kind(row),
            "call": said.harmless(step.call, 40),
            "words": unbroken(said.told(row, self.timeline, seen=True)),
            "lanes": "".join(self._state(lane, row.at) for lane in range(len(self.lanes))),
        }
        counts = {str(lane): count for lane in range(len(self.lanes)) if (count := self._count(lane, row.at)) > 1}
        optional = {
            "counts": counts,
            "out": outcome,
            "place": said.harmless(step.place, 120),
            "times": step.count if step.count > 1 else 0,
            "note": said.harmless(self.side.notes.get(step.seq, "") if only else ""),
            "mates": self._mates.get(place, []) if not begins else [],
            "facts": self._facts(row),
            "bytes": "\n".join(words.dump(step.data[:512])) if step.data and only else "",
        }
        return found | {name: value for name, value in optional.items() if value}

    def _count(self, lane: int, at: float) -> int:
        return self.timeline.lies(self.lanes[lane].id, at)

    def _state(self, place: int, at: float) -> str:
        """Return a letter for the style sheet."""
        lane = self.lanes[place]
        if not self.timeline.lives(lane, at):
            return "-"
        if lane.kind in TASKS:
            waits, holds = self.timeline.waiting(lane.id, at) is not None, self.timeline.holds(lane.id, at)
            return "b" if waits and holds else "w" if waits else "h" if holds else "l"
        if self.timeline.holder(lane.id, at) is not None:
            return "k"
        return "f" if self.timeline.lies(lane.id, at) else "e"

    def _facts(self, row: Row) -> list[tuple[str, str]]:
        step = row.step
        facts = [
            (said.harmless(str(name), 60), said.harmless(str(value), VALUE)) for name, value in step.detail.items()
        ]
        if step.size is not None:
            facts.append(("taille", unbroken(f"{number(step.size)} octets")))
        if row.part is not Part.BEGINS and step.result is not None:
            facts.append(("résultat", str(step.result)))
        if step.blocked and step.until and row.part is not Part.BEGINS:
            facts.append(("a attendu", unbroken(duration(max(step.ended - step.time, 0.0) * 1e9))))
        if step.call:
            at = step.ended if row.part is Part.ENDS else step.time
            facts.append(("instant", unbroken(duration(max(at, 0.0) * 1e9))))
        if not step.exact:
            facts.append(("fin", "apprise plus tard, à l'appel suivant"))
        return facts


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "oui" if value else "non"
    return said.harmless(value.hex(" ") if isinstance(value, bytes) else str(value), VALUE)


def _direction(row: Row) -> str:
    """Return where the arrow points: "to" the object, "from" it, or "" for a line without a head."""
    if row.part is Part.BEGINS or row.step.action is Action.DEATH:
        return ""
    return "to" if row.step.action in TO else "from" if row.step.action in FROM else ""


def _kind(row: Row) -> str:
    """Return the class of a row for the style sheet."""
    step = row.step
    if row.part is Part.BEGINS:
        return "begins"
    if step.errno:
        return "bad"
    special = (Action.DECISION, Action.DEATH, Action.NOTE, Action.BIRTH, Action.REMOVE, Action.SIGNAL)
    return step.action.value if step.action in special else ""


# Two runs beside each other


def _aligned(left: _Drawn, right: _Drawn) -> tuple[list[tuple[int | None, int | None]], int]:
    """Return which rows stand beside each other, and the first pair that differs, -1 if none does."""
    names = _counterparts(left.lanes, right.lanes)
    ours, theirs = (
        [_likeness(row, one.timeline, known) for row in one.rows]
        for one, known in zip((left, right), names, strict=True)
    )
    alike = 0
    while alike < min(len(ours), len(theirs)) and ours[alike] == theirs[alike]:
        alike += 1
    pairs: list[tuple[int | None, int | None]] = [(place, place) for place in range(alike)]
    if len(ours) + len(theirs) - 2 * alike <= MATCHED:
        pairs += _matched(ours, theirs, alike)
    else:
        pairs += zip_longest(range(alike, len(ours)), range(alike, len(theirs)))
    return pairs, alike if alike < max(len(ours), len(theirs)) else -1


def _matched(ours: Sequence[object], theirs: Sequence[object], since: int) -> list[tuple[int | None, int | None]]:
    pairs: list[tuple[int | None, int | None]] = []
    matcher = SequenceMatcher(None, ours[since:], theirs[since:], autojunk=False)
    for _, i, i_end, j, j_end in matcher.get_opcodes():
        pairs += zip_longest(range(since + i, since + i_end), range(since + j, since + j_end))
    return pairs


def _counterparts(left: Sequence[Lane], right: Sequence[Lane]) -> tuple[dict[str, object], dict[str, object]]:
    """Return by which name each lane of two runs is known in both.

    By what people call it; else, as keys and PIDs of two runs differ, by its place among those of its kind.
    """
    found: tuple[dict[str, object], dict[str, object]] = {}, {}

    def kind(lane: Lane) -> str:
        return "task" if lane.kind in TASKS else lane.kind.value  # a child here, a thread there: they do the same

    labels = [[(kind(lane), lane.label) for lane in lanes] for lanes in (left, right)]
    for lanes, known, others in zip((left, right), found, reversed(labels), strict=True):
        places: dict[object, int] = defaultdict(int)
        for lane in sorted(lanes, key=lambda lane: lane.born):
            both = (kind(lane), lane.label)
            name: object = both if both in others else both[0]
            known[lane.id] = name, places[name]
            places[name] += 1
    return found


def _likeness(row: Row, timeline: Timeline, known: Mapping[str, object]) -> tuple[object, ...]:
    """Return what must be the same in two rows that are alike. Numbers of three digits or more may be PIDs, or keys."""
    step = row.step
    told = re.sub(r"0x[0-9a-f]+|\d{3,}", "#", said.act(step, timeline))
    task, object_ = (known.get(name, name) for name in (step.task, step.object))
    return task, step.action, object_, step.call, step.errno, told, row.part
