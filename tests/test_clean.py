"""`spectacles clean`: what dead servers left is removed and named; what is not theirs is left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import posix_ipc
import pytest
import sysv_ipc

from spectacles.lab.process import ServerProcess
from tests import helpers


def clean(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `spectacles clean`."""
    return helpers.run([sys.executable, "-m", "spectacles", "clean", "--dir", str(directory), *arguments])


def killed(server: helpers.Servers, question: str) -> ServerProcess:
    """Start a server, kill -9 all of it, and return it once it is dead."""
    guichet = server(question)
    tree = guichet.tree()
    for pid in tree:
        os.kill(pid, signal.SIGKILL)
    guichet.process.wait(helpers.DEADLINE)
    for pid in tree:
        helpers.eventually(lambda pid=pid: helpers.is_gone(pid), "the end")  # type: ignore[misc]
    return guichet


def test_after_a_kill(server: helpers.Servers, question: str) -> None:
    """It finds the names in the lock file, and says each. (With _read() returning nothing, all stays.)"""
    guichet = killed(server, question)
    left = helpers.own_objects()
    assert len(left) == {"q1_pipes": 2, "q2_msq": 3, "q5_sockets": 0}.get(question, 1)
    done = clean(guichet.directory)
    assert (done.returncode, done.stderr) == (0, "")
    assert helpers.own_objects() == set()
    for name in left:
        word = name.split()[1] if " " in name else name.removeprefix("/dev/shm/sem.")
        assert any(word in line and "supprimé" in line for line in done.stdout.splitlines()), done.stdout
    for name in ("tub1_view", "tub2_view", "tub1_reservation", "tub2_reservation", "tub3_reservation"):
        assert (name in done.stdout) == (question == "q1_pipes")
    assert sorted(path.name for path in guichet.directory.iterdir()) == ["logs", "spectacles.dat"]
    again = clean(guichet.directory)
    assert (again.returncode, again.stdout) == (0, "Rien à nettoyer\n")


def test_nothing_is_forgotten_before_it_is_gone(server: helpers.Servers) -> None:
    """Other commands, and servers with other names or that do not start, leave the list of what a dead one left.

    (Fails when every holder of the lock removes the lock file.)
    """
    guichet = killed(server, "q2_msq")
    left = helpers.own_objects()
    shown = helpers.run([sys.executable, "-m", "spectacles", "table", "show", "--dir", str(guichet.directory)])
    assert shown.returncode == 0
    second = server("q2_msq", directory=guichet.directory)  # with other names
    assert "laissé par un serveur tué" in second.output
    assert second.stop() == 0
    assert helpers.own_objects() == left
    done = clean(guichet.directory)
    assert (done.returncode, done.stdout.count("supprimé")) == (0, 3)
    assert helpers.own_objects() == set()


def test_refused_while_a_server_runs_there(server: helpers.Servers, question: str) -> None:
    guichet = server(question)
    before = helpers.own_objects()
    done = clean(guichet.directory)
    assert done.returncode == 3, done
    assert str(guichet.pid) in helpers.one_line(done)
    assert helpers.own_objects() == before
    assert guichet.client("reserve", "0", "1").returncode == 0


def test_never_touches_what_a_live_server_uses(server: helpers.Servers, directory: Path) -> None:
    """Named on the command line from another directory: said, left, and code 1. (Fails without the claim in _try.)"""
    guichet = server("q2_msq")
    before = helpers.own_objects()
    done = clean(directory, *guichet.options)
    assert done.returncode == 1, done
    assert done.stdout.count("serveur vivant, laissé") == 3
    assert helpers.own_objects() == before
    assert guichet.client("reserve", "0", "1").returncode == 0


def test_orphaned_children_count_as_alive(server: helpers.Servers) -> None:
    """Parent dead, children standing still: they still hold the directory and the names."""
    guichet = server("q2_msq")
    _, *workers = guichet.tree()
    helpers.freeze(workers)
    guichet.process.kill()
    guichet.process.wait(helpers.DEADLINE)
    before = helpers.own_objects()
    try:
        if all(helpers.stopped(pid) for pid in workers):  # a kernel or a server that kills them outright is fine too
            assert clean(guichet.directory).returncode == 3
            assert helpers.own_objects() == before
    finally:
        for pid in workers:
            if not helpers.is_gone(pid):
                os.kill(pid, signal.SIGCONT)
    for pid in workers:
        helpers.eventually(lambda pid=pid: helpers.is_gone(pid), "the end")  # type: ignore[misc]
    assert clean(guichet.directory).returncode == 0
    assert helpers.own_objects() == set()


def test_named_on_the_command_line(directory: Path) -> None:
    """Objects of a server whose directory is gone can be named."""
    names = helpers.fresh_names("q2_msq")
    sysv_ipc.MessageQueue(int(names[1], 0), sysv_ipc.IPC_CREX)
    sysv_ipc.SharedMemory(int(names[3], 0), sysv_ipc.IPC_CREX, size=720).detach()
    posix_ipc.Semaphore(names[5], posix_ipc.O_CREX, initial_value=1).close()
    done = clean(directory, *names)
    assert done.returncode == 0, done
    assert helpers.own_objects() == set()
    assert done.stdout.count("supprimé") == 3


