"""The rows of a drawing, and what is true between them: who lives, who waits, who holds what, what lies where.

A step that waited has two rows, where it began to and where it was over; any other one. Rows stand where what they show
took effect: a `msgsnd` before the `msgrcv` that took its message, whatever the order in which both calls returned.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from spectacles.lab.record.model import TASKS, Action, LaneKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spectacles.lab.record.model import Hold, Lane, Run, Step

TO = frozenset((Action.SEND, Action.WRITE, Action.CHANGE, Action.RELEASE, Action.WAKE, Action.SIGNAL, Action.BIRTH))
FROM = frozenset((Action.RECEIVE, Action.READ, Action.LOOK, Action.TAKE))
INSTANT = frozenset((Action.BIRTH, Action.DEATH, Action.DECISION, Action.NOTE, Action.SIGNAL, Action.WAKE))
# What happens to an object without anything going in or out of it.
HOUSEKEEPING = frozenset((Action.OPEN, Action.CLOSE, Action.MAKE, Action.REMOVE, Action.OTHER))
LAST = 1e300  # a place after all rows


class Part(Enum):
    """Which part of its step a row shows."""

    WHOLE = "whole"
    BEGINS = "begins"  # begins to wait
    ENDS = "ends"  # has waited, and is done


@dataclass(frozen=True)
class Row:
    """One row. at: its place in the order of all rows and spans; no time and no number of an event."""

    at: float
    step: Step
    part: Part


@dataclass(frozen=True)
class Span:
    """Something that was so from one place in the order of rows to another; until: math.inf where it never ended."""

    since: float
    until: float
    step: Step | None = None  # that began it


class Timeline:
    """A run as rows in order, and as spans. Everything is worked out once; asking takes no time."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.steps = {step.seq: step for step in run.steps}
        self.lanes = {lane.id: lane for lane in run.lanes}
        self.at = self._places()
        self.rows = self._rows()
        self.waits: dict[str, list[Span]] = defaultdict(list)  # by task
        self.lying: dict[str, list[Span]] = defaultdict(list)  # by object: what was put in, until it was all taken
        self.held: dict[str, list[tuple[Span, Hold]]] = defaultdict(list)  # by lock
        self.holding: dict[str, list[tuple[Span, Hold]]] = defaultdict(list)  # by task
        for row in self.rows:
            if row.part is Part.BEGINS:
                end = self.at[row.step.seq] if row.step.until else math.inf
                self.waits[row.step.task].append(Span(row.at, end, row.step))
        for hold in run.holds:
            end = self.at.get(hold.until, float(hold.until)) if hold.until else math.inf
            span = Span(self.at.get(hold.since, float(hold.since)), end, self.steps.get(hold.since))
            self.held[hold.lock].append((span, hold))
            self.holding[hold.task].append((span, hold))
        self._lay()
        self._lying = {lane: _Spans(spans) for lane, spans in self.lying.items()}
        self._waits = {task: _Spans(spans) for task, spans in self.waits.items()}
        self._held = {lock: _Spans(span for span, _ in spans) for lock, spans in self.held.items()}
        self._holding = {task: _Spans(span for span, _ in spans) for task, spans in self.holding.items()}

    def _places(self) -> dict[int, float]:
        at = {}
        for step in self.run.steps:
            waited = step.blocked and step.action not in INSTANT
            at[step.seq] = float(step.until if waited and step.until else max(step.seq, step.began))
            if step.action is Action.DECISION:
                at[step.seq] -= 0.1  # what it let go follows it
        for transfer in sorted(self.run.transfers, key=lambda transfer: transfer.receive):
            send, receive = self.steps.get(transfer.send), self.steps.get(transfer.receive)
            if send is None or receive is None or at[send.seq] < at[receive.seq]:
                continue
            # Each took effect at some point between its beginning and its end: the send before the receive.
            if send.seq < at[receive.seq]:
                at[send.seq] = max(float(send.seq), send.began, at[receive.seq] - 0.5)
            else:
                at[receive.seq] = at[send.seq] + 0.5
        return at

    def _rows(self) -> tuple[Row, ...]:
        found: list[Row] = []
        for step in self.run.steps:
            at = self.at[step.seq]
            if step.blocked and step.action not in INSTANT:
                found.append(Row(float(step.seq), step, Part.BEGINS))
                if step.until:
                    found.append(Row(at, step, Part.ENDS))
            else:
                found.append(Row(at, step, Part.WHOLE))
        found.sort(key=lambda row: (row.at, row.step.seq))
        merged: list[Row] = []
        for row in found:
            # Nothing happened while it waited: one row says as much as two.
            if row.part is Part.ENDS and merged and merged[-1].step is row.step:
                merged[-1] = Row(row.at, row.step, Part.WHOLE)
            else:
                merged.append(row)
        return tuple(merged)

    def _lay(self) -> None:
        taken: dict[int, float] = {}
        for transfer in self.run.transfers:
            if transfer.receive in self.at:
                taken[transfer.send] = max(taken.get(transfer.send, 0.0), self.at[transfer.receive])
        left = set(self.run.unsent)
        for step in self.run.steps:
            lane = self.lanes.get(step.object)
            if lane is None or lane.kind in TASKS or lane.kind is LaneKind.FILE or step.errno:
                continue
            if step.action is Action.RELEASE and self.held[lane.id]:
                continue  # a lock: what matters is in whose hands it is
            if step.action not in (Action.SEND, Action.RELEASE):
                continue
            end = math.inf if step.seq in left else taken.get(step.seq)
            if end is None:
                continue
            if lane.died:
                end = min(end, float(lane.died))
            if end > self.at[step.seq]:
                self.lying[lane.id].append(Span(self.at[step.seq], end, step))

    def lies(self, lane: str, at: float) -> int:
        """Return how many sends lie in an object once the row at `at` is over."""
        return self._lying[lane].count(at) if lane in self._lying else 0

    def waiting(self, task: str, at: float) -> Step | None:
        """Return the step in which a task waits once the row at `at` is over, None if it does not."""
        span = self._waits[task].last(at) if task in self._waits else None
        return span.step if span else None

    def holder(self, lock: str, at: float) -> Hold | None:
        """Return who holds a lock once the row at `at` is over: of several, who took it last."""
        span = self._held[lock].last(at) if lock in self._held else None
        return next(hold for own, hold in self.held[lock] if own is span) if span else None

    def holds(self, task: str, at: float) -> bool:
        """Say whether a task holds any lock once the row at `at` is over."""
        return task in self._holding and self._holding[task].count(at) > 0

    def lives(self, lane: Lane, at: float) -> bool:
        """Say whether a task or an object is there once the row at `at` is over."""
        return lane.born <= at and not (lane.died and lane.died <= at)

    def stuck(self) -> list[Step]:
        """Return the steps in which tasks waited when the run ended, those of tasks that died not among them."""
        return [
            span.step
            for lane in self.run.lanes
            for span in self.waits.get(lane.id, ())
            if span.until == math.inf and span.step is not None and not lane.died
        ]

    def cycles(self) -> list[list[str]]:
        """Return the circles of tasks, each of which waited at the end for a lock in the hands of the next."""
        behind = {}
        for step in self.stuck():
            hold = self.holder(step.object, LAST)
            if hold is not None:
                behind[step.task] = hold.task
        found: list[list[str]] = []
        for task in behind:
            circle = [task]
            while (following := behind.get(circle[-1])) is not None and following not in circle:
                circle.append(following)
            if following == task and not any(task in other for other in found):
                found.append(circle)
        return found


class _Spans:
    """Spans that are asked for by a place in them."""

    def __init__(self, spans: Iterable[Span]) -> None:
        self._spans = sorted(spans, key=lambda span: span.since)
        self._begins = [span.since for span in self._spans]
        self._ends = sorted(span.until for span in self._spans)

    def count(self, at: float) -> int:
        """Return how many there are at a place."""
        return bisect_right(self._begins, at) - bisect_right(self._ends, at)

    def last(self, at: float) -> Span | None:
        """Return the one at a place that began last, None if there is none."""
        if not self.count(at):
            return None
        return next(span for span in reversed(self._spans[: bisect_right(self._begins, at)]) if span.until > at)
