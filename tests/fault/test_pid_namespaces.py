"""Servers and clients in PID namespaces of their own, as in containers, with one IPC namespace: questions 2 to 4."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sysv_ipc

from spectacles.common.protocol import LIST, LIST_REPLY, LIST_REQUEST, RESERV, RESERV_REQUEST
from spectacles.lab.programs.process import ServerProcess, children
from tests import helpers
from tests.fault.test_hostile_queue import key_of, raw, start

Attack = Callable[..., "subprocess.Popen[str]"]
AS_FIRST = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
AS_SECOND = [*AS_FIRST, "sh", "-c", '"$@"; exit $?', "sh"]
STRANGE = 2**22 - 1000  # no process has such a PID, with the usual pid_max


@pytest.fixture(scope="module", autouse=True)
def _namespaces() -> None:
    """Skip where PID namespaces may not be made; an ordinary user makes one in a user namespace."""
    if subprocess.run([*AS_FIRST, "true"], capture_output=True, check=False).returncode == 0:
        return
    AS_FIRST[1:1] = AS_SECOND[1:1] = ["--user", "--map-root-user"]
    if subprocess.run([*AS_FIRST, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no right to make a PID namespace")


class Contained:
    """A server as the first (1) or second (2) process of a PID namespace."""

    def __init__(self, servers: helpers.Servers, question: str, pid: int, *options: str, directory: Path) -> None:
        self._before = AS_FIRST if pid == 1 else AS_SECOND
        command = [*self._before, *helpers.server_command(question)]
        options = ("--log-level", "warning", "--no-fsync", *options)
        self.outer = servers.start(question, *options, directory=directory, names=[], command=command)
        self.outer.wait_ready()
        assert f"PID {pid})" in self.outer.output
        self.pid = children(self.outer.pid)[0]
        if pid == 2:
            self.pid = children(self.pid)[0]

    def stop(self) -> int:
        """Ask the server itself to stop, and return its exit code."""
        os.kill(self.pid, signal.SIGTERM)
        return self.outer.process.wait(helpers.DEADLINE)

    def kill(self) -> None:
        """kill -9 all of it."""
        for process in [*children(self.pid), self.pid]:
            os.kill(process, signal.SIGKILL)
        self.outer.process.wait(helpers.DEADLINE)


def contained(pid: int, *command: str, also: str = "--fork") -> list[str]:
    """Return `command` as process number `pid`, above 2, of a PID namespace. also: another option of unshare."""
    script = f'i=3; while [ $i -lt {pid} ]; do /bin/true; i=$((i + 1)); done; /bin/true; "$@"; exit $?'
    return [*AS_FIRST, also, "sh", "-c", script, "sh", *command]


def bench(c_programs: Path, options: list[str], what: str, count: int, *, pid: int = 0) -> subprocess.Popen[str]:
    """Start a C client that asks `count` times; as `pid` in a PID namespace of its own, if that is given."""
    command = [str(c_programs / "q2_client"), "bench", what, *options, "--count", str(count), "--timeout", "5"]
    return subprocess.Popen(contained(pid, *command) if pid else command, stdout=subprocess.PIPE, text=True)


def all_answered(clients: list[subprocess.Popen[str]], count: int) -> None:
    """Wait for clients of bench(); each has had `count` answers, or it ended with another code."""
    outcomes = [(client.communicate(timeout=60)[0], client.returncode) for client in clients]
    assert all(code == 0 and f'"requests":{count},' in out for out, code in outcomes), outcomes


@pytest.mark.parametrize("pid", [1, 2])
def test_the_first_processes_of_a_container(
    server: helpers.Servers, queue_question: str, c_programs: Path, directory: Path, pid: int
) -> None:
    """The server is PID 1 or 2: its own number is the type of a request. No request is lost, waiting ones included.

    (With is_full() sending a message to os.getpid() and taking it back, requests are taken away with it; with the
    question before a queue is taken over asked in its own name, those that wait.)
    """
    names = helpers.fresh_names(queue_question)
    first = server(queue_question, "--log-level", "warning", directory=directory, names=names)
    options = first.client_options()
    tree = first.tree()
    helpers.freeze(tree)
    waiting = [bench(c_programs, options, what, 1) for what in ("list", "reserve") for _ in range(3)]
    helpers.eventually(lambda: helpers.in_queue(first)[0] == len(waiting), "all requests in the queue")
    for process in reversed(tree):
        os.kill(process, signal.SIGKILL)
    first.process.wait()
    second = Contained(server, queue_question, pid, *names, directory=directory)
    all_answered(waiting, 1)
    for what in ("list", "reserve"):
        all_answered([bench(c_programs, options, what, 400) for _ in range(4)], 400)
    assert second.stop() == 0


def test_clients_of_other_containers(
    server: helpers.Servers, queue_question: str, c_programs: Path, directory: Path
) -> None:
    """Clients whose PID does not exist here, or is somebody else's: all are answered, beside those that do exist.

    (With the PIDs that cannot be looked up dropped, none of the strangers is.)
    """
    guichet = start(server, queue_question)
    options = guichet.client_options()
    numbers = (0, 3, *range(30, 180, 21))  # some are a thread's or a process's here, some nobody's
    clients = [bench(c_programs, options, ("list", "reserve")[pid % 2], 150, pid=pid) for pid in numbers]
    all_answered(clients, 150)
    helpers.eventually(lambda: helpers.in_queue(guichet)[0] == 0, "nothing left in the queue")
    assert guichet.stop() == 0


def ask_as_strangers(guichet: ServerProcess, count: int) -> None:
    """Ask for the table in the name of so many processes that do not exist."""
    queue = raw(guichet)
    for number in range(count):
        queue.send(LIST_REQUEST.pack(STRANGE + number), True, LIST)


def test_strangers_that_never_read(
    server: helpers.Servers, queue_question: str, c_programs: Path, attack: Attack
) -> None:
    """Their unread replies fill half of the queue at most, are the first to go, and gone within seconds.

    (With no limit to them, the queue is full of them; with nobody noting them, they stay.)
    """
    guichet = start(server, queue_question)
    ask_as_strangers(guichet, 100)
    guichet.wait_for("inconnu ici")
    size = helpers.in_queue(guichet)[1]
    assert 10 * LIST_REPLY.size <= size <= 8192
    known = [attack("sleep", "1000").pid for _ in range(20)]  # these never read either, and fill the rest
    for pid in known:
        raw(guichet).send(LIST_REQUEST.pack(pid), True, LIST)
    helpers.eventually(lambda: helpers.in_queue(guichet)[1] >= len(known) * LIST_REPLY.size, "a reply to each of them")
    queue = raw(guichet)
    for pid in known:
        assert len(queue.receive(False, pid)[0]) == LIST_REPLY.size
    helpers.eventually(lambda: queue.current_messages == 0, "nothing left of the strangers")
    all_answered([bench(c_programs, guichet.client_options(), "list", 10, pid=50)], 10)
    assert guichet.stop() == 0


def test_a_flood_of_strangers(server: helpers.Servers, queue_question: str, c_programs: Path) -> None:
    """Requests in the name of one PID after another that does not exist, without a pause: the others are served.

    (With the answers to strangers not limited to half of the queue, or their requests shelved without a limit, local
    clients run into their deadline.)
    """
    guichet = start(server, queue_question)
    queue = raw(guichet)
    clients = [bench(c_programs, guichet.client_options(), what, 100) for what in ("list", "reserve")]
    number = 0
    while any(client.poll() is None for client in clients):
        number = (number + 1) % 3_000_000
        for type_, body in ((LIST, LIST_REQUEST.pack(10**6 + number)), (RESERV, RESERV_REQUEST.pack(10**6, 0, 1))):
            try:
                queue.send(body, False, type_)
            except sysv_ipc.BusyError:
                os.sched_yield()
    all_answered(clients, 100)
    helpers.eventually(lambda: queue.current_messages == 0, "nothing left of the flood")
    assert guichet.stop() == 0


# A second server


def second_server(question: str, directory: Path, key: str, where: str) -> subprocess.CompletedProcess[str]:
    """Run a server that should be refused to its end; it does not see what the first has claimed, but its processes.

    where: "another container" if it does not see these either; "here" if both.
    """
    command = helpers.server_command(question, "--dir", str(directory), *helpers.fresh_names(question), "--key", key)
    if where == "another container":
        return helpers.run(contained(30, *command, also="--net"))
    if where == "here":
        return helpers.run(command)
    user = [word for word in AS_FIRST if word in ("--user", "--map-root-user")]
    return helpers.run(["unshare", *user, "--net", *command])


def test_clean_beside_a_live_server_of_another_container(
    server: helpers.Servers, queue_question: str, directory: Path, tmp_path: Path
) -> None:
    """`clean` takes nothing from a server whose claim it does not see. (Without claim_queue() the server ends.)"""
    names = helpers.fresh_names(queue_question)
    guichet = server(queue_question, directory=directory, names=names)
    other = tmp_path / "other"
    other.mkdir()
    (other / "server.lock").write_text(f"key={names[1]}\n")
    user = [word for word in AS_FIRST if word in ("--user", "--map-root-user")]
    done = helpers.run(["unshare", *user, "--net", sys.executable, "-m", "spectacles", "clean", "--dir", other])
    assert done.returncode == 1, done
    assert "utilisé par un serveur vivant" in done.stdout
    assert guichet.client("list").returncode == 0
    assert guichet.stop() == 0


def contents(guichet: ServerProcess) -> list[tuple[bytes, int]]:
    """Return what lies in the queue, and leave it there, in order."""
    queue = raw(guichet)
    messages = [queue.receive(False, 0) for _ in range(queue.current_messages)]
    for body, type_ in messages:
        queue.send(body, False, type_)
    return messages


@pytest.mark.parametrize("state", ["idle", "stopped"])
@pytest.mark.parametrize("where", ["another container", "another network"])
def test_not_beside_a_live_server_of_another_container(
    server: helpers.Servers, queue_question: str, tmp_path: Path, where: str, state: str
) -> None:
    """A second server that sees neither the first one's process nor its claim is refused, and changes nothing.

    (Without claim_queue() it takes the queue for a dead server's, sells the same seats, and removes it in the end.)
    """
    guichet = start(server, queue_question)
    queue = raw(guichet)
    tree = guichet.tree()
    if state == "stopped":
        helpers.freeze(tree)
        for number in range(3, 40):  # replies to whoever may have the number of the second server, and requests
            queue.send(b"reply", False, number)
        before = contents(guichet)
    limit = queue.max_size
    done = second_server(queue_question, tmp_path, hex(key_of(guichet)), where)
    assert done.returncode == 3, done
    assert "déjà utilisée par" in helpers.one_line(done)
    assert "Serveur UP" not in done.stdout
    assert queue.max_size == limit
    if state == "stopped":
        assert contents(guichet) == before
        for process in tree:
            os.kill(process, signal.SIGCONT)
        assert guichet.client("list").returncode == 0
    else:
        assert guichet.client("reserve", "0", "1").returncode == 0
    assert guichet.stop() == 0


@pytest.mark.parametrize(("where", "state"), [("another container", "idle"), ("here", "idle"), ("here", "stopped")])
def test_not_beside_a_live_server_in_c_of_another_container(
    server: helpers.Servers, c_programs: Path, tmp_path: Path, where: str, state: str
) -> None:
    """One in C claims nothing at all. It answers, or it can be seen to wait; both at once is not needed.

    Stopped in another container it can be told from a dead one by nobody. (With who_reads() seeing nobody, the queue
    of the stopped one is taken; with nobody asked, that of the one in another container.)
    """
    names = helpers.fresh_names("q3_threads")
    guichet = server("q3_threads", names=names, command=[str(c_programs / "q3_server")])
    assert guichet.client("list").returncode == 0
    if state == "stopped":
        helpers.freeze([guichet.pid])
        raw(guichet).send(b"", False, 99)  # it is not the last to have used the queue
        raw(guichet).receive(False, 99)
    done = second_server("q3_threads", tmp_path, hex(key_of(guichet)), where)
    assert done.returncode == 3, done
    helpers.one_line(done)
    assert helpers.in_queue(guichet)[0] == 0
    if state == "stopped":
        os.kill(guichet.pid, signal.SIGCONT)
    assert guichet.client("reserve", "0", "1").returncode == 0
    assert guichet.stop() == 0


def test_a_dead_server_of_another_container(
    server: helpers.Servers, queue_question: str, c_programs: Path, directory: Path
) -> None:
    """Killed in its container, it is replaced by one in the next, which serves who still waits, wherever they are."""
    names = helpers.fresh_names(queue_question)
    first = Contained(server, queue_question, 1, *names, directory=directory)
    options = first.outer.client_options()
    helpers.freeze([*children(first.pid), first.pid])
    waiting = [bench(c_programs, options, "reserve", 1, pid=pid) for pid in (0, 40, 50)]
    helpers.eventually(lambda: helpers.in_queue(first.outer)[0] == len(waiting), "all requests in the queue")
    first.kill()
    second = Contained(server, queue_question, 2, *names, directory=directory)
    assert "reprise" in second.outer.output
    all_answered(waiting, 1)
    assert second.stop() == 0


def test_several_servers_are_in_one_container(server: helpers.Servers, directory: Path) -> None:
    """A server elsewhere would take those here for dead, and their clients' requests for its legacy: it is refused.

    (With the namespace not compared, it serves.)
    """
    house = helpers.House(server, directory)
    house.open()
    command = helpers.server_command("x1_sessions", "--dir", str(directory), *house.names)
    done = helpers.run([*AS_FIRST, *command])
    assert done.returncode == 3, done
    helpers.one_line(done)
    house.close()
