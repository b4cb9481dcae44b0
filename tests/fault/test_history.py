"""Promise 2: never oversold, and linearizable, seen from real clients in C and in Python."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from spectacles.lab.judge.linearizability import Report, Verdict, check
from spectacles.lab.programs.process import ServerProcess
from tests import helpers
from tests.fault import campaign
from tests.fault.campaign import Clients
from tests.fault.ledger import Ledger

PLACES = [25, 40, 60, 0, 30, 35]  # few, so that they sell out while everybody is still asking
SHORT, LONG = 60, 2000  # requests of one client


def record(
    guichet: ServerProcess, clients: Clients, choice: random.Random, c: Path | None, count: int, crowd: int
) -> None:
    """Let `crowd` clients make `count` requests each, some of them through the C client, and wait for them."""
    for number in range(crowd):
        programs = "both" if c and number % 2 == 0 else "python"
        clients.start(
            guichet,
            choice.randrange(2**32),
            name=str(number),
            count=count,
            programs=programs,
            c=str(c) if c else None,
            shows=[0, 1, 2, 3, 4, 5, 9, 12],
            seats=[1, 1, 2, 3, 5, 0, -1],
            consults=0.3,
            timeout=5.0,
        )
    clients.wait(600)


def judge(clients: Clients, places: dict[int, int] | None) -> Report:
    """Check what the clients wrote down, and the seats left at the end."""
    told = clients.told()
    assert told.unanswered == 0, told.errors
    return check(told.operations, dict(enumerate(PLACES)), final=places, absent=[9, 12], time_limit=60)


def play(
    count: int,
    server: helpers.Servers,
    question: str,
    directory: Path,
    clients: Clients,
    choice: random.Random,
    c: Path,
    ledger: Ledger,
) -> None:
    """Record a history, and check it."""
    campaign.write_table(directory, PLACES)
    guichet = server(question, directory=directory)
    record(guichet, clients, choice, c, count, 1 if question == "q1_pipes" else 4)
    assert guichet.stop() == 0
    places = campaign.read_places(directory)
    report = judge(clients, places)
    told = clients.told()
    lost = campaign.lost_seats(PLACES, places, told)
    ledger.add("2 histories", question, tries=1, requests=told.answered, slowest=told.slowest, lost=lost)
    assert report.verdict is Verdict.VALID, report.explain()
    assert lost == 0
    assert sum(seats - places[slot] for slot, seats in enumerate(PLACES)) == sum(told.acknowledged.values())


def test_histories_are_linearizable(
    server: helpers.Servers,
    question: str,
    directory: Path,
    clients: Clients,
    rng: random.Random,
    c_programs: Path,
    ledger: Ledger,
) -> None:
    """What several clients were told, with the seats at the end, could have come from one clerk at one desk.

    (Handed a lock that does not lock, Q4 fails it: that is the next test.)
    """
    play(SHORT, server, question, directory, clients, rng, c_programs, ledger)


@pytest.mark.soak
def test_histories_are_linearizable_soak(
    server: helpers.Servers,
    question: str,
    directory: Path,
    clients: Clients,
    rng: random.Random,
    c_programs: Path,
    ledger: Ledger,
) -> None:
    """The same, with long histories."""
    play(LONG, server, question, directory, clients, rng, c_programs, ledger)


def test_a_lockless_table_is_found_out(
    server: helpers.Servers, directory: Path, clients: Clients, rng: random.Random, ledger: Ledger
) -> None:
    """Question 4 with a lock that does not lock: seats are sold twice, and the same check says so.

    (Seen to fail with the lock put back in spectacles.lab.programs.lockless: the verdict is then valid.)
    """
    campaign.write_table(directory, PLACES)
    command = [sys.executable, "-m", "spectacles.lab.programs.lockless"]
    guichet = server("q4_thread_per_request", directory=directory, command=command)
    record(guichet, clients, rng, None, SHORT, 4)
    guichet.stop()
    report = judge(clients, campaign.read_places(directory))
    assert report.verdict is Verdict.INVALID
    assert "non linéarisable" in report.explain()
    ledger.add("2 lockless found out", "q4_thread_per_request", tries=1, requests=clients.told().answered)
