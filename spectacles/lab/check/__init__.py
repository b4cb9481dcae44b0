"""`spectacles check`: is this program right, and how do you know?

    main(argv)        builds a folder, watches it run, looks for defects, has each found again, writes a report
    model             Outcome, Finding, Report: what a judgement is, and its JSON
    registry          check: the decorator that makes a function a check
    case              what a check function is given: fresh worlds of the program, how long things may take
    cards             what is said of each defect, from defects.toml
    runner            Judge: one program, from its folder to its Report
    report            the report for people
    starts, dialogue, sweeps      the checks: start commands alone; the client's dialogue; every call between a request
                                  and its answer
    schedules                     races: two clients in every order that matters, down to the instruction

Leans on programs, display, kernel, gate, record, judge, dossier and schedules.
"""

from __future__ import annotations

from spectacles.common.lifecycle import program

__all__ = ["cards", "case", "main", "model", "registry", "report", "runner"]


@program
def main(argv: list[str] | None = None) -> int:
    """Judge a program. 0: no defect, 1: defects, 2: usage or profile, 3: not built or started, 4: inconclusive."""
    from spectacles.lab.check.command import check  # here: other commands start without it

    return check(argv)
