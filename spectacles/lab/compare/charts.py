"""The charts of a comparison, laid out: where each line, text, mark and bar is. templates/charts.html draws them.

Their colours come from the style sheet, so that they follow the light or dark theme of the reader; every line also has
a marker of its own, and every chart a text that says what it shows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from spectacles.lab.compare.rows import CURVE, LOCKLESS, PYTHON, grouped, qualified
from spectacles.lab.display.french import duration, in_words, megabytes, number, unbroken
from spectacles.lab.programs.process import FURTHER, QUESTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spectacles.lab.compare.rows import Row

WIDTH, HEIGHT = 480, 320
LEFT, RIGHT, TOP, BOTTOM = 78, 24, 16, 54
MARK_SIZE = 4.5
# The corners of the markers after the first one, which is a circle.
SHAPES = (
    (),
    ((-1, -1), (1, -1), (1, 1), (-1, 1)),
    ((0, -1.3), (1.2, 1), (-1.2, 1)),
    ((0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)),
    ((0, 1.3), (1.2, -1), (-1.2, -1)),
    ((-1.4, -0.6), (1.4, -0.6), (1.4, 0.6), (-1.4, 0.6)),
    ((-1.2, -1.2), (1.2, 1.2), (1.2, -1.2), (-1.2, 1.2)),
    ((-0.6, -1.4), (0.6, -1.4), (0.6, 1.4), (-0.6, 1.4)),
)
MOST_MARKS = 8  # of one line; a longer one has every tenth
SHARES = ((0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99,9 %"), (0.9999, "99,99 %"))


class Point(NamedTuple):
    """A place in a chart; y goes down."""

    x: float
    y: float


class Segment(NamedTuple):
    """A line of the grid."""

    start: Point
    end: Point


class Text(NamedTuple):
    """A text in a chart. anchor: start, middle or end, of the text, that is at the point. style: a class, or none."""

    at: Point
    text: str
    anchor: str = "middle"
    style: str = ""


class Mark(NamedTuple):
    """A marker. corners: none for a circle."""

    at: Point
    corners: tuple[Point, ...]


class Line(NamedTuple):
    """The line of one row or group. colour, style: classes."""

    colour: str
    style: str
    points: list[Point]
    marks: list[Mark]


class Bar(NamedTuple):
    """Three bars over each other: the estimate as an outline, the PSS, and the private part of it, darker."""

    at: Point
    colour: str
    estimate: float
    pss: float
    private: float
    height: float


@dataclass
class Chart:
    """A chart. name: unique in its page. title, description: what it shows, for those who cannot see it."""

    name: str
    title: str
    description: str
    height: float = HEIGHT
    width: float = WIDTH
    grid: list[Segment] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)

    def across(self, y: float, label: str) -> None:
        """Add a horizontal line of the grid with its label."""
        self.grid.append(Segment(Point(LEFT, y), Point(WIDTH - RIGHT, y)))
        self.texts.append(Text(Point(LEFT - 6, y + 5), label, "end", "faint"))

    def below(self, x: float, label: str) -> None:
        """Add a label of the horizontal axis."""
        self.texts.append(Text(Point(x, HEIGHT - BOTTOM + 24), label, style="faint"))

    def axis(self, x: float, label: str) -> None:
        """Say what the horizontal axis is."""
        self.texts.append(Text(Point(x, HEIGHT - 7), label, style="faint"))


@dataclass(frozen=True)
class Key:
    """One entry of the legend: a short line with a mark in a chart of its own."""

    line: Line
    label: str


def look(row: Row, points: list[Point]) -> Line:
    """Return the line through `points` as that of `row` looks: colour of its question, dashed if not Python's."""
    colour = "wrong" if not row.correct or row.variant == LOCKLESS else row.question[:2]
    shape = SHAPES[(*QUESTIONS, *FURTHER).index(row.question) % len(SHAPES)]
    marked = points if len(points) <= MOST_MARKS else points[::10]
    marks = [Mark(at, tuple(Point(at.x + dx * MARK_SIZE, at.y + dy * MARK_SIZE) for dx, dy in shape)) for at in marked]
    return Line(colour, "line" if row.variant == PYTHON else "line dashed", points, marks)


def legend(rows: Sequence[Row]) -> list[Key]:
    """Return an entry for each question and variant."""
    keys = []
    for group in grouped(rows):
        row = group[-1]
        line = look(row, [Point(17, 7)])._replace(points=[Point(1, 7), Point(33, 7)])
        keys.append(Key(line, qualified(row, rows) + ("" if row.correct else ", faux")))
    return keys


