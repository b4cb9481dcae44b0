"""The comparison as one page: tables and charts in one file that asks the network for nothing and runs no script.

The charts are plain SVG, drawn here. Their colours come from the style sheet, so that they follow the light or dark
theme of the reader; every line also has a marker of its own, and every chart a text that says what it shows.
"""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

from spectacles.lab.compare.rows import CURVE, LOCKLESS, PYTHON, grouped, qualified
from spectacles.lab.compare.sheets import sheets, verdict
from spectacles.lab.display.french import duration, in_words, megabytes, number, unbroken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spectacles.lab.compare.rows import Row
    from spectacles.lab.compare.runs import Run
    from spectacles.lab.compare.sheets import Sheet

MEMORY_LEGEND = (
    "Plein : mémoire privée ; clair : PSS ; pointillé : l'estimation, VmRSS du parent × processus. En chiffres : "
    "PSS / estimation."
)
WIDTH, HEIGHT = 480, 320
LEFT, RIGHT, TOP, BOTTOM = 78, 24, 16, 54
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c1c1e; --faint: #5f6368; --grid: #d9dce1; --card: #f5f6f8;
  --good: #146c2e; --bad: #b3261e; --bad-paper: #fde7e5;
  --q1: #0067a5; --q2: #b84a00; --q3: #00795a; --q4: #9a3c83; --q5: #8a6100; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #121316; --ink: #eceef1; --faint: #a9aeb6; --grid: #3a3e46; --card: #1c1e23;
    --good: #6fd58c; --bad: #ff8a80; --bad-paper: #4a1512;
    --q1: #62b5f0; --q2: #ff9a5a; --q3: #4fd3a8; --q4: #e59ad0; --q5: #f0c14b; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 1.0625rem/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 80rem; margin: 0 auto; padding: 1rem clamp(.75rem, 3vw, 2.5rem) 3rem; }
h1 { font-size: clamp(1.4rem, 3.2vw, 2.2rem); line-height: 1.2; margin: .5rem 0; }
h2 { font-size: clamp(1.15rem, 2vw, 1.5rem); margin: 2rem 0 .5rem; }
p, li { max-width: 75ch; }
.verdict { font-weight: 700; font-size: 1.2rem; padding: .6rem 1rem; border-left: .4rem solid var(--good);
  background: var(--card); max-width: none; }
