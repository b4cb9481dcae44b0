"""Looks at known contents: real programs that stand still in a known way, and what a look says of them."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from spectacles.common import addresses
from spectacles.common.errors import SpectaclesError
from spectacles.common.protocol import LIST_REPLY, LIST_REQUEST, RESERV_REPLY, RESERV_REQUEST, TCP_REQUEST
from spectacles.common.spectacle import Spectacle, pack_table
from spectacles.lab.kernel import calls, proc, roll, sockets
from spectacles.lab.kernel.inside import InsideLooker
from spectacles.lab.kernel.looker import Looker, look
from spectacles.lab.kernel.model import (
    VERSION,
    File,
    Lock,
    Look,
    Memory,
    MessageQueue,
    Pipe,
    Queue,
    Semaphore,
    SemaphoreSet,
    Socket,
    Task,
)
from spectacles.lab.programs.process import QUESTIONS
from tests import helpers
from tests.see.conftest import Stuck, TestQueue, dead_pid

T = TypeVar("T")
BLOCKED = "SDTt"  # states in which a task is in a call


def until(condition: Callable[[Look], object], **what: Any) -> Look:
    """Return the first look for which condition(look) is true."""
    found: list[Look] = []
    with contextlib.closing(Looker(**what)) as looker:

        def seen() -> bool:
            found[:] = [looker.look()]
            return bool(condition(found[0]))

        helpers.eventually(seen, "a look that shows it")
    return found[0]


def those(picture: Look, kind: type[T]) -> list[T]:
    """Return the objects of one kind."""
    return [thing for thing in picture.objects.values() if isinstance(thing, kind)]


def the(picture: Look, kind: type[T]) -> T:
    """Return the only object of its kind."""
    (thing,) = those(picture, kind)
    return thing


def blocked(picture: Look, pid: int, call: str) -> Task | None:
    """Return the first thread of `pid` that is blocked in `call`."""
    tasks = (task for task in picture.tasks.values() if task.pid == pid)
    return next((task for task in tasks if task.state in BLOCKED and task.call == call), None)


def line_of(kind: str, key: int) -> str:
    """Return the line of one object in /proc/sysvipc."""
    lines = Path(f"/proc/sysvipc/{kind}").read_text().splitlines()
    return next(line for line in lines if line.split()[0] == str(key))


def found(picture: Look, kind: str) -> list[str]:
    """Return the texts of the findings of one kind."""
    return [finding.text for finding in picture.findings if finding.kind == kind]


def python(code: str, *arguments: object) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """Run a few lines of Python beside the test."""
    return helpers.background([sys.executable, "-c", code, *(str(word) for word in arguments)], stdin=subprocess.PIPE)


# Queues


def test_messages_in_a_queue(queue: TestQueue) -> None:
    """Every message with type, size, bytes, and what it says; none is taken, and nothing about the queue changes.

    (Without MSG_COPY in sysv.Copier the first look takes them all.)
    """
    alive, dead = os.getpid(), dead_pid()
    table = pack_table({0: Spectacle(1, "Œdipe roi", "2027-01-01", 80)})
    sent = [
        (1, LIST_REQUEST.pack(alive)),
        (2, RESERV_REQUEST.pack(dead, 3, 5)),
        (alive, RESERV_REPLY.pack(77, True)),
        (dead, LIST_REPLY.pack(77, table)),
        (9, b"bonjour"),
        (1, b"\xff" * 8192),
    ]
    for type_, body in sent:
        queue.send(type_, body)
    with contextlib.closing(Looker(keys=[queue.key])) as looker:
        before = line_of("msg", queue.key)
        for _ in range(3):
            picture = looker.look()
        assert line_of("msg", queue.key) == before
    seen = the(picture, Queue)
    assert (seen.key, seen.count, seen.size) == (queue.key, 6, sum(len(body) for _, body in sent))
    assert seen.limit == int(Path("/proc/sys/kernel/msgmnb").read_text())
    assert seen.last_sender == alive
    assert [(message.type, message.data) for message in seen.messages] == sent
    layouts = ["LIST_REQUEST", "RESERV_REQUEST", "RESERV_REPLY", "LIST_REPLY", None, None]
    assert [message.layout for message in seen.messages] == layouts
    assert seen.messages[1].fields == (("pid", dead), ("spectacle", 3), ("nb_places", 5))
    assert [message.alive for message in seen.messages[:4]] == [True, False, True, False]
    assert [(show.name, show.seats) for show in seen.messages[3].table] == [("Œdipe roi", 80)]
    alarms = [finding.text for finding in picture.findings if finding.level == "alarm"]
    assert len(alarms) == 1
    assert f"au client {dead}, qui est mort" in alarms[0]
    assert [queue.take() for _ in sent] == sent


def test_who_waits_on_a_queue(queue: TestQueue, stuck: Stuck) -> None:
    """Its waiting receiver is found by the key alone, with the type it waits for, and since when.

    (Without Looker._calls_on no process is found.)
    """
    pid = stuck("msgrcv", queue.key)
    picture = until(lambda picture: blocked(picture, pid, "msgrcv"), keys=[queue.key])
    task = blocked(picture, pid, "msgrcv")
    assert task is not None
    assert (task.waits[0].kind, task.waits[0].target, task.waits[0].number) == ("receive", f"queue:{queue.id}", pid)
    assert task.since is not None
    first = task.since
    later = until(lambda picture: (picture.tasks[pid].since or 0) > first, keys=[queue.key])
    assert later.tasks[pid].switches == task.switches


def test_who_waits_for_room(queue: TestQueue, stuck: Stuck) -> None:
    """A sender blocked by a full queue, with the type of what it wants to send, read in its memory."""
    pid = stuck("msgsnd", queue.key)
    picture = until(lambda picture: blocked(picture, pid, "msgsnd"), pids=[pid])
    task = blocked(picture, pid, "msgsnd")
    assert task is not None
    assert (task.waits[0].kind, task.waits[0].number, task.waits[0].size) == ("send", 7, 8192)
    assert the(picture, Queue).size == 2 * 8192


# FIFOs, pipes, terminals


def test_bytes_in_a_fifo(tmp_path: Path) -> None:
    """Bytes, readers and writers, without opening it and without taking a byte.

    (With os.open() of the path instead of a borrowed descriptor, the test after this one fails.)
    """
    path = tmp_path / "tub1_view"
    os.mkfifo(path)
    code = "import os,sys; fd=os.open(sys.argv[1],os.O_RDWR); os.write(fd,sys.argv[2].encode()); print(1,flush=True); "
    with python(code + "input()", path, "\3\0\0\0\7\0\0\0".replace("\0", "\1")) as process:
        assert process.stdout is not None
        process.stdout.readline()
        for _ in range(2):
            pipe = next(pipe for pipe in those(look(directory=str(tmp_path)), Pipe) if pipe.path)
            assert (pipe.path, pipe.size, pipe.data) == (str(path), 8, b"\3\1\1\1\7\1\1\1")
            assert pipe.numbers == (0x01010103, 0x01010107)
            assert pipe.readers == pipe.writers == (process.pid,)


def test_a_fifo_is_never_opened(tmp_path: Path, stuck: Stuck) -> None:
    """A writer that waits in open(2) for a reader is seen, and goes on waiting whatever is looked at."""
    path = tmp_path / "tube"
    os.mkfifo(path)
    pid = stuck("open-fifo", path)
    picture = until(lambda picture: blocked(picture, pid, "openat"), directory=str(tmp_path))
    switches = picture.tasks[pid].switches
    for _ in range(20):
        picture = look(directory=str(tmp_path))
    task = blocked(picture, pid, "openat")
    assert task is not None
    assert (task.waits[0].kind, task.waits[0].path, task.switches) == ("open", str(path), switches)
    pipe = the(picture, Pipe)
    assert (pipe.size, pipe.readers, pipe.writers) == (0, (), ())


def test_a_reader_of_a_pipe_and_one_of_the_keyboard(stuck: Stuck) -> None:
    """read(2), poll(2) and select(2) of descriptor 0, whatever that leads to."""
    for mode, call in (("scanf", "read"), ("poll", "poll"), ("select", "pselect6")):
        pid = stuck(mode)
        picture = until(lambda picture, pid=pid: picture.tasks[pid].waits, pids=[pid])  # type: ignore[misc]
        task = picture.tasks[pid]
        assert task.call in (call, "ppoll", "select")
        assert task.waits[-1].kind == "read"
        assert (task.waits[-1].target or "").startswith("pipe:")
        if mode == "poll":
            assert (task.waits[0].kind, task.waits[0].timeout) == ("event", 60.0)
    ours, theirs = os.openpty()
    pid = stuck("scanf", stdin=theirs)
    picture = until(lambda picture: picture.tasks[pid].waits, pids=[pid])
    assert (picture.tasks[pid].waits[0].target or "").startswith("device:/dev/pts/")
    os.close(ours)
    os.close(theirs)


# Semaphores, locks


def test_a_named_semaphore(stuck: Stuck) -> None:
    """Value and waiters, and who has it, though sem_open(3) made the file under another name.

    (By the path in /proc/PID/maps instead of the inode it has no user.)
    """
    name = helpers.fresh_semaphore()
    pid = stuck("named-semaphore", name)
    picture = until(lambda p: p.tasks[pid].waits and any(s.waiters for s in those(p, Semaphore)), pids=[pid])
    semaphore = the(picture, Semaphore)
    assert (semaphore.name, semaphore.value, semaphore.waiters, semaphore.users) == (name, 0, 1, (pid,))
    assert picture.tasks[pid].waits[0].target == semaphore.id
    by_name = the(look(keys=[name]), Semaphore)
    assert (by_name.value, by_name.waiters) == (0, 1)
    os.unlink(f"/dev/shm/sem.{name[1:]}")
    gone = the(look(pids=[pid]), Semaphore)
    assert (gone.id, gone.value, gone.waiters) == (semaphore.id, 0, 1)


def test_a_lock_that_nobody_will_give_back(stuck: Stuck) -> None:
    """A second sem_wait with no sem_post between: a warning, as it might be meant for a signal to come."""
    name = helpers.fresh_semaphore()
    pid = stuck("named-semaphore", name)
    picture = until(lambda picture: found(picture, "lost-lock"), pids=[pid])
    (finding,) = [finding for finding in picture.findings if finding.kind == "lost-lock"]
    assert finding.level == "warning"
    assert "personne d'autre ne l'a" in finding.text
    os.unlink(f"/dev/shm/sem.{name[1:]}")


def test_the_lock_of_the_table_that_nobody_will_give_back(directory: Path, stuck: Stuck) -> None:
    """An alarm, since the name says that it is a lock: defect 10. (Without Semaphore.service it is a warning.)"""
    name = addresses.semaphore_name(str(directory))
    pid = stuck("named-semaphore", name)
    picture = until(lambda picture: found(picture, "lost-lock"), directory=str(directory), pids=[pid])
    (finding,) = [finding for finding in picture.findings if finding.kind == "lost-lock"]
    assert (finding.level, finding.tasks) == ("alarm", (pid,))
    assert "pris par un mort, ou jamais rendu" in finding.text
    os.unlink(f"/dev/shm/sem.{name[1:]}")


def test_a_deadlock_of_two_mutexes(stuck: Stuck) -> None:
    """The circle, in words, with the variables' own names; and who joins the threads is stuck behind it, not in it.

    (With the holder read four bytes further there is none; without symbols() the locks have no names.)
    """
    pid = stuck("deadlock")
    picture = until(lambda picture: found(picture, "cycle"), pids=[pid])
    (finding,) = [finding for finding in picture.findings if finding.kind == "cycle"]
    assert finding.level == "alarm"
    assert "verrou_a" in finding.text
    assert "verrou_b" in finding.text
    first, second = (tid for tid in sorted(picture.tasks) if tid != pid)
    assert set(finding.tasks) == {first, second}
    locks = {lock.name: lock for lock in those(picture, Lock)}
    assert (locks["verrou_a"].holder, locks["verrou_b"].holder) == (first, second) or (
        locks["verrou_a"].holder,
        locks["verrou_b"].holder,
    ) == (second, first)
    join = picture.tasks[pid].waits[0]
    assert (join.kind, join.number) == ("join", first)


def test_a_mutex_taken_twice(stuck: Stuck) -> None:
    """A circle of one."""
    pid = stuck("self")
    picture = until(lambda picture: found(picture, "cycle"), pids=[pid])
    assert "qu'il tient déjà" in found(picture, "cycle")[0]


def test_a_mutex_whose_holder_is_dead(stuck: Stuck) -> None:
    """Its thread has ended without giving it back."""
    pid = stuck("dead-holder")
    picture = until(lambda picture: found(picture, "dead-holder"), pids=[pid])
    (lock,) = those(picture, Lock)
    assert lock.holder_alive is False
    assert "est mort sans le rendre" in found(picture, "dead-holder")[0]
    assert found(picture, "cycle") == []


@pytest.mark.parametrize("mode", ["shared-mutex", "robust"])
def test_a_mutex_between_processes(stuck: Stuck, mode: str) -> None:
    """Its holder is another process, which lives: nothing is wrong."""
    pid = stuck(mode)
    picture = until(lambda picture: any(lock.holder for lock in those(picture, Lock)), pids=[pid])
    (child,) = (process.pid for process in picture.processes if process.pid != pid)
    lock = the(picture, Lock)
    assert (lock.holder, lock.holder_pid, lock.holder_alive) == (child, child, True)
    assert [finding.text for finding in picture.findings] == []


def test_a_semaphore_and_a_condition_of_threads(stuck: Stuck) -> None:
    """By what lies around the futex's word. A condition may be signalled by anybody: nothing is wrong."""
    pid = stuck("waits")
    picture = until(lambda picture: len(those(picture, Lock)) == 2, pids=[pid])
    kinds = {lock.name.partition("+")[0]: (lock.kind, lock.value, lock.waiters) for lock in those(picture, Lock)}
    assert kinds == {"jetons": ("semaphore", 0, 1), "signal_recu": ("condition", None, None)}
    assert [finding.text for finding in picture.findings] == []


