"""Promise 1: an acknowledged reservation is never lost, by kill -9 of any or all processes at any moment."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from spectacles.lab.judge.linearizability import Verdict, check
from spectacles.lab.programs.process import ServerProcess, children
from tests import helpers
from tests.fault import campaign
from tests.fault.campaign import PLENTY, Clients
from tests.fault.ledger import Ledger

SHORT, LONG = 4, 220  # rounds


def start_clients(clients: Clients, guichet: ServerProcess, choice: random.Random, c: Path | None) -> None:
    """Start as many clients as the question serves at once, in Python and in C."""
    programs = ["both"] if guichet.question == "q1_pipes" else ["python", "python", "c"]
    for number, program in enumerate(programs):
        clients.start(
            guichet,
            choice.randrange(2**32),
            name=f"{program}{number}",
            programs=program if c else "python",
            c=str(c) if c else None,
            timeout=1.5,
        )


def round_of_kills(
    server: helpers.Servers,
    question: str,
    directory: Path,
    names: list[str],
    clients: Clients,
    choice: random.Random,
    c: Path | None,
) -> None:
    """Start the server, let it work for a moment, kill something or everything."""
    guichet = server(question, *names, directory=directory, names=())
    if not clients.logs:
        start_clients(clients, guichet, choice, c)
        helpers.eventually(clients.asked(3), "first answers", 30)
    helpers.eventually(clients.asked(1), "an answer after the restart", 30)
    time.sleep(choice.random() * 0.1)  # any moment
    victim = choice.choice(["all", "all", "parent", "child", "client", "server and clients"])
    if victim == "child" and children(guichet.pid):
        with suppress(ProcessLookupError):
            os.kill(choice.choice(children(guichet.pid)), signal.SIGKILL)
        time.sleep(choice.random() * 0.05)
    if victim in ("client", "server and clients"):
        clients.kill_one(choice)
    if victim == "parent":
        campaign.kill_parent(guichet)
    else:
        campaign.kill_tree(guichet)


def campaign_of_kills(
    rounds: int,
    server: helpers.Servers,
    question: str,
    directory: Path,
    clients: Clients,
    choice: random.Random,
    c: Path | None,
    ledger: Ledger,
) -> None:
    """Kill `rounds` times, then count, and check the history if it is short."""
    initial = [PLENTY] * 6
    campaign.write_table(directory, initial)
    names = campaign.names_of(question)
    for _ in range(rounds):
        before = clients.told()
        round_of_kills(server, question, directory, names, clients, choice, c)
        # What had been acknowledged before the kill is in the file now.
        places = campaign.read_places(directory)
        for slot, seats in before.acknowledged.items():
            assert slot >= 6 or PLENTY - places[slot] >= seats, f"slot {slot}: acknowledged seats are lost"
    last = server(question, *names, directory=directory, names=())
    helpers.eventually(clients.asked(3), "answers after the last restart", 30)
    clients.stop()
    assert last.stop() == 0
    told = clients.told()
    places = campaign.read_places(directory)
    lost = campaign.lost_seats(initial, places, told)
    ledger.add(
        "1 kill -9 rounds",
        question,
        tries=rounds,
        requests=told.answered,
        doubt=told.unanswered,
        slowest=told.slowest,
        lost=lost,
    )
    assert lost == 0, (initial, places, told.acknowledged, told.doubtful)
    if rounds <= SHORT:
        report = check(told.operations, dict(enumerate(initial)), final=places, time_limit=20)
        ledger.add("2 histories with kills", question, tries=1, requests=told.answered)
        assert report.verdict is not Verdict.INVALID, report.explain()


def test_kill_rounds(
    server: helpers.Servers,
    question: str,
    directory: Path,
    clients: Clients,
    rng: random.Random,
    c_programs: Path,
    ledger: Ledger,
) -> None:
    """Server, child, parent alone, client, or all at once, at random moments while C and Python clients reserve.

    The file stays whole, every acknowledged seat is in it, what else is gone is one request in doubt for each client,
    and the history, with its unanswered requests, is linearizable. (With the write after the reply, or with the
    original's O_TRUNC and write, seats or the file are lost within a few rounds.)
    """
    campaign_of_kills(SHORT, server, question, directory, clients, rng, c_programs, ledger)


@pytest.mark.soak
def test_kill_rounds_soak(
    server: helpers.Servers,
    question: str,
    directory: Path,
    clients: Clients,
    rng: random.Random,
    c_programs: Path,
    ledger: Ledger,
) -> None:
    """The same, 220 times."""
    campaign_of_kills(LONG, server, question, directory, clients, rng, c_programs, ledger)
