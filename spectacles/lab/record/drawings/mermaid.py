"""A run as a sequence diagram of Mermaid, for a report in Markdown: https://mermaid.js.org/syntax/sequenceDiagram.html

Tasks and objects are participants; an object is active while something lies in it or somebody holds it. Of a text,
letters and a few signs are written as they are, everything else as an entity (`#60;`), so that no name ends a line or a
statement.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from spectacles.lab.display.french import number
from spectacles.lab.record.drawings import said
from spectacles.lab.record.drawings.folding import Fold, folded
from spectacles.lab.record.drawings.timeline import FROM, LAST, Part, Timeline
from spectacles.lab.record.model import TASKS, Action

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spectacles.lab.record.drawings.timeline import Row
    from spectacles.lab.record.model import Lane, Run

LIMIT = 50_000  # characters, beyond which Mermaid draws nothing unless it is told to (maxTextSize)
MOST = 300  # rows
WORDS = 110  # characters of a text
# A colon may stay before a space: `style` before and an entity right behind one would be taken for a style.
_SYNTAX = re.compile(r"[^\w ./,()'!?«»×…°:-]|--|:(?! )|\bend\b", re.IGNORECASE)


def escaped(text: str) -> str:
    """Return `text` for Mermaid: on one line, of which nothing is its syntax."""
    shown = said.harmless(text)
    shown = shown if len(shown) <= WORDS else f"{shown[: WORDS - 1]}…"
    return _SYNTAX.sub(lambda found: "".join(f"#{ord(sign)};" for sign in found[0]), shown)


def draw(run: Run) -> str:
    """Return the diagram, at most LIMIT characters; what is left out of a long run is said in it."""
    timeline = Timeline(run)
    most = MOST
    while len(text := _Diagram(timeline, most).text()) > LIMIT and most > 10:
        most = most * 2 // 3
    return text


class _Diagram:
    def __init__(self, timeline: Timeline, most: int) -> None:
        self.timeline = timeline
        items = folded(timeline.rows, most)
        rows = [item for item in items if not isinstance(item, Fold)]
        used = {name for row in rows for name in (row.step.task, row.step.object)}
        self.lanes = [lane for lane in timeline.run.lanes if lane.id in used]
        self.names = {lane.id: f"p{place}" for place, lane in enumerate(self.lanes)}
        self.items: Sequence[Row | Fold] = items
        self.active: set[str] = set()

    def text(self) -> str:
        lines = ["sequenceDiagram"]
        for lane in self.lanes:
            pid = f" PID {lane.pid}" if lane.pid and lane.kind in TASKS else ""
            lines.append(f"    participant {self.names[lane.id]} as {escaped(said.label(lane) + pid)}")
        for item in self.items:
            lines += [f"    {line}" for line in (self._fold(item) if isinstance(item, Fold) else self._row(item))]
        for step in self.timeline.stuck():
            if step.task in self.names:
                what = said.label(self.timeline.lanes.get(step.object), step.object) if step.object else ""
                hold = self.timeline.holder(step.object, LAST)
                holder = f", {said.held(hold, self.timeline)}" if hold else ""
                told = escaped(f"attend toujours {step.call} {what}{holder}")
                lines.append(f"    Note over {self.names[step.task]}: {told}")
        lines += [f"    deactivate {self.names[id_]}" for id_ in self.names if id_ in self.active]
        return "\n".join(lines) + "\n"

    def _fold(self, fold: Fold) -> list[str]:
        # The rows that are left out may have changed what lies where.
        ends = sorted({"p0", f"p{len(self.lanes) - 1}"}) if self.lanes else []
        note = [f"Note over {','.join(ends)}: {escaped(fold.words)}"] if ends else []
        return [*note, *self._activity(fold.at)]

    def _activity(self, at: float) -> list[str]:
        lines = []
        for lane in self.lanes:
            if lane.kind in TASKS:
                continue
            busy = self._busy(lane, at)
            if busy != (lane.id in self.active):
                lines.append(f"{'activate' if busy else 'deactivate'} {self.names[lane.id]}")
                self.active ^= {lane.id}
        return lines

    def _busy(self, lane: Lane, at: float) -> bool:
        return self.timeline.lies(lane.id, at) > 0 or self.timeline.holder(lane.id, at) is not None

    def _row(self, row: Row) -> list[str]:
        step = row.step
        task, thing = self.names.get(step.task), self.names.get(step.object)
        seen = thing is not None and row.part is not Part.BEGINS
        words = said.told(row, self.timeline, seen=seen)
        if row.part is not Part.BEGINS:
            if step.count > 1:
                words += f" ({number(step.count)} fois)"
            if outcome := said.outcome(step):
                words += f" {outcome}"
        told = escaped(words)
        if task is None or thing is None or task == thing or step.action is Action.DEATH:
            over = task or thing
            sign = {Action.DEATH: "✗ ", Action.DECISION: "◆ "}.get(step.action, "")
            if over is None:
                over = f"p0,p{len(self.lanes) - 1}" if len(self.lanes) > 1 else "p0"
            return [f"Note over {over}: {sign}{told}"] if self.lanes else []
        if row.part is Part.BEGINS:
            return [f"Note over {task}: {told}"]
        if step.errno:
            line = f"{task}-x{thing}: {told}"
        elif step.action in FROM:
            line = f"{thing}->>{task}: {told}"
        else:
            line = f"{task}->>{thing}: {told}"
        return [line, *self._activity(row.at)]
