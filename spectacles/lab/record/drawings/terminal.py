"""A run in characters: a lane for every task and for every object, so that one sees the message lying in the queue.

            A             B                        serveur
          PID 7         PID 8       file 0x2a       PID 2
   1        │             │             ·┄┄┄┄┄┄msgrcv┄○       attend : msgrcv
   2        ├─msgsnd──────┼────────────▶┃             ┊       demande 3 places du spectacle 5
   4        │             ├─msgsnd─────▶┃2            ┊       demande 99 places du spectacle 5
   6        │             │             ┠─────msgrcv─▶│       prend la demande de A

A task is a line, dotted while it waits, thick while it has a lock in its hands. An object is dots, a thick line while
something lies in it (with the number of sends, from two on) or while somebody holds it.
"""

from __future__ import annotations

import contextlib
import os
import unicodedata
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from rich.cells import cell_len

from spectacles.common.errors import UsageError
from spectacles.lab.display.french import number, unbroken
from spectacles.lab.record.drawings import said
from spectacles.lab.record.drawings.folding import Fold, folded, steps
from spectacles.lab.record.drawings.timeline import FROM, HOUSEKEEPING, LAST, TO, Part, Timeline
from spectacles.lab.record.model import TASKS, Action

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TextIO

    from spectacles.lab.record.drawings.timeline import Row
    from spectacles.lab.record.model import Lane, Run

WIDEST = 100  # columns: what is read from the last row of a class
NARROWEST = 30
MARGIN = 5  # columns of the number of the event
LANE = (6, 14)  # columns of a lane, at least and at most
WORDS, MOST_WORDS = 26, 44  # columns that words have at least, and need at most, where they stand at the right
STACKED = 64  # columns below which they stand under the row
HEAD = 5  # lines of a lane's name; a longer one stands below the drawing
MOST = 150  # rows; of a longer run the middle is left out
STILL = 8  # tasks that are said to wait still, below the drawing

Span = tuple[str, str]  # text, style
STYLES = {
    "": "",
    "task": "1",
    "object": "1;36",
    "faint": "2",
    "arrow": "36",
    "lies": "1;33",
    "wait": "33",
    "lock": "1;35",
    "bad": "1;31",
    "decision": "35",
}
_PLAIN = str.maketrans(
    {
        "│": "|", "┊": ":", "┃": "#", "┇": "%", "·": ".", "─": "-", "┄": ".", "▶": ">", "◀": "<", "✗": "X", "◆": "*",
        "○": "o", "●": "@", "├": "|", "┤": "|", "┠": "#", "┨": "#", "┼": "+", "╂": "#", "…": "...", "«": '"', "»": '"',
        "×": "x", "’": "'", "\u00a0": " ", "\u202f": " ", "→": "->", "≥": ">=", "œ": "oe", "Œ": "OE",
    }
)  # fmt: skip

_SPACES = str.maketrans("\u00a0\u202f", "  ")  # have done their work once lines are folded


@dataclass(frozen=True)
class Medium:
    """What a drawing is for. width: columns, of which WIDEST at most are used; encoding: what can be written at all."""

    width: int = WIDEST
    colours: bool = False
    encoding: str = "utf-8"


def medium(stream: TextIO | None) -> Medium:
    """Return what `stream` can show: a terminal's width, and its colours unless NO_COLOR forbids (no-color.org).

    None: a program that was started without it.
    """
    if stream is None:
        return Medium()
    width, terminal = WIDEST, stream.isatty()
    if os.environ.get("COLUMNS", "").isdecimal():
        width = int(os.environ["COLUMNS"])
    elif terminal:
        width = os.get_terminal_size(stream.fileno()).columns or WIDEST
    colours = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
    return Medium(width, colours, stream.encoding or "ascii")


def draw(run: Run, on: Medium | None = None, *, lanes: Sequence[str] = (), most: int = MOST) -> str:
    """Return the drawing of `run`, lines that end in a newline.

    lanes: names or ids of those to draw, in that order; none: those that exchange most, as many as fit. most: rows.
    Raises UsageError when there is no lane of such a name.
    """
    on = on or Medium()
    return _Drawing(run, on, lanes, most).text()


