"""Few descriptors: a server says in one line what is missing, or serves."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from spectacles.lab.programs.process import children
from tests import helpers

REFUSED = (5, 10, 20)
ENOUGH = (32, 64)


def limited(number: int, command: list[str]) -> list[str]:
    """Return the command that runs `command` with so many descriptors, soft and hard."""
    return ["sh", "-c", f'ulimit -n {number}; exec "$@"', "sh", *command]


@pytest.mark.parametrize("number", REFUSED)
def test_too_few_for_a_server(directory: Path, question: str, number: int) -> None:
    """Said before anything is made. (Without need_descriptors() it fails anywhere, and does not say what to do.)"""
    port = ["--port", "0"] if question == "q5_sockets" else helpers.fresh_names(question)
    done = helpers.run(limited(number, helpers.server_command(question, "--dir", str(directory), *port)))
    assert done.returncode == 1, done
    line = helpers.one_line(done)
    assert "ulimit -n" in line
    assert "descripteurs" in line
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("number", ENOUGH)
def test_enough_for_a_server(server: helpers.Servers, question: str, number: int) -> None:
    """It serves one client after the other, replaces its children and stops. (With DESCRIPTORS above 29 it refuses.)"""
    guichet = server(question, command=limited(number, helpers.server_command(question)))
    for _ in range(10):
        assert guichet.client("reserve", "0", "1").returncode == 0, guichet.output
    if question in helpers.FORKING:
        os.kill(children(guichet.pid)[0], signal.SIGKILL)
        guichet.wait_for("service rétabli")
        assert guichet.client("reserve", "0", "1").returncode == 0
    else:
        assert guichet.client("reserve", "0", "1").returncode == 0
    assert guichet.stop() == 0
    assert "fichiers ouverts" not in guichet.output
    assert helpers.places_in_file(guichet.directory, 0) == 109


def test_a_low_soft_limit_is_raised(server: helpers.Servers, question: str) -> None:
    """What the hard limit allows is taken. (With the soft limit looked at, it refuses.)"""
    command = ["sh", "-c", 'ulimit -S -n 12; exec "$@"', "sh", *helpers.server_command(question)]
    guichet = server(question, command=command)
    assert guichet.client("reserve", "0", "1").returncode == 0


@pytest.mark.parametrize("number", [10, 20, 64])
def test_clients(server: helpers.Servers, question: str, number: int) -> None:
    """No client needs many. (With five pipes opened in fit_for_us() it fails.)"""
    guichet = server(question)
    done = helpers.run(limited(number, guichet.client_command("reserve", "0", "1")))
    assert (done.returncode, done.stdout) == (0, "Réservation OK\n"), done


@pytest.mark.parametrize("number", [5, 6, 7, 8])
def test_a_client_of_question_1_with_too_few(server: helpers.Servers, number: int) -> None:
    """It says what is missing, and nothing of the server, which is there. (As it was: "aucun serveur".)"""
    guichet = server("q1_pipes")
    done = helpers.run(limited(number, guichet.client_command("reserve", "0", "1")))
    assert (done.returncode, done.stdout) == (3, ""), done
    line = helpers.one_line(done)
    assert "trop de fichiers ouverts" in line
    assert "ulimit -n" in line
    assert "serveur" not in line.partition(" : ")[2]


def test_no_process_to_be_had(directory: Path, question: str, ordinary_user: list[str]) -> None:
    """A first start reads the catalogue in a child. (As it was: "indisponible pour le moment", after the directory.)"""
    if not ordinary_user:
        pytest.skip("this user has other processes, and the limit counts them too")
    os.chown(directory, 65534, 65534)
    port = ["--port", "0"] if question == "q5_sockets" else helpers.fresh_names(question)
    command = helpers.server_command(question, "--dir", str(directory), *port)
    done = helpers.run(
        ["sh", "-c", 'ulimit -p 1 2> /dev/null || ulimit -u 1; exec "$@"', "sh", *ordinary_user, *command]
    )
    assert done.returncode == 1, done
    assert "ulimit -u" in helpers.one_line(done)
    assert [path.name for path in directory.iterdir()] == ["logs"]