def nice_step(top: float) -> float:
    """Return a step of 1, 2 or 5 times a power of ten that divides 0..top in three to six."""
    if top <= 0:
        return 1.0
    base: float = 10.0 ** math.floor(math.log10(top / 3))
    return next(step * base for step in (1, 2, 5, 10) if top / (step * base) <= 6)


def throughput_chart(rows: Sequence[Row]) -> Chart:
    """Return the chart of requests per second against clients."""
    counts = sorted({row.clients for row in rows})
    top = max((row.throughput for row in rows), default=0.0) * 1.05
    step = nice_step(top)
    span_x, span_y = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def at(count: int, value: float) -> Point:
        x = LEFT + span_x * ((counts.index(count) + 0.5) / len(counts))
        return Point(x, TOP + span_y * (1 - value / top if top else 1))

    groups = grouped(rows)
    spoken = " ; ".join(
        f"{group[0].name} : " + ", ".join(f"{number(row.throughput)} à {row.clients}" for row in group)
        for group in groups
    )
    chart = Chart("debit", "Demandes servies par seconde, selon le nombre de clients", spoken)
    for tick in range(int(top / step) + 1):
        chart.across(at(counts[0], tick * step).y, unbroken(number(tick * step)))
    for count in counts:
        chart.below(at(count, 0).x, str(count))
    chart.axis(LEFT + span_x / 2, "clients en même temps")
    chart.lines = [look(group[-1], [at(row.clients, row.throughput) for row in group]) for group in groups]
    return chart


def latency_chart(rows: Sequence[Row]) -> Chart:
    """Return the chart of latency against the share of requests, each question under its largest number of clients."""
    shown = [group[-1] for group in grouped(rows) if group[-1].curve]
    values = [value for row in shown for value in row.curve if value > 0]
    if not values:
        return Chart("latence", "Latence", "Aucune demande servie.")
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    most = max(len(row.curve) for row in shown)
    right = -math.log10(1 - CURVE[most - 1]) if most > 1 else 1.0
    left = -math.log10(0.5)
    span_x, span_y = WIDTH - LEFT - RIGHT - 10, HEIGHT - TOP - BOTTOM

    def at(share: float, value: float) -> Point:
        x = LEFT + span_x * (-math.log10(1 - share) - left) / max(right - left, 1e-9)
        return Point(x, TOP + span_y * (1 - (math.log10(max(value, 1)) - low) / (high - low)))

    spoken = " ; ".join(
        f"{row.name} à {in_words(row.clients)} : "
        + ", ".join(f"{point} {duration(value)}" for point, value in row.latency[""].items())
        for row in shown
    )
    chart = Chart("latence", "Latence : quelle part des demandes attend combien", spoken)
    for power in range(low, high + 1):
        chart.across(at(0.5, 10.0**power).y, duration(10.0**power).replace(",00", "").replace(",0", ""))
    for share, label in SHARES:
        x = at(share, 1).x
        if x <= WIDTH - RIGHT:
            chart.grid.append(Segment(Point(x, TOP), Point(x, HEIGHT - BOTTOM)))
            chart.below(x, label)
    chart.axis(LEFT + span_x / 2, "part des demandes servies dans ce délai")
    chart.lines = [
        look(row, [at(share, value) for share, value in zip(CURVE, row.curve, strict=False)]) for row in shown
    ]
    return chart


def memory_chart(rows: Sequence[Row]) -> Chart:
    """Return the bars of memory, each question under its largest number of clients."""
    shown = [group[-1] for group in grouped(rows) if group[-1].memory]
    top = max((max(row.estimate, row.rss) for row in shown), default=0) * 1.02 or 1.0
    bar, gap = 24, 30
    scale = (WIDTH - 16 - 140) / top
    spoken = " ; ".join(
        f"{row.name} : PSS {megabytes(row.pss)} Mo, dont {megabytes(row.private)} privée ; VmRSS du parent fois "
        f"processus {megabytes(row.estimate)} Mo"
        for row in shown
    )
    chart = Chart("memoire", "Mémoire du serveur", spoken, TOP + len(shown) * (bar + gap) + 4)
    for place, row in enumerate(shown):
        y = TOP + place * (bar + gap)
        chart.texts.append(Text(Point(8, y + 12), f"{qualified(row, rows)}, {len(row.memory)} processus", "start"))
        estimate, pss, private = (kilobytes * scale for kilobytes in (row.estimate, row.pss, row.private))
        chart.bars.append(Bar(Point(8, y + 19), look(row, []).colour, estimate, pss, private, bar))
        figures = f"{megabytes(row.pss)} / {megabytes(row.estimate)} Mo"
        chart.texts.append(Text(Point(14 + estimate, y + 36), figures, "start"))
    return chart
