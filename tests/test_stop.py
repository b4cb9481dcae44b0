"""How a server ends: asked to, or killed. The same in every question; the guard of conftest.py sees what it leaves."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import sysv_ipc

from spectacles.common.claims import claim
from spectacles.common.protocol import LIST, LIST_REPLY, LIST_REQUEST, TCP_REQUEST
from spectacles.lab.programs.process import ServerProcess
from tests import helpers

STOPPED_WITHIN = 5.0  # seconds; about one is promised, and a busy machine is forgiven


def leftovers(directory: Path) -> list[str]:
    """Return what is in the run directory besides the table and the logs."""
    return sorted({path.name for path in directory.iterdir()} - {"spectacles.dat", "logs"})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("whole_group", [True, False], ids=["group", "parent"])
def test_signals(server: helpers.Servers, question: str, number: signal.Signals, whole_group: bool) -> None:
    """Exit code 0, no traceback, nothing left; Ctrl-C reaches the whole group, kill(1) the parent alone.

    (With signal.signal() taken out of _catch_signals, the code is negative and the objects stay.)
    """
    guichet = server(question)
    tree = guichet.tree()
    assert guichet.client("reserve", "0", "1").returncode == 0
    if whole_group:
        os.killpg(guichet.pid, number)
    else:
        guichet.process.send_signal(number)
    assert guichet.process.wait(STOPPED_WITHIN) == 0
    assert all(helpers.is_gone(pid) for pid in tree), "children outlive their parent"
    assert helpers.own_objects() == set()
    assert leftovers(guichet.directory) == []
    guichet.stop()  # only joins the reader of its output
    assert "Traceback" not in guichet.output
    assert "[INFO] Arrêt" in guichet.output
    assert " ERROR " not in guichet.output


def test_impatient_ctrl_c(server: helpers.Servers, question: str) -> None:
    """Ten Ctrl-C in a row, to the whole group: as clean as one."""
    guichet = server(question)
    for _ in range(10):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(guichet.pid, signal.SIGINT)
    assert guichet.process.wait(STOPPED_WITHIN) == 0
    assert leftovers(guichet.directory) == []


@pytest.mark.parametrize("command", ["module", "spectacles"])
def test_ctrl_c_while_the_interpreter_ends(
    server: helpers.Servers, question: str, command: str, tmp_path: Path
) -> None:
    """After all has been done right: signals of every kind to stop, from a function that runs at the exit.

    (With the process given back all the same, as to an embedding program, they act as they do by default.)
    """
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, os, signal\n"
        "for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):\n"
        "    atexit.register(os.kill, os.getpid(), number)\n"
    )
    spectacles = [sys.executable, "-m", "spectacles", "server", question]
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{helpers.ROOT}"}
    guichet = server(question, command=spectacles if command == "spectacles" else None, env=env)
    assert guichet.stop() == 0
    assert leftovers(guichet.directory) == []


def test_signal_while_starting(server: helpers.Servers, question: str) -> None:
    """At whatever moment of the start: nothing stays."""
    for delay in (0.01, 0.03, 0.05, 0.08):
        guichet = server.start(question)
        time.sleep(delay)  # not for readiness: the moment is what varies
        guichet.process.send_signal(signal.SIGTERM)
        guichet.process.wait(STOPPED_WITHIN)
        assert helpers.own_objects() == set()
        assert set(leftovers(guichet.directory)) <= {"server.lock"}  # before the handlers were there


def test_stop_with_clients_at_work(server: helpers.Servers, many_question: str) -> None:
    """Whatever was acknowledged is in the file, and every client ends with an answer or code 3."""
    guichet = server(many_question)
    acks: list[int] = []
    codes: set[int] = set()

    def buy() -> None:
        for _ in range(30):
            done = guichet.client("--timeout", "1", "reserve", "2", "1")
            codes.add(done.returncode)
            if done.returncode != 0:
                return
            acks.append(1)

    buyers = [threading.Thread(target=buy) for _ in range(3)]
    for buyer in buyers:
        buyer.start()
    helpers.eventually(lambda: len(acks) >= 3, "some reservations")
    assert guichet.stop() == 0
    for buyer in buyers:
        buyer.join(helpers.DEADLINE)
        assert not buyer.is_alive()
    assert codes == {0, 3}
    sold = 300 - helpers.places_in_file(guichet.directory, 2)
    assert len(acks) <= sold <= len(acks) + len(buyers)


def test_idle_clients_do_not_hold_the_server(server: helpers.Servers, question: str) -> None:
    """A menu left open, and in Q5 a silent connection and half a request: the stop does not wait for them."""
    guichet = server(question)
    with (
        helpers.background(guichet.client_command(), stdin=subprocess.PIPE) as client,
        contextlib.ExitStack() as connections,
    ):
        assert client.stdout is not None
        helpers.read_until(client.stdout.fileno(), "Votre choix : ")
        if question == "q5_sockets":
            for part in (b"", b"\1\0\0"):
                connection = connections.enter_context(socket.create_connection(guichet.address()))
                connection.sendall(part)
        assert guichet.stop(signal.SIGINT, STOPPED_WITHIN) == 0
    assert leftovers(guichet.directory) == []


# kill -9


def kill_parent(guichet: ServerProcess) -> None:
    """kill -9 the server's parent process alone; its children must follow by themselves."""
    tree = guichet.tree()
    guichet.kill()
    for pid in tree:
        helpers.eventually(lambda pid=pid: helpers.is_gone(pid), f"the end of child {pid}")  # type: ignore[misc]