def test_memory_that_somebody_uses(directory: Path) -> None:
    key = helpers.fresh_key()
    memory = sysv_ipc.SharedMemory(key, sysv_ipc.IPC_CREX, size=720)
    try:
        done = clean(directory, "--shm-key", hex(key))
        assert done.returncode == 1, done
        assert "attachée par 1 processus, laissée" in done.stdout
        assert helpers.own_objects() == {f"shm {key:#x}"}
    finally:
        memory.detach()
        memory.remove()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make objects of another user")
@pytest.mark.parametrize("foreign", ["--key", "--shm-key", "--sem-name"])
def test_never_touches_what_another_user_owns(directory: Path, foreign: str) -> None:
    """Neither clean nor a server, even as root, who could. (Fails without the look at the owner, in either.)"""
    names = helpers.fresh_names("q2_msq")
    value = names[names.index(foreign) + 1]
    if foreign == "--key":
        queue = sysv_ipc.MessageQueue(int(value, 0), sysv_ipc.IPC_CREX)
        queue.uid = 65534
    elif foreign == "--shm-key":
        memory = sysv_ipc.SharedMemory(int(value, 0), sysv_ipc.IPC_CREX, size=720)
        memory.uid = 65534
        memory.detach()
    else:
        posix_ipc.Semaphore(value, posix_ipc.O_CREX, initial_value=1).close()
        os.chown(f"/dev/shm/sem.{value[1:]}", 65534, 65534)
    before = helpers.own_objects()
    try:
        done = clean(directory, *names)
        assert done.returncode == 1, done
        assert done.stdout.count("autre utilisateur, laissé") == 1
        assert helpers.own_objects() == before
        server = helpers.run(helpers.server_command("q2_msq", "--dir", str(directory), *names))
        assert server.returncode == 1, server
        assert "autre utilisateur" in server.stderr
        assert value in server.stderr
        assert helpers.own_objects() == before
    finally:
        helpers.remove_objects(before)


def test_empty_semaphore_file(server: helpers.Servers, forking_question: str) -> None:
    """A zero-byte /dev/shm/sem.NAME makes sem_open(3) die with SIGBUS: neither clean nor a server opens it."""
    name = helpers.fresh_semaphore()
    path = Path(f"/dev/shm/sem.{name[1:]}")
    path.touch(0o600)
    names = ["--key", hex(helpers.fresh_key()), "--shm-key", hex(helpers.fresh_key()), "--sem-name", name]
    guichet = server(forking_question, names=names)
    assert guichet.client("list").returncode == 0
    guichet.stop()
    path.touch(0o600)
    done = clean(guichet.directory, "--sem-name", name)
    assert done.returncode == 0, done
    assert not path.exists()


def test_what_users_put_there_stays(server: helpers.Servers) -> None:
    """Only FIFOs are taken for FIFOs, and only the temporary table for it."""
    guichet = killed(server, "q1_pipes")
    (guichet.directory / "tub1_view").unlink()
    (guichet.directory / "tub1_view").write_text("à moi")
    (guichet.directory / "notes.txt").write_text("à moi aussi")
    (guichet.directory / ".spectacles.dat.nouveau").write_bytes(b"half")
    done = clean(guichet.directory)
    assert done.returncode == 0, done
    assert ".spectacles.dat.nouveau" in done.stdout
    assert sorted(path.name for path in guichet.directory.iterdir()) == [
        "logs",
        "notes.txt",
        "spectacles.dat",
        "tub1_view",
    ]


def test_no_directory(tmp_path: Path) -> None:
    done = clean(tmp_path / "nulle-part")
    assert done.returncode == 1, done
    helpers.one_line(done)
    assert not (tmp_path / "nulle-part").exists()


def test_damaged_lock_file(directory: Path) -> None:
    """A lock file with nonsense in it names nothing that could be removed."""
    (directory / "server.lock").write_bytes(b"pid=x\nkey=../..\nshm-key=\xff\nsem-name=\n=\n\0")
    done = clean(directory)
    assert "Traceback" not in done.stderr, done
    assert not done.stdout.count("supprimé")


@pytest.mark.parametrize("question", ["q1_pipes", "q2_msq", "q3_threads"])
def test_a_live_server_in_c(server: helpers.Servers, c_programs: Path, directory: Path, question: str) -> None:
    """It claims nothing, but reads: its FIFOs stay, and its queue, which only a name given here could lead to.

    (Without the look for readers the FIFOs, and the queue, go, and with them the server.)
    """
    names = helpers.fresh_names(question)
    guichet = server(question, directory=directory, names=names, command=[str(c_programs / f"{question[:2]}_server")])
    assert guichet.client("reserve", "0", "1").returncode == 0
    done = clean(directory, *names[:2])
    assert done.returncode == 1, done
    assert "laissé" in done.stdout
    assert "supprimé" not in done.stdout
    assert guichet.client("reserve", "0", "1").returncode == 0
    assert guichet.stop() == 0
