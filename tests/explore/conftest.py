"""Programs of a student's kind with a race in each, their sound twins, and what explores them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from spectacles.lab.programs.world import World
from spectacles.lab.schedules.scenario import Actor, Scenario

SOURCES = Path(__file__).with_name("c")
RACES = ("memoire", "fichier", "fils")  # between two instructions, between a read and a write, between two threads
Made = Callable[..., Scenario]


def compile_c(folder: Path, source: Path, name: str, *flags: str) -> None:
    """Compile a program into a folder; skips without a compiler."""
    cc = shutil.which("cc")
    if cc is None:
        pytest.skip("no C compiler (cc)")
    subprocess.run([cc, "-g", "-O0", "-w", "-pthread", *flags, "-o", str(folder / name), str(source)], check=True)


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the programs of c/, NAME and NAME_sound, and with gated.c of tests/see."""
    if os.uname().machine != "x86_64":
        pytest.skip("accesses to memory are seen on x86-64 only")
    folder = tmp_path_factory.mktemp("explored")
    for name in RACES:
        compile_c(folder, SOURCES / f"{name}.c", name)
        compile_c(folder, SOURCES / f"{name}.c", f"{name}_sound", "-DSOUND")
    compile_c(folder, SOURCES.parents[1] / "see" / "c" / "gated.c", "gated")
    with World() as world:
        if not world.private:
            pytest.skip(f"no private worlds here: {world.refused}")
    return folder


@pytest.fixture
def scenario(programs: Path) -> Made:
    """Make a scenario of one of them: scenario("fils"), scenario("gated", "deadlock")."""

    def make(name: str, *arguments: str, **fields: object) -> Scenario:
        return Scenario(name, (Actor("P", (f"./{name}", *arguments)),), str(programs), **fields)  # type: ignore[arg-type]

    return make