def test_a_deadlock_of_two_semaphores(stuck: Stuck) -> None:
    """System V: values, waiters, who changed them last; and the circle that follows from it."""
    key = helpers.fresh_key()
    pid = stuck("two-semaphores", key)
    picture = until(lambda picture: found(picture, "cycle"), pids=[pid])
    (child,) = (process.pid for process in picture.processes if process.pid != pid)
    seen = the(picture, SemaphoreSet)
    assert seen.key == key
    assert [(m.value, m.waiters, m.zero_waiters, m.last) for m in seen.members] == [(0, 1, 0, pid), (0, 1, 0, child)]
    assert f"sémaphore 1 de {key:#x}" in found(picture, "cycle")[0]
    helpers.remove_objects({f"sem {key:#x}"})


def test_a_semaphore_taken_by_the_dead(stuck: Stuck) -> None:
    """System V, no SEM_UNDO: defect 10 and 30."""
    key = helpers.fresh_key()
    pid = stuck("dead-semaphore", key)
    picture = until(lambda picture: found(picture, "dead-holder"), pids=[pid])
    assert f"sémaphore 0 de {key:#x}" in found(picture, "dead-holder")[0]
    helpers.remove_objects({f"sem {key:#x}"})


def test_a_semaphore_that_its_own_waiter_has_taken(stuck: Stuck) -> None:
    """System V: it may be a signal, consumed and waited for again by a thread that another one joins.

    (Without the exception in Graph._set_edge it is a circle.)
    """
    key = helpers.fresh_key()
    pid = stuck("signal-semaphore", key)
    picture = until(lambda p: len(p.tasks) == 2 and all((t.since or 0) > 0.5 for t in p.tasks.values()), pids=[pid])
    assert {task.waits[0].kind for task in picture.tasks.values()} == {"join", "semaphore"}
    assert the(picture, SemaphoreSet).members[0].last == pid
    assert picture.findings == ()
    helpers.remove_objects({f"sem {key:#x}"})


