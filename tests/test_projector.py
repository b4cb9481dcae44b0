"""What an audience sees: the server's log on a terminal, the head of the menu, its lines, and `demo --step`."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from spectacles.lab.process import QUESTIONS, children
from tests import helpers

SHORT = re.compile(r"\d\d:\d\d:\d\d (\S+) \[([A-ZÉ]+)\] .+")
FULL = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ +\[[A-Z]+\] .+")


class Watched:
    """A server on a terminal of its own."""

    def __init__(self, master: int, process: subprocess.Popen[bytes], directory: Path) -> None:
        self.pid = process.pid
        self.process = process
        self.directory = directory
        self._master = master
        self.shown = ""

    def expect(self, text: str) -> None:
        """Read until `text` has been shown."""
        self.shown += helpers.read_until(self._master, text)

    def close(self) -> list[str]:
        """Stop the server, and return all the lines that were shown."""
        self.process.terminate()
        self.expect("Arrêt, fin des requêtes en cours\r\n")
        assert self.process.wait(helpers.DEADLINE) == 0
        return self.shown.replace("\r\n", "\n").splitlines()


@contextlib.contextmanager
def on_a_terminal(question: str, directory: Path, names: list[str], **env: str) -> Iterator[Watched]:
    """Run a server of `question` on a terminal, with `env` in its environment."""
    master, slave = os.openpty()
    port = ["--port", "0"] if question == "q5_sockets" else []
    command = helpers.server_command(question, "--dir", str(directory), *names, *port)
    environ = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")} | env
    with subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, env=environ
    ) as process:
        os.close(slave)
        watched = Watched(master, process, directory)
        try:
            watched.expect("Serveur UP")
            yield watched
        finally:
            if process.poll() is None:
                process.kill()
            os.close(master)


def ask(watched: Watched, question: str, names: list[str], *command: str) -> None:
    """Run a client of the server."""
    where = names
    if question == "q5_sockets":
        port = re.search(r"port 127\.0\.0\.1:(\d+)", watched.shown)
        assert port
        where = ["--port", port[1]]
    helpers.run(helpers.client_command(question, "--dir", str(watched.directory), *where, *command))


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_log_on_a_terminal_and_in_the_file(question: str, directory: Path) -> None:
    """Short on the one: time, who answered, tag, sentence; in the other as ever, line for line the same sentences.

    (With _for_people() returning None, the terminal has dates and "INFO    [INFO]".)
    """
    helpers.register_directory(directory)
    names = helpers.fresh_names(question)
    with on_a_terminal(question, directory, names, TERM="dumb") as watched:
        family = {str(watched.pid), *map(str, children(watched.pid))}
        ask(watched, question, names, "reserve", "0", "3")
        ask(watched, question, names, "reserve", "0", "300")
        ask(watched, question, names, "consult", "0")
        lines = watched.close()
    full = (directory / "logs" / f"{question}.log").read_text().splitlines()
    assert all(FULL.fullmatch(line) for line in full), full
    assert [re.sub(r"^\S+ \S+ ", "", line) for line in lines] == [re.sub(r"^\S+ \S+ \S+ +", "", line) for line in full]
    found = [SHORT.fullmatch(line) for line in lines]
    assert all(found), lines
    by = {match[2]: match[1] for match in found if match}
    if question in helpers.FORKING:
        assert {by["INFO"], by["RESERVATION"], by["CONSULTATION"]} == family
    elif question == "q3_threads":
        assert len({by["INFO"], by["RESERVATION"], by["CONSULTATION"]}) == 3
    assert max(len(line) for line in lines if "[RESERVATION]" in line) <= 100  # 80 with PIDs of four digits


def test_warnings_have_a_tag_of_their_own(directory: Path) -> None:
    """A queue left by a dead server: [ATTENTION] where the file says WARNING [INFO]."""
    import sysv_ipc

    names = helpers.fresh_names("q3_threads")
    sysv_ipc.MessageQueue(int(names[1], 0), sysv_ipc.IPC_CREX)
    with on_a_terminal("q3_threads", directory, names, TERM="dumb") as watched:
        lines = watched.close()
    assert any(re.search(r"^\d\d:\d\d:\d\d \d+ \[ATTENTION\] file 0x", line) for line in lines), lines


@pytest.mark.parametrize(
    ("env", "coloured"),
    [
        ({"TERM": "xterm-256color"}, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
        ({}, False),
    ],
)
def test_colours(directory: Path, env: dict[str, str], coloured: bool) -> None:
    """Where the terminal has them and nobody minds (no-color.org); never in the file. A client cannot send any."""
    names = helpers.fresh_names("q3_threads")
    with on_a_terminal("q3_threads", directory, names, **env) as watched:
        ask(watched, "q3_threads", names, "reserve", "0", "300")
        ask(watched, "q3_threads", names, "reserve", "0", "3")
        lines = watched.close()
    assert ("\x1b[" in "".join(lines)) is coloured
    assert "\x1b" not in (directory / "logs" / "q3_threads.log").read_text()
    if coloured:
        assert any("\x1b[33m[RESERVATION]\x1b[0m" in line and "refusé" in line for line in lines)
        assert any("\x1b[32m[RESERVATION]\x1b[0m" in line and "reste 117" in line for line in lines)


def test_a_pipe_gets_what_the_file_gets(server: helpers.Servers) -> None:
    """Scripts parse it: nothing changes for them, whatever TERM says."""
    guichet = server("q2_msq", env={**os.environ, "TERM": "xterm-256color"})
    guichet.client("reserve", "0", "1")
    guichet.stop()
    assert guichet.lines == (guichet.directory / "logs" / "q2_msq.log").read_text().splitlines()
    assert all(FULL.fullmatch(line) for line in guichet.lines)
