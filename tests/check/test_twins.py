"""Sound programs, and what becomes of them when one thing is left out, by a flag of the compiler."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from spectacles.lab.check import command  # noqa: F401  (all checks)
from spectacles.lab.check.runner import Judge
from spectacles.lab.dossier import profile as profiles
from tests.check import mutants

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc)")

# The flag, the two programs, the check that finds it, the number of the defect.
TWINS = (
    ("stazione", "FRAGILE", "stazione viaggiatore", "kill-child", 10),
    ("timbres", "CONFIANT", "serveur client", "hostile-numbers", 23),
    ("gares", "SANS_UNDO", "serveur client", "vanished-client", 24),
)


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize(("name", "flag", "programs", "check", "defect"), TWINS)
def test_its_twin_is_found(tmp_path: Path, name: str, flag: str, programs: str, check: str, defect: int) -> None:
    """By its number, without a profile; without the flag nothing is found. (Seen to fail: with the flag unknown.)"""
    for sound in (True, False):
        folder = tmp_path / ("sound" if sound else "wrong")
        shutil.copytree(mutants.PROGRAMS / name, folder)
        option = "" if sound else f"-D{flag}"
        lines = [f"{one}: ; $(CC) {option} -o {one} {one}.c -lpthread -lrt" for one in programs.split()]
        (folder / "Makefile").write_text(f"all: {programs}\n" + "\n".join(lines) + "\n")
        report = Judge(folder, only=(check,)).run()
        assert not report.failed, report.failed
        assert {one.defect for one in report.defects} == (set() if sound else {defect})


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_who_sells_six_at_a_time_is_not_accused_where_nobody_has_said_so(tmp_path: Path) -> None:
    """The hotel without its limit in the profile: its rules are found out before it is accused. (Seen to fail: 29.)"""
    text = (mutants.PROGRAMS / "hotel" / "profil.toml").read_text().partition("[limits]")[0]
    report = Judge(mutants.PROGRAMS / "hotel", profiles.parse(text), only=("histories", "delay", "refusal")).run()
    assert not report.failed, report.failed
    assert report.defects == ()