class _Drawing:
    def __init__(self, run: Run, on: Medium, lanes: Sequence[str], most: int) -> None:
        self.timeline = Timeline(run)
        self.run = run
        self.width = max(min(on.width, WIDEST), NARROWEST)
        self.on = on
        self.most = max(most, 10)
        self.stacked = self.width < STACKED
        area = self.width - MARGIN - (1 if self.stacked else WORDS + 1)
        self.capacity = max(area // LANE[0], 2)
        self.lanes, self.folded = self._chosen(lanes) if lanes else self._fitting()
        self.widths = self._widths(area - (0 if self.stacked else self._longer()))
        self.area = sum(self.widths)
        starts = accumulate(self.widths, initial=0)
        self.column = {
            lane.id: start + width // 2 for lane, start, width in zip(self.lanes, starts, self.widths, strict=False)
        }
        self.words_at = MARGIN + 2 if self.stacked else MARGIN + self.area + 1
        self.words_width = self.width - self.words_at

    # Which lanes

    def _chosen(self, names: Sequence[str]) -> tuple[list[Lane], list[Lane]]:
        found: list[Lane] = []
        for name in names:
            wanted = name.casefold()
            alike = [lane for lane in self.run.lanes if wanted in (lane.id.casefold(), lane.label.casefold())]
            alike = alike or [lane for lane in self.run.lanes if wanted and wanted in lane.label.casefold()]
            if not alike:
                known = ", ".join(said.label(lane) for lane in self.run.lanes)
                raise UsageError(f"aucun couloir « {name} » (il y a : {known})")
            found += [lane for lane in alike if lane not in found]
        if len(found) > self.capacity:
            raise UsageError(f"{len(found)} couloirs : {self.capacity} au plus en {self.width} colonnes")
        return found, [lane for lane in self.run.lanes if lane not in found]

    def _fitting(self) -> tuple[list[Lane], list[Lane]]:
        steps, told, exchanges = Counter[str](), Counter[str](), Counter[str]()
        for step in self.run.steps:
            steps[step.task] += 1
            told[step.object] += step.action not in HOUSEKEEPING
        for transfer in self.run.transfers:
            ends = [
                self.timeline.steps[seq].task for seq in (transfer.send, transfer.receive) if seq in self.timeline.steps
            ]
            exchanges.update([transfer.object, *ends])
        for seq in self.run.unsent:
            if seq in self.timeline.steps:
                exchanges.update((self.timeline.steps[seq].object, self.timeline.steps[seq].task))
        for hold in self.run.holds:
            exchanges.update((hold.lock, hold.task))

        stuck = {name for step in self.timeline.stuck() for name in (step.task, step.object)}

        def rank(lane: Lane) -> tuple[bool, bool, bool, int]:
            task = lane.kind in TASKS
            return lane.id in stuck, exchanges[lane.id] > 0, task, steps[lane.id] + told[lane.id]

        busy = [lane for lane in self.run.lanes if (steps if lane.kind in TASKS else told)[lane.id] or lane.died]
        best = sorted(busy, key=rank, reverse=True)[: self.capacity]
        return [lane for lane in self.run.lanes if lane in best], [lane for lane in self.run.lanes if lane not in best]

    def _longer(self) -> int:
        """Return the columns above WORDS that words are to have: for most of them, as far as lanes can spare them.

        A name is folded once, above the lanes; words in every row.
        """
        sizes = sorted(cell_len(said.act(step, self.timeline)) for step in self.run.steps) or [0]
        wanted = min(sizes[len(sizes) * 9 // 10] + 1, MOST_WORDS) - WORDS
        spare = self.width - MARGIN - WORDS - 1 - sum(min(need, LANE[0] + 2) for need in self._needs())
        return max(min(wanted, spare), 0)

    def _needs(self) -> list[int]:
        """Return the columns of each lane in which no word of its name is broken."""
        names = [[*self._written(said.label(lane)).split(" "), self._pid(lane)] for lane in self.lanes]
        return [min(max(*(cell_len(word) + 1 for word in words), LANE[0]), LANE[1] + 2) for words in names]

    def _widths(self, area: int) -> list[int]:
        """Return the columns of each lane: for the words of its name, as far as there are so many."""
        widths = self._needs()
        while sum(widths) > area and max(widths) > LANE[0]:
            widths[widths.index(max(widths))] -= 1
        while widths and sum(widths) < min(area, len(widths) * LANE[1]) and min(widths) < LANE[1]:
            widths[widths.index(min(widths))] += 1
        return widths

    # Which rows

    def _items(self) -> list[Row | Fold]:
        shown = [
            row
            for row in self.timeline.rows
            if not row.step.task or row.step.task in self.column or row.step.object in self.column
        ]
        items = folded(shown, self.most)
        hidden = len(self.timeline.rows) - len(shown)
        if hidden:
            items.append(Fold(LAST, f"… {steps(hidden)} de couloirs repliés"))
        return items

    # Lines

    def text(self) -> str:
        lines: list[list[Span]] = [[(piece, "task")] for piece in self._fold(said.harmless(self.run.title), self.width)]
        lines += [[], *self._head()] if lines else self._head()
        for item in self._items():
            lines += self._fold_lines(item) if isinstance(item, Fold) else self._row(item)
        if self.timeline.stuck():
            lines.append([(" " * MARGIN, ""), *_joined(self._cells(LAST))])
        lines += self._foot()
        return "".join(self._line(line) + "\n" for line in lines)

    def _line(self, spans: Iterable[Span]) -> str:
        out = []
        for text, style in spans:
            plain = _writable(text, self.on.encoding).translate(_SPACES)
            code = STYLES[style] if self.on.colours and plain.strip() else ""
            out.append(f"\x1b[{code}m{plain}\x1b[0m" if code else plain)
        line = "".join(out)
        return line if self.on.colours else line.rstrip()

    def _head(self) -> list[list[Span]]:
        names = {lane.id: self._name(lane) for lane in self.lanes}
        height = max((len(pieces) for pieces in names.values()), default=0)
        lines: list[list[Span]] = []
        for place in range(height):
            line: list[Span] = [(" " * MARGIN, "")]
            for lane, width in zip(self.lanes, self.widths, strict=True):
                pieces = names[lane.id]
                piece = pieces[place - height + len(pieces)] if place >= height - len(pieces) else ""
                line.append((_centred(piece, width), "task" if lane.kind in TASKS else "object"))
            lines.append(line)
        return lines

    def _name(self, lane: Lane) -> list[str]:
        place = self.lanes.index(lane)
        width = self.widths[place] - 1
        pieces = self._fold(said.label(lane), width)
        if len(pieces) > HEAD:
            pieces = [f"({place + 1})"]
        return pieces + self._fold(self._pid(lane), width)

    def _pid(self, lane: Lane) -> str:
        return f"PID {lane.pid}" if lane.pid and lane.kind in TASKS else ""

    def _cells(self, at: float) -> list[Span]:
        cells: list[Span] = [(" ", "")] * self.area
        for lane in self.lanes:
            column = self.column[lane.id]
            if not self.timeline.lives(lane, at):
                continue
            if lane.kind in TASKS:
                locked, waits = self.timeline.holds(lane.id, at), self.timeline.waiting(lane.id, at) is not None
                mark = "┇" if locked and waits else "┃" if locked else "┊" if waits else "│"
                cells[column] = (mark, "wait" if waits else "lock" if locked else "")
                continue
            count = self.timeline.lies(lane.id, at)
            if self.timeline.holder(lane.id, at) is not None:
                cells[column] = ("┃", "lock")
            elif count:
                cells[column] = ("┃", "lies")
                if count > 1:
                    for place, digit in enumerate(str(count) if count < 100 else "++"):
                        cells[column + 1 + place] = (digit, "lies")
            else:
                cells[column] = ("·", "faint")
        return cells

    def _row(self, row: Row) -> list[list[Span]]:
        step, cells = row.step, self._cells(row.at)
        source, target = self.column.get(step.task), self.column.get(step.object)
        bad = bool(step.errno) and row.part is not Part.BEGINS
        if source is not None and target is not None and source != target and step.action is not Action.DEATH:
            self._arrow(cells, row, source, target, bad)
        if source is not None:
            mark = {Action.DEATH: ("✗", "bad"), Action.DECISION: ("◆", "decision")}.get(step.action)
            if row.part is Part.BEGINS:
                mark = ("○", "wait")
            elif mark is None and target is None:
                mark = ("✗", "bad") if bad else ("●", "arrow")
            if mark is not None:
                cells[source] = mark
        if step.action is Action.REMOVE and target is not None and not bad:
            cells[target] = ("✗", "object")
        name = f"{step.until if row.part is Part.ENDS else step.seq}" if step.task else ""
        if step.action is Action.DECISION and source is None:
            name = "◆"
        return self._with_words(name, cells, row.at, self._words(row))

    def _arrow(self, cells: list[Span], row: Row, task: int, thing: int, bad: bool) -> None:
        """Draw what goes from the column of a task to that of an object, or comes back."""
        step = row.step
        begins = row.part is Part.BEGINS
        back = step.action in FROM and not begins
        moves = (step.action in TO or step.action in FROM) and not begins
        start, end = (thing, task) if back else (task, thing)
        style = "bad" if bad else "wait" if begins else "decision" if step.action is Action.DECISION else "arrow"
        low, high = min(start, end), max(start, end)
        for column in range(low + 1, high):
            under, _ = cells[column]
            crossed = {"│": "┼", "┊": "┼", "┃": "╂", "┇": "╂"}.get(under)
            cells[column] = (crossed or ("─" if moves else "┄"), style)
        thick = cells[start][0] in "┃┇" or (back and not bad and start == thing and step.action is Action.RECEIVE)
        own = cells[start][1]
        right = end > start
        cells[start] = (
            ("┠" if right else "┨") if thick else ("├" if right else "┤"),
            "lies" if back and thick else own,
        )
        if moves:
            cells[end - 1 if right else end + 1] = ("✗", "bad") if bad else ("▶" if right else "◀", style)
        if step.action is not Action.BIRTH:
            self._write_call(cells, said.harmless(step.call, 20), style, range(low + 1, high), task == low)

    def _write_call(self, cells: list[Span], call: str, style: str, between: range, rightwards: bool) -> None:
        """Write the name of the call on the arrow, beside the task, where it hides no crossing and no head."""
        if not call.isascii() or not call.isprintable():
            return
        firsts = range(between.start + 1, between.stop - len(call))
        for first in firsts if rightwards else reversed(firsts):
            if all(cells[place][0] in "─┄" for place in range(first - 1, first + len(call) + 1)):
                for place, character in enumerate(call, first):
                    cells[place] = (character, style)
                return

    def _words(self, row: Row) -> list[Span]:
        step = row.step
        style = {Action.DECISION: "decision", Action.NOTE: "faint", Action.DEATH: "bad"}.get(step.action, "")
        who = ""
        if step.task and step.task not in self.column:
            who = f"{said.label(self.timeline.lanes.get(step.task), step.task)} : "
        seen = step.object in self.column or step.action in (Action.BIRTH, Action.SIGNAL)
        spans = [(who + said.told(row, self.timeline, seen=seen), "wait" if row.part is Part.BEGINS else style)]
        if step.count > 1:
            spans.append((f" ({number(step.count)} fois)", "faint"))
        if row.part is not Part.BEGINS and (outcome := said.outcome(step)):
            spans.append((f" {outcome}", "bad"))
        if step.place and row.part is not Part.ENDS:
            spans.append((f" {said.harmless(step.place, 60)}", "faint"))
        return spans

    def _fold_lines(self, fold: Fold) -> list[list[Span]]:
        return self._with_words(self._written("…"), self._cells(fold.at), fold.at, [(fold.words, "faint")])

    def _with_words(self, name: str, cells: list[Span], at: float, words: Sequence[Span]) -> list[list[Span]]:
        pieces = self._fold_spans(words, self.words_width)
        first: list[Span] = [(name.rjust(MARGIN - 1) + " ", "faint"), *_joined(cells)]
        if self.stacked:
            return [first, *([(" " * self.words_at, ""), *piece] for piece in pieces)]
        lines = [[*first, (" ", ""), *(pieces[0] if pieces else [])]]
        lines += [[(" " * MARGIN, ""), *_joined(self._cells(at)), (" ", ""), *piece] for piece in pieces[1:]]
        return lines

    def _foot(self) -> list[list[Span]]:
        told: list[Span] = [(said.cycle(tasks, self.timeline), "bad") for tasks in self.timeline.cycles()]
        stuck = self.timeline.stuck()
        told += [(said.still(step, self.timeline), "wait") for step in stuck[:STILL]]
        if len(stuck) > STILL:
            told.append((f"… et {number(len(stuck) - STILL)} autres", "wait"))
        told += [(text, "lies") for text in said.left(self.timeline)]
        for hold in self.run.holds:
            if hold.lost:
                lock = said.label(self.timeline.lanes.get(hold.lock), hold.lock)
                told.append((f"{lock} : {said.held(hold, self.timeline)}", "bad"))
        for place, lane in enumerate(self.lanes, 1):
            if self._name(lane)[0] == f"({place})":
                told.append((f"({place}) {said.label(lane)}", "faint"))
        if self.folded:
            names = [said.harmless(said.label(lane), 40) for lane in self.folded]
            more = f" et {number(len(names) - 12)} de plus" if len(names) > 12 else ""
            told.append((f"non dessinés, sans échange ou faute de place : {', '.join(names[:12])}{more}", "faint"))
        lines: list[list[Span]] = [[]] if told else []
        for text, style in told:
            lines += [[(piece, style)] for piece in self._fold(text, self.width)]
        return lines

    def _fold(self, text: str, width: int) -> list[str]:
        return ["".join(piece for piece, _ in line) for line in self._fold_spans([(text, "")], width)]

    def _fold_spans(self, spans: Sequence[Span], width: int) -> list[list[Span]]:
        return _lines([(self._written(text), style) for text, style in spans], width)

    def _written(self, text: str) -> str:
        return _writable(unbroken(text), self.on.encoding)


# Folding text


def _lines(spans: Sequence[Span], width: int) -> list[list[Span]]:
    """Return text as lines of at most `width` columns that end between words, or within one that is longer."""
    lines: list[list[Span]] = []
    line: list[Span] = []
    room = width
    for text, style in spans:
        for place, word in enumerate(text.split(" ")):
            if place and room < width:
                line.append((" ", style))
                room -= 1
            if cell_len(word) > room and room < width:
                lines.append(line)
                line, room = [], width
            for piece in _pieces(word, width):
                if cell_len(piece) > room:
                    lines.append(line)
                    line, room = [], width
                line.append((piece, style))
                room -= cell_len(piece)
    if any(text.strip() for text, _ in line):
        lines.append(line)
    return lines


def _pieces(word: str, width: int) -> list[str]:
    if cell_len(word) <= width:
        return [word] if word else []
    pieces, piece = [], ""
    for character in word:
        if piece and cell_len(piece + character) > width:
            # After one of these, if there is one that leaves enough before it.
            end = max(piece.rfind(sign) for sign in "_-./:#") + 1
            end = end if end > 2 else len(piece)
            pieces.append(piece[:end])
            piece = piece[end:]
        piece += character
    return [*pieces, piece]


def _centred(text: str, width: int) -> str:
    """Return text in the middle of `width` columns, where its lane is."""
    left = max(width // 2 - cell_len(text) // 2, 1)
    return " " * left + text + " " * max(width - left - cell_len(text), 0)


def _joined(cells: Iterable[Span]) -> list[Span]:
    found: list[Span] = []
    for text, style in cells:
        if found and found[-1][1] == style:
            found[-1] = (found[-1][0] + text, style)
        else:
            found.append((text, style))
    return found


def _writable(text: str, encoding: str) -> str:
    """Return text as far as `encoding` can write it; what it cannot, as what comes nearest in ASCII."""
    try:
        text.encode(encoding)
        return text
    except (UnicodeEncodeError, LookupError):
        return "".join(_nearest(character, encoding) for character in text)


def _nearest(character: str, encoding: str) -> str:
    with contextlib.suppress(UnicodeEncodeError, LookupError):
        character.encode(encoding)
        return character
    if (plain := character.translate(_PLAIN)) != character:
        return plain
    return unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode() or "?"
