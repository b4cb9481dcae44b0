"""The threads of questions 3 to 5: how many at once, on which processor, and what happens when there is none."""

from __future__ import annotations

import _thread
import os
import re
import resource
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from spectacles.common import detached, log, processors
from spectacles.lab.kernel.processes import thread_count
from spectacles.lab.programs.process import ServerProcess
from tests import helpers, raw_tcp
from tests.fault.conftest import Shim

LIMIT = 3
CLIENTS = 8


def allowed(guichet: ServerProcess) -> dict[int, set[int]]:
    """Return the processors that each thread of the server may run on."""
    tasks = (int(path.name) for path in Path(f"/proc/{guichet.pid}/task").iterdir())
    return {task: os.sched_getaffinity(task) for task in tasks}


def test_no_more_threads_than_asked_for(server: helpers.Servers, shim: Shim) -> None:
    """Defect 16: beyond --max-threads requests wait, one with the receiver and the rest in the queue; all are answered.

    (Without the slots of DetachedThreads there are as many threads as requests.)
    """
    guichet = server("q4_thread_per_request", "--max-threads", str(LIMIT), env=shim.env)
    shim.ask("hold")
    with ExitStack() as stack:
        clients = [
            stack.enter_context(helpers.background(guichet.client_command("reserve", "0", "1"))) for _ in range(CLIENTS)
        ]
        helpers.eventually(lambda: helpers.in_queue(guichet)[0] == CLIENTS - LIMIT - 1, "the others wait in the queue")
        assert thread_count(guichet.pid) == 2 + LIMIT
        shim.stop("hold")
        for client in clients:
            assert client.communicate(timeout=helpers.DEADLINE)[0].decode() == "Réservation OK\n"
    assert helpers.places_in_file(guichet.directory, 0) == helpers.PLACES[0] - CLIENTS
    helpers.eventually(lambda: thread_count(guichet.pid) == 2, "no thread left")


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor")
def test_the_threads_of_question_4_share_one_processor(server: helpers.Servers, shim: Shim) -> None:
    """The receiver and every request's thread may run on one and the same; the main thread, and other servers, on all.

    (Without share_one_processor() all may run anywhere.)
    """
    everywhere = os.sched_getaffinity(0)
    guichet = server("q4_thread_per_request", env=shim.env)
    shim.ask("hold")
    with helpers.background(guichet.client_command("reserve", "0", "1")) as client:
        shim.holder()
        found = allowed(guichet)
        assert found.pop(guichet.pid) == everywhere
        assert sorted(map(len, found.values())) == [1, 1]
        assert len(set.union(*found.values())) == 1
        shim.stop("hold")
        client.communicate(timeout=helpers.DEADLINE)
    for question in ("q3_threads", "q5_sockets"):
        assert set(map(frozenset, allowed(server(question)).values())) == {frozenset(everywhere)}


@pytest.mark.parametrize("gil", [True, False])
def test_without_an_interpreter_lock_all_processors_are_used(monkeypatch: pytest.MonkeyPatch, gil: bool) -> None:
    """A free-threaded interpreter has nothing to hand over."""
    chosen: list[set[int]] = []
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: gil, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, processors: chosen.append(processors))
    processors.share_one_processor()
    assert [len(processors) for processors in chosen] == ([1] if gil else [])


