"""The known hazards: each breaks the broken program and not the sound one, the same way every time."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from spectacles.common.errors import UsageError
from spectacles.lab.gate.script import parse
from spectacles.lab.hazards import hazard, play, view
from spectacles.lab.hazards.hazard import BROKEN, SOUND
from spectacles.lab.programs.process import children
from tests import helpers
from tests.see.terminal import Terminal

NAMES = hazard.names()
HOG = [sys.executable, "-c", "while True: pass"]
COMMAND = [sys.executable, "-m", "spectacles", "break"]


def outcome(name: str, which: str) -> play.Outcome:
    """Play one; skips where this machine cannot."""
    one = hazard.load(name)
    if one.accesses and os.uname().machine != "x86_64":
        pytest.skip("accesses to shared memory are seen on x86-64 only")
    try:
        return play.play(one, which)
    except play.HazardError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("which", [BROKEN, SOUND])
@pytest.mark.parametrize("name", NAMES)
def test_hazard(name: str, which: str) -> None:
    """What the catalogue says comes, every line of its script fits, and the other signature does not fit.

    (Fails with `until ... rests` taken for `waits`: the second thread has not served B when the first is let go.)
    """
    one = hazard.load(name)
    came = outcome(name, which)
    assert came.differs(one.signatures[which]) == []
    assert came.missed == ()
    assert came.differs(one.signatures[SOUND if which == BROKEN else BROKEN])


@pytest.mark.soak
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "beside a hog"])
@pytest.mark.parametrize("name", NAMES)
def test_the_same_a_hundred_times(name: str, busy: bool) -> None:
    """Broken and sound, a hundred times each. (Fails with programs started before the others are at rest.)"""
    one = hazard.load(name)
    with helpers.background(HOG) if busy else contextlib.nullcontext():
        for _ in range(100):
            for which in (BROKEN, SOUND):
                assert outcome(name, which).differs(one.signatures[which]) == []


def test_catalogue() -> None:
    """Every C file has its words, the two programs differ, scripts can be read, lessons fit on a projector."""
    assert {path.stem for path in hazard.CATALOGUE.glob("*.c")} == set(NAMES)
    for one in hazard.everything():
        assert re.search(r"^#if(n?def) BROKEN$", one.source.read_text(), re.MULTILINE), one.name
        assert parse(one.script), one.name
        assert 3 <= len(one.lesson.splitlines()) <= 5, one.name
        assert all(len(line) <= 130 for line in one.lesson.splitlines()), one.name
        assert set(one.signatures) == {BROKEN, SOUND}
        for signature in one.signatures.values():
            assert set(signature.waits) <= {words[0] for words in one.programs}
    with pytest.raises(UsageError, match=r"péril inconnu : \.\./answers"):
        hazard.load("../answers")


def test_command(tmp_path: Path) -> None:
    """The list, one hazard, and what is refused in one line."""
    done = helpers.run(COMMAND, cwd=tmp_path)
    assert done.returncode == 0
    assert all(name in done.stdout for name in NAMES)
    for arguments in (["fly"], ["--slow", "3"], ["answers", "--all"], ["--play", "x"], ["answers", "--times", "0"]):
        done = helpers.run([*COMMAND, *arguments], cwd=tmp_path)
        assert done.returncode == 2, done
        helpers.one_line(done)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("precious")
    done = helpers.run([*COMMAND, "answers", "--play", "full"], cwd=tmp_path)
    assert done.returncode == 2
    assert (tmp_path / "full" / "mine").read_text() == "precious"
    assert list(tmp_path.iterdir()) == [tmp_path / "full"]


def test_by_hand(tmp_path: Path) -> None:
    """The broken server of a hazard, its clients from elsewhere, and nothing left after it.

    (Fails, the fixture of the suite, without _remove().)
    """
    command = [*COMMAND, "refusal", "--play", "game"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as game:
        try:
            assert game.stdout is not None
            client = tmp_path / "game" / "hazard"
            helpers.eventually(lambda: "./hazard B 1" in game.stdout.readline(), "what to type")  # type: ignore[union-attr]

            def asked() -> str:
                done = subprocess.run([client, "A", "500"], cwd=client.parent, capture_output=True, timeout=5)
                return done.stdout.decode()

            helpers.eventually(lambda: asked() == "refusé\n", "an answer")
            with pytest.raises(subprocess.TimeoutExpired):
                subprocess.run([client, "B", "1"], cwd=client.parent, capture_output=True, timeout=0.5)
        finally:
            for pid in children(game.pid):
                os.kill(pid, 15)
            assert game.wait(helpers.DEADLINE) == 0
    assert not (tmp_path / "game").exists()


def test_side_by_side(tmp_path: Path) -> None:
    """One hazard shown: lesson, both runs, how each ended, a page; and in a terminal step by step, with guesses.

    (Fails without the alignment: the two first lines are not the same.)
    """
    outcome("second", BROKEN)  # or skip
    done = helpers.run([*COMMAND, "second", "--html", "page.html"], cwd=tmp_path, env={**os.environ, "COLUMNS": "100"})
    assert done.returncode == 0, done
    assert max(len(line) for line in done.stdout.splitlines()) <= 100
    assert re.search(r"^B\s+lit 1, 80 .places. +│ *$", done.stdout, re.MULTILINE), done.stdout
    assert "places [0, 80]" in done.stdout
    page = (tmp_path / "page.html").read_text()
    assert "Un deuxième serveur" in page
    assert "un serveur est déjà là" in page
    done = helpers.run([*COMMAND, "second", "--html", "nowhere/page.html"], cwd=tmp_path)
    assert done.returncode == 2
    helpers.one_line(done)


def test_the_seats_go_with_whoever_changes_them() -> None:
    """Beside the write, whatever ended a moment later; a call at which its task was killed was not made.

    (Fails with the seats beside the last line that was over, and with what was held told as done.)
    """
    outcome("halves", SOUND)  # or skip
    scenes = [view.Scene(hazard.load("halves"), which) for which in (BROKEN, SOUND)]
    told = [[(line.text, line.seats) for line in scene.lines if line.seats][1:] for scene in scenes]
    assert told == [
        [("écrit 117, 80 (places)", (117, 80)), ("écrit 117, 75 (places)", (117, 75))],
        [("écrit 115, 80 (places)", (115, 80)), ("écrit 115, 77 (places)", (115, 77))],
    ]
    answered = view.Scene(hazard.load("answered"), BROKEN)
    assert "retenu avant : écrit 119, 80 (places)" in [line.text for line in answered.lines]


def test_the_first_beside_the_first() -> None:
    """What two runs do alike stands side by side, as much of it as can. (Fails with difflib's longest block first.)"""
    outcome("stale", BROKEN)
    left, right = (view.Scene(hazard.load("stale"), which) for which in (BROKEN, SOUND))
    both = [
        one.text
        for one, other in view.pairs(left, right)
        if one is not None and other is not None and one.text == other.text
    ]
    assert [text for text in both if text.startswith("affiche")] == ["affiche « spectacle 0 : 120 places »"]
    assert sum(text.startswith("envoie une demande") for text in both) == 2


def test_what_repeats_itself_is_told_once(tmp_path: Path) -> None:
    """A thousand rounds are a few lines. (Fails with TOLD out of reach.)"""
    outcome("forged", BROKEN)
    done = helpers.run([*COMMAND, "forged"], cwd=tmp_path)
    assert re.search(r"… \d{3,4} lignes de même", done.stdout), done.stdout
    assert len(done.stdout.splitlines()) < 70


def test_step_by_step(tmp_path: Path) -> None:
    """In a terminal: asked first, then a line for each press of the space bar, then compared; q ends it.

    (Fails with what is about to happen not said, and with guesses not compared.)
    """
    outcome("deadlock", BROKEN)
    with Terminal("deadlock", "--predict", "--step", what="break") as terminal:

        def shown(text: str, times: int = 1) -> None:
            def there() -> bool:
                terminal.read()
                return terminal.raw.count(text) >= times

            helpers.eventually(there, text)

        for number in range(1, 5):
            shown("votre avis : ", number)
            terminal.type("1\n")
        for number in range(1, 6):
            shown("ensuite : ", number)
            terminal.type(" ")
        shown("ensuite : ", 6)
        terminal.type("q")
        assert terminal.end() == 0
        assert " sur 4." in terminal.raw
        assert "Traceback" not in terminal.raw
