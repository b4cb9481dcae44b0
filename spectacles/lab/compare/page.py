"""A comparison as one page: tables and charts in one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spectacles.lab.compare.charts import latency_chart, legend, memory_chart, throughput_chart
from spectacles.lab.compare.sheets import sheets, verdict
from spectacles.lab.display import page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spectacles.lab.compare.rows import Row
    from spectacles.lab.compare.runs import Run

TEMPLATE = Path(__file__).with_name("templates") / "compare.html"


def render(run: Run, before: Sequence[Row]) -> str:
    """Return the page, HTML for UTF-8. before: the rows of an earlier run, or none.

    Raises SpectaclesError when jinja2 is not installed.
    """
    return page.render(
        TEMPLATE,
        run=run,
        sheets=sheets(run.rows, before),
        verdict=verdict(run.rows),
        wrong=[row for row in run.rows if not row.correct],
        throughput=throughput_chart(run.rows),
        latency=latency_chart(run.rows),
        memory=memory_chart(run.rows),
        keys=legend(run.rows),
    )
