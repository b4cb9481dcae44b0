"""Who is who among the processes and threads of a server, as ps(1) and top(1) show it, and as the log says it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
from pathlib import Path

import pytest

from spectacles.common.naming import show_as, shown_as
from spectacles.lab.programs.process import ServerProcess
from tests import helpers

TASKS = {
    "q1_pipes": ["consultations", "q1_pipes", "reservations"],
    "q2_msq": ["consultations", "q2_msq", "reservations"],
    "q3_threads": ["consultations", "q3_threads", "reservations"],
    "q4_thread_per_request": ["q4_thread_per_r", "reception"],
    "q5_sockets": ["q5_sockets", "reception"],
}


def names(guichet: ServerProcess) -> list[str]:
    """Return what the tasks of a server are called."""
    found = []
    for pid in guichet.tree():
        for path in Path(f"/proc/{pid}/task").glob("*/comm"):
            with contextlib.suppress(OSError):
                found.append(path.read_text().rstrip("\n"))
    return sorted(found)


def test_tasks_are_called_what_they_do(server: helpers.Servers, question: str) -> None:
    """(Without show_as() all are called python3.)"""
    guichet = server(question)
    helpers.eventually(lambda: names(guichet) == TASKS[question], f"{TASKS[question]}, not {names(guichet)}")
    if shutil.which("ps"):
        shown = helpers.run(["ps", "-L", "-o", "comm=", *(f"-p{pid}" for pid in guichet.tree())]).stdout.split()
        assert sorted(shown) == TASKS[question]
    if question == "q5_sockets":
        with socket.create_connection(guichet.address()):
            helpers.eventually(lambda: names(guichet) == ["client", *TASKS[question]], "a client's thread")


def test_the_log_says_whose_child_it_was(server: helpers.Servers, forking_question: str) -> None:
    """By its job, with its accents. (It was "fils work 2".)"""
    guichet = server(forking_question)
    helpers.eventually(lambda: names(guichet) == TASKS[forking_question], "both children")
    for job, shown in (("consultations", "consultations"), ("réservations", "reservations")):
        victim = next(pid for pid in guichet.tree() if Path(f"/proc/{pid}/comm").read_text().strip() == shown)
        os.kill(victim, signal.SIGKILL)
        guichet.wait_for(rf"fils {job} \(PID {victim}\) tué par le signal 9 : je relance tous les fils")
        helpers.eventually(lambda: names(guichet) == TASKS[forking_question], "both children")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("réception", "reception"),
        ("q4_thread_per_request", "q4_thread_per_r"),
        ("a b", "a b"),
        ("x" * 14 + "œ", "x" * 14),
    ],
)
def test_names_that_do_not_fit(name: str, shown: str) -> None:
    """Fifteen bytes, letters without accents; and the old name, whatever it was, can be given again."""
    before = shown_as()
    show_as(name)
    assert shown_as().encode(errors="surrogateescape").decode(errors="ignore") == shown
    show_as(before)
    assert shown_as() == before
