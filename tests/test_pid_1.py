"""A server that is PID 1 of its namespace, as the entry point of a container is.

The kernel drops what PID 1 has no handler for, gives it the orphans of all others, and ends its namespace with it,
pid_namespaces(7).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from spectacles.lab.programs.process import ServerProcess, children
from tests import helpers

UNSHARE = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
ORPHANS = 20


@pytest.fixture
def first(server: helpers.Servers, question: str) -> ServerProcess:
    """A server that is PID 1, behind an unshare(1) that waits for it; skips where that is not allowed."""
    return start(server, question)


def start(server: helpers.Servers, question: str) -> ServerProcess:
    """Start it."""
    if not shutil.which("unshare") or helpers.run([*UNSHARE, "true"]).returncode != 0:
        pytest.skip("no PID namespace on this machine (unshare --user --pid --mount-proc)")
    guichet = server(question, command=[*UNSHARE, *helpers.server_command(question)])
    assert "PID 1)" in guichet.output
    return guichet


def seen_from_here(guichet: ServerProcess) -> int:
    """Return the PID, here, of the server."""
    (pid,) = children(guichet.pid)
    return pid


def enter(guichet: ServerProcess, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a program in the server's namespaces."""
    pid = str(seen_from_here(guichet))
    return helpers.run(["nsenter", "--user", "--preserve-credentials", "--pid", "--mount", "--target", pid, *command])


def inside(guichet: ServerProcess, *command: str) -> str:
    """Run a program in the server's namespaces to a good end, and return what it printed."""
    done = enter(guichet, *command)
    assert done.returncode == 0, done
    return done.stdout


def leave_orphans(guichet: ServerProcess) -> None:
    """Have PID 1 become the parent of processes that it has not started, and that have ended."""
    inside(guichet, "sh", "-c", f"for i in $(seq {ORPHANS}); do (setsid true &); done; sleep 0.1")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("from_inside", [True, False], ids=["inside", "outside"])
def test_stop(first: ServerProcess, number: signal.Signals, from_inside: bool) -> None:
    """`docker stop`, and kill 1 from a shell in the container: an orderly end. (Without a handler nothing happens.)"""
    pid = seen_from_here(first)
    if from_inside:
        enter(first, "sh", "-c", f"kill -{int(number)} 1")  # it may be ended with its namespace
    else:
        os.kill(pid, number)
    assert first.process.wait(helpers.DEADLINE) == 0
    assert first.wait_for("Arrêt")
    assert not (first.directory / "server.lock").exists()


def test_orphans_of_others(first: ServerProcess) -> None:
    """Strangers' children come and go; the server serves on, and reports nobody's death."""
    leave_orphans(first)
    assert inside(first, *first.client_command("reserve", "0", "1")) == "Réservation OK\n"
    assert " ERROR " not in first.output
    os.kill(seen_from_here(first), signal.SIGTERM)
    assert first.process.wait(helpers.DEADLINE) == 0


def test_a_child_of_pid_1_is_replaced(server: helpers.Servers, forking_question: str) -> None:
    """Among orphans that have ended, the death of a child is noticed."""
    guichet = start(server, forking_question)
    leave_orphans(guichet)
    victim = next(pid for pid in children(seen_from_here(guichet)) if not helpers.is_gone(pid))
    os.kill(victim, signal.SIGKILL)
    guichet.wait_for("signal 9")
    guichet.wait_for("service rétabli")
    assert inside(guichet, *guichet.client_command("reserve", "0", "1")) == "Réservation OK\n"
    assert len(re.findall(" ERROR ", guichet.output)) == 1
    os.kill(seen_from_here(guichet), signal.SIGTERM)
    assert guichet.process.wait(helpers.DEADLINE) == 0


def test_killed_as_pid_1(server: helpers.Servers, forking_question: str) -> None:
    """The kernel ends its children with it, and the next one takes over."""
    guichet = start(server, forking_question)
    pid = seen_from_here(guichet)
    tree = [pid, *children(pid)]
    assert len(tree) == 3
    os.kill(pid, signal.SIGKILL)
    for task in tree:
        helpers.eventually(lambda task=task: not Path(f"/proc/{task}").exists(), "the end")  # type: ignore[misc]
    guichet.process.wait(helpers.DEADLINE)
    again = server(forking_question, directory=guichet.directory, names=guichet.options)
    assert again.client("reserve", "0", "1").returncode == 0
    assert again.stop() == 0
