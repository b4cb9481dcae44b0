"""A comparison at the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spectacles.lab.compare.sheets import sheets
from spectacles.lab.display.terminal import harmless, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    from spectacles.lab.compare.rows import Row
    from spectacles.lab.compare.sheets import Sheet

FULL_NAMES = 100  # columns from which on the questions are called by their full names


def show(screen: Console, remarks: Sequence[str], rows: Sequence[Row], before: Sequence[Row]) -> None:
    """Print the tables, then the remarks, then what is wrong. before: the rows of an earlier run, or none."""
    for sheet in sheets(rows, before):
        screen.print(_rich_table(sheet, short=screen.width < FULL_NAMES))
    for remark in remarks:
        say(screen, f"• {remark}", style="dim")
    for row in rows:
        for problem in row.problems:
            screen.print(
                f"{row.full_name} : {harmless(problem)}",
                style="bold red",
                markup=False,
                soft_wrap=True,
            )


def _rich_table(sheet: Sheet, *, short: bool) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        title=sheet.title,
        title_style="bold",
        title_justify="left",
        box=SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    names = {"question": "", "passage": "", "clients": "cl."} if short else {}
    for column, heading in enumerate(names.get(heading, heading) for heading in sheet.headings):
        table.add_column(heading, justify="right" if column else "left", overflow="fold")
    previous = None
    in_groups = len({cells[0] for cells in sheet.lines}) < len(sheet.lines)
    for cells, bad in zip(sheet.lines, sheet.bad, strict=True):
        if in_groups and previous not in (None, cells[0]):
            table.add_section()
        previous = cells[0]
        first = cells[0].partition("_")[0] if short else cells[0]
        table.add_row(first, *cells[1:], style="bold white on red" if bad else None)
    return table
