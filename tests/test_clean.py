"""`spectacles clean`: what dead servers left is removed and named; what is not theirs is left alone."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import posix_ipc
import pytest
import sysv_ipc

from spectacles.common import addresses
from spectacles.lab.programs.process import ServerProcess
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


C_OBJECTS = {"q1_pipes": ("shm-key", "sem-name"), "q2_msq": ("key", "shm-key", "sem-name"), "q3_threads": ("key",)}


@pytest.mark.parametrize("derived", [False, True], ids=["names given", "names derived"])
@pytest.mark.parametrize("question", C_OBJECTS)
def test_a_live_server_in_c(
    server: helpers.Servers, c_programs: Path, directory: Path, question: str, derived: bool
) -> None:
    """It claims nothing, but uses: its FIFOs stay, and what only a name given here, or ftok, could lead to.

    (Without the look for readers the FIFOs go; without last_user the queue; without _mapped_by the semaphore, which the
    next server in C would then make a second time.)
    """
    names = [] if derived else helpers.fresh_names(question)
    guichet = server(question, directory=directory, names=names, command=[str(c_programs / f"{question[:2]}_server")])
    assert guichet.client("reserve", "0", "1").returncode == 0
    before = helpers.own_objects()
    done = clean(directory, *names)
    assert done.returncode == 1, done
    assert "supprimé" not in done.stdout
    assert "ipcrm" not in done.stdout
    for what in C_OBJECTS[question]:
        assert re.search(rf"^{what} \S+ : .*laissé", done.stdout, re.MULTILINE), done.stdout
    assert helpers.own_objects() == before
    assert guichet.client("reserve", "0", "1").returncode == 0
    assert guichet.stop() == 0


@pytest.mark.parametrize("question", C_OBJECTS)
def test_a_killed_server_in_c(server: helpers.Servers, c_programs: Path, directory: Path, question: str) -> None:
    """Nothing notes what it made, but it has the keys of the directory: named, left, and the commands named work.

    (Without _derived, "Rien à nettoyer".)
    """
    guichet = server(question, directory=directory, names=(), command=[str(c_programs / f"{question[:2]}_server")])
    tree = guichet.tree()
    for pid in tree:
        os.kill(pid, signal.SIGKILL)
    guichet.process.wait(helpers.DEADLINE)
    for pid in tree:
        helpers.eventually(lambda pid=pid: helpers.is_gone(pid), "the end")  # type: ignore[misc]
    before = helpers.own_objects()
    assert len(before) == len(C_OBJECTS[question])
    done = clean(directory)
    assert done.returncode == 1, done
    assert helpers.own_objects() == before
    commands = re.findall(r"laissé ; à retirer par : (.*)", done.stdout)
    assert len(commands) == len(before), done.stdout
    for command in commands:
        assert helpers.run(["sh", "-c", command]).returncode == 0
    assert helpers.own_objects() == set()
    again = clean(directory)
    assert (again.returncode, again.stdout) == (0, "Rien à nettoyer\n")


def test_every_kind_under_every_key_of_the_directory(directory: Path) -> None:
    """A student's program takes ftok(DIR, 42) for whatever it likes: semaphores of System V too."""
    keys = [addresses.directory_key(str(directory), project) for project in (42, 43, 44)]
    for key in keys:
        sysv_ipc.MessageQueue(key, sysv_ipc.IPC_CREX)
        sysv_ipc.SharedMemory(key, sysv_ipc.IPC_CREX, size=4).detach()
        sysv_ipc.Semaphore(key, sysv_ipc.IPC_CREX).release()
    name = addresses.semaphore_name(str(directory))
    posix_ipc.Semaphore(name, posix_ipc.O_CREX).close()
    try:
        in_use = clean(directory)  # semctl(2) and semop(2) of this very process, which lives
        assert in_use.stdout.count("vit encore ; laissée") == 3
        for key in keys:
            helpers.run([sys.executable, "-c", f"import sysv_ipc; sysv_ipc.Semaphore({key}).release()"])
        done = clean(directory)
        assert done.returncode == 1, done
        for key in keys:
            for option in ("-Q", "-M", "-S"):
                assert f"à retirer par : ipcrm {option} {key:#x}\n" in done.stdout
        assert (
            f"à retirer par : rm /dev/shm/sem{addresses.semaphore_name(str(directory)).replace('/', '.')}"
            in done.stdout
        )
        assert done.stdout.count("\n") == 10
        named = clean(directory, "--key", hex(keys[1]), "--shm-key", hex(keys[0]))
        assert named.stdout.count("supprimé") == 2
        assert named.stdout.count("à retirer par") == 8
    finally:
        helpers.remove_objects(helpers.own_objects())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make objects of another user")
def test_what_another_user_left_under_the_keys_of_the_directory(directory: Path) -> None:
    """Named with the command, for him or for root."""
    key = addresses.directory_key(str(directory), 42)
    queue = sysv_ipc.MessageQueue(key, sysv_ipc.IPC_CREX)
    queue.uid = 65534
    try:
        done = clean(directory)
        assert done.returncode == 1, done
        assert f"à un autre utilisateur, laissé ; pour lui ou root : ipcrm -Q {key:#x}" in done.stdout
    finally:
        queue.remove()


def test_where_musl_has_its_semaphores(directory: Path) -> None:
    """/dev/shm/NAME, of the size of a sem_t: removed if named. A file of another size is somebody's own memory."""
    names = [helpers.fresh_semaphore() for _ in range(2)]
    paths = [Path("/dev/shm", name[1:]) for name in names]
    try:
        for path, size in zip(paths, (32, 4096), strict=True):
            path.write_bytes(bytes(size))
        assert clean(directory, "--sem-name", names[0]).stdout == f"sem-name {names[0]} : supprimé\n"
        assert clean(directory, "--sem-name", names[1]).stdout == "Rien à nettoyer\n"
        assert [path.exists() for path in paths] == [False, True]
    finally:
        for path in paths:
            path.unlink(missing_ok=True)