def test_two_that_wait_for_each_other_through_fifos(tmp_path: Path) -> None:
    """Anybody else may open and write them: no deadlock. (With their edges `closed` it is called one.)"""
    code = """if True:
        import os, sys
        os.open(sys.argv[1], os.O_RDWR); fd = os.open(sys.argv[2], os.O_RDWR); print(1, flush=True); os.read(fd, 1)
    """
    paths = [tmp_path / name for name in ("one", "two")]
    for path in paths:
        os.mkfifo(path)
    with python(code, *paths) as first, python(code, *reversed(paths)) as second:
        for process in (first, second):
            assert process.stdout is not None
            process.stdout.readline()
        pids = [first.pid, second.pid]
        picture = until(lambda p: all((p.tasks[pid].since or 0) > 0.5 for pid in pids), pids=pids)
        assert all(picture.tasks[pid].waits[0].kind == "read" for pid in pids)
        assert picture.findings == ()


def test_who_waits_for_the_lock_of_a_file(tmp_path: Path, stuck: Stuck) -> None:
    """flock(2): the file by its path, and who has the lock, from fdinfo and never from /proc/locks."""
    path = tmp_path / "spectacles.dat"
    code = "import fcntl,sys; f=open(sys.argv[1],'a'); fcntl.flock(f,fcntl.LOCK_EX); print(1,flush=True); input()"
    with python(code, path) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        pid = stuck("flock", path)
        picture = until(lambda picture: blocked(picture, pid, "flock"), pids=[pid, holder.pid])
        file = the(picture, File)
        assert [(lock.kind, lock.write, lock.pid) for lock in file.locks] == [("FLOCK", True, holder.pid)]
        assert any(edge.waiter == pid and edge.by == (holder.pid,) and edge.closed for edge in picture.edges)


