"""A hazard as it is shown: the broken run and the sound one, step beside step, with the seats as they go."""

from __future__ import annotations

import os
import sys
import termios
import textwrap
import tty
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING

from spectacles.lab.display.french import unbroken
from spectacles.lab.hazards import words
from spectacles.lab.hazards.hazard import BROKEN, SOUND, Hazard
from spectacles.lab.hazards.play import Outcome, play
from spectacles.lab.record import derive, store
from spectacles.lab.record.drawings import page, said
from spectacles.lab.record.drawings.timeline import Part, Row, Timeline
from spectacles.lab.record.model import Action, Run, Step

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

NAMES = {BROKEN: "cassé", SOUND: "sain"}
ASIDE = (Action.BIRTH, Action.MAKE, Action.CLOSE, Action.NOTE, Action.OTHER)
PREPARED = "neuf"  # the file that becomes the table: not worth a line
EXISTS = "EEXIST"  # who makes what is there already opens it
TOLD = 2  # how often the same line is told
LEAST = 3  # lines that are folded
STUCK = "attend pour toujours"


@dataclass(frozen=True)
class Line:
    """One line of a run. seq: of its step."""

    seq: int
    task: str
    text: str
    seats: tuple[int, ...]  # after it, where they have changed with it
    bad: bool = False


