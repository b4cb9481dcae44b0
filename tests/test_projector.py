"""What an audience sees: the server's log on a terminal, the head of the menu, its lines, and `demo --step`."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from spectacles.lab.programs.process import FURTHER, QUESTIONS
from tests import helpers
from tests.test_menu import AT_A_TERMINAL, terminal

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
    assert by["INFO"] == str(watched.pid) or question == "q5_sockets"  # whose clients' threads say who comes and goes
    if question in (*helpers.FORKING, "q3_threads"):
        assert (by["RESERVATION"], by["CONSULTATION"]) == ("réservations", "consultations")


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


# The menu


def test_the_head_of_the_menu(server: helpers.Servers, question: str) -> None:
    """Which question, who asks, and from the first answer on who answers; in question 1 no answer says that.

    (With `server` never set in Session, the head stays as it began.)
    """
    guichet = server(question)
    with terminal(guichet) as person:
        before = person.expect("Votre choix : ")
        assert f"Question {question[1]}, PID {person.process.pid}" in before
        person.type("2\n0\n1\n")
        reserved = person.expect("Votre choix : ")
        person.type("1\n" + "0\n" * (question == "q1_pipes"))
        person.expect("Votre choix : ")
        person.type("nonsense\n")
        consulted = person.expect("Votre choix : ")
        person.type("0\n")
        assert person.end() == 0
    if question == "q1_pipes":
        assert re.search(r"PID \d+\r\n====", consulted)
    elif question == "q5_sockets":
        assert f", 127.0.0.1:{guichet.address()[1]}\r\n" in before
    else:
        assert "réponses" not in before
        by = [re.search(r"réponses du PID (\d+)", shown) for shown in (reserved, consulted)]
        pids = {int(found[1]) for found in by if found}
        assert pids == (set(guichet.tree()[1:]) if question == "q2_msq" else {guichet.pid})


def test_a_server_that_is_not_known_may_be_any_of_three(server: helpers.Servers, directory: Path) -> None:
    """The queue of another directory, or a server in C: the client of three questions does not say which.

    (With the key not looked for in the lock file, the second one says question 3.)
    """
    guichet, other = server("q4_thread_per_request"), server("q3_threads")
    key = guichet.options[guichet.options.index("--key") + 1]
    for where in (directory, other.directory):
        done = helpers.run(helpers.client_command("q2_msq", "--dir", str(where), "--key", key), stdin="0\n")
        assert re.search(r"^Questions 2 à 4, PID \d+\n==== MENU", done.stdout, re.MULTILINE)


def test_fits_fifty_columns(server: helpers.Servers) -> None:
    """What the menu says, its errors too; the shows are as long as their names. (Without _say() the refusal has 90.)"""
    guichet = server("q3_threads")
    with terminal(guichet, "--timeout", "0.2") as person:
        shown = ""
        for typed in ("1\n", "2\n99\n1\n", "2\nce n'est pas un \n", "2\n2147483648\n", "8\n"):
            shown += person.expect("Votre choix : ")
            person.type(typed)
        shown += person.expect("Votre choix : ")
        helpers.freeze(guichet.tree())
        person.type("2\n0\n1\n")
        shown += person.expect("(o/n) : ")
        person.type("n\n")
        assert person.end() == 3
    long = [line for line in shown.splitlines() if len(line) > 50]
    assert long == []
    assert not re.search(r"^[:;?!»]|«$", shown, re.MULTILINE)


def test_reconnect(server: helpers.Servers, question: str) -> None:
    """The server is stopped and another started: the session goes on with that, in every question.

    (With `reconnect` doing nothing, the client of Q1 and Q2 to Q4 asks a FIFO or a queue that is no more.)
    """
    first = server(question)
    options = first.options
    if question == "q5_sockets":
        options = ("--port", str(first.address()[1]))
    with terminal(first, "--timeout", "1") as person:
        person.expect("Votre choix : ")
        person.type("2\n0\n1\n")
        assert "Réservation OK" in person.expect("Votre choix : ")
        assert first.stop() == 0
        person.type("2\n0\n1\n")
        shown = person.expect("(o/n) : ")
        assert "Erreur : le serveur" in shown
        assert "peut-être" not in shown
        person.type("o\n")
        assert "Erreur : aucun serveur" in person.expect("(o/n) : ")
        second = server(question, directory=first.directory, names=options)
        person.type("o\n")
        assert "réponses" not in person.expect("Votre choix : ").partition("Reconnecté.")[2]  # not yet known
        person.type("2\n0\n1\n")
        person.expect("Réservation OK")
        person.type("0\n")
        assert person.end() == 0
    assert second.stop() == 0
    assert helpers.places_in_file(first.directory, 0) == helpers.PLACES[0] - 2


def test_lines_can_be_edited(server: helpers.Servers) -> None:
    """Arrow to the left, a letter taken away: what is sent is what is seen. What was typed is not offered again.

    (Without readline the arrow is a part of the number.)
    """
    pytest.importorskip("readline")
    guichet = server("q3_threads")
    with terminal(guichet, env={**os.environ, "TERM": "xterm"}) as person:
        person.expect("Votre choix : ")
        person.type("2\n")
        person.expect("réserver : ")
        person.type("0\n")
        person.expect("réserver : ")
        person.type("15\x1b[D\x7f\n")  # 15, left, rubbed out: 5
        assert "Réservation OK" in person.expect("Votre choix : ")
        person.type("\x1b[A\n")  # upwards: there is nothing
        recalled, _, _ = person.expect("Votre choix : ").partition("Choix invalide")
        assert "5" not in recalled
        person.type("0\n")
        assert person.end() == 0
    assert helpers.places_in_file(guichet.directory, 0) == helpers.PLACES[0] - 5


def test_no_readline_for_scripts(server: helpers.Servers) -> None:
    """A pipe has nothing to edit: the module is not loaded, and no code of a terminal gets into the output."""
    guichet = server("q3_threads")
    code = (
        "import sys; from spectacles.q2_msq.client import main; code = main(sys.argv[1:]);"
        "print('readline' in sys.modules); sys.exit(code)"
    )
    done = helpers.run([sys.executable, "-c", code, *guichet.client_options()], stdin="0\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("False\n")
    assert "\x1b" not in done.stdout


# The demonstration, step by step


def test_demo_step(tmp_path: Path) -> None:
    """Before each question it says what to look at and waits; Ctrl-C while it waits ends it, and leaves nothing.

    (Without the wait, question 3 starts at once.)
    """
    from spectacles.lab.demo import LOOK

    assert set(LOOK) == {*QUESTIONS, *FURTHER}
    master, slave = os.openpty()
    command = [sys.executable, "-c", AT_A_TERMINAL, sys.executable, "-m", "spectacles", "demo", "--step", "3", "5"]
    env = {**os.environ, "TMPDIR": str(tmp_path), "COLUMNS": "100", "TERM": "dumb"}
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, env=env) as process:
        os.close(slave)
        shown = helpers.read_until(master, "Entrée pour commencer : ")
        assert "deux threads" in shown
        assert "Serveur UP" not in shown
        assert list(tmp_path.iterdir()) == []
        os.write(master, b"\n")
        shown = helpers.read_until(master, "Entrée pour commencer : ", timeout=30)
        assert "Serveur UP (q3_threads" in shown
        assert "q5_sockets" in shown
        os.write(master, b"\x03")
        assert process.wait(helpers.DEADLINE) == 130
    os.close(master)
    assert list(tmp_path.iterdir()) == []


def test_demo_step_without_anybody(tmp_path: Path) -> None:
    """At the end of the input nobody will press a key: it goes on."""
    env = {**os.environ, "TMPDIR": str(tmp_path), "COLUMNS": "100"}
    done = helpers.run([sys.executable, "-m", "spectacles", "demo", "--step", "3"], env=env, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "exacte" in done.stdout