.verdict.bad { border-color: var(--bad); background: var(--bad-paper); color: var(--bad); }
.charts { display: grid; gap: 1.25rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); }
figure { margin: 0; padding: .75rem; background: var(--card); border-radius: .5rem; }
figcaption { font-weight: 600; margin-bottom: .25rem; }
figure p { margin: .25rem 0 0; color: var(--faint); font-size: .95rem; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--ink); font-size: 14px; }
svg .faint { fill: var(--faint); }
svg .grid { stroke: var(--grid); stroke-width: 1; }
svg .line { fill: none; stroke: currentColor; stroke-width: 2.5; stroke-linejoin: round; }
svg .dashed { stroke-dasharray: 6 5; }
svg .mark { fill: currentColor; }
svg .outline { fill: none; stroke: currentColor; stroke-width: 1.5; stroke-dasharray: 4 3; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1rem; list-style: none; margin: .5rem 0 0; padding: 0; }
.legend svg { width: 2rem; height: .9rem; display: inline-block; vertical-align: middle; margin-right: .35rem; }
.q1 { color: var(--q1); } .q2 { color: var(--q2); } .q3 { color: var(--q3); } .q4 { color: var(--q4); }
.q5 { color: var(--q5); } .wrong { color: var(--bad); }
.wide { overflow-x: auto; }
.wide:focus-visible { outline: 3px solid var(--q1); outline-offset: 2px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .98rem; }
th, td { padding: .35rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--grid); }
thead th { color: var(--faint); font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; }
tbody th { font-weight: 600; position: sticky; left: 0; background: var(--paper); }
tr.bad > * { background: var(--bad-paper); color: var(--bad); font-weight: 700; }
pre { background: var(--card); padding: .75rem; border-radius: .5rem; overflow-x: auto; font-size: .9rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dt { color: var(--faint); } dd { margin: 0; }
@media (max-width: 40rem) { svg text { font-size: 18px; } }
@media print { figure { break-inside: avoid; } }
"""


def _marker(shape: int, x: float, y: float) -> str:
    size = 4.5
    if shape == 0:
        return f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="{size}"/>'
    points = {
        1: ((-1, -1), (1, -1), (1, 1), (-1, 1)),
        2: ((0, -1.3), (1.2, 1), (-1.2, 1)),
        3: ((0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)),
        4: ((0, 1.3), (1.2, -1), (-1.2, -1)),
    }[shape]
    path = " ".join(f"{x + dx * size:.1f},{y + dy * size:.1f}" for dx, dy in points)
    return f'<polygon class="mark" points="{path}"/>'


def _look(row: Row) -> tuple[str, str, int]:
    """Return the class of the colour, that of the line, and the shape of the marker."""
    colour = "wrong" if not row.correct or row.variant == LOCKLESS else row.question[:2]
    return colour, "line" if row.variant == PYTHON else "line dashed", int(row.question[1]) - 1


def _text(x: float, y: float, text: str, anchor: str = "middle", cls: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{cls}">{escape(text)}</text>'


def _svg(name: str, title: str, description: str, body: Sequence[str], height: float = HEIGHT) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{escape(title)}</title><desc id="{name}-d">{escape(description)}</desc>'
        f"{''.join(body)}</svg>"
    )


def _nice_step(top: float) -> float:
    """Return a step of 1, 2 or 5 times a power of ten that divides 0..top in three to six."""
    if top <= 0:
        return 1.0
    base: float = 10.0 ** math.floor(math.log10(top / 3))
    return next(step * base for step in (1, 2, 5, 10) if top / (step * base) <= 6)


def _lines(
    series: Sequence[tuple[Row, Sequence[tuple[float, float]]]],
) -> list[str]:
    body = []
    for row, points in series:
        colour, line, shape = _look(row)
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        drawn = f'<polyline class="{line}" points="{path}"/>' if len(points) > 1 else ""
        marks = points if len(points) <= 8 else points[::10]
        body.append(f'<g class="{colour}">{drawn}{"".join(_marker(shape, x, y) for x, y in marks)}</g>')
    return body


def throughput_chart(rows: Sequence[Row]) -> str:
    """Return the chart of requests per second against clients."""
    counts = sorted({row.clients for row in rows})
    top = max((row.throughput for row in rows), default=0.0) * 1.05
    step = _nice_step(top)
    span_x, span_y = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def at(count: int, value: float) -> tuple[float, float]:
        x = LEFT + span_x * ((counts.index(count) + 0.5) / len(counts))
        return x, TOP + span_y * (1 - value / top if top else 1)

    body = []
    for tick in range(int(top / step) + 1):
        y = at(counts[0], tick * step)[1]
        body.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        body.append(_text(LEFT - 6, y + 5, unbroken(number(tick * step)), "end", "faint"))
    body += [_text(at(count, 0)[0], HEIGHT - BOTTOM + 24, str(count), cls="faint") for count in counts]
    body.append(_text(LEFT + span_x / 2, HEIGHT - 7, "clients en même temps", cls="faint"))
    groups = grouped(rows)
    body += _lines([(group[-1], [at(row.clients, row.throughput) for row in group]) for group in groups])
    spoken = " ; ".join(
        f"{group[0].name} : " + ", ".join(f"{number(row.throughput)} à {row.clients}" for row in group)
        for group in groups
    )
    return _svg("debit", "Demandes servies par seconde, selon le nombre de clients", spoken, body)


def latency_chart(rows: Sequence[Row]) -> str:
    """Return the chart of latency against the share of requests, each question under its largest number of clients."""
    shown = [group[-1] for group in grouped(rows) if group[-1].curve]
    values = [value for row in shown for value in row.curve if value > 0]
    if not values:
        return _svg("latence", "Latence", "Aucune demande servie.", [])
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    shares = [(0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99,9 %"), (0.9999, "99,99 %")]
    most = max(len(row.curve) for row in shown)
    right = -math.log10(1 - CURVE[most - 1]) if most > 1 else 1.0
    left = -math.log10(0.5)
    span_x, span_y = WIDTH - LEFT - RIGHT - 10, HEIGHT - TOP - BOTTOM

    def at(share: float, value: float) -> tuple[float, float]:
        x = LEFT + span_x * (-math.log10(1 - share) - left) / max(right - left, 1e-9)
        return x, TOP + span_y * (1 - (math.log10(max(value, 1)) - low) / (high - low))

    body = []
    for power in range(low, high + 1):
        y = at(0.5, 10.0**power)[1]
        body.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        label = duration(10.0**power).replace(",00", "").replace(",0", "")
        body.append(_text(LEFT - 6, y + 5, label, "end", "faint"))
    for share, label in shares:
        x = at(share, 1)[0]
        if x <= WIDTH - RIGHT:
            body.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
            body.append(_text(x, HEIGHT - BOTTOM + 24, label, cls="faint"))
    body.append(_text(LEFT + span_x / 2, HEIGHT - 7, "part des demandes servies dans ce délai", cls="faint"))
    body += _lines([(row, [at(share, value) for share, value in zip(CURVE, row.curve, strict=False)]) for row in shown])
    spoken = " ; ".join(
        f"{row.name} à {in_words(row.clients)} : "
        + ", ".join(f"{point} {duration(value)}" for point, value in row.latency[""].items())
        for row in shown
    )
    return _svg("latence", "Latence : quelle part des demandes attend combien", spoken, body)


def memory_chart(rows: Sequence[Row]) -> str:
    """Return the bars of memory: the estimate as an outline, the PSS full, the private part of it darker."""
    shown = [group[-1] for group in grouped(rows) if group[-1].memory]
    top = max((max(row.estimate, row.rss) for row in shown), default=0) * 1.02 or 1.0
    bar, gap = 24, 30
    height = TOP + len(shown) * (bar + gap) + 4
    scale = (WIDTH - 16 - 140) / top
    body = []
    for place, row in enumerate(shown):
        y = TOP + place * (bar + gap)
        widths = {name: getattr(row, name) * scale for name in ("estimate", "pss", "private")}
        body.append(_text(8, y + 12, f"{qualified(row, rows)}, {len(row.memory)} processus", "start"))
        y += 19
        body.append(
            f'<g class="{_look(row)[0]}">'
            f'<rect class="outline" x="8" y="{y}" width="{widths["estimate"]:.1f}" height="{bar}"/>'
            f'<rect class="mark" opacity=".45" x="8" y="{y}" width="{widths["pss"]:.1f}" height="{bar}"/>'
            f'<rect class="mark" x="8" y="{y}" width="{widths["private"]:.1f}" height="{bar}"/></g>'
        )
        body.append(
            _text(
                14 + widths["estimate"],
                y + 17,
                f"{megabytes(row.pss)} / {megabytes(row.estimate)} Mo",
                "start",
            )
        )
    spoken = " ; ".join(
        f"{row.name} : PSS {megabytes(row.pss)} Mo, dont {megabytes(row.private)} privée ; VmRSS du parent fois "
        f"processus {megabytes(row.estimate)} Mo"
        for row in shown
    )
    return _svg("memoire", "Mémoire du serveur", spoken, body, height)


def _said(text: str) -> str:
    return escape(unbroken(text))


def _legend(rows: Sequence[Row]) -> str:
    items = []
    for group in grouped(rows):
        row = group[-1]
        colour, line, shape = _look(row)
        wrong = "" if row.correct else ", faux"
        items.append(
            f'<li><svg class="{colour}" viewBox="0 0 34 14" aria-hidden="true">'
            f'<polyline class="{line}" points="1,7 33,7"/>'
            f"{_marker(shape, 17, 7)}</svg>{escape(qualified(row, rows))}{wrong}</li>"
        )
    return f'<ul class="legend">{"".join(items)}</ul>'


def _table(sheet: Sheet, name: str) -> str:
    headings = "".join(f'<th scope="col">{_said(heading)}</th>' for heading in sheet.headings)
    lines = []
    for cells, bad in zip(sheet.lines, sheet.bad, strict=True):
        first, *others = (_said(cell) for cell in cells)
        lines.append(
            f'<tr{" class=bad" if bad else ""}><th scope="row">{first}</th>'
            + "".join(f"<td>{cell}</td>" for cell in others)
            + "</tr>"
        )
    return (
        f'<h2 id="{name}">{_said(sheet.title)}</h2>'
        f'<div class="wide" role="region" aria-labelledby="{name}" tabindex="0"><table>'
        f"<thead><tr>{headings}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _figure(caption: str, chart: str, below: str) -> str:
    return f"<figure><figcaption>{_said(caption)}</figcaption>{chart}{below}</figure>"


def render(run: Run, before: Sequence[Row]) -> str:
    """Return the page, HTML in UTF-8. before: the rows of an earlier run, or none."""
    rows = run.rows
    wrong = [row for row in rows if not row.correct]
    first, *others = sheets(rows, before)
    legend = _legend(rows)
    machine = "".join(
        f"<dt>{escape(str(name))}</dt><dd>{escape(str(value))}</dd>" for name, value in run.machine.items() if value
    )
    problems = "".join(
        f"<h3>{escape(row.full_name)}</h3><pre>{escape(problem)}</pre>" for row in wrong for problem in row.problems
    )
    parts = [
        "<h1>Un guichet, plusieurs communications entre processus</h1>",
        f"<p>La même charge de travail pour tous : {_said(run.description)}.</p>",
        f'<p class="verdict{" bad" if wrong else ""}">{_said(verdict(rows))}</p>',
        _table(first, "table0"),
        '<h2>En images</h2><div class="charts">',
        _figure("Demandes servies par seconde", throughput_chart(rows), legend),
        _figure(
            "Latence, au plus grand nombre de clients",
            latency_chart(rows),
            legend + f"<p>{_said('Les deux échelles sont logarithmiques ; plus bas est mieux.')}</p>",
        ),
        _figure(
            "Mémoire du serveur, au plus grand nombre de clients",
            memory_chart(rows),
            f"<p>{_said(MEMORY_LEGEND)}</p>",
        ),
        "</div>",
        *(_table(sheet, f"table{place}") for place, sheet in enumerate(others, 1)),
        "<h2>À savoir</h2><ul>",
        "".join(f"<li>{_said(remark)}</li>" for remark in run.remarks),
        "</ul>",
        f"<h2>Ce qui est faux</h2>{problems}" if problems else "",
        f"<h2>La machine et la commande</h2><dl>{machine}<dt>date</dt><dd>{escape(run.date)}</dd></dl>",
    ]
    body = "".join(parts) + f"<pre><code>{escape(run.command)}</code></pre>"
    return (
        '<!DOCTYPE html>\n<html lang="fr"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<link rel="icon" href="data:,"><title>spectacles compare</title>'
        f"<style>{_STYLE}</style></head><body><main>{body}</main></body></html>\n"
    )
