"""What is made and then cannot be used, since the step after fails, is unmade: nobody else knows of it yet."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import posix_ipc
import pytest
import sysv_ipc

from spectacles.common import segment, shared
from spectacles.common.children import Children
from spectacles.common.errors import SpectaclesError
from spectacles.common.shared import SharedTable
from spectacles.common.spectacle import TABLE_SIZE
from spectacles.common.threads import Threads
from spectacles.q1_pipes.channel import NAMES, ServerPipes
from tests import helpers

NO_SERVER = cast(Any, SimpleNamespace(claim=lambda *_: None))


def fails(error: Exception) -> Callable[..., Any]:
    """Return a function that raises `error`."""

    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def make_table(load: Callable[[], bytes] = lambda: bytes(TABLE_SIZE)) -> SharedTable:
    """Return a SharedTable with names of its own, that claims nothing."""
    store = cast(Any, SimpleNamespace(load=load))
    return SharedTable(NO_SERVER, helpers.fresh_key(), helpers.fresh_semaphore(), 0o600, store)


def test_memory_that_cannot_be_attached(monkeypatch: pytest.MonkeyPatch) -> None:
    """shmget(2) succeeds, shmat(2) does not, and the binding says only that. (Without _remove_unattached it stays.)"""

    def make(key: int, flags: int = 0, mode: int = 0, size: int = 0) -> sysv_ipc.SharedMemory:
        if not flags:
            raise sysv_ipc.ExistentialError
        assert ctypes.CDLL(None).shmget(ctypes.c_int(key), size, flags | mode) >= 0
        assert helpers.own_objects()
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(sysv_ipc, "SharedMemory", make)
    with pytest.raises(SpectaclesError, match="plus de mémoire"):
        make_table()
    assert helpers.own_objects() == set()


def test_memory_that_somebody_else_has_made_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not ours to remove. (With the creator not compared, it goes.)"""
    key = helpers.fresh_key()
    pid = os.fork()
    if pid == 0:
        sysv_ipc.SharedMemory(key, sysv_ipc.IPC_CREX, size=TABLE_SIZE)
        os._exit(0)
    os.waitpid(pid, 0)
    segment._remove_unattached(key)
    assert helpers.own_objects() == {f"shm {key:#x}"}
    helpers.remove_objects({f"shm {key:#x}"})


@pytest.mark.parametrize("failing", ["_create_semaphore", "load"])
def test_a_table_that_cannot_be_filled(monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    """After the memory, the semaphore fails; after both, the file. (Without the stack of SharedTable, they stay.)"""
    error = SpectaclesError("no")
    if failing != "load":
        monkeypatch.setattr(shared, failing, fails(error))
    with pytest.raises(SpectaclesError, match="no"):
        make_table(fails(error))
    assert helpers.own_objects() == set()


def test_the_umask_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when no semaphore can be made. (With os.umask(umask) after the try, it stays 0.)"""
    monkeypatch.setattr(posix_ipc, "Semaphore", fails(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
    before = os.umask(0o027)
    try:
        with pytest.raises(SpectaclesError, match="plus de place"):
            make_table()
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert helpers.own_objects() == set()


@pytest.mark.parametrize("which", range(len(NAMES)), ids=NAMES)
def test_fifos(monkeypatch: pytest.MonkeyPatch, directory: Path, which: int) -> None:
    """A FIFO that was made and cannot be opened: it goes, and those before it, and descriptors.

    (With what is open noted only once all five are, the others stay; without the stack in _open, this one.)
    """
    real, opened = os.open, []

    def call(target: Any, *rest: Any, **words: Any) -> Any:
        if target in NAMES and rest[0] & os.O_RDWR:
            opened.append(target)
            if len(opened) > which:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), target)
        return real(target, *rest, **words)

    fd = os.open(directory, os.O_RDONLY)
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(os, "open", call)
    server = cast(Any, SimpleNamespace(directory=SimpleNamespace(fd=fd, path=str(directory))))
    with pytest.raises(SpectaclesError, match="trop de fichiers ouverts"):
        ServerPipes(server, 0o600)
    monkeypatch.undo()
    assert list(directory.iterdir()) == []
    assert os.listdir("/proc/self/fd") == before
    os.close(fd)


@pytest.mark.parametrize("failing", [0, 2, 4])
def test_fifos_that_cannot_be_made_again(monkeypatch: pytest.MonkeyPatch, directory: Path, failing: int) -> None:
    """After a death all five are opened afresh; where that fails, close() still removes them all."""
    fd = os.open(directory, os.O_RDONLY)
    pipes = ServerPipes(cast(Any, SimpleNamespace(directory=SimpleNamespace(fd=fd, path=str(directory)))), 0o600)
    calls = iter(range(100))
    real = os.mkfifo

    def mkfifo(*arguments: Any, **words: Any) -> None:
        if next(calls) == failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(*arguments, **words)

    (directory / NAMES[1]).unlink()
    monkeypatch.setattr(os, "mkfifo", mkfifo)
    with pytest.raises(SpectaclesError, match="plus de place"):
        pipes.open()
    pipes.close()
    assert list(directory.iterdir()) == []
    os.close(fd)


@pytest.mark.parametrize("obstacle", ["logs", "spectacles.dat", "a name"])
def test_a_start_that_fails_later(server: helpers.Servers, directory: Path, question: str, obstacle: str) -> None:
    """After the lock: the log, the table, a name or a port that is taken. Nothing of the try is left: no lock file, no
    FIFO, no object. (With the lock file's removal taken out of LockFile, it stays.)
    """
    names, code = helpers.fresh_names(question) or ["--port", "0"], 1
    if obstacle == "a name":
        first, code = server(question), 3
        if question == "q5_sockets":
            names = ["--port", str(first.address()[1])]
        else:
            last = 4 if question in helpers.FORKING else 0  # what is claimed last: the semaphore's name, the key
            names[last : last + 2] = first.options[last : last + 2]
    else:
        (directory / obstacle).write_text("somebody's")
    objects, files = helpers.own_objects(), sorted(directory.iterdir())
    done = helpers.run(helpers.server_command(question, "--dir", str(directory), *names))
    assert done.returncode == code, done
    helpers.one_line(done)
    assert helpers.own_objects() == objects
    made = {path.name for path in directory.iterdir()} - {path.name for path in files}
    assert made <= {"logs", "spectacles.dat"}


def test_children_when_no_other_can_be_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says why, and the first child does not stay. (With the error not caught, the line is the kernel's.)"""
    channel = cast(Any, SimpleNamespace(stop=lambda: os._exit(0), served=bytearray(1)))
    real, times = os.fork, iter(range(2))

    def fork() -> int:
        if next(times):
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return real()

    monkeypatch.setattr(os, "fork", fork)
    with Children(cast(Any, None), channel) as children:
        children.start("un", signal.pause)
        with pytest.raises(SpectaclesError, match="ulimit -u"):
            children.start("un", signal.pause)


def test_no_thread_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says why. (With the error not caught, it is an internal one.)"""
    monkeypatch.setattr(threading.Thread, "start", fails(RuntimeError("can't start new thread")))
    with Threads() as threads, pytest.raises(SpectaclesError, match="ulimit -u"):
        threads.start("un", signal.pause)
