"""A run as Chrome's trace JSON, for ui.perfetto.dev or chrome://tracing: on a scale of time, with arrows.

Tasks are the threads of one process, objects those of another. A task's track has a slice for every step and every
wait; an object's track one for everything that lay in it and for every hold, as long as it lasted. What a row shows is
at an instant of its own, a microsecond after the last at least: an arrow may go neither back in time nor between two
slices of the same instant.
https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

from __future__ import annotations

import json
from bisect import bisect_left
from typing import TYPE_CHECKING, Any

from spectacles.lab.record.drawings import said
from spectacles.lab.record.drawings.timeline import Part, Timeline
from spectacles.lab.record.model import TASKS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spectacles.lab.record.drawings.timeline import Row, Span
    from spectacles.lab.record.model import Run

TASK, THING = 1, 2  # the processes
BESIDE = 1000  # tracks of one object: what lies there at the same time cannot be on the same
SHORT = 0.9  # microseconds of a step that took none


def draw(run: Run) -> str:
    """Return the trace, JSON in ASCII."""
    return json.dumps({"displayTimeUnit": "ms", "traceEvents": _Trace(run).events})


class _Trace:
    def __init__(self, run: Run) -> None:
        self.timeline = Timeline(run)
        self.events: list[dict[str, Any]] = []
        self.place = {lane.id: place for place, lane in enumerate(run.lanes)}
        self.rows = self.timeline.rows
        self._ats = [row.at for row in self.rows]
        self.instants = self._instants()
        self.end = (self.instants[-1] if self.instants else 0.0) + 1000
        self._name_tracks(run)
        own: dict[str, list[int]] = {}
        for place, row in enumerate(self.rows):
            own.setdefault(row.step.task, []).append(place)
        for places in own.values():
            for place, after in zip(places, [*places[1:], None], strict=True):
                self._slice(place, self.instants[after] if after is not None else self.end)
        self._objects()
        self._arrows(run)

    def _instants(self) -> list[float]:
        """Return the instant of each row in microseconds, each later than the one before."""
        found: list[float] = []
        for row in self.rows:
            seconds = row.step.ended if row.part is Part.ENDS else row.step.time
            found.append(round(max(seconds * 1e6, found[-1] + 1 if found else 0.0), 3))
        return found

    def _name_tracks(self, run: Run) -> None:
        for process, name in ((TASK, said.harmless(run.title) or "tâches"), (THING, "objets")):
            self._add("M", process, 0, "process_name", args={"name": name})
            self._add("M", process, 0, "process_sort_index", args={"sort_index": process})
        for lane in run.lanes:
            process, track = (TASK if lane.kind in TASKS else THING), self._track(lane.id)
            self._add("M", process, track, "thread_name", args={"name": said.label(lane)})
            self._add("M", process, track, "thread_sort_index", args={"sort_index": track})

    def _track(self, lane: str, beside: int = 0) -> int:
        return (self.place.get(lane, len(self.place)) + 1) * BESIDE + beside

    def _add(self, kind: str, process: int, track: int, name: str, **more: Any) -> None:
        self.events.append({"ph": kind, "pid": process, "tid": track, "name": name, "ts": 0, **more})

    def _slice(self, place: int, after: float) -> None:
        """Add what a row shows of its task. after: the instant of the task's next row."""
        row, begins = self.rows[place], self.instants[place]
        step, waits = row.step, row.part is Part.BEGINS
        if not step.task:
            self._add("i", TASK, 0, said.told(row, self.timeline), ts=begins, s="g")
            return
        took = (step.ended - step.time) * 1e6 if row.part is Part.WHOLE and step.until else 0.0
        size = after - begins if waits else min(max(took, SHORT), max(after - begins, SHORT))
        self._add(
            "X",
            TASK,
            self._track(step.task),
            said.told(row, self.timeline),
            ts=begins,
            dur=round(size, 3),
            cat="attente" if waits else step.action.value,
            args=self._facts(row),
        )

    def _facts(self, row: Row) -> dict[str, Any]:
        step = row.step
        facts: dict[str, Any] = {"étape": step.seq, "appel": said.harmless(step.call, 40)}
        if step.object:
            facts["objet"] = said.label(self.timeline.lanes.get(step.object), step.object)
        if row.part is not Part.BEGINS:
            facts |= {"résultat": step.result, "échec": said.outcome(step) or None, "taille": step.size}
            facts["octets"] = step.data[:64].hex(" ") or None
        facts["source"] = said.harmless(step.place, 120) or None
        facts |= {said.harmless(str(name), 60): said.harmless(str(value), 200) for name, value in step.detail.items()}
        return {name: value for name, value in facts.items() if value is not None}

    def _instant(self, at: float) -> float:
        place = bisect_left(self._ats, at)
        return self.instants[place] if place < len(self.instants) else self.end

    def _objects(self) -> None:
        for lane, spans in self.timeline.lying.items():
            named = [(span, said.act(span.step, self.timeline) if span.step else "") for span in spans]
            self._spans(lane, "dedans", named)
        for lane, pairs in self.timeline.held.items():
            self._spans(lane, "verrou", [(span, said.held(hold, self.timeline)) for span, hold in pairs])

    def _spans(self, lane: str, kind: str, spans: Iterable[tuple[Span, str]]) -> None:
        """Add spans of an object, on as many tracks as there are of them at the same time."""
        free: list[float] = []
        for span, name in sorted(spans, key=lambda pair: pair[0].since):
            begins, ends = self._instant(span.since), self._instant(span.until)
            beside = next((track for track, until in enumerate(free) if until <= begins), len(free))
            if beside == len(free):
                free.append(0.0)
                if beside:
                    label = said.label(self.timeline.lanes.get(lane), lane)
                    track = self._track(lane, beside)
                    self._add("M", THING, track, "thread_name", args={"name": f"{label} ({beside + 1})"})
                    self._add("M", THING, track, "thread_sort_index", args={"sort_index": track})
            free[beside] = ends
            size = round(max(ends - begins, SHORT), 3)
            self._add("X", THING, self._track(lane, beside), name, ts=begins, dur=size, cat=kind)

    def _arrows(self, run: Run) -> None:
        where = {row.step.seq: place for place, row in enumerate(self.rows)}
        for number, transfer in enumerate(run.transfers, 1):
            if transfer.send not in where or transfer.receive not in where:
                continue
            send, receive = where[transfer.send], where[transfer.receive]
            if not (send < receive and self.rows[send].step.task and self.rows[receive].step.task):
                continue
            name = said.label(self.timeline.lanes.get(transfer.object), transfer.object)
            for kind, place, more in (("s", send, {}), ("f", receive, {"bp": "e"})):
                track = self._track(self.rows[place].step.task)
                self._add(kind, TASK, track, name, ts=self.instants[place], cat="envoi", id=number, **more)