def test_children_die_with_their_parent(server: helpers.Servers, forking_question: str) -> None:
    """(With _die_with() doing nothing, both children live on.)"""
    guichet = server(forking_question)
    assert len(guichet.tree()) == 3
    kill_parent(guichet)


def test_next_start_takes_over(server: helpers.Servers, question: str) -> None:
    """After kill -9, the same command line serves again, with what was acknowledged, and later leaves nothing."""
    first = server(question)
    names = first.options
    assert first.client("reserve", "0", "7").returncode == 0
    kill_parent(first)
    assert "server.lock" in leftovers(first.directory)
    second = server(question, directory=first.directory, names=names)
    assert second.client("consult", "0").stdout == "113 places\n"
    assert second.client("reserve", "0", "3").returncode == 0
    assert second.stop() == 0
    assert leftovers(first.directory) == []
    assert helpers.own_objects() == set()
    assert helpers.places_in_file(first.directory, 0) == 110


def test_takes_over_at_once(server: helpers.Servers, forking_question: str) -> None:
    """A restart in the same breath as the kill: neither dying children nor an unreaped parent make it fail.

    (Fails when a zombie passes for a live holder of the directory.)
    """
    first = server(forking_question)
    _, *workers = first.tree()
    helpers.freeze(workers)
    os.kill(first.pid, signal.SIGKILL)  # not waited for: a zombie
    helpers.eventually(lambda: helpers.is_gone(first.pid), "the end of the parent")
    second = server.start(forking_question, directory=first.directory, names=first.options)

    def is_in_the_directory() -> bool:
        """The directory stays open while the lock is tried again and again, unlike the lock's own file."""
        with contextlib.suppress(OSError):
            descriptors = Path(f"/proc/{second.pid}/fd").iterdir()
            if any(os.readlink(path) == str(first.directory.resolve()) for path in descriptors):
                return True
        return second.process.poll() is not None

    try:
        helpers.eventually(is_in_the_directory, "the second server at the lock")
    finally:
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    second.wait_ready()
    assert second.client("list").returncode == 0


