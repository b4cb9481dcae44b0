"""Signals that were ignored or blocked before a program of ours began: a wish is respected, an accident is mended.

Both outlive exec. nohup(1) and the background jobs of scripts ignore SIGHUP or SIGINT; programs started from threads of
uWSGI, a JVM or Julia may have everything blocked, and some parents ignore SIGCHLD.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from spectacles.common.host import RELIED_ON
from spectacles.lab.programs.process import ServerProcess, children
from tests import helpers

WISHES = {signal.SIGHUP, signal.SIGINT}
ACCIDENTS = helpers.ALL_SIGNALS - WISHES


def start(
    server: helpers.Servers, question: str, ignored: Iterable[int] = (), blocked: Iterable[int] = ()
) -> ServerProcess:
    """Start a server that inherits these."""
    command = [*helpers.inheriting(ignored=ignored, blocked=blocked), *helpers.server_command(question)]
    return server(question, command=command)


def tasks(guichet: ServerProcess) -> list[int]:
    """Return all threads of all processes of a server."""
    return [int(path.name) for pid in guichet.tree() for path in Path(f"/proc/{pid}/task").iterdir()]


@pytest.mark.parametrize("wish", [{signal.SIGHUP}, {signal.SIGINT}, WISHES], ids=["HUP", "INT", "both"])
def test_what_is_ignored_on_purpose_stays_ignored(
    server: helpers.Servers, question: str, wish: set[signal.Signals]
) -> None:
    """nohup, `trap '' HUP`, `&` in a script: the signal, to the whole group, is not noticed. SIGTERM stops the server.

    (With signal.signal() for all three of STOP_SIGNALS, the server stops.)
    """
    guichet = start(server, question, ignored=wish)
    for number in wish:
        os.killpg(guichet.pid, number)
    assert wish <= helpers.signals(guichet.pid, "SigIgn")
    assert (WISHES - wish) <= helpers.signals(guichet.pid, "SigCgt")
    assert guichet.client("reserve", "0", "1").returncode == 0
    assert "Arrêt" not in guichet.output
    assert guichet.stop() == 0
    assert "Arrêt" in guichet.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_stop_with_everything_blocked(server: helpers.Servers, question: str, number: signal.Signals) -> None:
    """All that we rely on gets through, to every thread and child; and what is ignored by accident is caught.

    (With pthread_sigmask() taken out of fit_for_us, the server is killed after five seconds.)
    """
    guichet = start(server, question, ignored=ACCIDENTS, blocked=helpers.ALL_SIGNALS)
    assert guichet.client("reserve", "0", "1").returncode == 0
    for task in tasks(guichet):
        assert not helpers.signals(task, "SigBlk") & set(RELIED_ON)
    assert guichet.stop(number) == 0
    assert "Arrêt" in guichet.output


@pytest.mark.parametrize("blocked", [(), helpers.ALL_SIGNALS], ids=["", "blocked"])
def test_a_killed_child_is_replaced(server: helpers.Servers, forking_question: str, blocked: Iterable[int]) -> None:
    """SIGCHLD was ignored, which leaves nothing to wait for. (Left so, waitpid fails: ECHILD.)"""
    guichet = start(server, forking_question, ignored=ACCIDENTS, blocked=blocked)
    os.kill(children(guichet.pid)[0], signal.SIGKILL)
    guichet.wait_for("signal 9")
    guichet.wait_for("service rétabli")
    assert guichet.client("reserve", "0", "1").returncode == 0


def test_children_die_with_their_parent(server: helpers.Servers, forking_question: str) -> None:
    """SIGIO was ignored and blocked. (Without SIG_DFL for it, or with it left blocked, both children live on.)"""
    guichet = start(server, forking_question, ignored=ACCIDENTS, blocked=helpers.ALL_SIGNALS)
    tree = guichet.tree()
    assert len(tree) == 3
    guichet.kill()
    for pid in tree:
        helpers.eventually(lambda pid=pid: helpers.is_gone(pid), f"the end of child {pid}")  # type: ignore[misc]


def test_deadline_of_a_client(server: helpers.Servers, question: str) -> None:
    """--timeout, when the server stands still, though SIGALRM was blocked. (Left so, Q2's client waits for ever.)"""
    guichet = server(question)
    helpers.freeze(guichet.tree())
    prefix = helpers.inheriting(ignored=ACCIDENTS, blocked=helpers.ALL_SIGNALS)
    done = helpers.run([*prefix, *guichet.client_command("--timeout", "0.5", "list")], timeout=helpers.DEADLINE)
    assert done.returncode == 3
    assert "0.5 s" in helpers.one_line(done)


def test_ctrl_c_in_the_menu(server: helpers.Servers, question: str) -> None:
    """SIGINT was blocked. (Left so, the client goes on asking.)"""
    guichet = server(question)
    prefix = helpers.inheriting(blocked=helpers.ALL_SIGNALS)
    with helpers.background([*prefix, *guichet.client_command()], stdin=subprocess.PIPE) as client:
        assert client.stdout is not None
        helpers.read_until(client.stdout.fileno(), "Votre choix : ")

        def gone() -> bool:
            """Again and again: a signal that comes between the prompt and read(2) is seen after it."""
            client.send_signal(signal.SIGINT)
            return client.poll() is not None

        helpers.eventually(gone, "the end of the client")
        assert client.returncode == 130


def test_demo_under_nohup(tmp_path: Path) -> None:
    """SIGHUP, when the terminal goes, ends nothing; nor do an ignored SIGCHLD and a full mask change the accounts.

    (With terminal.Interrupts catching SIGHUP all the same, the exit code is 130.)
    """
    output = tmp_path / "nohup.out"
    prefix = helpers.inheriting(ignored=ACCIDENTS | {signal.SIGHUP}, blocked=helpers.ALL_SIGNALS)
    with output.open("w") as file:
        command = [*prefix, sys.executable, "-m", "spectacles", "demo", "2"]
        demo = subprocess.Popen(command, cwd=tmp_path, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            helpers.eventually(lambda: "PID" in output.read_text(), "the server at work")
            os.killpg(demo.pid, signal.SIGHUP)
            assert demo.wait(60) == 0, output.read_text()
        finally:
            if demo.poll() is None:
                demo.kill()
                demo.wait()
    assert "exacte" in output.read_text()