def test_no_thread_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one the caller does the work, and the log says so once; with one again, a thread does.

    (With start() waiting for a thread, as it did, the request is answered when somebody else's thread has ended.)
    """
    said: list[str] = []
    failures: list[Exception] = [RuntimeError("can't start new thread"), MemoryError(), RuntimeError()]
    by: list[int] = []
    done = threading.Event()

    def work() -> None:
        by.append(threading.get_ident())
        done.set()

    def start(*arguments: Any) -> int:
        if failures:
            raise failures.pop()
        return real(*arguments)

    real = _thread.start_new_thread
    monkeypatch.setattr(_thread, "start_new_thread", start)
    monkeypatch.setattr(log, "error", lambda message, *_: said.append(message))
    threads = detached.DetachedThreads(1)
    for _ in range(3):
        threads.start(work)
    assert by == [threading.get_ident()] * 3
    assert len(said) == 1
    done.clear()
    threads.start(work)
    assert done.wait(helpers.DEADLINE)
    assert by[3] != threading.get_ident()
    threads.join()


def test_who_makes_room_for_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked as long as it says "again"; when it says no the task is given up, and so is its slot.

    (With the slot kept, the next start() waits for ever.)
    """
    answers = [True, True, False]
    done = threading.Event()

    def start(*arguments: Any) -> int:
        if answers:
            raise RuntimeError("can't start new thread")
        return real(*arguments)

    real = _thread.start_new_thread
    monkeypatch.setattr(_thread, "start_new_thread", start)
    threads = detached.DetachedThreads(1, lambda: answers.pop(0))
    threads.start(done.set)
    assert not answers
    assert not done.is_set()
    threading.Thread(target=threads.start, args=(done.set,), daemon=True).start()
    assert done.wait(helpers.DEADLINE)


STACK = 8 << 20  # bytes of a thread's stack under the usual limit
LITTLE = 5 << 20  # more than a request needs, less than a stack


def size_of(pid: int | str) -> int:
    """Return the bytes of a process's address space, VmSize of proc(5)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmSize:")[2].split()[0]) << 10


def limit(guichet: ServerProcess, more: int) -> None:
    """Let the address space of the server grow by `more` bytes and not beyond."""
    _, hard = resource.prlimit(guichet.pid, resource.RLIMIT_AS)
    resource.prlimit(guichet.pid, resource.RLIMIT_AS, (size_of(guichet.pid) + more, hard))


@pytest.mark.parametrize("question", ["q3_threads", "q4_thread_per_request", "q5_sockets"])
def test_no_thread_at_the_start(directory: Path, question: str) -> None:
    """One line that says what is missing, and code 1. (With RuntimeError let out, an internal error to be reported.)"""
    code = f"import spectacles.{question}.server; print(open('/proc/self/status').read())"
    size = int(helpers.run([sys.executable, "-c", code]).stdout.partition("VmSize:")[2].split()[0]) << 10
    options = ["--dir", str(directory), *helpers.fresh_names(question), *(["--port", "0"] * (question[:2] == "q5"))]
    # A byte for each PID takes 4 MB (ClientWatch), and Python takes its memory by the MB: still less than a stack.
    prlimit = ["prlimit", f"--stack={STACK}", f"--as={size + STACK - (1 << 20)}"]
    done = helpers.run([*prlimit, *helpers.server_command(question, *options)])
    assert done.returncode == 1, done
    assert "pas de thread à avoir" in helpers.one_line(done)


def test_question_4_without_threads(server: helpers.Servers) -> None:
    """From the very first request on and for good: all are answered, one by one, and the log says so.

    (With start() waiting for a thread, none is.)
    """
    guichet = server("q4_thread_per_request")
    limit(guichet, LITTLE)
    for seats in (1, 2):
        assert guichet.client("reserve", "0", str(seats)).returncode == 0
    assert guichet.output.count("requêtes traitées une par une") == 1
    assert guichet.stop() == 0
    assert helpers.places_in_file(guichet.directory, 0) == helpers.PLACES[0] - 3


def test_question_5_without_threads(server: helpers.Servers) -> None:
    """A crowd that takes all the threads there are: its most silent give way; newcomers among the busy are turned away.

    (With start() waiting for a thread, as it did, the new client is answered when somebody leaves.)
    """
    guichet = server("q5_sockets")
    limit(guichet, 10 * STACK)
    with ExitStack() as crowd:
        for _ in range(60):
            crowd.enter_context(raw_tcp.connect(guichet))
        guichet.wait_for(r"trop de clients \(pas de thread\) : les nouveaux sont éconduits")

        def served() -> bool:
            return guichet.client("reserve", "0", "1").returncode == 0

        helpers.eventually(served, "one of the crowd gives way")
        helpers.eventually(lambda: 2 < thread_count(guichet.pid) < 60, "the rest of the crowd, in a few threads")
    helpers.eventually(lambda: thread_count(guichet.pid) == 2, "all threads gone")
    assert guichet.client("reserve", "0", "1").returncode == 0
    assert guichet.output.count("trop de clients") < 20
    assert not re.search("Traceback|ERROR", guichet.output)
    assert guichet.stop() == 0
    assert helpers.places_in_file(guichet.directory, 0) == helpers.PLACES[0] - 2


def test_question_5_without_any_thread(server: helpers.Servers) -> None:
    """No thread for clients at all: each is turned away at once, none waits for ever, and the server can be stopped."""
    guichet = server("q5_sockets")
    limit(guichet, LITTLE)
    for _ in range(5):
        done = guichet.client("reserve", "0", "1")
        assert (done.returncode, done.stdout) == (3, "")
        assert re.search("le serveur a (fermé|coupé) la connexion", helpers.one_line(done))
    assert guichet.output.count("trop de clients (pas de thread) : les nouveaux sont éconduits") == 1
    assert guichet.stop() == 0


def test_a_failed_task_gives_its_slot_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception in a thread is logged, and the next task finds a slot. (Without the `finally` it waits for ever.)"""
    said: list[str] = []
    monkeypatch.setattr(log, "exception", lambda message, *_: said.append(message))
    threads = detached.DetachedThreads(1)
    done = threading.Event()
    threads.start(divmod, 1, 0)
    threading.Thread(target=threads.start, args=(done.set,), daemon=True).start()
    assert done.wait(helpers.DEADLINE)
    assert len(said) == 1


def test_join_waits_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Joining returns when the last task has ended, and gives up on one that does not end."""
    monkeypatch.setattr(detached, "GRACE", helpers.DEADLINE)
    threads = detached.DetachedThreads(2)
    begun, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        go_on.wait()

    threads.start(wait)
    assert begun.wait(helpers.DEADLINE)
    threading.Timer(0.05, go_on.set).start()
    threads.join()
    assert go_on.is_set()

    monkeypatch.setattr(detached, "GRACE", 0.05)
    threads = detached.DetachedThreads(2)
    stuck = threading.Event()
    threads.start(stuck.wait)  # type: ignore[arg-type]
    threads.join()
    stuck.set()
