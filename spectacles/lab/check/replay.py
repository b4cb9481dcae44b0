"""Plays a finding again: the same script in a fresh world, recorded, and drawn step by step."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from typing import TYPE_CHECKING

from spectacles.common.errors import SpectaclesError, UsageError, reason
from spectacles.common.text import printable
from spectacles.lab.check.model import Finding, Outcome, Report, State, Unfinished
from spectacles.lab.check.registry import checks
from spectacles.lab.check.report import finding_text
from spectacles.lab.display.files import write_whole
from spectacles.lab.kernel.machine import machine
from spectacles.lab.record import derive, focus, sources, store
from spectacles.lab.record.drawings import page
from spectacles.lab.record.drawings import terminal as drawing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from spectacles.lab.check.runner import Judge
    from spectacles.lab.dossier.building import Built
    from spectacles.lab.gate.events import Event
    from spectacles.lab.record.model import Run


def run(judge: Judge, out: Path, name: str) -> int:
    """Play the finding `name` of the latest report in `out` again, and draw it. Return 1 if it shows again, else 0.

    Beside the report are left: NAME.jsonl, the run, for `spectacles trace`, and NAME.html, its page. Blocks for some
    seconds. Raises UsageError when there is no such report or finding, SpectaclesError when it cannot be played.
    """
    folder, finding = _find(out, name)
    one = next((check for check in checks() if check.name == finding.check), None)
    if one is None:
        raise UsageError(f"pas de contrôle « {finding.check} » dans cette version")
    recording = _Recording()
    with judge.prepared() as built:
        case = judge.case(built, finding.script, sink=recording.sink, gated=True)
        try:
            said = one.run(case)
            outcomes = [said] if isinstance(said, Outcome) else list(said)
        except Unfinished as error:
            outcomes = []
            print(f"{finding.check} : {printable(str(error))}")
        record = recording.longest(judge, built)
        drawn = _run(record, finding)
        if drawn.steps:
            print(drawing.draw(drawn, drawing.medium(sys.stdout)))
        for bench in case.made[-1:]:
            print("\n".join(f"  {printable(line)}" for line in bench.log))
    again = any(outcome.state is State.DEFECT and outcome.defect == finding.defect for outcome in outcomes)
    print()
    print(finding_text(finding))
    print("\nIl se montre de nouveau." if again else "\nCette fois, il ne s'est pas montré.")
    if drawn.steps:
        base = folder / finding.id
        store.save(record, f"{base}.jsonl")
        write_whole(f"{base}.html", page.render(drawn))
        print(f"{base}.html : pas à pas\n{base}.jsonl : à redessiner par spectacles trace --open")
    return 1 if again else 0


def with_commands(found: Report, words: Sequence[str]) -> Report:
    """Add to every defect the command line that plays it again. words: those that judged the program."""
    return dataclasses.replace(
        found,
        findings=tuple(
            dataclasses.replace(one, replay=shlex.join([*words, "--replay", one.id]))
            if one.state is State.DEFECT
            else one
            for one in found.findings
        ),
    )


def _find(out: Path, name: str) -> tuple[Path, Finding]:
    folder = out / "latest"
    path = folder / "report.json"
    try:
        report = Report.from_json(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"{reason(error)} ; jugez d'abord ce dossier, sans --replay") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} : {error}") from None
    found = next((one for one in report.findings if one.id == name and one.state is State.DEFECT), None)
    if found is None:
        known = ", ".join(one.id for one in report.defects) or "il n'y en a aucun"
        raise UsageError(f"pas de défaut « {name} » dans le dernier rapport ({known})")
    return folder, found


class _Recording:
    """The events of all gates of one call of a check, gate by gate."""

    def __init__(self) -> None:
        self.runs: list[list[Event]] = []

    def sink(self, event: Event) -> None:
        """Take in an event; the first of a gate has the number 1."""
        if event.seq == 1:
            self.runs.append([])
        self.runs[-1].append(event)

    def longest(self, judge: Judge, built: Built) -> store.Record:
        """Return the last run with more than a few events, the one in which the finding shows."""
        events = next((events for events in reversed(self.runs) if len(events) > 20), [])
        commands = {"server": judge.profile.server, "client": judge.profile.client}
        record = store.Record(store.head(commands, machine(str(built.folder))), events)
        record.places.update(sources.places(events, [built.folder]))
        return record


def _run(record: store.Record, finding: Finding) -> Run:
    """Return what is worth drawing: from the request on that was made before the schedule did something."""
    try:
        whole = derive.run(record, f"défaut {finding.defect} : {finding.sentence}")
    except (ValueError, KeyError, IndexError) as error:
        raise SpectaclesError(f"ce déroulement ne se dessine pas : {error}") from None
    acted = [event.seq for event in record.events if event.kind == "decision"]
    start = max(acted[0] - 60, 0) if acted else max(len(record.events) - 120, 0)
    return focus.during(whole, start, 0)
