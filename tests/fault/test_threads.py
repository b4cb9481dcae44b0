"""Question 4's threads: how many at once, on which processor, and what happens when there is none to be had."""

from __future__ import annotations

import _thread
import os
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from spectacles.common import log, workers
from spectacles.lab.process import ServerProcess, thread_count
from tests import helpers
from tests.fault.conftest import Shim

LIMIT = 3
CLIENTS = 8


def processors(guichet: ServerProcess) -> dict[int, set[int]]:
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
        found = processors(guichet)
        assert found.pop(guichet.pid) == everywhere
        assert sorted(map(len, found.values())) == [1, 1]
        assert len(set.union(*found.values())) == 1
        shim.stop("hold")
        client.communicate(timeout=helpers.DEADLINE)
    for question in ("q3_threads", "q5_sockets"):
        assert set(map(frozenset, processors(server(question)).values())) == {frozenset(everywhere)}


@pytest.mark.parametrize("gil", [True, False])
def test_without_an_interpreter_lock_all_processors_are_used(monkeypatch: pytest.MonkeyPatch, gil: bool) -> None:
    """A free-threaded interpreter has nothing to hand over."""
    chosen: list[set[int]] = []
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: gil, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, processors: chosen.append(processors))
    workers.share_one_processor()
    assert [len(processors) for processors in chosen] == ([1] if gil else [])


def test_no_thread_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task waits until the system has a thread for it, and the log says so once."""
    said: list[str] = []
    failures = iter([RuntimeError("can't start new thread")] * 3)

    def start(*arguments: Any) -> int:
        for failure in failures:
            raise failure
        return real(*arguments)

    real = _thread.start_new_thread
    monkeypatch.setattr(_thread, "start_new_thread", start)
    monkeypatch.setattr(log, "error", lambda message, *_: said.append(message))
    threads = workers.DetachedThreads(1)
    done = threading.Event()
    threads.start(done.set)
    assert done.wait(helpers.DEADLINE)
    assert len(said) == 1
    threads.join()


def test_a_failed_task_gives_its_slot_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception in a thread is logged, and the next task finds a slot. (Without the `finally` it waits for ever.)"""
    said: list[str] = []
    monkeypatch.setattr(log, "exception", lambda message, *_: said.append(message))
    threads = workers.DetachedThreads(1)
    done = threading.Event()
    threads.start(divmod, 1, 0)
    threading.Thread(target=threads.start, args=(done.set,), daemon=True).start()
    assert done.wait(helpers.DEADLINE)
    assert len(said) == 1


def test_join_waits_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Joining returns when the last task has ended, and gives up on one that does not end."""
    monkeypatch.setattr(workers, "GRACE", helpers.DEADLINE)
    threads = workers.DetachedThreads(2)
    begun, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        go_on.wait()

    threads.start(wait)
    assert begun.wait(helpers.DEADLINE)
    threading.Timer(0.05, go_on.set).start()
    threads.join()
    assert go_on.is_set()

    monkeypatch.setattr(workers, "GRACE", 0.05)
    threads = workers.DetachedThreads(2)
    stuck = threading.Event()
    threads.start(stuck.wait)  # type: ignore[arg-type]
    threads.join()
    stuck.set()
