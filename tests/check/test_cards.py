"""The cards, and the programs that have each defect: complete, and true of the files that they name."""

from __future__ import annotations

import re

from spectacles.lab.check import command  # noqa: F401  (all checks)
from spectacles.lab.check.cards import cards
from spectacles.lab.check.registry import checks
from tests import helpers
from tests.check import mutants

INVISIBLE = {17}  # malloc of the size of a pointer: the C library gives enough to whoever asks for 8 bytes


def test_every_defect_has_a_card_and_its_files_exist() -> None:
    """Seen to fail: without the card of 17, and with a letter of a file changed."""
    assert sorted(cards()) == list(range(1, 41))
    for card in cards().values():
        assert card.files
        assert [name for name in card.files if not (helpers.ROOT / name).is_file()] == []
        assert all(text.endswith(".") for text in (card.what, card.why, card.mended))
        assert not card.title.endswith(".")


def test_every_defect_is_looked_for() -> None:
    """By a check at least, but the one that cannot be seen. (Seen to fail: without the check `sizes`.)"""
    looked_for = {number for one in checks() for number in one.finds}
    assert looked_for == set(range(1, 41)) - INVISIBLE


def test_every_defect_has_a_program_that_has_it() -> None:
    """In the files that the table names, no others. (Seen to fail: without the row of 8, and with a file wrong.)"""
    index = mutants.index()
    assert set(index) == set(range(1, 41)) - INVISIBLE
    found: dict[int, set[str]] = {}
    for path in mutants.DEFECTS.glob("*.[ch]"):
        for number in re.findall(r"DEFECT [!=]= (\d+)", path.read_text(encoding="utf-8")):
            found.setdefault(int(number), set()).add(path.name)
    assert {number: set(files) for number, (_, files, _) in index.items()} == found
