"""Reports as pages that ask the network for nothing: one for a program, one for a class. All is escaped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spectacles.common.text import printable
from spectacles.lab.check import exports
from spectacles.lab.check.cards import cards
from spectacles.lab.check.model import State
from spectacles.lab.check.report import alike
from spectacles.lab.display import page
from spectacles.lab.display.french import number

if TYPE_CHECKING:
    from spectacles.lab.check.model import Report
    from spectacles.lab.check.submissions import Submission

TEMPLATES = Path(__file__).with_name("templates")
_TITLES = (
    (State.NOT_REACHED, "Pas atteint"),
    (State.INCONCLUSIVE, "Sans conclusion : la faute de l'outil ou de la machine"),
    (State.OK, "Sans défaut"),
    (State.NOT_APPLICABLE, "Sans objet"),
)
# The state of a defect in a program, from those of the checks that could have found it: the one that weighs most.
_WEIGHT = {State.OK: 1, State.NOT_APPLICABLE: 0, State.NOT_REACHED: 2, State.INCONCLUSIVE: 3, State.DEFECT: 4}
_CLASSES = {
    State.OK: "ok",
    State.NOT_APPLICABLE: "none",
    State.NOT_REACHED: "unreached",
    State.INCONCLUSIVE: "unsure",
    State.DEFECT: "defect",
}


@dataclass(frozen=True)
class Row:
    """A line of the matrix. states: number of a defect -> class of its cell."""

    person: str
    link: str
    mark: str
    failed: str
    states: Mapping[int, str]


@dataclass(frozen=True)
class Group:
    """Those whose programs have the same defects. people: name and link."""

    said: str
    people: Sequence[tuple[str, str]]


def program(report: Report, *, person: str = "", back: str = "") -> str:
    """Return the page of one program. back: link to the class. Raises SpectaclesError without jinja2."""
    others = []
    for state, title in _TITLES:
        some = [one for one in report.findings if one.state is state]
        lines = [(one.check, one.done or one.seen) for one in some] if state is State.OK else []
        lines += [(", ".join(names), why) for why, names in alike(some).items()] if state is not State.OK else []
        others.append((title, lines))
    question = f"question {report.question}, " if report.question else ""
    answer = number(report.control.get("answer", 0.0) * 1000)
    facts = f"{question}{number(report.seconds, 1)} s ; témoin : la référence en C répond en {answer} ms ici."
    return page.render(
        TEMPLATES / "check.html",
        report=report,
        person=person,
        back=back,
        verdict=exports.summary(report) + ".",
        facts=facts,
        others=others,
        cards=cards(),
    )


def state_of(report: Report, defect: int, finders: Mapping[str, tuple[int, ...]]) -> State:
    """Return how a program stands with a defect. finders: name of a check -> defects that it can find."""
    if any(one.defect == defect for one in report.defects):
        return State.DEFECT
    if not report.judged:
        return State.INCONCLUSIVE
    states = [
        one.state for one in report.findings if one.state is not State.DEFECT and defect in finders.get(one.check, ())
    ]
    # a check that found something else said nothing against this one
    states += [State.OK for one in report.defects if defect in finders.get(one.check, ())]
    return max(states, key=_WEIGHT.__getitem__, default=State.NOT_APPLICABLE)


def classroom(
    rows: Sequence[tuple[Submission, Report]], finders: Mapping[str, tuple[int, ...]], title: str, missing: int = 0
) -> str:
    """Return the page of a class: matrix, groups, what is common. missing: how many were not judged (yet)."""
    counts = Counter(one.defect for _, report in rows for one in report.defects)
    numbers = sorted(counts)
    lines = []
    groups: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for submission, report in rows:
        link = f"{submission.key}/index.html"
        why = printable(report.failed.partition("\n")[0])[:160]
        states = {one: _CLASSES[state_of(report, one, finders)] for one in numbers}
        lines.append(Row(submission.person, link, _note(report), why, states))
        signature = tuple(str(one) for one in _signature(report))
        if why or not report.judged:
            signature = ("failed", _cause(why)) if why else ("unsure",)
        groups.setdefault(signature, []).append((submission.person, link))
    titles = cards()
    said = []
    for signature, people in sorted(groups.items(), key=lambda row: (-len(row[1]), row[0])):
        if signature[:1] == ("failed",):
            text = f"ni construit ni démarré : {signature[1]}"
        elif signature == ("unsure",):
            text = "sans conclusion"
        elif not signature:
            text = "aucun défaut"
        else:
            text = " ; ".join(
                f"{one} {titles[int(one)].title}" if int(one) in titles else str(one) for one in signature
            )
        said.append(Group(text, people))
    failed = sum(bool(report.failed) for _, report in rows)
    unsure = sum(not report.judged for _, report in rows)
    wrong = failed + sum(bool(report.defects) for _, report in rows)
    verdict = f"{len(rows)} remises jugées : {len(rows) - wrong - unsure} sans défaut, {wrong - failed} avec"
    verdict += f", {failed} ni construites ni démarrées" if failed else ""
    verdict += f", {unsure} sans conclusion." if unsure else "."
    if missing:
        verdict += f" {missing} ne le sont pas encore."
    return page.render(
        TEMPLATES / "class.html",
        title=title,
        rows=lines,
        numbers=numbers,
        groups=said,
        common=counts.most_common(),
        cards=titles,
        verdict=verdict,
        wrong=bool(wrong),
    )


def _note(report: Report) -> str:
    mark = exports.mark(report)
    return "?" if mark is None else number(mark, 1)


def _signature(report: Report) -> list[int]:
    return sorted({one.defect for one in report.defects})


def _cause(failed: str) -> str:
    """Return what a failure to build has in common with others: no names of files, no lines."""
    for words, said in (("error:", "ne se compile pas"), ("undefined reference", "ne se lie pas")):
        if words in failed:
            return said
    if "aucun programme trouvé" in failed:
        return "aucun programme trouvé"
    return failed.partition(" : ")[0][:100]
