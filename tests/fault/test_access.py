"""Promise 7: only those allowed get in, and nothing of another user's is taken over."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from spectacles.common.claims import claim
from spectacles.lab.programs.process import ServerError
from tests import helpers
from tests.fault.ledger import Ledger

NOBODY = 65534
IPC_SET, IPC_STAT = 1, 2
LIBC = ctypes.CDLL(None, use_errno=True)


def make_queue(key: str, given_away: bool) -> None:
    """Make a queue that everybody may use, and perhaps make root its owner."""
    queue = LIBC.msgget(ctypes.c_int(int(key, 0)), 0o1666)
    assert queue >= 0
    if given_away:
        status = ctypes.create_string_buffer(512)
        assert LIBC.msgctl(queue, IPC_STAT, status) == 0
        ctypes.c_uint.from_buffer(status, 4).value = 0  # msg_perm.uid, after a key of 4 bytes
        assert LIBC.msgctl(queue, IPC_SET, status) == 0


def make_memory(key: str) -> None:
    """Make a segment of shared memory that everybody may use."""
    assert LIBC.shmget(ctypes.c_int(int(key, 0)), 720, 0o1666) >= 0


def make_semaphore(name: str) -> None:
    """Make what stands for a semaphore, which everybody may use."""
    os.umask(0)
    os.close(os.open(f"/dev/shm/sem.{name[1:]}", os.O_CREAT | os.O_RDWR | os.O_EXCL, 0o666))


@pytest.fixture
def as_nobody() -> Callable[..., None]:
    """Run a function as another user; skips without the right to become one."""
    if os.geteuid() != 0:
        pytest.skip("only root can make something belong to another user")

    def run(work: Callable[..., None], *arguments: object) -> None:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
                work(*arguments)
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    return run


@pytest.mark.parametrize("given_away", [False, True], ids=["kept", "given away"])
def test_queue_of_another_user(
    as_nobody: Callable[..., None], directory: Path, queue_question: str, given_away: bool, ledger: Ledger
) -> None:
    """A queue with the server's key, made by somebody else, even if they have given it away: refused, not used.

    The creator of a System V object keeps an owner's rights over it whatever its uid and mode. (With only `uid`
    compared in create_queue(), the second is taken over, and its creator reads every reply.)
    """
    names = helpers.fresh_names(queue_question)
    key = names[names.index("--key") + 1]
    as_nobody(make_queue, key, given_away)
    try:
        done = helpers.run(helpers.server_command(queue_question, "--dir", str(directory), *names))
        assert done.returncode == 1
        assert "autre utilisateur" in helpers.one_line(done)
        ledger.add("7 objects of others", queue_question, tries=1)
    finally:
        helpers.remove_objects({f"msg {key}"})


def test_claim_of_another_user(as_nobody: Callable[..., None], directory: Path, queue_question: str) -> None:
    """A key that another user's server holds: refused, and the line says whose it is. (With the user not looked at, it
    names a PID only, which the reader cannot stop.)
    """
    names = helpers.fresh_names(queue_question)
    key = names[names.index("--key") + 1]
    ready, told = os.pipe()

    def hold() -> None:
        if os.fork() == 0:
            holder = claim(f"key {key}")
            os.write(told, str(os.getpid()).encode())
            signal.pause()
            holder.close()

    as_nobody(hold)
    pid = int(os.read(ready, 20))
    try:
        done = helpers.run(helpers.server_command(queue_question, "--dir", str(directory), *names))
        assert done.returncode == 3
        assert f"PID {pid}, d'un autre utilisateur ({NOBODY})" in helpers.one_line(done)
    finally:
        os.kill(pid, signal.SIGKILL)
        helpers.eventually(lambda: helpers.is_gone(pid), "the other user's process gone")
        os.close(ready)
        os.close(told)


@pytest.mark.parametrize(
    ("what", "option", "make"), [("shm", "--shm-key", make_memory), ("sem", "--sem-name", make_semaphore)]
)
def test_objects_of_another_user(
    as_nobody: Callable[..., None],
    directory: Path,
    forking_question: str,
    what: str,
    option: str,
    make: Callable[[str], None],
    ledger: Ledger,
) -> None:
    """Shared memory and a semaphore with the server's names, of another user: refused, not used, not removed.

    (With the owner not compared in shared.py, they are replaced.)
    """
    names = helpers.fresh_names(forking_question)
    name = names[names.index(option) + 1]
    as_nobody(make, name)
    theirs = {f"/dev/shm/sem.{name[1:]}" if what == "sem" else f"shm {name}"}
    try:
        done = helpers.run(helpers.server_command(forking_question, "--dir", str(directory), *names))
        assert done.returncode == 1
        assert "autre utilisateur" in helpers.one_line(done)
        assert theirs <= helpers.own_objects(), "it was removed"
        ledger.add("7 objects of others", forking_question, tries=1)
    finally:
        helpers.remove_objects(theirs)


def test_fifo_of_another_user(as_nobody: Callable[..., None], directory: Path, ledger: Ledger) -> None:
    """A FIFO of somebody else's in the run directory is not read: its owner could have kept it open. (See _open().)"""
    os.mkfifo(directory / "tub1_view")
    os.chown(directory / "tub1_view", NOBODY, NOBODY)
    done = helpers.run(helpers.server_command("q1_pipes", "--dir", str(directory), *helpers.fresh_names("q1_pipes")))
    assert done.returncode == 1
    assert "tub1_view" in helpers.one_line(done)
    assert (directory / "tub1_view").exists()
    ledger.add("7 objects of others", "q1_pipes", tries=1)