class Scene:
    """One of the two runs."""

    def __init__(self, hazard: Hazard, which: str) -> None:
        """Play it. Blocks for about a second. Raises as play() does."""
        self.which = which
        self.hazard = hazard
        recorder = store.Recorder(store.head({words[0]: ["./hazard", *words] for words in hazard.programs}, {}))
        with recorder:
            self.outcome: Outcome = play(hazard, which, sink=recorder.sink)
        run = derive.run(recorder.record, f"{hazard.title} : {NAMES[which]}")
        self.run: Run = words.clear(
            replace(
                run,
                lanes=tuple(lane for lane in run.lanes if lane.id != PREPARED),
                steps=tuple(step for step in run.steps if step.object != PREPARED),
            )
        )
        self.timeline = Timeline(self.run)
        self.told = self._lines()
        self.lines = _folded_repeats(self.told)

    @property
    def as_expected(self) -> bool:
        """Whether it came to its signature."""
        return not self.outcome.differs(self.hazard.signatures[self.which])

    @property
    def verdict(self) -> str:
        """What came of it, in one line of French."""
        parts = [f"{name} : « {self.last(name)} »" for name in self.outcome.said if self.last(name)]
        parts += [f"{name} {STUCK} ({call})" for name, call in self.outcome.waits.items() if self._is_stuck(name)]
        parts += [f"{name} tué" for name in self.outcome.killed if not self.last(name)]
        if self.outcome.seats:
            parts.append(f"places {_seats(self.outcome.seats)}")
        return " ; ".join(parts)

    def last(self, name: str) -> str:
        """Return the last line that a program printed."""
        return said.harmless(self.outcome.said.get(name, "").rstrip("\n").rpartition("\n")[2])

    def ending(self, name: str) -> str:
        """Return how a program ended, for people: what it said last, or that it is stuck."""
        if self._is_stuck(name):
            return STUCK
        return self.last(name) or "meurt sans rien dire"

    @property
    def shown(self) -> Run:
        """The run as its lines have it: without preparations, and without what is only told to be the same again."""
        rows = [row for row in self.timeline.rows if self._is_shown(row)]
        never = {row.step.seq for row in rows if row.part is Part.WHOLE and self._never_made(row.step)}
        seqs = {line.seq for line in self.lines if line.task} | set(self.run.unsent)  # what lies there is counted
        steps = [
            replace(step, words=f"retenu avant : {step.words}") if step.seq in never else step
            for step in self.run.steps
        ]
        return replace(
            self.run,
            steps=tuple(step for step in steps if step.seq in seqs),
            transfers=tuple(one for one in self.run.transfers if {one.send, one.receive} <= seqs),
            holds=tuple(one for one in self.run.holds if one.since in seqs),
            unsent=tuple(seq for seq in self.run.unsent if seq in seqs),
        )

    def notes(self) -> dict[int, str]:
        """Return what is to be said beside steps, by their seqs: the seats that changed with them, what is left out."""
        found: dict[int, str] = {}
        last = 0
        for line in self.lines:
            last = line.seq if line.task else last
            text = f"places {_seats(line.seats)}" if line.seats else "" if line.task else line.text
            if text and (line.task or line.seq not in self.run.unsent):
                found[last] = f"{found[last]} ; {text}" if last in found else text
        return found

    def _is_stuck(self, name: str) -> bool:
        return name in self.outcome.waits and (
            not name.startswith("serve") or name in self.hazard.signatures[self.which].waits
        )

    def _lines(self) -> list[Line]:
        rows = [row for row in self.timeline.rows if self._is_shown(row)]
        lines = [
            Line(
                row.step.seq,
                row.step.task,
                self._text(row),
                (),
                bool(said.outcome(row.step)) or row.part is Part.BEGINS,
            )
            for row in rows
        ]
        for seen, seats in self.outcome.seen:
            at = self._changed_by(rows, seen)
            if lines:
                lines[at] = replace(lines[at], seats=seats)
        return lines

    def _text(self, row: Row) -> str:
        text = said.told(row, self.timeline).replace("attend : lock ", "attend : ")
        known = row.part is not Part.BEGINS  # where it begins nobody knows yet how it goes
        outcome = said.outcome(row.step) if known else ""
        if row.part is Part.WHOLE and self._never_made(row.step):
            return f"retenu avant : {text}"
        return f"{text} : {outcome}" if outcome and outcome not in text else text

    def _never_made(self, step: Step) -> bool:
        """Say whether a task was killed while it was held there."""
        return not step.until and step.action in (Action.WRITE, Action.SEND) and step.task in self.outcome.killed

    @staticmethod
    def _is_shown(row: Row) -> bool:
        step = row.step
        if step.action in ASIDE and (not step.errno or step.errno == EXISTS):
            return False
        if step.interrupted and step.action is Action.WRITE and not step.object:
            return False  # a line that is printed a moment later
        if step.action is Action.OPEN and row.part is Part.WHOLE:
            return False
        return not (step.action is Action.DEATH and "." in step.task)  # a thread, when it has done its work

    def _changed_by(self, rows: Sequence[Row], seen: int) -> int:
        """Return which row has changed the seats, when they were seen changed just before the event `seen`.

        The last that writes to their file, or gives it its name; else, as not all writes are seen, the last one over.
        """
        since = max((other for other, _ in self.outcome.seen if other < seen), default=0)
        over = 0
        for at, row in enumerate(rows):
            step, file = row.step, self.hazard.seats_file
            began = max(step.began, step.seq)
            if row.part is Part.BEGINS or began >= seen or self._never_made(step):
                continue
            writes = step.object == file and step.action in (Action.WRITE, Action.CHANGE)
            if (writes or (step.call == "rename" and file in step.words)) and began >= since:
                return at
            if (step.until or step.seq) <= seen:
                over = at
        return over


def _folded_repeats(lines: list[Line]) -> list[Line]:
    """Return the lines, with what has been told before told no more where there is much of it."""
    found: list[Line] = []
    known: Counter[tuple[str, str]] = Counter()
    again: list[Line] = []
    for line in [*lines, None]:
        if line is not None and not line.seats and known[line.task, line.text] >= TOLD:
            again.append(line)
            continue
        if len(again) >= LEAST:
            found.append(Line(again[0].seq, "", f"… {len(again)} lignes de même", ()))
        else:
            found += again
        again = []
        if line is not None:
            known[line.task, line.text] += 1
            found.append(line)
    return found


def _seats(seats: Sequence[int]) -> str:
    return str(list(seats))


# In the terminal


