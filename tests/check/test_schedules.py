"""Races inside `check`, by their schedule: found every time, played again; their sound twins are left in peace."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from spectacles.lab.check import (
    command,  # noqa: F401  (all checks)
    schedules,
)
from spectacles.lab.check.model import TIMELINE, Report, State
from spectacles.lab.check.registry import checks
from spectacles.lab.check.runner import Judge
from spectacles.lab.schedules.words import Line, Segment
from tests.check import mutants

TIMES = 20  # in the long form


def judge(folder: Path, question: int, more: str = "", defect: int = 0) -> Judge:
    """Return a judge of one program of defects/ who explores it, and does nothing else."""
    return Judge(mutants.dossier(folder, question, defect, more), question=question, only=("schedules",))


def numbers(report: Report) -> list[int]:
    """Return the defects found; a program that was not explored is no good news."""
    assert not report.failed, report.failed
    assert [one.state for one in report.findings if one.state not in (State.OK, State.DEFECT)] == [], report.findings
    return [one.defect for one in report.defects]


def test_between_two_instructions(tmp_path: Path) -> None:
    """Two processes and shared memory: what was to be done next, and the line; played again, recorded, by its script.

    (Seen to fail: with accesses=False nothing is found.)
    """
    the_judge = judge(tmp_path / "d", *mutants.RACES["between two instructions, in shared memory"])
    report = the_judge.run()
    assert numbers(report) == [29]
    (found,) = report.defects
    assert found.shown == (2, 2)
    assert "vendues deux fois" in found.sentence
    assert found.source.startswith("guichet.h:")
    assert found.source.endswith("table[show].places -= seats;")
    assert len(found.timeline) <= TIMELINE
    assert any(line.startswith("── server.") and "il allait faire : change mémoire" in line for line in found.timeline)
    assert "reads(memory" in found.script  # up to which somebody goes, and no further
    one = next(one for one in checks() if one.name == "schedules")
    seen: list[object] = []
    with the_judge.prepared() as built:
        again = one.run(the_judge.case(built, found.script, sink=seen.append))
    assert getattr(again, "defect", 0) == 29
    assert len(seen) > 100


def test_its_sound_twin(tmp_path: Path) -> None:
    """The same two processes under their lock. (Seen to fail: with -DRACE=2 among its flags.)"""
    report = judge(tmp_path / "d", *mutants.TWINS["two processes"]).run()
    assert numbers(report) == []
    assert "entrelacements de deux clients joués" in report.findings[0].seen


def test_an_answer_that_goes_elsewhere(tmp_path: Path) -> None:
    """Every thread has the address of the same request: 28, not 29, and not for want of an answer alone.

    (Seen to fail: with to whom the server answers left out of the traffic.)
    """
    assert numbers(judge(tmp_path / "d", 4, defect=28).run()) == [28]


def test_what_cannot_be_explored_is_said(tmp_path: Path) -> None:
    """A program without a place for the preload library: not applicable, and why. (Seen to fail: as a tool's fault.)"""
    report = judge(tmp_path / "d", 4, "-static").run()
    assert [one.state for one in report.findings] == [State.NOT_APPLICABLE]
    assert "lié statiquement" in report.findings[0].because


def test_a_long_story_is_cut_about_where_it_matters() -> None:
    """At most TIMELINE lines, with who was interrupted. (Seen to fail: cut at the end.)"""
    line = Line("change la variable x", "a.c:3")
    other = Line("rend verrou")
    parts = [Segment(f"server.{number}", (other, line, other)) for number in range(40)]
    parts[30] = dataclasses.replace(parts[30], preempted="server.29", before="change la variable x")
    lines = schedules._timeline(tuple(parts))
    assert len(lines) <= TIMELINE
    assert lines[0] == lines[-1] == "…"
    at = lines.index("── server.29 est interrompu ici ; il allait faire : change la variable x")
    assert lines[at + 1] == "server.30 : change la variable x (a.c:3) … et 2 autres pas"


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", mutants.RACES)
def test_found_every_time(tmp_path: Path, name: str) -> None:
    """20 of 20."""
    assert [numbers(judge(tmp_path / str(run), *mutants.RACES[name]).run()) for run in range(TIMES)] == [[29]] * TIMES


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", mutants.TWINS)
def test_never_where_there_is_a_lock(tmp_path: Path, name: str) -> None:
    """20 times nothing."""
    assert [numbers(judge(tmp_path / str(run), *mutants.TWINS[name]).run()) for run in range(TIMES)] == [[]] * TIMES


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", mutants.RACES)
def test_by_its_own_number_and_no_other(tmp_path: Path, name: str) -> None:
    """All checks."""
    question, more = mutants.RACES[name]
    report = Judge(mutants.dossier(tmp_path / "d", question, 0, more), question=question).run()
    assert {one.defect for one in report.defects} == {29}
