"""Promise 1, the disk: a write that fails refuses the request, gives the seats back and is logged."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests import helpers
from tests.fault import campaign
from tests.fault.campaign import PLENTY, Clients
from tests.fault.conftest import Shim
from tests.fault.ledger import Ledger

WISHES = (
    ("pwrite", errno.ENOSPC),
    ("pwrite", errno.EIO),
    ("short", 70),
    ("fdatasync", errno.EIO),
    ("fdatasync", errno.ENOSPC),
)


def test_failed_writes(server: helpers.Servers, question: str, shim: Shim, ledger: Ledger) -> None:
    """A full disk, an I/O error, a write that stops in the middle of the seats, a failed fdatasync: refused, not lost.

    The server stays up, says why, and the seats are there again. When the disk works again, so does the service. (With
    _undo() doing nothing the seats are gone; with fdatasync's error ignored the request is acknowledged.)
    """
    guichet = server(question, env=shim.env)
    for wish, number in WISHES:
        shim.ask(wish, number)
        told = guichet.output.count("écriture impossible")
        done = guichet.client("reserve", "0", "5")
        assert (done.returncode, done.stdout) == (1, "Réservation refusée\n"), guichet.output
        helpers.eventually(lambda told=told: guichet.output.count("écriture impossible") > told, "an error logged")  # type: ignore[misc]
        assert helpers.places_in_file(guichet.directory, 0) == 120
        shim.stop(wish)
    assert guichet.client("reserve", "0", "120").returncode == 0
    assert guichet.client("reserve", "0", "1").returncode == 1
    assert helpers.places_in_file(guichet.directory, 0) == 0
    assert guichet.stop() == 0
    assert "Traceback" not in guichet.output
    ledger.add("1 failed writes", question, tries=len(WISHES), requests=len(WISHES) + 2)


def test_disk_that_fails_now_and_then(
    server: helpers.Servers,
    question: str,
    directory: Path,
    shim: Shim,
    clients: Clients,
    rng: random.Random,
    ledger: Ledger,
) -> None:
    """Faults come and go while several clients reserve, and fdatasync is slow: what is in the file is what was granted.

    (With _undo() doing nothing, seats are missing in the file at the end.)
    """
    initial = [PLENTY] * 6
    campaign.write_table(directory, initial)
    guichet = server(question, directory=directory, env=shim.env)
    shim.ask("slow", 300)
    for number in range(1 if question == "q1_pipes" else 3):
        clients.start(guichet, rng.randrange(2**32), name=str(number), shows=[0, 1], timeout=5.0)
    faults = 0
    helpers.eventually(clients.asked(5), "first answers")
    for _ in range(12):
        wish, number = rng.choice([("pwrite", errno.ENOSPC), ("fdatasync", errno.EIO), ("short", 70)])
        shim.ask(wish, number)
        helpers.eventually(clients.asked(2), "answers with a bad disk")
        shim.stop(wish)
        faults += 1
        helpers.eventually(clients.asked(2), "answers with a good disk")
    clients.stop()
    told = clients.told()
    for show in (0, 1):
        # Had both a write and its undoing failed, the next write puts the file right.
        assert guichet.client("reserve", str(show), "1").returncode == 0
        told.acknowledged[show] += 1
    assert guichet.stop() == 0
    places = campaign.read_places(directory)
    lost = campaign.lost_seats(initial, places, told)
    ledger.add(
        "1 faults of a busy disk", question, tries=faults, requests=told.answered, slowest=told.slowest, lost=lost
    )
    assert lost == 0, (places, told.acknowledged, told.doubtful)
    assert told.unanswered == 0, told.errors


def test_full_file_system(server: helpers.Servers, question: str, directory: Path, ledger: Ledger) -> None:
    """A file system that fills up under a running server, and that somebody tries to remount read-only.

    A record is written in place, so that a full disk stops the log but not the service; the kernel refuses the remount
    while the file is open for writing. (With the original's O_TRUNC and write, the file is lost.)
    """
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "none", str(directory)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no right to mount a file system of its own")
    try:
        guichet = server(question, directory=directory)
        with (directory / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
            while ballast.write(bytes(1024)):
                pass
        assert os.statvfs(directory).f_bavail == 0
        subprocess.run(["mount", "-o", "remount,ro", str(directory)], capture_output=True, check=False)
        for left in (119, 118):
            done = guichet.client("reserve", "0", "1")
            assert done.returncode == 0, (done, guichet.output)
            assert helpers.places_in_file(directory, 0) == left
        assert guichet.stop() == 0
        assert "Traceback" not in guichet.output
        ledger.add("1 full disk", question, tries=1, requests=2)
    finally:
        subprocess.run(["umount", str(directory)], check=True)


@pytest.mark.parametrize("moment", ["write", "sync"])
def test_killed_in_the_middle_of_a_write(
    server: helpers.Servers, question: str, directory: Path, shim: Shim, moment: str
) -> None:
    """kill -9 of all processes while one stands before its write, or waits for the disk: whole file, nothing torn.

    The request was not acknowledged: its seats may be taken or not, nothing else may have changed. (With the original's
    O_TRUNC and write the file is empty at that moment.)
    """
    names = campaign.names_of(question)
    guichet = server(question, *names, directory=directory, names=(), env=shim.env)
    before = (directory / "spectacles.dat").read_bytes()
    shim.ask("hold" if moment == "write" else "slow", 1 if moment == "write" else 20_000_000)
    with helpers.background(guichet.client_command("--timeout", "0.3", "reserve", "2", "7")) as client:
        if moment == "write":
            shim.holder()
        else:
            helpers.eventually(lambda: (directory / "spectacles.dat").read_bytes() != before, "the write")
        campaign.kill_tree(guichet)
        assert client.wait(helpers.DEADLINE) == 3
    shim.stop("hold")
    shim.stop("slow")
    after = campaign.read_places(directory)
    assert after == dict(enumerate(helpers.PLACES)) | {2: 300 if moment == "write" else 293}
    again = server(question, *names, directory=directory, names=())
    assert again.client("consult", "2").stdout == f"{after[2]} places\n"


def test_killed_with_the_lock_in_its_hands(
    server: helpers.Servers, forking_question: str, shim: Shim, ledger: Ledger
) -> None:
    """Promise 3: a child that holds the semaphore for real, inside its write, is killed: service back, table right.

    (With recover() not releasing the semaphore, every later client times out.)
    """
    guichet = server(forking_question, env=shim.env)
    slowest = 0.0
    for count in range(2):
        shim.ask("hold")
        with helpers.background(guichet.client_command("--timeout", "0.3", "reserve", "3", "1")) as client:
            holder = shim.holder()
            told = guichet.output.count("service rétabli")
            os.kill(holder, signal.SIGKILL)
            killed = time.monotonic()
            shim.stop("hold")
            helpers.eventually(lambda told=told: guichet.output.count("service rétabli") > told, "service rétabli")  # type: ignore[misc]
            slowest = max(slowest, time.monotonic() - killed)
            client.wait(helpers.DEADLINE)
        assert f"PID {holder}" in guichet.wait_for(f"ERROR.*PID {holder}")
        assert guichet.client("reserve", "4", "1").returncode == 0
        assert guichet.client("consult", "3").stdout == "250 places\n"
        assert guichet.client("consult", "4").stdout == f"{39 - count} places\n"
    assert guichet.stop() == 0
    ledger.add("3 killed with the semaphore", forking_question, tries=2, requests=6, slowest=slowest)