# Memory and files


def test_the_table_in_shared_memory(server: helpers.Servers, forking_question: str) -> None:
    """Read in an attached process: nobody is attached more, and no time changes. (With shmat(2) `lpid` does.)"""
    guichet = server(forking_question)
    key = int(guichet.options[guichet.options.index("--shm-key") + 1], 0)
    before = line_of("shm", key)
    picture = look(directory=str(guichet.directory))
    assert line_of("shm", key) == before
    memory, *claims = sorted(those(picture, Memory), key=lambda memory: -memory.size)
    assert (memory.size, memory.attached, memory.creator, memory.claims) == (720, 3, guichet.pid, None)
    queues = [queue.key for queue in those(picture, Queue)]
    assert [claim.claims for claim in claims] == queues  # a server that has a queue says so by a memory of its own
    assert memory.users == tuple(sorted(guichet.tree()))
    assert [show.seats for show in memory.table or ()] == list(helpers.PLACES)
    assert found(picture, "differs") == []
    helpers.freeze(guichet.tree())  # housekeeping would put the file right
    path = guichet.directory / "spectacles.dat"
    table = bytearray(path.read_bytes())
    struct.pack_into("<i", table, 68, 119)
    path.write_bytes(table)
    picture = look(directory=str(guichet.directory))
    assert "[0] 120 / 119" in found(picture, "differs")[0]


