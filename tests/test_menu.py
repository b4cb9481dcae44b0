"""The menu for people: typed at a terminal (a pty) and fed by a pipe, the same in every question."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from spectacles.lab.programs.process import ServerProcess
from tests import helpers

MENU = "\n==== MENU ====\n1. Consultation\n2. Réservation\n0. Quitter\nVotre choix : "

# Makes the pty the controlling terminal, so that what is typed can be a signal, then becomes the client.
AT_A_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.executable, sys.argv[1:])"
)


class Terminal:
    """A client that somebody types to."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self._master = master
        self.process = process

    def type(self, keys: str) -> None:
        """Type the keys."""
        os.write(self._master, keys.encode())

    def pressed(self, key: str) -> bool:
        """Press a key, and say whether the client has ended within 0.5 s."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.type(key)
            self.process.wait(0.5)
        return self.process.poll() is not None

    def expect(self, text: str) -> str:
        """Return what was shown, up to `text` at least."""
        return helpers.read_until(self._master, text)

    def end(self) -> int:
        """Return the exit code of the client."""
        return self.process.wait(helpers.DEADLINE)


@contextlib.contextmanager
def terminal(server: ServerProcess, *arguments: str, env: dict[str, str] | None = None) -> Iterator[Terminal]:
    """Run the client of `server` at a terminal of its own."""
    master, slave = os.openpty()
    command = [sys.executable, "-c", AT_A_TERMINAL, *server.client_command(*arguments)]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, env=env) as process:
        os.close(slave)
        try:
            yield Terminal(master, process)
        finally:
            if process.poll() is None:
                process.kill()
            os.close(master)


def test_a_session_by_pipe(server: helpers.Servers, question: str) -> None:
    """Consultation, reservation, consultation, good-bye: the original's words."""
    guichet = server(question)
    asks = "1\n0\n" if question == "q1_pipes" else "1\n"
    done = guichet.client(stdin=f"{asks}2\n0\n3\n{asks}2\n0\n118\n0\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert MENU in done.stdout
    assert done.stdout.count("==== MENU ====") == 5
    assert "Réservation OK" in done.stdout
    assert "Réservation NOK" in done.stdout
    if question == "q1_pipes":
        assert "==== SPECTACLES DISPONIBLES ====\n[0] Le Malade imaginaire | 2027-01-15\n" in done.stdout
        assert "Selon le serveur : 120 places" in done.stdout
        assert "Selon le serveur : 117 places" in done.stdout
    else:
        assert "Réponse du serveur :\n[0] Le Malade imaginaire | 2027-01-15 | 120 places\n" in done.stdout
        assert "[0] Le Malade imaginaire | 2027-01-15 | 117 places\n" in done.stdout
    assert helpers.places_in_file(guichet.directory, 0) == 117


NONSENSE = ("9", "-1", "abc", "", "1 2", "é" * 3000, "0x1", "\x1b[2J", "²")
NOT_NUMBERS = ("abc", "", "1.5", "9" * 5000, "²", "2147483648", "-2147483649")


def test_nonsense_by_pipe(server: helpers.Servers, question: str) -> None:
    """Whatever is typed, the menu says so and comes back; nothing is reserved."""
    guichet = server(question)
    typed = "".join(f"{text}\n" for text in NONSENSE)
    typed += "".join(f"2\n{text}\n" for text in NOT_NUMBERS)  # as a show
    typed += "".join(f"2\n0\n{text}\n" for text in NOT_NUMBERS)  # as seats
    done = guichet.client(stdin=typed + "0\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("Choix invalide") == len(NONSENSE) + 2 * len(NOT_NUMBERS)
    assert done.stdout.count("Choix invalide : ") == 2 * len(NOT_NUMBERS)
    assert done.stdout.count("dépasse un entier du C") == 4
    assert helpers.places_in_file(guichet.directory, 0) == 120


@pytest.mark.parametrize("typed", ["", "1", "2\n", "2\n0\n", "2\n0\n3", "2\n0", "\n\n"])
def test_end_of_input(server: helpers.Servers, typed: str) -> None:
    """At every prompt, with and without the last newline: good-bye, exit code 0, no traceback."""
    guichet = server("q3_threads")
    done = guichet.client(stdin=typed)
    assert (done.returncode, done.stderr) == (0, "")
    assert "au revoir" in done.stdout
    assert helpers.places_in_file(guichet.directory, 0) == (117 if typed == "2\n0\n3" else 120)


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_input_that_is_not_text(server: helpers.Servers, errors: str) -> None:
    """Bytes that are not UTF-8, in a strict locale and in a lenient one."""
    guichet = server("q5_sockets")
    done = subprocess.run(
        guichet.client_command(),
        input=b"\xff\xfe\n2\n\xc3\n\0\n0\n",
        capture_output=True,
        timeout=30,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": f"utf-8:{errors}"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"Choix invalide" in done.stdout


@pytest.mark.parametrize("redirection", ["<&-", ">&-", "<&- >&- 2>&-", ">/dev/full", "</dev/null"])
def test_closed_descriptors(server: helpers.Servers, redirection: str) -> None:
    """The menu without an input, or without an output, ends; no traceback."""
    guichet = server("q2_msq")
    done = helpers.run(["sh", "-c", f'exec "$@" {redirection}', "sh", *guichet.client_command()], stdin="0\n")
    assert done.returncode in (0, 1, 3), done
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_a_session_at_a_terminal(server: helpers.Servers, question: str) -> None:
    """Each answer comes before the next thing is typed: nothing waits in a buffer."""
    guichet = server(question)
    with terminal(guichet) as person:
        person.expect("Votre choix : ")
        person.type("2\n")
        person.expect("Numéro du spectacle à réserver : ")
        person.type("1\n")
        person.expect("Nombre de places à réserver : ")
        person.type("80\n")
        shown = person.expect("Votre choix : ")
        assert "Réservation OK" in shown
        assert helpers.places_in_file(guichet.directory, 1) == 0
        person.type("1\n")
        if question == "q1_pipes":
            person.expect("à consulter : ")
            person.type("1\n")
        shown = person.expect("Votre choix : ")
        assert "0 places" in shown
        person.type("nonsense\n")
        assert "Choix invalide" in person.expect("Votre choix : ")
        person.type("0\n")
        assert person.end() == 0


@pytest.mark.parametrize(("key", "code"), [("\x03", 130), ("\x04", 0)])
def test_leaving_by_a_key(server: helpers.Servers, question: str, key: str, code: int) -> None:
    """Ctrl-C and Ctrl-D at a prompt, half way through a reservation: no traceback, and the server takes no notice."""
    guichet = server(question)
    with terminal(guichet) as person:
        person.expect("Votre choix : ")
        person.type("2\n0\n")
        person.expect("Nombre de places à réserver : ")
        # Again if need be, as a person would: a signal that comes between the prompt and read(2) is only seen after it.
        helpers.eventually(lambda: person.pressed(key), "the end of the client")
        assert person.end() == code
        with contextlib.suppress(AssertionError):
            assert "Traceback" not in person.expect("Traceback")
    done = guichet.client("reserve", "0", "1")
    assert done.returncode == 0, done
    assert helpers.places_in_file(guichet.directory, 0) == 119


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_server_goes_away(server: helpers.Servers, question: str, number: signal.Signals) -> None:
    """In the middle of a session: the menu says so, and the client ends with code 3 (Q5 asks first)."""
    guichet = server(question)
    with helpers.background(guichet.client_command("--timeout", "0.5"), stdin=subprocess.PIPE) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        helpers.read_until(client.stdout.fileno(), "Votre choix : ")
        tree = guichet.tree()
        guichet.process.send_signal(number)
        for pid in tree:
            helpers.eventually(lambda pid=pid: helpers.is_gone(pid), "the server's end")  # type: ignore[misc]
        output = client.communicate(b"2\n0\n1\nn\n", timeout=helpers.DEADLINE)[0].decode()
    assert client.returncode == 3, output
    assert re.search("le serveur (s'est arrêté|a (fermé|coupé) la connexion)|pas de réponse du serveur", output)
    assert "Traceback" not in output
    assert helpers.places_in_file(guichet.directory, 0) == 120
