"""Folders as students hand them in, built without a word from them. The sources are one line each; nothing is run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from spectacles.lab.dossier import building

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc)")
MAIN = "int main(void) { return 0; }\n"
FLAG = f"#ifndef VRAI\n#error il manque -DVRAI\n#endif\n{MAIN}"  # not to be built but in their own way
COMPILE = "cc -DVRAI -o server server.c\ncc -DVRAI -o client client.c\n"


def built(folder: Path, files: dict[str, str]) -> building.Built:
    """Write a folder and build it."""
    folder.chmod(0o755)
    source, into = folder / "remise", folder / "construit"
    into.mkdir()
    for name, text in files.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return building.build(source, into)


@pytest.mark.parametrize(
    ("files", "programs"),
    [
        ({"make.sh": f"#!/bin/bash\n{COMPILE}", "server.c": FLAG, "client.c": FLAG}, {"server .", "client ."}),
        (
            {
                "MakeServer": "server: server.c\n\tcc -DVRAI -o $@ $<\n",
                "MakeClient": "client: client.c\n\tcc -DVRAI -o $@ $<\n",
                "server.c": FLAG,
                "client.c": FLAG,
            },
            {"server .", "client ."},
        ),
        (
            {
                "Makefile": "server: server.c\n\tcc -o $@ $<\nclient: client.c\n\tcc -o $@ $<\n",
                "server.c": MAIN,
                "client.c": MAIN,
            },
            {"server .", "client ."},
        ),
        (
            {
                "server/Makefile": "server: server.c\n\tcc -o $@ $<\n",
                "client/Makefile": "client: client.c\n\tcc -o $@ $<\n",
                "server/server.c": MAIN,
                "client/client.c": MAIN,
            },
            {"server/server server", "client/client client"},
        ),
        (
            {
                "Makefile": "all:\n\techo rien\n",
                "server.c": f"int commun(void);\nint debut(void) {{ return commun(); }}\n{MAIN}",
                "client.c": MAIN,
                "commun.c": "int commun(void) { return 0; }\n",
                "inutile.c": "ceci n'est pas du C\n",
            },
            {"server .", "client ."},
        ),
        (
            {
                "Makefile": "server: server.c table.c\n\tcc -o $@ server.c table.c\n",
                "server.c": f'#include "table.h"\n{MAIN}',
                "table.c": '#include "table.h"\n',
                "table.h": "int places;\n",
            },
            {"server ."},
        ),
    ],
    ids=["make.sh", "MakeServer", "first target", "subfolders", "no makefile", "globals in a header"],
)
def test_what_students_build(files: dict[str, str], programs: set[str], tmp_path: Path) -> None:
    """Programs, and the folders in which they are to be started.

    (Seen to fail: all of them with `make` alone where there is a Makefile, else cc.)
    """
    made = built(tmp_path, files)
    assert {f"{one.path} {one.folder}" for one in made.programs if not one.path.endswith(".sh")} >= programs


def test_old_binaries_are_not_taken_for_new_ones(tmp_path: Path) -> None:
    """A program that came with its source is made again, by a make that took it for up to date.

    (Seen to fail: without _aside().)
    """
    shutil.copy("/bin/true", tmp_path / "true")
    source = tmp_path / "remise"
    source.mkdir()
    shutil.copy("/bin/true", source / "server")
    os.utime(source / "server", (4e9, 4e9))
    files = {"Makefile": "server: server.c\n\tcc -o $@ $<\n", "server.c": MAIN, "client.c": MAIN}
    made = built(tmp_path, files)
    assert (made.folder / "server").read_bytes() != (tmp_path / "true").read_bytes()
    assert next(one for one in made.programs if one.path == "server").sources == ("server.c",)


def test_one_exercise_of_several(tmp_path: Path) -> None:
    """The one with seats and a loop, and the others are named. (Seen to fail: without _exercise().)"""
    echo = "/* echo */ void f(void) { accept(0, 0, 0); }\n"
    office = "/* seats */ int seats; void f(void) { for (;;) accept(0, 0, 0); }\n"
    files = {
        "ex1/server.c": f"#include <sys/socket.h>\n{echo}{MAIN}",
        "ex1/client.c": MAIN,
        "ex2/server.c": f"#include <sys/socket.h>\n{office}{MAIN}",
        "ex2/client.c": MAIN,
    }
    made = built(tmp_path, files)
    assert {one.path for one in made.programs} == {"server", "client"}
    assert made.name == "remise"
    assert "ex2" in made.notes[0]
    assert "ex1" in made.notes[0]