def test_times_of_access_stay(server: helpers.Servers) -> None:
    """Of the files that are read. (Without O_NOATIME the first look after a write changes them.)"""
    guichet = server("q2_msq")
    assert guichet.client("reserve", "0", "1").returncode == 0
    paths = [guichet.directory / "spectacles.dat", guichet.directory / "server.lock", guichet.directory]
    helpers.freeze(guichet.tree())  # its own housekeeping reads the file, too
    for path in paths:  # older than the last change: a file system with relatime would now note an access
        os.utime(path, ns=(0, path.stat().st_mtime_ns))
    look(directory=str(guichet.directory))
    assert [path.stat().st_atime_ns for path in paths] == [0, 0, 0]


# Sockets


def test_sockets() -> None:
    """A listener with its backlog, a connection that nobody has accepted, and what lies unread in both directions."""
    code = """if True:
        import socket, sys
        s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(7); print(s.getsockname()[1], flush=True)
        input(); c, _ = s.accept(); c.sendall(b"\\1"); print("accepted", flush=True); input()
    """
    with python(code) as process, socket.socket() as client:
        assert process.stdout is not None
        assert process.stdin is not None
        port = int(process.stdout.readline())
        client.connect(("127.0.0.1", port))
        client.sendall(TCP_REQUEST.pack(2, 3, 5))
        picture = look(pids=[process.pid])
        listener, waiting = sorted(those(picture, Socket), key=lambda s: s.state != "LISTEN")
        assert (listener.local, listener.waiting, listener.most) == (f"127.0.0.1:{port}", 1, 7)
        assert (waiting.state, waiting.unread, waiting.users) == ("ESTABLISHED", 12, ())
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()
        picture = until(lambda p: any(s.data for s in those(p, Socket)), pids=[process.pid, os.getpid()])
        accepted = next(s for s in those(picture, Socket) if s.local.endswith(f":{port}") and s.state != "LISTEN")
        assert (accepted.unread, accepted.users) == (12, (process.pid,))
        assert (accepted.layout, accepted.fields) == ("TCP_RESERV", (("spectacle", 3), ("nb_places", 5)))
        ours = picture.objects[accepted.peer or ""]
        assert isinstance(ours, Socket)
        assert (ours.unread, ours.layout) == (1, "TCP_RESERV_REPLY")
        assert client.recv(1) == b"\1"  # it was still there


