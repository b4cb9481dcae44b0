"""The report for people: what is wrong, how it was seen, what it means, how to see it again. In 100 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from spectacles.common.text import printable
from spectacles.lab.check.cards import cards
from spectacles.lab.check.model import State
from spectacles.lab.display.french import number, unbroken

if TYPE_CHECKING:
    from spectacles.lab.check.model import Finding, Report

WIDTH = 100
_STATES = {
    State.OK: "sans défaut",
    State.NOT_REACHED: "pas atteints",
    State.NOT_APPLICABLE: "sans objet",
    State.INCONCLUSIVE: "sans conclusion",
}


def text(report: Report) -> str:
    """Return the report as lines of 100 columns at most, without a final newline."""
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    asked = f", question {report.question}" if report.question else ""
    yield f"{printable(report.name)}{asked}"
    if report.failed:
        first, *rest = report.failed.splitlines()
        yield from _wrap(f"Ni construit ni démarré : {first}")
        yield from (f"  {printable(line)}" for line in rest[:8])
        return
    profile = report.profile
    if profile.get("server"):
        channel = profile.get("channel", {})
        said = {
            "queue": "une file de messages",
            "fifo": "des tubes nommés",
            "tcp": "TCP",
            "posix queue": "une file POSIX",
        }
        kind = said.get(channel.get("kind", ""), "un canal que l'on n'a pas reconnu")
        names = ", ".join(channel.get("names", ())[:5])
        yield from _wrap(f"Serveur {' '.join(profile['server'])}, par {kind}{f' ({names})' if names else ''} ; "
                         f"client {' '.join(profile.get('client') or ['inconnu'])}.")  # fmt: skip
    for note in report.notes:
        yield from _wrap(f"À savoir : {note}.")
    for finding in report.defects:
        yield ""
        yield from _defect(finding, profile.get("points", {}))
    if report.findings:
        yield ""
    if not report.judged:
        yield "Rien n'a pu être jugé."
    elif not report.defects:
        yield "Aucun défaut trouvé."
    for state, words in _STATES.items():
        some = [finding for finding in report.findings if finding.state is state]
        if not some:
            continue
        if state is State.OK:
            yield from _wrap(
                f"{len(some)} contrôle{'s' if len(some) > 1 else ''} {words} : "
                + ", ".join(finding.check for finding in some)
            )
            continue
        yield f"{len(some)} {words if len(some) > 1 else words.replace('atteints', 'atteint')} :"
        for because, alikes in alike(some).items():
            yield from _wrap(f"{', '.join(alikes)} : {because}", "  ")
    start, answer = (report.control.get(name, 0.0) for name in ("start", "answer"))
    if any(finding.state is not State.DEFECT for finding in report.findings):
        yield ""
    yield from _wrap(
        f"{number(report.seconds, 1)} s. Témoin : la référence en C démarre en {number(start * 1000)} ms et répond en "
        f"{number(answer * 1000)} ms."
    )


def finding_text(finding: Finding) -> str:
    """Return what is said of one defect."""
    return "\n".join(_defect(finding, {}))


def alike(findings: Iterable[Finding]) -> dict[str, list[str]]:
    """Return the names of checks that came to nothing for the same reason, by that reason, said once."""
    found: dict[str, list[str]] = {}
    for finding in findings:
        found.setdefault(finding.because, []).append(finding.check)
    return found


def _defect(finding: Finding, points: Mapping[str, float]) -> Iterator[str]:
    card = cards().get(finding.defect)
    title = f" · {card.title}" if card else ""
    costs = points.get(str(finding.defect))
    cost = f" · {number(costs, 1)} point(s)" if costs else ""
    yield f"DÉFAUT {finding.defect}{title}{cost}"
    yield from _wrap(finding.sentence, "  ")
    for said, what in (("fait", finding.done), ("attendu", finding.expected), ("vu", finding.seen)):
        if what:
            yield from _wrap(what, f"  {said:<8} ", " " * 11)
    if finding.source:
        yield from _wrap(finding.source, "  source   ", " " * 11)
    for line in finding.timeline:
        yield from _wrap(line, "    │ ", "    │   ")
    shown, total = finding.shown
    yield from _wrap(
        f"{shown} fois sur {total}" + (f" ; vu aussi par {', '.join(finding.others)}" if finding.others else ""),
        "  montré   ",
        " " * 11,
    )
    for said, what in (("quoi", card.what), ("enjeu", card.why), ("remède", card.mended)) if card else ():
        yield from _wrap(what, f"  {said:<8} ", " " * 11)
    if card and card.files:
        yield from _wrap(f"{', '.join(card.files)}, où nos serveurs le font", "  exemple  ", " " * 11)
    if finding.replay:
        yield f"  revoir   {finding.replay}"


def _wrap(said: str, first: str = "", rest: str | None = None) -> list[str]:
    lines: list[str] = []
    for line in said.splitlines() or [""]:
        lines += textwrap.wrap(
            unbroken(printable(line)),
            WIDTH,
            initial_indent=first if not lines else (first if rest is None else rest),
            subsequent_indent=first if rest is None else rest,
            break_long_words=True,
            break_on_hyphens=False,
        )
    return lines
