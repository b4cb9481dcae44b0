"""The client for scripts: one answer and one exit code, the same in every question."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spectacles import __version__
from spectacles.common.spectacle import INT_MAX
from spectacles.lab.programs.process import QUESTIONS
from tests import helpers


def test_list(server: helpers.Servers, question: str) -> None:
    """Every show once, as the menu writes it. (Fails with the menu's format changed.)"""
    guichet = server(question)
    done = guichet.client("list")
    shows = helpers.read_table(guichet.directory)
    expected = [f"[{slot}] {show.nom} | {show.date} | {show.places} places" for slot, show in shows.items()]
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, expected, "")
    assert tuple(show.places for show in shows.values()) == helpers.PLACES


def test_one_answer_and_exit(server: helpers.Servers, question: str) -> None:
    guichet = server(question)
    for arguments, code, text in (
        (("consult", "0"), 0, "120 places"),
        (("reserve", "0", "2"), 0, "Réservation OK"),
        (("consult", "0"), 0, "118 places"),
        (("reserve", "0", "119"), 1, "Réservation refusée"),
        (("reserve", "0", "118"), 0, "Réservation OK"),
        (("consult", "0"), 0, "0 places"),
        (("reserve", "0", "1"), 1, "Réservation refusée"),
        (("consult", "7"), 1, "Spectacle inexistant"),
    ):
        done = guichet.client(*arguments)
        assert (done.returncode, done.stdout, done.stderr) == (code, text + "\n", ""), arguments


def test_json(server: helpers.Servers, question: str) -> None:
    guichet = server(question)
    done = guichet.client("--json", "list")
    assert done.returncode == 0
    assert json.loads(done.stdout)["shows"] == [
        {"index": slot, "id": show.id, "nom": show.nom, "date": show.date, "places": show.places}
        for slot, show in helpers.read_table(guichet.directory).items()
    ]
    for arguments, code, answer in (
        (("consult", "3"), 0, {"show": 3, "places": 250}),
        (("consult", "10"), 1, {"show": 10, "places": None}),
        (("reserve", "3", "50"), 0, {"show": 3, "seats": 50, "ack": True}),
        (("reserve", "3", "201"), 1, {"show": 3, "seats": 201, "ack": False}),
    ):
        done = guichet.client("--json", *arguments)
        assert (done.returncode, json.loads(done.stdout), done.stderr) == (code, answer, ""), arguments
        assert done.stdout.count("\n") == 1


IMPOSSIBLE_RESERVATIONS = (
    (6, 1),  # an empty slot (defect 5)
    (9, 1),
    (10, 1),
    (-1, 1),
    (INT_MAX, 1),
    (-INT_MAX - 1, 1),
    (1, 0),
    (1, -1),
    (1, -INT_MAX - 1),
    (1, 81),
    (1, INT_MAX),
)


