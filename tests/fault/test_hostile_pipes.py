"""Promise 6: whatever was done to the FIFOs of question 1, the next client works."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from spectacles.common.protocol import PIPE_INT
from spectacles.lab.programs.process import ServerProcess
from spectacles.q1_pipes.channel import NAMES
from tests import helpers
from tests.fault.ledger import Ledger

SHORT, LONG = 12, 300  # rounds
SHOW = 3  # that the honest client reserves; garbage never names it


def put(path: Path, data: bytes) -> None:
    """Write to a FIFO without ever waiting; what does not fit, or has no reader, is not written."""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)


def garbage(guichet: ServerProcess, choice: random.Random) -> None:
    """Bytes in any FIFO, those of the replies too; no word of theirs is the number of a show."""
    for _ in range(choice.randrange(1, 4)):
        size = choice.choice([1, 2, 3, 5, 7, 100, 4096, 70_000])
        put(guichet.directory / choice.choice(NAMES), bytes(choice.choices(range(0x20, 0x7F), k=size)))


def half_a_reservation(guichet: ServerProcess, choice: random.Random) -> None:
    """A client that was killed between its two writes, or in the middle of one."""
    name = choice.choice(["tub1_reservation", "tub2_reservation"])
    put(guichet.directory / name, PIPE_INT.pack(choice.randrange(10))[: choice.choice([4, 4, 2])])


def unread_answer(guichet: ServerProcess, choice: random.Random) -> None:
    """A client that was killed before it read its answer."""
    for _ in range(choice.randrange(1, 20)):
        put(guichet.directory / "tub1_view", PIPE_INT.pack(choice.randrange(-1, 11)))


def killed_client(guichet: ServerProcess, choice: random.Random) -> None:
    """A real client, killed at any moment of a request."""
    with helpers.background(guichet.client_command("consult", "1")) as client:
        with contextlib.suppress(subprocess.TimeoutExpired):
            client.wait(choice.random() * 0.1)
        client.kill()


def take_away(guichet: ServerProcess, choice: random.Random) -> None:
    """A FIFO removed, or replaced by a file, a directory, a link, another FIFO, while the server runs."""
    path = guichet.directory / choice.choice(NAMES)
    told = guichet.output.count("service rétabli")
    path.unlink()
    what = choice.choice(["nothing", "file", "directory", "link", "FIFO"])
    if what == "file":
        path.write_bytes(b"precious")
    elif what == "directory":
        path.mkdir()
    elif what == "link":
        path.symlink_to("spectacles.dat")
    elif what == "FIFO":
        os.mkfifo(path, 0o600)
    helpers.eventually(lambda: guichet.output.count("service rétabli") > told, "service rétabli")


def killed_child(guichet: ServerProcess, choice: random.Random) -> None:
    """A child of the server, killed."""
    told = guichet.output.count("service rétabli")
    os.kill(choice.choice(guichet.tree()[1:]), signal.SIGKILL)
    helpers.eventually(lambda: guichet.output.count("service rétabli") > told, "service rétabli")


TRICKS: list[Callable[[ServerProcess, random.Random], None]] = [
    garbage,
    half_a_reservation,
    unread_answer,
    killed_client,
    take_away,
    killed_child,
]


def torment(rounds: int, server: helpers.Servers, choice: random.Random, ledger: Ledger) -> None:
    """Play tricks; after each, a client reserves, and another sees the right number."""
    guichet = server("q1_pipes")
    left = helpers.places_in_file(guichet.directory, SHOW)
    lost = 0
    for _ in range(rounds):
        tricks = choice.choices(TRICKS, k=choice.randrange(1, 3))
        for trick in tricks:
            trick(guichet, choice)
        seats = choice.randrange(1, 3) if left > 2 else 0
        done = guichet.client("reserve", str(SHOW), str(seats))
        left -= seats
        names = [trick.__name__ for trick in tricks]
        lost += done.returncode != (0 if seats else 1)
        assert done.returncode == (0 if seats else 1), (names, done, guichet.output[-2000:])
        assert helpers.places_in_file(guichet.directory, SHOW) == left, names
    assert guichet.client("consult", str(SHOW)).stdout == f"{left} places\n"
    assert guichet.stop() == 0
    assert "Traceback" not in guichet.output
    ledger.add("6 tricks with the FIFOs", "q1_pipes", tries=rounds, requests=rounds + 1, lost=lost)


def test_the_next_client_works(server: helpers.Servers, rng: random.Random, ledger: Ledger) -> None:
    """Garbage, halves, dead clients, FIFOs taken away, dead children, in any order: the next client works.

    (With the client's sweep switched off, an old answer is taken for the next one; with tend() not looking, a FIFO
    taken away ends the service.)
    """
    torment(SHORT, server, rng, ledger)


@pytest.mark.soak
def test_the_next_client_works_soak(server: helpers.Servers, rng: random.Random, ledger: Ledger) -> None:
    """The same, 300 times."""
    torment(LONG, server, rng, ledger)
