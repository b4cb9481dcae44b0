"""Another C library keeps named semaphores elsewhere: musl, that of Alpine, as /dev/shm/NAME. See c/musl.c."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path

import pytest

from spectacles.common.addresses import semaphore_files
from spectacles.lab.programs.process import children
from tests import helpers
from tests.fault.conftest import compile_c


@pytest.fixture(scope="session")
def musl_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled c/musl.c; skips without a compiler."""
    path = tmp_path_factory.mktemp("musl") / "musl.so"
    compile_c("-shared", "-fPIC", "-o", str(path), "musl.c")
    return path


@pytest.fixture
def musl(musl_library: Path) -> dict[str, str]:
    """The environment of programs that find semaphores where musl does."""
    return {**os.environ, "LD_PRELOAD": str(musl_library)}


def names_with(semaphore: str) -> list[str]:
    """Return addressing options with this semaphore."""
    return ["--key", hex(helpers.fresh_key()), "--shm-key", hex(helpers.fresh_key()), "--sem-name", semaphore]


def test_a_server_starts_serves_and_leaves_nothing(
    server: helpers.Servers, forking_question: str, musl: dict[str, str]
) -> None:
    """Whatever the place, its rights are those asked for; a killed child is replaced.

    (With chmod("/dev/shm/sem.NAME") after sem_open(3), the server does not start, and leaves the semaphore.)
    """
    name = helpers.fresh_semaphore()
    guichet = server(forking_question, names=names_with(name), env=musl)
    (path,) = semaphore_files(name)
    assert path == f"/dev/shm{name}"
    assert stat.S_IMODE(os.lstat(path).st_mode) == 0o600
    os.kill(children(guichet.pid)[0], signal.SIGKILL)
    guichet.wait_for("service rétabli")
    assert guichet.client("reserve", "0", "1").returncode == 0
    assert guichet.stop() == 0
    assert semaphore_files(name) == []


@pytest.mark.parametrize("left", ["a semaphore", "an empty file"])
def test_what_a_dead_server_left_is_replaced(
    server: helpers.Servers, forking_question: str, musl: dict[str, str], left: str
) -> None:
    """(With only glibc's place looked at and unlinked, the second start fails: the name exists.)"""
    name = helpers.fresh_semaphore()
    first = server(forking_question, names=names_with(name), env=musl)
    for pid in first.tree():
        os.kill(pid, signal.SIGKILL)
    first.process.wait(helpers.DEADLINE)
    (path,) = semaphore_files(name)
    if left == "an empty file":
        os.truncate(path, 0)  # sem_open(3) would die of it
    second = server(forking_question, directory=first.directory, names=first.options, env=musl)
    assert f"sémaphore {name} laissé" in second.output
    assert second.client("reserve", "0", "1").returncode == 0
    assert second.stop() == 0
    assert semaphore_files(name) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make something belong to another user")
def test_a_semaphore_of_another_user(directory: Path, forking_question: str, musl: dict[str, str]) -> None:
    """Neither used nor removed, even by root. (With only glibc's place looked at, it is replaced.)"""
    name = helpers.fresh_semaphore()
    path = Path(f"/dev/shm{name}")
    path.write_bytes(bytes(32))
    os.chown(path, 65534, 65534)
    try:
        command = helpers.server_command(forking_question, "--dir", str(directory), *names_with(name))
        done = helpers.run(command, env=musl)
        assert done.returncode == 1, done
        assert "autre utilisateur" in helpers.one_line(done)
        assert path.stat().st_uid == 65534
    finally:
        path.unlink()


def test_a_shared_memory_of_that_name_stays(server: helpers.Servers, forking_question: str) -> None:
    """With glibc the same file is a program's shm_open(3), and nobody's semaphore. (With every path of
    semaphore_files() unlinked, it goes.)
    """
    name = helpers.fresh_semaphore()
    path = Path(f"/dev/shm{name}")
    path.write_bytes(b"somebody's")
    try:
        guichet = server(forking_question, names=names_with(name))
        assert "laissé" not in guichet.output
        assert guichet.stop() == 0
        assert path.read_bytes() == b"somebody's"
    finally:
        path.unlink()
