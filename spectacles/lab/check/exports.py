"""A report for what is not ours: Gradescope, Classroom 50, JUnit, a table that Moodle takes back, one for people.

The mark is out of MARKS; each defect costs what the profile says, one point if it says nothing. What was not built has
none. Only defects cost: what could not be looked at is shown, and costs nothing.
"""

from __future__ import annotations

import csv
import datetime
import io
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from spectacles.common.text import printable
from spectacles.lab.check.cards import cards
from spectacles.lab.check.model import State
from spectacles.lab.display import files

if TYPE_CHECKING:
    from spectacles.lab.check.model import Finding, Report
    from spectacles.lab.check.submissions import Submission

MARKS = 20.0
CLASSROOM = "classroom50/result/v1"
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_STATES = {
    State.NOT_REACHED: "pas atteint",
    State.NOT_APPLICABLE: "sans objet",
    State.INCONCLUSIVE: "sans conclusion",
}


def cost(report: Report, number: int) -> float:
    """Return the points that a defect costs."""
    points: Mapping[str, Any] = report.profile.get("points", {})
    return float(points.get(str(number), 1.0))


def mark(report: Report) -> float | None:
    """Return the mark, 0 to MARKS; None where nothing could be judged: that is nobody's mark."""
    if report.failed:
        return 0.0
    if not report.judged:
        return None
    return max(MARKS - sum(cost(report, one.defect) for one in report.defects), 0.0)


def words(finding: Finding) -> str:
    """Return what is said of a finding as plain lines."""
    lines = [finding.sentence]
    for said, text in (("fait", finding.done), ("attendu", finding.expected), ("vu", finding.seen)):
        if text:
            lines.append(f"{said} : {text}")
    if finding.source:
        lines.append(f"source : {finding.source}")
    lines += finding.timeline
    if finding.because:
        lines.append(finding.because)
    card = cards().get(finding.defect)
    if card is not None:
        lines.append(f"{card.what} {card.mended}")
    return "\n".join("\n".join(printable(line) for line in text.splitlines()) for text in lines if text)


def summary(report: Report) -> str:
    """Return one line on the whole."""
    if report.failed:
        return f"Ni construit ni démarré : {printable(report.failed.partition(chr(10))[0])}"
    if not report.judged:
        why = next((one.because for one in report.findings if one.state is State.INCONCLUSIVE), "rien n'a été jugé")
        return f"Sans conclusion : {printable(why)}"
    numbers = ", ".join(str(one.defect) for one in report.defects)
    return f"Défauts : {numbers}" if numbers else "Aucun défaut trouvé"


def gradescope(report: Report) -> str:
    """Return results.json of Gradescope: one test for the build, one for each finding."""
    tests: list[dict[str, Any]] = []
    if report.failed:
        tests.append({"name": "construction", "status": "failed", "output": printable(report.failed)})
    for one in report.findings:
        card = cards().get(one.defect)
        test: dict[str, Any] = {"name": f"{one.check} : {card.title}" if card else one.check, "output": words(one)}
        if one.state is State.DEFECT:
            test |= {"status": "failed", "score": 0.0, "max_score": cost(report, one.defect)}
        elif one.state is State.OK:
            test["status"] = "passed"
        else:
            test["output"] = f"{_STATES[one.state]} : {test['output']}"
        tests.append(test)
    whole = {
        "score": mark(report) or 0.0,  # it wants one; the output says where there is none
        "execution_time": round(report.seconds),
        "output": summary(report),
        "visibility": "visible",
        "tests": tests,
    }
    return json.dumps(whole, ensure_ascii=False, indent=1) + "\n"


def classroom(report: Report, environment: Mapping[str, str] = os.environ) -> str:
    """Return result.json of Classroom 50, whose scores are whole numbers: a test for each check, one point each.

    environment: where its runner says which submission this is.
    """
    tests: list[dict[str, Any]] = [
        {"test-name": "construction", "passed": not report.failed, "score": int(not report.failed), "max-score": 1}
    ]
    seen: dict[str, bool] = {}
    for one in report.findings:
        if one.state in (State.DEFECT, State.OK):
            seen[one.check] = seen.get(one.check, True) and one.state is State.OK
            for other in one.others:
                seen[other] = False
    tests += [
        {"test-name": name, "passed": passed, "score": int(passed), "max-score": 1} for name, passed in seen.items()
    ]
    commit = environment.get("COMMIT_URL") or report.name
    whole = {
        "schema": CLASSROOM,
        "classroom": environment.get("CLASSROOM") or "spectacles",
        "assignment": environment.get("ASSIGNMENT") or "check",
        "submission": environment.get("SUBMISSION_TAG") or report.name,
        "commit": commit,
        "release": environment.get("RELEASE_URL") or commit,
        "review": environment.get("REVIEW_URL") or commit,
        "datetime": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "score": sum(int(test["score"]) for test in tests),
        "max-score": len(tests),
        "tests": tests,
    }
    return json.dumps(whole, ensure_ascii=False, indent=1) + "\n"


