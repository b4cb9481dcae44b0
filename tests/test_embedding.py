"""A program of somebody's own that calls main() of ours, and goes on: it finds everything as it was."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import helpers

HOST = """
import importlib, io, json, logging, os, resource, signal, sys, threading

def state():
    umask = os.umask(0)
    os.umask(umask)
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    logger = logging.getLogger("spectacles")
    return {
        "handlers": {number: str(signal.getsignal(number)) for number in signal.valid_signals()},
        "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "wakeup": wakeup,
        "limits": [resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT")],
        "umask": umask,
        "streams": [sys.stdout.errors, sys.stderr.errors],
        "descriptors": sorted(os.listdir("/proc/self/fd")),
        "logging": [logging.raiseExceptions, logging.root.level, str(logging.root.handlers), logging.root.disabled],
        "our logger": [logger.level, [type(handler).__name__ for handler in logger.handlers]],
        "directory": os.getcwd(),
        "environment": dict(os.environ),
        "affinity": sorted(os.sched_getaffinity(0)),
        "name": open("/proc/self/comm").read(),
        "hooks": [str(sys.excepthook), str(threading.excepthook), str(sys.unraisablehook)],
    }

def say(what, value):
    print(f"@{what} {json.dumps(value)}", flush=True)

own = {signal.SIGINT: "INT", signal.SIGTERM: "TERM", signal.SIGCHLD: "CHLD", signal.SIGUSR1: "USR1"}
heard = []
def handler(number, frame):
    heard.append(own[number])
for number in own:
    signal.signal(number, handler)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM, signal.SIGUSR2])
resource.setrlimit(resource.RLIMIT_NOFILE, (300, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
signal.set_wakeup_fd(os.eventfd(0, os.EFD_NONBLOCK), warn_on_full_buffer=False)
os.umask(0o027)
logging.raiseExceptions = True

before = state()
module = importlib.import_module(sys.argv[1])
imported = state()
say("imported", [key for key in before if key != "our logger" and before[key] != imported[key]])
for _ in range(int(sys.argv[2])):
    say("code", module.main(sys.argv[3:]))
    after = state()
    say("changed", {key: (imported[key], after[key]) for key in imported if imported[key] != after[key]})
os.kill(os.getpid(), signal.SIGTERM)
say("heard", heard)
"""
THREAD = """
import importlib, sys, threading
module = importlib.import_module(sys.argv[1])
codes = []
thread = threading.Thread(target=lambda: codes.append(module.main(sys.argv[2:])))
thread.start()
thread.join()
print(*codes)
"""


def said(lines: list[str], what: str) -> list[Any]:
    """Return what the host says under the name `what`."""
    return [json.loads(line.partition(" ")[2]) for line in lines if line.startswith(f"@{what} ")]


def test_a_server_leaves_its_host_as_it_was(server: helpers.Servers, question: str) -> None:
    """Two servers in one process, one after the other: signals, mask, limits, descriptors, logging, standard output.

    (With fit_for_us() giving nothing back, the host keeps our handlers, mask and limit, and is deaf to SIGTERM.)
    """
    command = [sys.executable, "-c", HOST, f"spectacles.{question}.server", "2", "--log-level", "warning"]
    port = ["--port", str(helpers.free_port())] if question == "q5_sockets" else []
    guichet = server(question, *port, command=command)
    for _ in range(2):
        helpers.eventually(
            lambda: guichet.output.count("Serveur UP") == len(said(guichet.lines, "code")) + 1, "the server"
        )
        assert guichet.client("reserve", "0", "1").returncode == 0
        count = len(said(guichet.lines, "code"))
        guichet.process.terminate()
        helpers.eventually(lambda count=count: len(said(guichet.lines, "code")) > count, "its end")  # type: ignore[misc]
    assert guichet.process.wait(helpers.DEADLINE) == 0
    guichet.stop()  # only joins the reader of its output
    assert said(guichet.lines, "imported") == [[]]
    assert said(guichet.lines, "code") == [0, 0]
    assert said(guichet.lines, "changed") == [{}, {}]
    assert said(guichet.lines, "heard")[0][-1] == "TERM"
    assert helpers.places_in_file(guichet.directory, 0) == 118


def test_a_server_that_does_not_start_leaves_its_host_as_it_was(directory: Path, question: str) -> None:
    """The run directory is a file: refused, and nothing is left of the try. (Fails as the test above.)"""
    path = directory / "fichier"
    path.touch()
    command = [
        sys.executable,
        "-c",
        HOST,
        f"spectacles.{question}.server",
        "2",
        "--dir",
        str(path),
        *helpers.fresh_names(question),
    ]
    done = helpers.run(command)
    lines = done.stdout.splitlines()
    assert said(lines, "code") == [1, 1], done
    assert said(lines, "changed") == [{}, {}]


def test_a_client_leaves_its_host_as_it_was(server: helpers.Servers, question: str) -> None:
    """Also when there is no answer in time. (Fails as the test above.)"""
    guichet = server(question)
    arguments = [*guichet.client_options(), "--timeout", "0.5", "list"]
    command = [sys.executable, "-c", HOST, f"spectacles.{question}.client", "2", *arguments]
    for expected in (0, 3):
        done = helpers.run(command)
        lines = done.stdout.splitlines()
        assert said(lines, "code") == [expected, expected], done
        assert said(lines, "imported") == [[]]
        assert said(lines, "changed") == [{}, {}]
        helpers.freeze(guichet.tree())


@pytest.mark.parametrize("program", ["server", "client"])
def test_in_a_thread(directory: Path, question: str, program: str) -> None:
    """Signals reach the main thread alone: one line, and the exit code of a wrong usage. (Without the look at the
    thread's number, a server has an internal error.)
    """
    done = helpers.run([sys.executable, "-c", THREAD, f"spectacles.{question}.{program}", "--dir", str(directory)])
    assert done.stdout == "2\n"
    assert "thread principal" in helpers.one_line(done)
    assert list(directory.iterdir()) == []