def test_both_ends_wait_for_the_other() -> None:
    """A warning, with both tasks: the usual end of a message that is shorter than expected."""
    code = """if True:
        import socket
        s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(); print(s.getsockname()[1], flush=True)
        c, _ = s.accept(); c.recv(12, socket.MSG_WAITALL)
    """
    ask = (
        "import socket,sys; s=socket.create_connection(('127.0.0.1',int(sys.argv[1]))); s.sendall(b'12345'); s.recv(9)"
    )
    with python(code) as process:
        assert process.stdout is not None
        with python(ask, int(process.stdout.readline())) as client:
            picture = until(lambda picture: found(picture, "crossed"), pids=[process.pid])
            assert {process.pid, client.pid} <= picture.tasks.keys()  # the client is found through the connection


def test_addresses() -> None:
    """Both families, in the notation that their users know."""
    with socket.socket(socket.AF_INET6) as listener:
        try:
            listener.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 here")
        listener.listen()
        lines = sockets.tcp(os.getpid(), "tcp6")
        assert f"[::1]:{listener.getsockname()[1]}" in [line.local for line in lines if line.state == "LISTEN"]


# POSIX queues, sleeping, stopping


def test_a_posix_queue(stuck: Stuck) -> None:
    """How many messages and bytes, through its owner's descriptor: mqueue need not be mounted."""
    pid = stuck("mq", f"/spectacles-test-{helpers.RUN_NAME}")
    seen = the(look(pids=[pid]), MessageQueue)
    assert (seen.count, seen.size, seen.most, seen.most_size, seen.users) == (2, 8, 4, 32, (pid,))


def test_a_sleeper_is_not_asked_since_when_it_began(stuck: Stuck) -> None:
    """For how long, and since when."""
    pid = stuck("sleep")
    picture = until(lambda picture: picture.tasks[pid].waits, pids=[pid])
    task = picture.tasks[pid]
    assert (task.waits[0].kind, task.waits[0].timeout) == ("sleep", 1000.5)


def test_a_stopped_server_and_a_client_that_waits(server: helpers.Servers, queue_question: str) -> None:
    """The lesson: a request in the queue, a client in msgrcv for its PID, a stopped server; then all is gone."""
    guichet = server(queue_question)
    helpers.freeze(guichet.tree())
    with helpers.background(guichet.client_command("list")) as client:
        directory = str(guichet.directory)
        picture = until(lambda picture: blocked(picture, client.pid, "msgrcv"), directory=directory)
        (message,) = the(picture, Queue).messages
        assert (message.layout, message.addressee, message.alive) == ("LIST_REQUEST", client.pid, True)
        task = blocked(picture, client.pid, "msgrcv")
        assert task is not None
        assert task.waits[0].number == client.pid
        assert {process.pid: process.role for process in picture.processes} == {
            **dict.fromkeys(guichet.tree(), "tree"),
            client.pid: "user",
        }
        assert all(task.stopped for task in picture.tasks.values() if task.pid in guichet.tree())
        (text,) = found(picture, "stopped")
        assert "suspendu" in text
        for pid in guichet.tree():
            os.kill(pid, signal.SIGCONT)
        assert client.wait(helpers.DEADLINE) == 0
    picture = look(directory=directory)
    assert the(picture, Queue).messages == ()
    assert found(picture, "stopped") == []