PLANTED = ("spectacles.dat", "server.lock", "logs", "logs/{question}.log", ".spectacles.dat.nouveau", "tub1_view")


@pytest.mark.parametrize("kind", ["link", "dangling link", "FIFO"])
@pytest.mark.parametrize("name", PLANTED)
def test_planted_in_the_run_directory(
    server: helpers.Servers, directory: Path, tmp_path: Path, name: str, kind: str, ledger: Ledger
) -> None:
    """A symbolic link or a FIFO in the place of any file: never followed, never waited for.

    The server starts, having replaced it, or says in one line why not; what the link points to stays as it was.
    (With O_NOFOLLOW left out where the file is opened, the target is written to; with O_NONBLOCK left out for the log,
    the start hangs on the FIFO.)
    """
    question = "q1_pipes" if name == "tub1_view" else "q3_threads"
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    path = directory / name.format(question=question)
    path.parent.mkdir(exist_ok=True)
    if kind == "FIFO":
        os.mkfifo(path)
    else:
        path.symlink_to(victim if kind == "link" else tmp_path / "nowhere")
    guichet = server.start(question, directory=directory)
    try:
        guichet.wait_ready()
        assert guichet.stop() == 0
    except ServerError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            guichet.process.wait(1)
        if guichet.process.poll() is None:
            guichet.kill()
            pytest.fail(f"neither up nor gone: {guichet.output}")
        assert guichet.process.returncode == 1
        assert len(guichet.lines) == 1
    assert "Traceback" not in guichet.output
    assert victim.read_bytes() == b"precious"
    assert not (tmp_path / "nowhere").exists()
    ledger.add("7 planted files", question, tries=1)


def test_control_characters_of_clients(server: helpers.Servers, directory: Path) -> None:
    """The names of shows reach menus and logs; control characters in them cannot drive a terminal.

    The number a client sends is all that it can put into a log line, so every line is one line of printable text.
    (With printable() returning its argument, the escape sequence of the directory's name is in the log.)
    """
    odd = directory / "g\x1b[31mrouge\n2026 INFO faux"
    odd.mkdir(0o700)
    guichet = server("q3_threads", directory=odd)
    for show, seats in ((-(2**31), 2**31 - 1), (0, -(2**31))):
        assert guichet.client("reserve", str(show), str(seats)).returncode == 1
    assert guichet.stop() == 0
    log = (odd / "logs" / "q3_threads.log").read_text()
    assert "\x1b" not in log + guichet.output
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", line) for line in log.splitlines())
