"""The cards: one paragraph about each defect, read from defects.toml, which stands beside this file.

[22]                                # the number of the defect
title = "..."                       # a few words in French, without a final point
questions = [1, 2, 3, 4, 5]         # of the subject in which the original has it; [] for those of others' programs
what = "..."                        # what it is
why = "..."                         # why it matters
mended = "..."                      # how such things are mended, without writing the student's code
files = ["spectacles/common/x.py"]  # of ours that mend it
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("defects.toml")


@dataclass(frozen=True)
class Card:
    """What is said of a defect. Text in French."""

    number: int
    title: str
    what: str
    why: str
    mended: str
    files: tuple[str, ...] = ()
    questions: tuple[int, ...] = ()


@cache
def cards() -> dict[int, Card]:
    """Return all cards by number."""
    read = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return {
        int(number): Card(
            int(number),
            one["title"],
            one["what"],
            one["why"],
            one["mended"],
            tuple(one["files"]),
            tuple(one["questions"]),
        )
        for number, one in read.items()
    }
