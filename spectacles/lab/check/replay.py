"""Plays a finding again: the same script, slowly, drawn."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from spectacles.common.errors import SpectaclesError, UsageError, reason
from spectacles.common.text import printable
from spectacles.lab.check.model import Finding, Report, State
from spectacles.lab.check.registry import checks
from spectacles.lab.check.report import finding_text

if TYPE_CHECKING:
    from pathlib import Path

    from spectacles.lab.check.runner import Judge
    from spectacles.lab.gate.events import Event

MOST = 200  # events shown


def run(judge: Judge, out: Path, name: str) -> int:
    """Play the finding `name` of the latest report in `out` again; print what happens. Return 1 if it shows again.

    Raises UsageError when there is no such report or finding.
    """
    finding = _find(out, name)
    one = next((check for check in checks() if check.name == finding.check), None)
    if one is None:
        raise UsageError(f"pas de contrôle « {finding.check} » dans cette version")
    events: list[Event] = []
    with judge.prepared() as built:
        case = judge.case(built, finding.script, sink=events.append)
        try:
            said = one.run(case)
        except Exception as error:
            raise SpectaclesError(f"{finding.check} : {error}") from None
    outcomes = [said] if not hasattr(said, "__iter__") else list(said)
    for bench in case.made:
        for line in bench.log:
            print(printable(line))
    for event in events[:MOST]:
        print(printable(str(event)))
    again = [outcome for outcome in outcomes if outcome.state is State.DEFECT and outcome.defect == finding.defect]
    print()
    print(finding_text(finding))
    print("Il se montre de nouveau." if again else "Cette fois, il ne s'est pas montré.")
    return 1 if again else 0


def _find(out: Path, name: str) -> Finding:
    path = out / "latest" / "report.json"
    try:
        report = Report.from_json(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"{path} : {reason(error)} ; jugez d'abord ce dossier") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} : {error}") from None
    found = next((one for one in report.findings if one.id == name and one.state is State.DEFECT), None)
    if found is None:
        known = ", ".join(one.id for one in report.defects) or "il n'y en a aucun"
        raise UsageError(f"pas de défaut « {name} » dans le dernier rapport ({known})")
    return found