def pairs(left: Scene, right: Scene) -> list[tuple[Line | None, Line | None]]:
    """Return the lines of two runs, those that are alike beside each other."""
    found: list[tuple[Line | None, Line | None]] = []
    ours, theirs = left.lines, right.lines
    # The most that can stand side by side: best[i][j] of those from i and from j on.
    best = [[0] * (len(theirs) + 1) for _ in range(len(ours) + 1)]
    for i in range(len(ours) - 1, -1, -1):
        for j in range(len(theirs) - 1, -1, -1):
            best[i][j] = best[i + 1][j + 1] + 1 if _alike(ours[i], theirs[j]) else max(best[i + 1][j], best[i][j + 1])
    i = j = 0
    apart: tuple[list[Line], list[Line]] = ([], [])
    while i < len(ours) or j < len(theirs):
        if i < len(ours) and j < len(theirs) and _alike(ours[i], theirs[j]):
            found += [*zip_longest(*apart), (ours[i], theirs[j])]
            apart = ([], [])
            i, j = i + 1, j + 1
        elif j == len(theirs) or (i < len(ours) and best[i + 1][j] >= best[i][j + 1]):
            apart[0].append(ours[i])
            i += 1
        else:
            apart[1].append(theirs[j])
            j += 1
    return [*found, *zip_longest(*apart)]


def _alike(one: Line, other: Line) -> bool:
    return (one.task, one.text) == (other.task, other.text)


def show(screen: Console, left: Scene, right: Scene, *, wait: Callable[[str], bool] | None = None) -> None:
    """Print two runs side by side; wait: asked before each line with what is about to happen, False to stop."""
    width = (min(screen.width, 100) - 3) // 2
    screen.print(_beside([("CASSÉ", "bold red")], [("SAIN", "bold green")], width))
    for one, other in pairs(left, right):
        if wait is not None and not wait(_coming(one, other)):
            return
        cells = [_cell(line, width) for line in (one, other)]
        for a, b in zip_longest(*cells, fillvalue=[]):
            screen.print(_beside(a, b, width), soft_wrap=True)


def _coming(one: Line | None, other: Line | None) -> str:
    if one is not None and other is not None and (one.task, one.text) == (other.task, other.text):
        return f"les deux : {one.task} {one.text}"
    parts = [f"{name} : {line.task} {line.text}" for name, line in (("cassé", one), ("sain", other)) if line]
    return " ; ".join(parts) or "la suite"


def _cell(line: Line | None, width: int) -> list[list[tuple[str, str]]]:
    """Return the lines of one half, each as (text, style) pieces."""
    if line is None:
        return []
    seats = f" {_seats(line.seats)}" if line.seats else ""
    room = width - 10
    folded = textwrap.wrap(unbroken(line.text), room - len(seats)) or [""]
    found = [[(f"{line.task[:9]:<10}", "bold"), (folded[0], "yellow" if line.bad else "")]]
    if seats:
        used = 10 + len(folded[0])
        found[0] += [(" " * max(width - used - len(seats), 0), ""), (seats, "cyan")]
    return found + [[(" " * 10, ""), (text, "yellow" if line.bad else "")] for text in folded[1:]]


def _beside(left: Sequence[tuple[str, str]], right: Sequence[tuple[str, str]], width: int) -> Text:
    from rich.text import Text

    text = Text()
    used = 0
    for piece, style in left:
        text.append(piece, style)
        used += len(piece)
    text.append(" " * max(width - used, 0) + " │ ", "dim")
    for piece, style in right:
        text.append(piece, style)
    return text


def key(prompt: str) -> bool:
    """Show what is about to happen until the space bar is pressed; False when it is q. Without a terminal: True."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return True
    line = f"▸ ensuite : {prompt}"
    shown = line if len(line) < 88 else f"{line[:86]}…"
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin, termios.TCSANOW)  # what was typed meanwhile counts
        sys.stdout.write(f"\x1b[2m{shown} [espace]\x1b[0m")
        sys.stdout.flush()
        while (pressed := os.read(sys.stdin.fileno(), 1)) not in (b" ", b"\n", b"q", b""):
            pass
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        sys.stdout.write("\r\x1b[K")
        sys.stdout.flush()
    return pressed not in (b"q", b"")


# As a page


def html(left: Scene, right: Scene) -> str:
    """Return both as one page."""
    hazard = left.hazard
    sides = [
        page.Side(scene.shown, NAMES[scene.which].capitalize(), scene.verdict, scene.which == SOUND, scene.notes())
        for scene in (left, right)
    ]
    return page.compare(*sides, title=hazard.title, lead=" ".join(hazard.lesson.splitlines()))
