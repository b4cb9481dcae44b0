"""x2_basket: what clients are told could come from one clerk with a clock, kills included; of wrong servers, not."""

from __future__ import annotations

import contextlib
import random
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from spectacles.lab.judge.baskets import ASKING, Event, Kind, Report, check
from spectacles.lab.judge.linearizability import Verdict
from spectacles.lab.programs.process import ServerProcess
from tests import helpers, raw_tcp
from tests.fault import campaign
from tests.fault.ledger import Ledger
from tests.fault.wrong_baskets import WAYS
from tests.test_x2_basket import X2
from tests.x2_peer import Buyer, sold

PLACES = [14, 9, 25]  # few, so that baskets fight over them
KINDS: dict[Kind, int] = {"hold": 8, "release": 2, "confirm": 2, "reserve": 1, "list": 4, "basket": 2, "leave": 1}
HELD = 0.05  # seconds
GONE = (OSError, AssertionError)


class Shop:
    """Where the customers find the server, which may be killed and come back."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.open = threading.Event()
        self.open.set()
        self.downs: list[tuple[int, int, int]] = []  # ns: before the kill, when it was dead, when the next one served


class Customer(threading.Thread):
    """Someone who asks for this and that, and notes what was asked, and what was answered."""

    def __init__(self, shop: Shop, seed: int, name: str, count: int) -> None:
        super().__init__()
        self.notes: list[Event] = []
        self.failed: BaseException | None = None
        self._shop = shop
        self._choice = random.Random(seed)
        self._name = name
        self._count = count

    def run(self) -> None:
        try:
            life = 0
            while self._count > 0:
                assert self._shop.open.wait(30)
                server = self._shop.server
                life += 1
                with contextlib.suppress(*raw_tcp.GONE, OSError), Buyer(server) as buyer:
                    self._visit(buyer, f"{self._name}.{life}", len(self._shop.downs))
        except BaseException as error:
            self.failed = error
            raise

    def _visit(self, buyer: Buyer, name: str, downs: int) -> None:
        """Ask until it is time to leave, or the server has gone; `downs`: how often it had been by now."""
        while self._count > 0:
            self._count -= 1
            kind: Kind = self._choice.choices(list(KINDS), list(KINDS.values()))[0]
            if self._count == 0:
                kind = "leave"
            show = self._choice.choice([*range(len(PLACES)), 7]) if kind in ("hold", "release", "reserve") else 0
            seats = self._choice.choice([1, 1, 2, 3, 5, 0, -1]) if kind in ("hold", "release", "reserve") else 0
            if kind == "confirm":
                seats = sum(buyer.believed.values()) + self._choice.choice([0, 0, 0, 1])
            if kind == "leave" and self._choice.random() < 0.4:  # without a word
                self.notes.append(Event(name, "leave", 0, 0, True, time.monotonic_ns(), None))
                return
            call = time.monotonic_ns()
            try:
                result = buyer.do(kind, show, seats)
            except GONE:
                self._note_the_end(name, kind, show, seats, call, downs)
                return
            self.notes.append(Event(name, kind, show, seats, result, call, time.monotonic_ns()))
            if kind == "leave":
                return
            if self._choice.random() < 0.3:
                time.sleep(self._choice.random() * 0.02)  # a customer who thinks

    def _note_the_end(self, name: str, kind: Kind, show: int, seats: int, call: int, downs: int) -> None:
        helpers.eventually(lambda: len(self._shop.downs) > downs, "the next server", 30)
        killed, dead, again = self._shop.downs[downs]
        if self.notes and self.notes[-1].client == name:
            last = self.notes[-1]  # read late perhaps, but answered by somebody who was alive
            self.notes[-1] = last = replace(last, ret=min(last.ret or dead, dead))
            killed = max(killed, last.ret or 0)
        if call < dead and kind in ASKING:
            self.notes.append(Event(name, kind, show, seats, None, call, None))
        self.notes.append(Event(name, "leave", 0, 0, True, max(killed, min(call, dead)), again))


def record(shop: Shop, choice: random.Random, customers: int, count: int, kills: int = 0) -> list[Event]:
    """Let so many customers ask so many things each, kill the server so often meanwhile, and return their notes."""
    people = [Customer(shop, choice.randrange(2**32), f"client {number}", count) for number in range(customers)]
    for person in people:
        person.start()
    for _ in range(kills):
        time.sleep(choice.uniform(0.1, 0.4))  # any moment will do
        kill_and_restart(shop)
    for person in people:
        person.join(120)
    assert [person.failed for person in people] == [None] * customers
    return [event for person in people for event in person.notes]


def kill_and_restart(shop: Shop) -> None:
    """kill -9 the server, and start another on the same directory and port."""
    shop.open.clear()
    old = shop.server
    killed = time.monotonic_ns()
    old.kill()
    dead = time.monotonic_ns()
    shop.server = ServerProcess(X2, old.directory, *old.options, "--port", str(old.address()[1]))
    shop.server.wait_ready()
    shop.downs.append((killed, dead, time.monotonic_ns()))
    shop.open.set()


def play(
    server: helpers.Servers,
    directory: Path,
    choice: random.Random,
    customers: int,
    count: int,
    kills: int = 0,
    way: str = "",
) -> tuple[Report, list[Event]]:
    """Record the history of a server, stop it, and judge what was told, with what the file says at the end."""
    campaign.write_table(directory, PLACES)
    command = [sys.executable, "-m", "tests.fault.wrong_baskets", way] if way else None
    options = ("--hold-seconds", str(HELD), "--log-level", "warning")
    guichet = server(X2, *options, directory=directory, command=command)
    shop = Shop(guichet)
    try:
        history = record(shop, choice, customers, count, kills)
    finally:
        if shop.server is not guichet:
            assert shop.server.stop() == 0
    if shop.server is guichet:
        guichet.stop()
    report = check(history, dict(enumerate(PLACES)), HELD, final=sold(guichet), time_limit=60)
    return report, history


def test_histories_of_baskets(server: helpers.Servers, directory: Path, rng: random.Random, ledger: Ledger) -> None:
    """Five customers who fight over few seats, leave with and without a word, and let time run out.

    (Seen to fail: with each of the wrong servers, in the next test.)
    """
    report, history = play(server, directory, rng, 5, 120)
    assert report.verdict is Verdict.VALID, report.explain()
    told = {(event.kind, bool(event.result)) for event in history}
    assert told >= {(kind, True) for kind in KINDS} | {(kind, False) for kind in ASKING}, "the history tries too little"
    ledger.add("x2 histories", X2, tries=1, requests=len(history))


@pytest.mark.parametrize("way", WAYS)
def test_wrong_baskets_are_found_out(server: helpers.Servers, directory: Path, rng: random.Random, way: str) -> None:
    """Seats given back twice, too soon, or never; half a basket sold; a file that knows too little, or too much: found.

    (Seen to fail: with the right server in place of each.)
    """
    for _ in range(5):
        report, _ = play(server, directory, rng, 4, 80, way=way)
        if report.verdict is Verdict.INVALID:
            break
        (directory / "spectacles.dat").unlink()
    assert report.verdict is Verdict.INVALID
    assert "non linéarisable" in report.explain()


def test_kill_rounds_of_baskets(server: helpers.Servers, directory: Path, rng: random.Random, ledger: Ledger) -> None:
    """kill -9 of the server at random moments: the history, with what has no answer, is one clerk's all the same.

    (Seen to fail: with the confirmation written after the answer.)
    """
    report, history = play(server, directory, rng, 4, 200, kills=3)
    assert report.verdict is Verdict.VALID, report.explain()
    doubt = sum(event.result is None for event in history)
    ledger.add("x2 kill -9 rounds", X2, tries=3, requests=len(history) - doubt, doubt=doubt)


@pytest.mark.soak
def test_kill_rounds_of_baskets_soak(
    server: helpers.Servers, directory: Path, rng: random.Random, ledger: Ledger
) -> None:
    """The same, a hundred times, and long histories without a kill."""
    for _ in range(20):
        report, history = play(server, directory, rng, 5, 400, kills=5)
        assert report.verdict is Verdict.VALID, report.explain()
        doubt = sum(event.result is None for event in history)
        ledger.add("x2 kill -9 rounds", X2, tries=5, requests=len(history) - doubt, doubt=doubt)
        (directory / "spectacles.dat").unlink()
    report, history = play(server, directory, rng, 6, 3000)
    assert report.verdict is Verdict.VALID, report.explain()
    ledger.add("x2 histories", X2, tries=1, requests=len(history))
