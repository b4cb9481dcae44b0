"""The judge is judged: each wrong program is found by its own number and by no other, and sound ones are left in peace.

The default run looks at a few, each by the check that finds it; all of them, by all checks, is the long form.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spectacles.lab.check import command  # noqa: F401  (all checks)
from spectacles.lab.check.model import Report, State
from spectacles.lab.check.registry import checks
from spectacles.lab.check.runner import Judge
from spectacles.lab.dossier import profile as profiles
from spectacles.lab.dossier.profile import Item, Profile
from tests import helpers
from tests.check import mutants

QUESTIONS = (1, 2, 3, 4, 5)
OTHERS = ("bibliotheque", "parking", "piscine", "stazione", "timbres", "gares", "vestiaire", "shop", "hotel")
RUNS = int(os.environ.get("SPECTACLES_RUNS", "50"))  # of each sound program, idle and beside a busy processor
LOG = os.environ.get("SPECTACLES_RUNS_LOG", "")  # a file to which a line for each of them is added
CLIENTS = {"q1_pipes": 1, "q2_msq": 2, "q3_threads": 3, "q4_thread_per_request": 4, "q5_sockets": 5}


def numbers(report: Report) -> set[int]:
    """Return the defects found; a program that could not be judged at all is no good news."""
    assert not report.failed, report.failed
    return {one.defect for one in report.defects}


def mutant(folder: Path, defect: int, *only: str) -> Report:
    """Judge the program that has this defect."""
    question = mutants.index()[defect][0]
    return Judge(mutants.dossier(folder / "dossier", question, defect), question=question, only=only).run()


def sound(folder: Path, name: str, *only: str) -> Report:
    """Judge a sound program: "1" to "5", or one of OTHERS."""
    if name.isdigit():
        return Judge(mutants.dossier(folder / "dossier", int(name)), question=int(name), only=only).run()
    path = mutants.PROGRAMS / name / "profil.toml"
    known = profiles.load(path) if path.exists() else None  # some are left to be learnt
    return Judge(mutants.PROGRAMS / name, known, only=only).run()


def ours(folder: Path, question: int, *only: str) -> Report:
    """Judge one of our own servers in Python, with its own client, in a menu."""
    module = next(name for name, number in CLIENTS.items() if number == question)
    folder.mkdir()
    known = Profile(
        name=module,
        server=("{python}", "-m", f"spectacles.{module}.server", "--dir", "."),
        server_env={"PYTHONPATH": str(helpers.ROOT)},
        client=("{python}", "-m", f"spectacles.{module}.client", "--dir", "."),
        client_env={"PYTHONPATH": str(helpers.ROOT)},
        consult=("1", "{item}") if question == 1 else ("1",),
        reserve=("2", "{item}", "{seats}"),
        quit=("0",),
        left=r"Selon le serveur.*?(\d+) place" if question == 1 else r"\[{item}\].*\| (\d+) places",
        yes="Réservation OK",
        no="Réservation NOK|Choix invalide",
        items=(Item("5", 12), Item("4", 40)),
        clients=int(question == 1),
    )
    (folder / "guichet.py").write_text("")  # something to be built
    return Judge(folder, known, question=question, only=only).run()


def finders(defect: int) -> list[str]:
    """Return the checks that can find a defect."""
    return [one.name for one in checks() if defect in one.finds]


# A few


@pytest.mark.parametrize("defect", [39, 13, 33])
def test_a_wrong_program_is_found_by_its_number(tmp_path: Path, defect: int) -> None:
    """With evidence, twice. (Seen to fail: with the `#if` of that defect taken out of the source.)"""
    report = mutant(tmp_path, defect, *finders(defect))
    assert numbers(report) == {defect}
    (found,) = report.defects
    assert found.shown[0] >= 2
    assert found.sentence
    assert found.done
    assert found.expected
    assert found.seen


def test_a_sound_program_is_left_in_peace(tmp_path: Path) -> None:
    """Another layout, other words. (Seen to fail: with the seats left unchecked in barriere.c.)"""
    report = sound(tmp_path, "parking", "raw-numbers", "oversized", "full-queue", "own-answers")
    assert numbers(report) == set()
    assert {one.state for one in report.findings} == {State.OK}


# All


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("defect", sorted(mutants.index()))
def test_each_by_its_own_number_and_no_other(tmp_path: Path, defect: int) -> None:
    """The whole matrix, all checks."""
    assert numbers(mutant(tmp_path, defect)) == {defect}


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", [*map(str, QUESTIONS), *OTHERS])
def test_nothing_is_said_against_sound_programs(tmp_path: Path, name: str) -> None:
    """The five in C that the wrong ones are made of, and three of other layouts, texts and structures."""
    assert numbers(sound(tmp_path, name)) == set()


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("question", QUESTIONS)
def test_nothing_is_said_against_our_own(tmp_path: Path, question: int) -> None:
    """The five servers in Python."""
    assert numbers(ours(tmp_path / "ours", question)) == set()


# Fifty times


@pytest.fixture
def hog() -> Iterator[None]:
    """Keep every processor busy."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in os.sched_getaffinity(0)]
    yield
    for one in busy:
        one.kill()
        one.wait()


def accusations(folder: Path, name: str, judge: Callable[[Path], Report], how: str) -> list[str]:
    """Judge a sound program RUNS times; return what was said against it, and in which report.

    Of each run there stays folder/RUN/report.json; to LOG a line is added, at once.
    """
    found = []
    for run in range(1, RUNS + 1):
        place = folder / str(run)
        place.mkdir(parents=True)
        report = judge(place / "program")
        path = place / "report.json"
        path.write_text(json.dumps(report.to_json(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        said = [f"{one.defect} by {one.check} ({one.script}): {one.seen}" for one in report.defects]
        said += [report.failed] if report.failed else []
        found += [f"{path}: {line}" for line in said]
        unsure = [f"{one.check}: {one.because}" for one in report.findings if one.state is State.INCONCLUSIVE]
        if LOG:
            line = {"program": name, "how": how, "run": run, "seconds": round(report.seconds, 1), "accused": said}
            with open(LOG, "a", encoding="utf-8") as file:
                file.write(json.dumps(line | {"unsure": unsure, "report": str(path)}, ensure_ascii=False) + "\n")
    return found


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", [*map(str, QUESTIONS), *OTHERS])
def test_fifty_times_idle(tmp_path: Path, name: str) -> None:
    """Nothing, each time; inconclusive at most."""
    assert accusations(tmp_path, name, lambda place: sound(place, name), "idle") == []


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("question", QUESTIONS)
def test_fifty_times_idle_our_own(tmp_path: Path, question: int) -> None:
    """The same of the five servers in Python."""
    assert accusations(tmp_path, f"ours {question}", lambda place: ours(place, question), "idle") == []


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", [*map(str, QUESTIONS), *OTHERS])
def test_fifty_times_beside_a_busy_processor(tmp_path: Path, name: str, hog: None) -> None:
    """Nothing, each time; inconclusive at most."""
    assert accusations(tmp_path, name, lambda place: sound(place, name), "hog") == []


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("question", QUESTIONS)
def test_fifty_times_beside_a_busy_processor_our_own(tmp_path: Path, question: int, hog: None) -> None:
    """The same of the five servers in Python."""
    assert accusations(tmp_path, f"ours {question}", lambda place: ours(place, question), "hog") == []