def test_idle_servers_have_nothing_wrong(server: helpers.Servers, question: str) -> None:
    """And every one of their tasks is in a call that has a name, on an object that is in the look."""
    guichet = server(question)
    picture = until(
        lambda picture: all(task.waits for task in picture.tasks.values()), directory=str(guichet.directory)
    )
    assert {process.pid for process in picture.processes} == set(guichet.tree())
    assert picture.findings == ()
    assert picture.refused == ()
    for task in picture.tasks.values():
        assert not (task.call or "").startswith("call ")
        if task.waits[0].kind in ("receive", "accept", "read"):
            assert task.waits[0].target in picture.objects


def test_servers_in_c_are_found_by_their_directory(server: helpers.Servers, c_programs: Path, question: str) -> None:
    """They lock no directory: by the keys derived from it, its FIFOs, or the port of who works in it."""
    port = ["--port", str(helpers.free_port())] if question == "q5_sockets" else []
    command = [str(c_programs / f"{question[:2]}_server")]
    guichet = server(question, *port, names=(), command=command)
    picture = until(
        lambda picture: picture.tasks and all(task.waits for task in picture.tasks.values()),
        directory=str(guichet.directory),
    )
    assert {process.pid for process in picture.processes} == set(guichet.tree())
    assert picture.findings == ()


# What is refused, what vanishes


def test_another_user_is_refused_what_he_may_not_see(server: helpers.Servers) -> None:
    """The rest still works: names, states, and the queue's line. (Without the `except` in Roll._called it raises.)"""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    guichet = server("q2_msq")
    code = f"""if True:
        import os
        from spectacles.lab.kernel import words
        from spectacles.lab.kernel.looker import look
        os.setgroups([]); os.setgid(65534); os.setuid(65534)  # now: whether nobody may read this checkout is no matter
        picture = look(pids=[{guichet.pid}])
        assert len(picture.tasks) == 3, picture.tasks
        assert all(task.refused for task in picture.tasks.values())
        assert picture.refused, picture
        for task in picture.tasks.values(): print(words.waiting(task, picture.objects))
    """
    done = helpers.run([sys.executable, "-B", "-c", code])
    assert done.returncode == 0, done
    assert done.stdout.count("refusé : processus d'un autre utilisateur") == 3


def test_why_yama_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what would help: to be started by `watch`, or to be root."""
    monkeypatch.setattr(proc, "read", lambda path, size=0: b"1\n")
    text = proc.why(PermissionError(errno.EPERM, "?"))
    assert "Yama, ptrace_scope 1" in text
    assert "depuis watch" in text


def test_a_pid_that_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has the number now is not who was asked for. (Without Looker._started he is shown in his place.)"""
    with python("input()") as process, contextlib.closing(Looker(pids=[process.pid])) as looker:
        assert [found.pid for found in looker.look().processes] == [process.pid]
        true = proc.stat_of

        def younger(path: str) -> proc.Stat:
            found = true(path)
            return found._replace(started=found.started + 1) if f"/{process.pid}" in path else found

        monkeypatch.setattr(roll, "stat_of", younger)
        assert looker.look().processes == ()
        assert looker.look().processes == ()


def test_what_vanishes_is_no_error() -> None:
    """Processes that come and go a hundred times a second, while looks are taken at their tree."""
    code = "import subprocess\nwhile True: subprocess.run(['sh', '-c', 'true & true | true; exec true'])"
    with python(code) as process, contextlib.closing(Looker(pids=[process.pid])) as looker:
        seen: set[int] = set()

        def come_and_gone() -> bool:
            seen.update(p.pid for p in looker.look().processes)
            return len(seen) > 20

        helpers.eventually(come_and_gone, "twenty processes that came and went")
    assert look(pids=[process.pid]).processes == ()
    assert look(directory="/nowhere/at/all").objects == {}


def test_json_says_everything(server: helpers.Servers, question: str) -> None:
    """One format for all: versioned, plain JSON types, all objects and tasks in it."""
    guichet = server(question)
    picture = look(directory=str(guichet.directory))
    data = json.loads(json.dumps(picture.to_json()))
    assert (data["format"], data["version"]) == ("spectacles/look", VERSION)
    assert [process["pid"] for process in data["processes"]] == [process.pid for process in picture.processes]
    assert {thing["id"] for thing in data["objects"]} == set(picture.objects)
    assert {thing["class"] for thing in data["objects"]} == {type(thing).__name__ for thing in picture.objects.values()}