def junit(reports: Iterable[tuple[str, Report]]) -> str:
    """Return JUnit XML: a suite for each program (its name, its report), a case for each finding."""
    root = ElementTree.Element("testsuites")
    for name, report in reports:
        suite = ElementTree.SubElement(root, "testsuite", name=_xml(name), time=f"{report.seconds:.3f}")
        counts = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
        if report.failed:
            case = ElementTree.SubElement(suite, "testcase", classname=_xml(name), name="construction")
            ElementTree.SubElement(case, "error", message=_xml(summary(report))).text = _xml(report.failed)
            counts["tests"], counts["errors"] = 1, 1
        for one in report.findings:
            case = ElementTree.SubElement(
                suite, "testcase", classname=_xml(name), name=_xml(one.id or one.check), time=f"{one.seconds:.3f}"
            )
            counts["tests"] += 1
            if one.state is State.DEFECT:
                counts["failures"] += 1
                said = ElementTree.SubElement(case, "failure", message=_xml(one.sentence), type=f"défaut {one.defect}")
                said.text = _xml(words(one))
            elif one.state is State.INCONCLUSIVE:
                counts["errors"] += 1
                ElementTree.SubElement(case, "error", message=_xml(one.because))
            elif one.state is not State.OK:
                counts["skipped"] += 1
                ElementTree.SubElement(case, "skipped", message=_xml(f"{_STATES[one.state]} : {one.because}"))
        for word, count in counts.items():
            suite.set(word, str(count))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _xml(text: str) -> str:
    """Return text without the characters that XML cannot hold at all."""
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)


# Headings that Moodle's grading worksheet has, and looks for, in the site's language; and what stands before a number.
_MOODLE = {
    "fr": (
        "Identifiant",
        "Nom complet",
        "Note",
        "Note maximale",
        "Dernière modification (note)",
        "Feedback par commentaires",
        "Participant",
    ),
    "en": (
        "Identifier",
        "Full name",
        "Grade",
        "Maximum Grade",
        "Last modified (grade)",
        "Feedback comments",
        "Participant ",
    ),
}


def moodle(rows: Sequence[tuple[Submission, Report]], language: str = "fr") -> str:
    """Return the table that Moodle's « offline grading worksheet » takes back: marks and comments."""
    *headings, participant = _MOODLE[language]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(headings)
    for submission, report in rows:
        comment = "<br>".join([_html(summary(report)), *(_html(one.sentence) for one in report.defects)])
        number = f"{participant}{submission.number}" if submission.number else submission.key
        most = f"{MARKS:.2f}"
        table.writerow([number, _harmless(submission.person), _written(mark(report)), most, "-", _harmless(comment)])
    return text.getvalue()


def table(rows: Sequence[tuple[Submission, Report]]) -> str:
    """Return the matrix for a spreadsheet as those of a French desk open it by a double click.

    A byte order mark, semicolons, decimal commas; a line for each submission, a column for each defect of the class.
    """
    numbers = sorted({one.defect for _, report in rows for one in report.defects})
    known = cards()
    titles = [f"{one} {known[one].title}" if one in known else str(one) for one in numbers]
    text = io.StringIO()
    sheet = csv.writer(text, delimiter=";", lineterminator="\r\n")
    sheet.writerow(["Remise", "Participant", "Note", "Défauts", "Résumé", *titles])
    for submission, report in rows:
        found = {one.defect for one in report.defects}
        note = _written(mark(report)).replace(".", ",")
        cells = [1 if one in found else "" for one in numbers]
        count = len(found) if report.judged and not report.failed else ""
        sheet.writerow([_harmless(submission.person), submission.number, note, count, summary(report), *cells])
    return f"\N{ZERO WIDTH NO-BREAK SPACE}{text.getvalue()}"


def _written(mark: float | None) -> str:
    return "" if mark is None else f"{mark:.2f}"


def _html(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _harmless(text: str) -> str:
    """Return text that a spreadsheet does not take for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def write(folder: Path, report: Report) -> None:
    """Write what machines read of one report into its folder. Raises OSError."""
    files.write_whole(str(folder / "results.json"), gradescope(report))
    files.write_whole(str(folder / "result.json"), classroom(report))
    files.write_whole(str(folder / "junit.xml"), junit([(report.name, report)]))
