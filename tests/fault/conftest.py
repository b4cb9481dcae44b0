"""Fixtures of the fault suite. The table that it ends with is printed by the conftest above."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import helpers
from tests.fault.campaign import Clients
from tests.fault.ledger import LEDGER, SEEDS, Ledger

SOURCES = Path(__file__).parent / "c"


@pytest.fixture
def ledger(pytestconfig: pytest.Config) -> Ledger:
    """The table of this run."""
    return pytestconfig.stash[LEDGER]


@pytest.fixture
def seed(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> int:
    """The seed of a test: random, named at the end if the test fails; $SPECTACLES_SEED gives it again."""
    number = int(os.environ.get("SPECTACLES_SEED") or random.SystemRandom().randrange(2**32))
    pytestconfig.stash[SEEDS][request.node.nodeid] = number
    print(f"SPECTACLES_SEED={number}")
    return number


@pytest.fixture
def rng(seed: int) -> random.Random:
    """A random generator made from `seed`."""
    return random.Random(seed)


@dataclass
class Shim:
    """An LD_PRELOAD library that makes the writes of one server fail, and how to ask for it: see c/shim.c."""

    library: Path
    wishes: Path

    @property
    def env(self) -> dict[str, str]:
        """The environment of a server that obeys."""
        return {**os.environ, "LD_PRELOAD": str(self.library), "SPECTACLES_FAULT": str(self.wishes)}

    def ask(self, wish: str, number: int = 1) -> None:
        """Ask for a fault from now on."""
        whole = self.wishes / f".{wish}"
        whole.write_text(str(number))
        whole.rename(self.wishes / wish)

    def stop(self, wish: str) -> None:
        """Let things work again."""
        (self.wishes / wish).unlink(missing_ok=True)

    def holder(self) -> int:
        """Return the PID of the process that waits before a write, the lock in its hands. Blocks until there is one."""
        helpers.eventually(lambda: list(self.wishes.glob("held.*")), "a process that holds the lock")
        (path,) = self.wishes.glob("held.*")
        path.unlink()
        return int(path.suffix[1:])


def compile_c(*arguments: str) -> None:
    """Compile programs of the directory c; skips without a compiler."""
    if not shutil.which("cc"):
        pytest.skip("no C compiler (cc): the fault programs cannot be built")
    command = ["cc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", *arguments]
    subprocess.run(command, cwd=SOURCES, check=True, timeout=100)


@pytest.fixture(scope="session")
def shim_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled c/shim.c; skips without a compiler."""
    path = tmp_path_factory.mktemp("shim") / "shim.so"
    compile_c("-shared", "-fPIC", "-o", str(path), "shim.c", "-ldl")
    return path


@pytest.fixture
def shim(shim_library: Path, tmp_path: Path) -> Shim:
    """Faults for the servers of one test."""
    wishes = tmp_path / "wishes"
    wishes.mkdir()
    return Shim(shim_library, wishes)


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled c/hostile.c; skips without a compiler."""
    path = tmp_path_factory.mktemp("hostile") / "hostile"
    compile_c("-o", str(path), "hostile.c")
    return path


@pytest.fixture
def clients(tmp_path: Path) -> Iterator[Clients]:
    """Start real clients that write down what they were told; they end with the test."""
    made = Clients(tmp_path)
    yield made
    made.close()


@pytest.fixture
def attack() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start hostile programs; whatever still runs is killed at the end of the test."""
    running: list[subprocess.Popen[str]] = []

    def start(*command: object) -> subprocess.Popen[str]:
        process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True)
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()