def test_refusals_change_nothing(server: helpers.Servers, question: str) -> None:
    """No such show, no seats, negative seats, too many: refused, and the next request is served (defects 3, 5, 18).

    One client, its menu fed by a pipe, asks for them all. (Fails with `seats <= 0` or the range check removed.)
    """
    guichet = server(question)
    before = (guichet.directory / "spectacles.dat").read_bytes()
    typed = "".join(f"2\n{show}\n{seats}\n" for show, seats in IMPOSSIBLE_RESERVATIONS)
    done = guichet.client(stdin=typed + "0\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("Réservation NOK") == len(IMPOSSIBLE_RESERVATIONS), done.stdout
    assert "Réservation OK" not in done.stdout
    assert (guichet.directory / "spectacles.dat").read_bytes() == before
    assert guichet.client("reserve", "1", "80").returncode == 0


def test_negative_numbers_are_arguments(server: helpers.Servers) -> None:
    """-1 is a show that does not exist, not an unknown option."""
    guichet = server("q3_threads")
    assert guichet.client("reserve", "-1", "-1").returncode == 1
    assert guichet.client("consult", "-2147483648").returncode == 1


USAGE_ERRORS = (
    ("reserve",),
    ("reserve", "0"),
    ("reserve", "zéro", "1"),
    ("reserve", "0", "1.5"),
    ("reserve", "0", "2147483648"),
    ("reserve", "-2147483649", "1"),
    ("reserve", "0", "1", "2"),
    ("reserve", "0", "9" * 5000),
    ("consult", ""),
    ("consult", "0x"),
    ("list", "3"),
    ("fly",),
    ("--json",),
    ("--nope", "list"),
    ("--timeout", "0", "list"),
    ("--timeout", "-1", "list"),
    ("--timeout", "nan", "list"),
    ("--timeout", "inf", "list"),
    ("--timeout", "soon", "list"),
    ("--dir",),
)


@pytest.mark.parametrize("arguments", USAGE_ERRORS, ids=lambda words: " ".join(words)[:20])
def test_usage_errors(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """One line, exit code 2, whatever the question (they share the parser; Q2's and Q5's are tried)."""
    for question in ("q2_msq", "q5_sockets"):
        done = helpers.run(helpers.client_command(question, *arguments), cwd=tmp_path)
        assert done.returncode == 2, done
        assert done.stdout == ""
        assert helpers.one_line(done).startswith(f"python -m spectacles.{question}.client")


@pytest.mark.parametrize("arguments", [("--key", "0"), ("--key", "rien"), ("--sem-name", "semaphore")])
def test_bad_addresses(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = helpers.run(helpers.client_command("q1_pipes", *arguments, "list"), cwd=tmp_path)
    assert done.returncode == 2
    assert arguments[0] in helpers.one_line(done)


@pytest.mark.parametrize("side", ["client", "server"])
def test_help_and_version(question: str, side: str, tmp_path: Path) -> None:
    """Both commands of the README answer, in an empty directory, with an example, and write nothing there."""
    command = [*helpers.client_command(question)[:2], f"spectacles.{question}.{side}"]
    done = helpers.run([*command, "--version"], cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"spectacles {__version__}\n", "")
    done = helpers.run([*command, "--help"], cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "exemple" in done.stdout
    assert f"python -m spectacles.{question}.{side} " in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_no_server(question: str, directory: Path, tmp_path: Path) -> None:
    """An empty run directory, and none at all: exit code 3, one line, nothing created."""
    port = ["--port", str(helpers.free_port())] if question == "q5_sockets" else []
    for place in (directory, tmp_path / "nulle-part"):
        for command in (("list",), ("reserve", "0", "1"), ()):
            done = helpers.run(helpers.client_command(question, "--dir", str(place), *port, *command))
            assert done.returncode == 3, done
            assert "aucun serveur" in helpers.one_line(done)
    assert list(directory.iterdir()) == []
    assert not (tmp_path / "nulle-part").exists()


@pytest.mark.parametrize("question", QUESTIONS[:4])
def test_environment_names_the_directory(server: helpers.Servers, question: str) -> None:
    """$SPECTACLES_DIR replaces --dir. (Fails with default_directory() ignoring it.) Q5's client needs no directory."""
    guichet = server(question, names=())
    done = helpers.run(
        helpers.client_command(question, "reserve", "5", "12"),
        env={**os.environ, "SPECTACLES_DIR": str(guichet.directory)},
    )
    assert done.returncode == 0, done
    assert helpers.places_in_file(guichet.directory, 5) == 0


@pytest.mark.parametrize("command", [("list",), ("--json", "list"), ("consult", "0"), ("reserve", "0", "1")])
@pytest.mark.parametrize("output", ["a pipe without a reader", "no descriptor", "a full device"])
def test_output_closed_or_full(server: helpers.Servers, command: tuple[str, ...], output: str) -> None:
    """No traceback, one line, and never "done" for an answer that nobody got."""
    guichet = server("q2_msq")
    redirection = {"no descriptor": ">&-", "a full device": ">/dev/full"}.get(output, "")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", *guichet.client_command(*command)],
        stdout=writer,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        check=False,
        timeout=30,
    )
    os.close(writer)
    assert done.returncode == 3, done
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1"])
def test_a_letter_that_the_terminal_has_not(server: helpers.Servers, encoding: str) -> None:
    """Shown as a question mark, or escaped in JSON; a reservation that was made is none that was refused.

    (Without _print_what_can_be_printed() the answer is an internal error, and the exit code says refused.)
    """
    guichet = server("q3_threads")
    environ = os.environ | {"PYTHONIOENCODING": encoding}
    done = helpers.run(guichet.client_command("reserve", "0", "1"), env=environ)
    assert (done.returncode, done.stderr) == (0, "")
    done = helpers.run(guichet.client_command("list"), env=environ)
    assert done.returncode == 0, done
    assert "?dipe roi" in done.stdout
    shows = json.loads(helpers.run(guichet.client_command("list", "--json"), env=environ).stdout)["shows"]
    assert shows[1]["nom"] == "Œdipe roi"


def test_gives_up_when_the_server_stands_still(server: helpers.Servers, question: str) -> None:
    """SIGSTOP is the worst server there is: exit code 3 after --timeout, not an endless wait."""
    guichet = server(question)
    helpers.freeze(guichet.tree())
    for command in (("list",), ("reserve", "0", "1")):
        done = guichet.client("--timeout", "0.3", *command)
        assert done.returncode == 3, done
        assert "pas de réponse" in helpers.one_line(done)
        assert ("peut-être" in done.stderr) is (command[0] == "reserve" and question != "q1_pipes")
    for pid in guichet.tree():
        os.kill(pid, signal.SIGCONT)
    helpers.eventually(lambda: guichet.client("list").returncode == 0, "service again")


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_blocked_client_notices_the_end(server: helpers.Servers, question: str, end: str) -> None:
    """A client whose request lies unread when the server is killed, or stopped: exit code 3, or its answer.

    (With the deadline of exchange() removed, the killed server's client of the queues never ends.)
    """
    guichet = server(question)
    tree = guichet.tree()
    helpers.freeze(tree)
    with helpers.background(guichet.client_command("--timeout", "1", "reserve", "0", "2")) as client:
        helpers.eventually(lambda: helpers.request_waits(guichet), "the request in the channel")
        for pid in tree:
            os.kill(pid, signal.SIGKILL if end == "kill" else signal.SIGTERM)
            os.kill(pid, signal.SIGCONT)
        guichet.process.wait(helpers.DEADLINE)
        output = client.communicate(timeout=helpers.DEADLINE)[0].decode()
    assert "Traceback" not in output
    left = helpers.places_in_file(guichet.directory, 0)
    assert (client.returncode, left) in ([(3, 120)] if end == "kill" else [(3, 120), (3, 118), (0, 118)]), output


@pytest.mark.skipif(os.geteuid() != 0, reason="another user can only be played by root")
def test_a_queue_of_another_user(server: helpers.Servers, queue_question: str) -> None:
    """Without rights on the queue: said at once, exit code 3. (With msgget asking for no rights, an internal error.)"""
    guichet = server(queue_question)
    script = (
        "import os, sys; from spectacles.q2_msq.client import main; import gettext, locale, shutil, traceback;"
        "os.setgid(65534); os.setuid(65534); sys.exit(main(sys.argv[1:]))"
    )
    key = guichet.options[guichet.options.index("--key") + 1]
    directory = "/"  # one that the other user may enter
    for command in (("list",), ("reserve", "0", "1")):
        done = helpers.run([sys.executable, "-c", script, "--dir", directory, "--key", key, *command])
        assert done.returncode == 3, done
        assert "droits insuffisants" in helpers.one_line(done)
    assert helpers.places_in_file(guichet.directory, 0) == 120