# Worlds


def test_inside_a_world() -> None:
    """From within its namespaces: its queue, which does not exist outside, and its own PIDs. Refused in one line.

    (Without setns(2) there is no process 1 of that name, and no queue.)
    """
    unshare = ["unshare", "--user", "--map-root-user", "--ipc", "--pid", "--fork", "--mount", "--mount-proc", "--net"]
    if shutil.which("unshare") is None or helpers.run([*unshare, "true"]).returncode != 0:
        pytest.skip("no namespaces for this user here")
    code = """if True:
        import ctypes, os, struct
        libc = ctypes.CDLL(None)
        queue = libc.msgget(1234, 0o1600)
        libc.msgsnd(queue, struct.pack("li4x", 1, os.getpid()), 8, 0)
        print(os.getpid(), flush=True)
        libc.msgrcv(queue, ctypes.create_string_buffer(99), 8, ctypes.c_long(77), 0)
    """
    with helpers.background([*unshare, sys.executable, "-c", code]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        (pid,) = (int(path.name) for path in Path("/proc").glob("[0-9]*") if parent_of(path) == process.pid)
        outside = look(pids=[pid])
        assert any("un autre espace IPC" in line for line in outside.refused)
        with InsideLooker(pid) as looker:
            for _ in range(2):
                picture = looker.look()
            queue = the(picture, Queue)
            assert (queue.key, [message.addressee for message in queue.messages]) == (1234, [1])
            assert queue.messages[0].alive
            helpers.eventually(lambda: blocked(looker.look(), 1, "msgrcv"), "process 1 waits")
            os.kill(pid, signal.SIGKILL)
            process.wait(helpers.DEADLINE)
            with pytest.raises(SpectaclesError, match="n'existe plus"):
                look_for_ever(looker)
    with pytest.raises(SpectaclesError, match="espaces de noms"):
        InsideLooker(pid)


def look_for_ever(looker: InsideLooker) -> None:
    """Take looks until that is impossible."""
    for _ in range(1000):
        looker.look()


def parent_of(path: Path) -> int:
    """Return the parent's PID, 0 when the process has gone."""
    with contextlib.suppress(OSError, IndexError):
        return int((path / "stat").read_text().rpartition(")")[2].split()[1])
    return 0


# Numbers of system calls


@pytest.mark.parametrize(
    ("machine", "header"),
    [("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), ("aarch64", "/usr/include/asm-generic/unistd.h")],
)
def test_the_numbers_are_those_of_the_kernel_s_headers(machine: str, header: str) -> None:
    """Both tables. (Fails with a digit changed.)"""
    if not Path(header).exists():
        pytest.skip(f"no {header}")
    defined = {}
    for line in Path(header).read_text().splitlines():
        word = line.split()
        if len(word) >= 3 and word[0] == "#define" and word[1].startswith("__NR") and word[2].isdecimal():
            defined[word[1].removeprefix("__NR3264_").removeprefix("__NR_")] = int(word[2])
    numbers = calls.numbers(machine)
    assert len(numbers) > 60
    assert {name: number for number, name in numbers.items()} == {name: defined[name] for name in numbers.values()}


# Whoever is looked at does not notice


@pytest.mark.parametrize(
    "question",
    [pytest.param(one, marks=[pytest.mark.soak] if one[1] in "34" else []) for one in QUESTIONS],  # 3, 4: as 2
)
def test_looks_disturb_nobody(server: helpers.Servers, question: str) -> None:
    """300 looks beside a client that asks all the time: every answer comes, and is right."""
    guichet = server(question)
    stop = threading.Event()
    pictures: list[Look] = []

    def watch() -> None:
        with contextlib.closing(Looker(directory=str(guichet.directory))) as looker:
            while not stop.is_set() or len(pictures) < 300:
                pictures.append(looker.look())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for number in range(12):
            done = guichet.client("reserve", "2", "1")
            assert (done.returncode, done.stdout) == (0, "Réservation OK\n"), (number, done)
    finally:
        stop.set()
        watcher.join()
    assert helpers.places_in_file(guichet.directory, 2) == helpers.PLACES[2] - 12
    assert len(pictures) >= 300
