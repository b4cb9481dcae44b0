"""Fixtures of all tests: servers with names of their own, the C programs, and a look at what each test left behind."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from spectacles.lab.programs.process import QUESTIONS
from tests import helpers
from tests.fault.ledger import LEDGER, SEEDS, Ledger

SETTLE = 5.0  # seconds that processes and objects get to disappear after a test

# Every program that a test starts inherits these, and signals as a shell gives them in the foreground: the suite may
# itself be the background job of a script, which has SIGINT ignored.
helpers.signals_as_in_the_foreground()
os.environ[helpers.MARKER] = helpers.RUN_NAME
os.environ["PYTHONPATH"] = str(helpers.ROOT)
for variable in ("SPECTACLES_DIR", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"):
    os.environ.pop(variable, None)

hypothesis.settings.register_profile("spectacles", deadline=None, print_blob=True)
hypothesis.settings.load_profile("spectacles")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LEDGER] = Ledger()
    config.stash[SEEDS] = {}


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what this process has tried to the one that reports, where there are several (pytest-xdist)."""
    output: dict[str, object] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["ledger"] = session.config.stash[LEDGER].dump()
        output["seeds"] = session.config.stash[SEEDS]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a process has tried, when it ends."""
    output = getattr(node, "workeroutput", {})  # a process that crashed has none
    node.config.stash[LEDGER].merge(output.get("ledger", []))
    node.config.stash[SEEDS].update(output.get("seeds", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = config.stash[LEDGER].lines()
    if lines:
        terminalreporter.section("fault suite: what was tried, and what was lost")
        for line in lines:
            terminalreporter.write_line(line)
    failed = {report.nodeid for report in terminalreporter.getreports("failed")}
    for test, seed in config.stash[SEEDS].items():
        if test in failed:
            terminalreporter.write_line(f"again: SPECTACLES_SEED={seed} pytest '{test}'")


def _left(objects: set[str], processes: dict[int, str]) -> tuple[set[str], dict[int, str]]:
    """Return the kernel objects and processes of this run that are not in `objects` and `processes`, once settled."""
    deadline = time.monotonic() + SETTLE
    while True:
        new_objects = helpers.own_objects() - objects
        new_processes = {pid: what for pid, what in helpers.own_processes().items() if pid not in processes}
        if not (new_objects or new_processes) or time.monotonic() > deadline:
            return new_objects, new_processes
        time.sleep(0.02)


def _check(objects: set[str], processes: dict[int, str]) -> None:
    new_objects, new_processes = _left(objects, processes)
    for pid in new_processes:
        if new_processes[pid] != "zombie":
            os.kill(pid, signal.SIGKILL)
    helpers.remove_objects(new_objects)
    if new_objects or new_processes:
        pytest.fail(f"left behind: {sorted(new_objects)} {new_processes}", pytrace=False)


@pytest.fixture(scope="session", autouse=True)
def _nothing_left_at_the_end() -> Iterator[None]:
    """Fail the last test if a fixture of a module or of the session has left something."""
    yield
    _check(set(), {})


@pytest.fixture(autouse=True)
def _nothing_left(_nothing_left_at_the_end: None) -> Iterator[None]:
    """Fail a test that has left a kernel object or a process; remove it, so that the next one starts clean."""
    objects, processes = helpers.own_objects(), helpers.own_processes()
    yield
    try:
        _check(objects, processes)
    finally:
        helpers.forget_directories()


@pytest.fixture(params=QUESTIONS)
def question(request: pytest.FixtureRequest) -> str:
    """Each of the five questions."""
    name: str = request.param
    return name


@pytest.fixture(params=helpers.QUEUES)
def queue_question(request: pytest.FixtureRequest) -> str:
    """Each question that has a message queue."""
    name: str = request.param
    return name


@pytest.fixture(params=helpers.FORKING)
def forking_question(request: pytest.FixtureRequest) -> str:
    """Each question that forks."""
    name: str = request.param
    return name


@pytest.fixture(params=helpers.MANY)
def many_question(request: pytest.FixtureRequest) -> str:
    """Each question that serves many clients at once."""
    name: str = request.param
    return name


@pytest.fixture
def make_directory(tmp_path: Path) -> Callable[[], Path]:
    """Return a function that makes a new run directory, whose derived names this run answers for."""

    def make() -> Path:
        path = tmp_path / f"guichet{len(list(tmp_path.iterdir()))}"
        path.mkdir(0o700)
        helpers.register_directory(path)
        return path

    return make


@pytest.fixture
def directory(make_directory: Callable[[], Path]) -> Path:
    """A new run directory."""
    return make_directory()


@pytest.fixture
def ordinary_user(directory: Path) -> list[str]:
    """What to put before a command, so that modes bind it: root becomes another user. Skips if that is not possible.

    That user can get to `directory`, which is not theirs.
    """
    if os.geteuid() != 0:
        return []
    if not shutil.which("setpriv"):
        pytest.skip("the tests run as root, whom no mode stops, and setpriv is not there")
    prefix = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    if helpers.run([*prefix, sys.executable, "-c", "import posix_ipc"]).returncode != 0:
        pytest.skip("another user cannot run this interpreter")
    for parent in directory.parents:
        if os.access(parent, os.W_OK) and parent.stat().st_uid == 0 and "pytest" in str(parent):
            parent.chmod(0o755)
    return prefix


@pytest.fixture
def server(make_directory: Callable[[], Path]) -> Iterator[helpers.Servers]:
    """Start servers: server(question, *options, directory=..., names=...); they end with the test."""
    servers = helpers.Servers(make_directory)
    yield servers
    servers.close()


@pytest.fixture(scope="session")
def c_programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the compiled C reference; skips without a compiler and make."""
    if not (shutil.which("cc") and shutil.which("make")):
        pytest.skip("no C compiler (cc) or no make: the C reference cannot be built")
    out = tmp_path_factory.mktemp("c")
    source = helpers.ROOT / "spectacles" / "lab" / "c"
    subprocess.run(["make", "-s", "-j2", "-C", str(source), f"OUT={out}"], check=True, timeout=100)
    return out


@pytest.fixture
def rng() -> random.Random:
    """A random generator whose seed is printed; $SPECTACLES_SEED gives it again."""
    seed = int(os.environ.get("SPECTACLES_SEED") or random.SystemRandom().randrange(2**32))
    print(f"SPECTACLES_SEED={seed}")
    return random.Random(seed)
