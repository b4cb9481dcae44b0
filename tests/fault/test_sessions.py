"""Several servers on one queue (x1_sessions): killed in any order, under load, and nothing is lost."""

from __future__ import annotations

import random
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from spectacles.lab.judge.linearizability import Verdict, check
from spectacles.lab.programs.process import ServerProcess
from tests import helpers
from tests.fault import campaign
from tests.fault.campaign import PLENTY, Clients
from tests.fault.ledger import Ledger
from tests.helpers import House

ROUNDS = 10
SOAK = 20  # times as many
SERVERS = 3
X1 = "x1_sessions"


@pytest.fixture
def house(server: helpers.Servers, directory: Path) -> House:
    """A house without a server yet."""
    return House(server, directory)


def as_question_2(server: ServerProcess) -> ServerProcess:
    """Return what clients of question 2 take for their server."""
    return cast(ServerProcess, SimpleNamespace(question="q2_msq", client_options=server.client_options))


def start_clients(house: House, clients: Clients, choice: random.Random, c: Path) -> None:
    """Start clients that stay with a server, and two of question 2, in Python and in C."""
    guichet = house.alive[0]
    for number in range(4):
        clients.start(guichet, choice.randrange(2**32), name=f"session{number}", timeout=1.5)
    old = as_question_2(guichet)
    clients.start(old, choice.randrange(2**32), name="python", timeout=1.5)
    clients.start(old, choice.randrange(2**32), name="c", programs="c", c=str(c), timeout=1.5)


def round_of_kills(house: House, clients: Clients, choice: random.Random) -> tuple[bool, float]:
    """kill -9 some of the servers, or all, then start others.

    Returns whether some were left, and the seconds after which somebody had an answer.
    """
    time.sleep(choice.random() * 0.1)  # any moment
    victims = choice.sample(house.alive, choice.choice((1, 1, 2, 2, SERVERS)))
    for victim in victims:
        house.kill(victim)
    began = time.monotonic()
    some_left = bool(house.alive)
    if not some_left:
        house.open()
    helpers.eventually(clients.asked(1), "an answer after the kill", 30)
    took = time.monotonic() - began
    if choice.random() < 0.3:
        clients.kill_one(choice)
    house.open(SERVERS - len(house.alive))
    return some_left, took


def campaign_of_kills(
    house: House, clients: Clients, choice: random.Random, c: Path, ledger: Ledger
) -> list[tuple[bool, float]]:
    """Kill ROUNDS times, stop, count, check the history; return how long each round was without an answer."""
    initial = [PLENTY] * 6
    campaign.write_table(house.directory, initial)
    house.open(SERVERS)
    start_clients(house, clients, choice, c)
    helpers.eventually(clients.all_answered, "first answers", 30)
    gaps = []
    for _ in range(ROUNDS):
        before = clients.told()
        gaps.append(round_of_kills(house, clients, choice))
        places = campaign.read_places(house.directory)
        for slot, seats in before.acknowledged.items():
            assert slot >= 6 or PLENTY - places[slot] >= seats, f"slot {slot}: acknowledged seats are lost"
    helpers.eventually(clients.asked(3), "answers after the last round", 30)
    clients.stop()
    choice.shuffle(house.alive)
    house.close()
    told = clients.told()
    places = campaign.read_places(house.directory)
    lost = campaign.lost_seats(initial, places, told)
    ledger.add(
        "1 kill -9 rounds",
        X1,
        tries=ROUNDS,
        requests=told.answered,
        doubt=told.unanswered,
        slowest=told.slowest,
        lost=lost,
    )
    assert lost == 0, (initial, places, told.acknowledged, told.doubtful)
    assert helpers.own_objects() == set()
    report = check(told.operations, dict(enumerate(initial)), final=places, time_limit=20)
    assert report.verdict is not Verdict.INVALID, report.explain()
    return gaps


def test_kill_rounds(house: House, clients: Clients, rng: random.Random, c_programs: Path, ledger: Ledger) -> None:
    """One to all of three servers, at random moments, while clients of x1, and of Q2 in Python and C, reserve.

    (With GuardedTable._set_places() not noting what is decided, 25 seats were sold twice; with SEM_UNDO off, nobody had
    an answer any more.)
    """
    campaign_of_kills(house, clients, rng, c_programs, ledger)


@pytest.mark.soak
def test_kill_rounds_soak(house: House, clients: Clients, rng: random.Random, c_programs: Path, ledger: Ledger) -> None:
    """The same, 200 times; and service is back within a second, be it that a server has to be started for that."""
    gaps: list[tuple[bool, float]] = []
    for _ in range(SOAK):
        gaps += campaign_of_kills(house, clients, rng, c_programs, ledger)
        while clients.logs:
            Path(clients.logs.pop()).unlink(missing_ok=True)  # one that was started again is named twice
    for some_left in (True, False):
        seconds = sorted(took for left, took in gaps if left == some_left)
        print(
            f"some left: {some_left}, rounds: {len(seconds)}, without an answer for {seconds[len(seconds) // 2]:.3f} s,"
        )
        print(f"at most {seconds[-1]:.3f} s")
        # To start an interpreter takes what it takes on a machine that does something else, too.
        assert seconds[-1 if some_left else len(seconds) // 2] < 1.0
