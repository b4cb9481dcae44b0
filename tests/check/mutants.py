"""The programs that the judge is judged by: sound ones, and ones that are wrong in exactly one way."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests import helpers

C = helpers.ROOT / "spectacles" / "lab" / "c"
DEFECTS = C / "defects"
PROGRAMS = Path(__file__).with_name("programs")
_ROW = re.compile(r"^\| (\d+) \| (\d) \| ((?:`[\w.]+`(?:, )?)+) \| (.+) \|$", re.MULTILINE)


def index() -> dict[int, tuple[int, tuple[str, ...], str]]:
    """Return defect -> question, files, what is undone, from the README of the wrong programs."""
    rows = _ROW.findall((DEFECTS / "README.md").read_text(encoding="utf-8"))
    return {
        int(n): (int(question), tuple(re.findall(r"`([\w.]+)`", files)), undone) for n, question, files, undone in rows
    }


# Where a sale is lost with no system call between the test and the change: question and flags, and of the sound twin.
RACES = {
    "between two instructions, in shared memory": (2, "-DRESERVERS=2 -DRACE=1"),
    "looked at before the lock, in shared memory": (2, "-DRESERVERS=2 -DRACE=2"),
    "between two threads, in plain memory": (4, "-DRACE=1"),
}
TWINS = {"two processes": (2, "-DRESERVERS=2"), "threads": (4, "")}


def dossier(folder: Path, question: int, defect: int = 0, more: str = "") -> Path:
    """Make a folder as a student hands it in: sources and a Makefile that builds `serveur` and `client`. Return it.

    more: flags of the compiler.
    """
    folder.mkdir(parents=True)
    client = 2 if question in (3, 4) else question
    shutil.copy(C / "spectacles.h", folder)
    for path in DEFECTS.glob("*.h"):
        shutil.copy(path, folder)
    shutil.copy(DEFECTS / f"q{question}_server.c", folder / "serveur.c")
    shutil.copy(DEFECTS / f"q{client}_client.c", folder / "client.c")
    flags = f"-std=c11 -g -O1 -pthread -DDEFECT={defect} {more}"
    (folder / "Makefile").write_text(
        f"all: serveur client\nserveur: serveur.c\n\tcc {flags} -o $@ $<\nclient: client.c\n\tcc {flags} -o $@ $<\n"
    )
    return folder
