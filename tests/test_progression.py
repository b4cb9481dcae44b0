"""docs/progression.md is what the code says, and the servers still read as one text in five versions.

Each test was seen to fail: see the clause in its docstring.
"""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tools import progression

MOST_CHANGED = 25  # lines of code between two neighbours, from question 2 on
TWO_SCREENS = 100  # lines
WIDEST = 100  # columns of a drawing, its margin included
UPWARD = "│└┘├┤┴┼▼"  # what must meet a stroke, or a word, above it
DOWNWARD = "│┌┐├┤┬┼"  # and below
SHAPES = {
    "q1_pipes": ["answer", "work", "main"],
    "q2_msq": ["answer", "work", "main"],
    "q3_threads": ["answer", "work", "main"],
    "q4_thread_per_request": ["answer", "handle", "work", "main"],
    "q5_sockets": ["answer", "handle", "work", "main"],
    "x1_sessions": ["answer", "work", "main"],
    "x2_basket": ["answer", "handle", "work", "main"],
    "x3_cluster": ["answer", "handle", "work", "main"],
}
ALL = (*progression.QUESTIONS, *progression.FURTHER)


def test_the_page_is_what_the_code_says() -> None:
    """Seen to fail: after a word of a server, or of the page, was changed."""
    script = progression.ROOT / "tools" / "progression.py"
    run = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_check_finds_a_stale_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen to fail: with a main() that returns 0 whatever it finds."""
    stale = progression.ROOT / "docs" / "no-such-page.md"
    monkeypatch.setattr(progression, "PAGE", stale)
    assert progression.main(["--check"]) == 1
    assert not stale.exists()


@pytest.mark.parametrize(
    ("before", "after"), [*progression.STEPS[1:], *((known, new) for new, known in progression.FURTHER.items())]
)
def test_few_lines_change_between_neighbours(before: str, after: str) -> None:
    """Seen to fail: with a bound of 9."""
    gone, come = progression.changed_lines(before, after)
    assert 0 < max(gone, come) <= MOST_CHANGED


@pytest.mark.parametrize("further", progression.FURTHER)
def test_the_page_of_what_goes_further(further: str) -> None:
    """Its drawing and its diff stand there as the servers have them. (Seen to fail: with a word changed in either.)"""
    page = (progression.ROOT / "docs" / "further.md").read_text(encoding="utf-8")
    for lines in (
        progression.shown("drawing", further),
        progression.shown("diff", progression.FURTHER[further], further),
    ):
        assert "\n".join(lines) in page, "\n".join(lines)


def test_changed_lines_are_counted_as_the_page_says() -> None:
    """Seen to fail: with code_lines() that kept comments."""
    before = progression.code_lines(
        '"""Old."""\n\na = 1  # why\nb = 2\nc = "#"\ndef f():\n    """Doc."""\n    return a\n'
    )
    after = progression.code_lines('"""New,\nlonger."""\na = 1\nx = 9\ny = 9\nc = "#"\ndef f():\n    return a\n')
    assert before == ["a = 1", "b = 2", 'c = "#"', "def f():", "    return a"]
    assert progression.changed(before, after) == (1, 2)
    assert progression.changed(after, before) == (2, 1)


@pytest.mark.parametrize("question", ALL)
def test_every_server_has_the_same_shape(question: str) -> None:
    """Seen to fail: with answer() and work() swapped, with a docstring without `Reply:`, and with 40 more lines."""
    source = progression.server_path(question).read_text(encoding="utf-8")
    assert len(source.splitlines()) <= TWO_SCREENS
    assert progression.functions(question) == SHAPES[question]
    assert "# blocks" in source
    text = progression.docstring(question)
    assert progression.drawing(question)
    for name in ("Channel", "Table", "Lock", "Reply"):
        assert re.search(rf"^{name}: |\. {name}: ", text, re.MULTILINE), name
    if question != progression.QUESTIONS[0]:
        number = progression.FURTHER.get(question, "")[1:2] or progression.QUESTIONS.index(question)
        assert f"\nSince question {number}: " in text


@pytest.mark.parametrize("question", ALL)
def test_the_drawings_are_aligned(question: str) -> None:
    """Seen to fail: with one space more in one line of a drawing."""
    lines = progression.drawing(question)
    height = len(lines)

    def joins(row: int, column: int, strokes: str) -> bool:
        found = lines[row][column] if 0 <= row < height and column < len(lines[row]) else " "
        return found in strokes or found.isalnum()

    for row, line in enumerate(lines):
        assert len(line) + 4 <= WIDEST, line
        for column, stroke in enumerate(line):
            assert stroke not in UPWARD or joins(row - 1, column, DOWNWARD), (row, column, line)
            assert stroke not in DOWNWARD or joins(row + 1, column, UPWARD), (row, column, line)