def test_waiting_requests_are_served_after_a_kill(server: helpers.Servers, queue_question: str) -> None:
    """Requests outlive the server in the queue; nothing of a dead client's stays there for long.

    Its reservation is made, as by a server in C: its PID may be that of a client in another container, which waits.
    (With ServerQueue.__init__ removing an old queue, the client gets no answer.)
    """
    first = server(queue_question)
    tree = first.tree()
    helpers.freeze(tree)
    names = first.options
    dead = helpers.run(first.client_command("--timeout", "0.2", "reserve", "1", "5"))
    assert dead.returncode == 3
    with helpers.background(first.client_command("--timeout", "20", "reserve", "0", "2")) as client:
        key = int(names[names.index("--key") + 1], 0)
        queue = sysv_ipc.MessageQueue(key)
        helpers.eventually(lambda: queue.current_messages == 2, "both requests in the queue")
        for pid in tree:
            os.kill(pid, signal.SIGKILL)
        first.process.wait(helpers.DEADLINE)
        second = server(queue_question, directory=first.directory, names=names)
        output = client.communicate(timeout=helpers.DEADLINE)[0].decode()
    assert (client.returncode, output) == (0, "Réservation OK\n")
    assert helpers.places_in_file(first.directory, 0) == 118
    helpers.eventually(lambda: helpers.places_in_file(first.directory, 1) == 75, "the other reservation made")
    helpers.eventually(lambda: helpers.in_queue(second)[0] == 0, "its reply gone")
    assert second.client("list").returncode == 0


def test_stale_reply_is_not_taken_for_mine(server: helpers.Servers, queue_question: str) -> None:
    """A reply that lies in the queue with this PID as type, left by a predecessor, is thrown away (defect 12)."""
    guichet = server(queue_question)
    queue = sysv_ipc.MessageQueue(int(guichet.options[guichet.options.index("--key") + 1], 0))
    queue.send(LIST_REPLY.pack(1, bytes(720)), True, os.getpid())
    from spectacles.q2_msq.channel import ClientQueue

    with ClientQueue(queue.key, 5.0) as channel:
        reply = channel.exchange(LIST, LIST_REQUEST.pack(os.getpid()), LIST_REPLY.size)
    assert LIST_REPLY.unpack(reply)[1] != bytes(720)


def test_connection_in_flight_when_killed(server: helpers.Servers) -> None:
    """Q5: the kernel closes the connection of a killed server, and the client sees that."""
    guichet = server("q5_sockets")
    with socket.create_connection(guichet.address(), timeout=helpers.DEADLINE) as connection:
        connection.sendall(TCP_REQUEST.pack(LIST, 0, 0))
        assert connection.recv(720, socket.MSG_WAITALL)
        guichet.kill()
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""


def test_claims_are_freed_by_death(server: helpers.Servers, question: str) -> None:
    """No name stays claimed: a lock that the kernel releases. (Fails with a lock file that is merely created.)"""
    guichet = server(question)
    options = guichet.options
    kill_parent(guichet)
    for what in ("key", "shm-key", "sem-name"):
        if f"--{what}" in options:
            claim(f"{what} {options[options.index(f'--{what}') + 1]}").close()


def test_no_right_to_look_any_more(
    server: helpers.Servers, question: str, directory: Path, ordinary_user: list[str]
) -> None:
    """chmod 000 of the run directory: who is served stays so, the file is up to date, and the end is an ordinary one.

    (As it was: code 1 and "server.lock : accès refusé"; question 1 ended at once, its FIFOs "supprimés ou remplacés".)
    """
    if ordinary_user:
        os.chown(directory, 65534, 65534)
    command = [*ordinary_user, *helpers.server_command(question)]
    guichet = server(question, directory=directory, command=command)
    with helpers.background(guichet.client_command(), stdin=subprocess.PIPE) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        helpers.read_until(client.stdout.fileno(), "Votre choix : ")
        directory.chmod(0)
        try:
            guichet.wait_for("impossible d'y regarder")
            output = client.communicate(b"2\n0\n1\n0\n", timeout=helpers.DEADLINE)[0].decode()
            assert guichet.stop() == 0, guichet.output
        finally:
            directory.chmod(0o700)
    assert "Réservation OK" in output
    assert helpers.places_in_file(directory, 0) == 119
