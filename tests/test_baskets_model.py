"""Tests of the checker of baskets: known histories, agreement with brute force, and real servers, right and wrong."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from spectacles.lab.judge.baskets import ASKING, Event, check
from spectacles.lab.judge.linearizability import Verdict

MS = 1_000_000  # nanoseconds
HELD = 0.1  # seconds: 100 ms
START = {0: 10, 1: 5}


def event(client: str, kind: Any, *numbers: int, result: Any = True, at: tuple[int, int | None]) -> Event:
    """Return an event of `client`, from and to in ms. numbers: show and seats, or seats of a confirm."""
    show, seats = numbers if len(numbers) == 2 else (0, *numbers) if numbers else (0, 0)
    call, ret = at
    return Event(client, kind, show, seats, result, call * MS, None if ret is None else ret * MS)


def seen(client: str, *free: int, at: tuple[int, int]) -> Event:
    """Return a list of all shows."""
    return event(client, "list", result=dict(enumerate(free)), at=at)


HOLD_3 = event("a", "hold", 0, 3, at=(0, 1))
GOOD: dict[str, list[Event]] = {
    "held seats are not free": [HOLD_3, seen("b", 7, 5, at=(2, 3))],
    "refused for what is held": [HOLD_3, event("b", "reserve", 0, 8, result=False, at=(2, 3))],
    "back in time": [HOLD_3, seen("b", 7, 5, at=(2, 3)), seen("b", 10, 5, at=(102, 103))],
    "back at the very moment, or not yet": [HOLD_3, seen("b", 10, 5, at=(99, 100)), seen("c", 7, 5, at=(100, 101))],
    "sold does not come back": [HOLD_3, event("a", "confirm", 3, at=(2, 3)), seen("b", 7, 5, at=(200, 201))],
    "two shows": [
        HOLD_3,
        event("a", "hold", 1, 5, at=(2, 3)),
        event("a", "confirm", 8, at=(4, 5)),
        event("a", "leave", at=(6, 7)),
        seen("b", 7, 0, at=(8, 9)),
    ],
    "who has left": [HOLD_3, event("a", "leave", at=(2, 3)), seen("b", 10, 5, at=(4, 5))],
    "who is about to leave": [
        HOLD_3,
        event("a", "leave", at=(2, None)),
        seen("b", 7, 5, at=(4, 5)),
        seen("b", 10, 5, at=(6, 7)),
    ],
    "in doubt, done": [
        HOLD_3,
        event("a", "confirm", 3, result=None, at=(2, None)),
        event("a", "leave", at=(3, 4)),
        seen("b", 7, 5, at=(8, 9)),
    ],
    "in doubt, not done": [
        HOLD_3,
        event("a", "confirm", 3, result=None, at=(2, None)),
        event("a", "leave", at=(3, 4)),
        seen("b", 10, 5, at=(8, 9)),
    ],
    "in doubt, done, and it left nothing": [
        event("a", "reserve", 0, 3, result=None, at=(2, None)),
        event("a", "leave", at=(3, 4)),
        seen("b", 7, 5, at=(8, 9)),
    ],
    "a hold that took long": [
        event("a", "hold", 0, 3, at=(0, 150)),
        seen("b", 7, 5, at=(160, 161)),
        seen("b", 10, 5, at=(251, 252)),
    ],
    "a part has gone back": [
        HOLD_3,
        event("a", "hold", 1, 2, at=(50, 51)),
        event("a", "confirm", 5, result=False, at=(110, 111)),
        event("a", "confirm", 2, at=(112, 113)),
        seen("b", 10, 3, at=(300, 301)),
    ],
    "the last go first": [
        HOLD_3,
        event("a", "hold", 0, 4, at=(50, 51)),
        event("a", "release", 0, 5, at=(52, 53)),
        event("a", "basket", result={0: 2}, at=(54, 55)),
        seen("b", 10, 5, at=(102, 103)),
    ],
    "no such show": [
        event("a", "hold", 7, 1, result=False, at=(0, 1)),
        event("a", "reserve", -1, 1, result=False, at=(2, 3)),
    ],
}
BAD: dict[str, list[Event]] = {
    "a held seat is seen": [HOLD_3, seen("b", 10, 5, at=(2, 3))],
    "a held seat is sold": [HOLD_3, event("b", "reserve", 0, 8, at=(2, 3))],
    "back too soon": [HOLD_3, seen("b", 10, 5, at=(98, 99))],
    "back too late": [HOLD_3, seen("b", 7, 5, at=(102, 103))],
    "back twice": [HOLD_3, seen("b", 13, 5, at=(102, 103))],
    "back once more, at the end": [HOLD_3, event("a", "leave", at=(110, 111)), seen("b", 13, 5, at=(112, 113))],
    "sold, and back": [HOLD_3, event("a", "confirm", 3, at=(2, 3)), seen("b", 10, 5, at=(200, 201))],
    "half a confirmation": [
        HOLD_3,
        event("a", "hold", 1, 5, at=(2, 3)),
        event("a", "confirm", 8, at=(4, 5)),
        event("a", "leave", at=(6, 7)),
        seen("b", 7, 5, at=(8, 9)),
    ],
    "half of one in doubt": [
        HOLD_3,
        event("a", "hold", 1, 5, at=(2, 3)),
        event("a", "confirm", 8, result=None, at=(4, None)),
        event("a", "leave", at=(6, 7)),
        seen("b", 7, 5, at=(8, 9)),
    ],
    "in doubt, done after the end": [
        HOLD_3,
        event("a", "confirm", 3, result=None, at=(2, None)),
        event("a", "leave", at=(3, 4)),
        seen("b", 10, 5, at=(8, 9)),
        seen("b", 7, 5, at=(10, 11)),
    ],
    "in doubt, and done when its client had left": [
        event("a", "reserve", 0, 3, result=None, at=(2, None)),
        event("a", "leave", at=(3, 4)),
        seen("b", 10, 5, at=(8, 9)),
        seen("b", 7, 5, at=(10, 11)),
    ],
    "a hold that took long has no end": [
        event("a", "hold", 0, 3, at=(0, 150)),
        seen("b", 7, 5, at=(251, 252)),
    ],
    "the rest bought for the whole": [
        HOLD_3,
        event("a", "hold", 1, 2, at=(50, 51)),
        event("a", "confirm", 5, at=(110, 111)),
    ],
    "a list that is no instant": [
        event("a", "reserve", 0, 1, at=(0, 1)),
        event("a", "reserve", 1, 1, at=(2, 3)),
        seen("b", 10, 4, at=(0, 3)),
    ],
    "the first go first": [
        HOLD_3,
        event("a", "hold", 0, 4, at=(50, 51)),
        event("a", "release", 0, 3, at=(52, 53)),
        seen("b", 6, 5, at=(102, 103)),
    ],
    "gone with who has left": [HOLD_3, event("a", "leave", at=(2, 3)), seen("b", 7, 5, at=(4, 5))],
    "released without being there": [HOLD_3, event("a", "release", 0, 4, at=(2, 3))],
    "somebody else's basket": [HOLD_3, event("b", "release", 0, 3, at=(2, 3))],
}


@pytest.mark.parametrize("name", GOOD)
def test_good_histories(name: str) -> None:
    """Each could have come from one clerk with a clock."""
    report = check(GOOD[name], START, HELD)
    assert report.verdict is Verdict.VALID, report.explain()
    assert brute_force(GOOD[name], START, HELD)


@pytest.mark.parametrize("name", BAD)
def test_bad_histories(name: str) -> None:
    """Each could not, and its last operation is the culprit, in lines of 100 columns."""
    report = check(BAD[name], START, HELD)
    assert report.verdict is Verdict.INVALID
    assert not brute_force(BAD[name], START, HELD)
    text = report.explain()
    assert "non linéarisable" in text
    assert all(len(line) <= 100 for line in text.splitlines())
    assert report.culprit is not None
    assert report.culprit.ret == max(e.ret or 0 for e in BAD[name])


def test_the_file_at_the_end() -> None:
    """What is held has gone back by then, what was confirmed has not."""
    history = [HOLD_3, event("b", "hold", 1, 2, at=(0, 1)), event("b", "confirm", 2, at=(2, 3))]
    assert check(history, START, HELD, final={0: 10, 1: 3}).verdict is Verdict.VALID
    assert check(history, START, HELD, final={0: 7, 1: 3}).verdict is Verdict.INVALID
    assert check(history, START, HELD, final={0: 10, 1: 5}).verdict is Verdict.INVALID


def test_malformed_histories() -> None:
    """A client does one thing at a time, and nothing after it has left."""
    for after in (
        event("a", "basket", result={}, at=(0, 2)),
        event("a", "expire", at=(2, 3)),
        event("a", "list", result={}, at=(3, 2)),
    ):
        with pytest.raises(ValueError, match=r"fois|mal formée"):
            check([HOLD_3, after], START, HELD)
    for first in (event("a", "leave", at=(0, 1)), event("a", "hold", 0, 1, result=None, at=(0, None))):
        with pytest.raises(ValueError, match="fois"):
            check([first, event("a", "basket", result={}, at=(2, 3))], START, HELD)


def test_out_of_time() -> None:
    """It says so rather than guessing."""
    history = [event(f"c{n}", "hold", 0, n % 3 + 1, result=None, at=(0, None)) for n in range(40)]
    history += [seen("z", 3, 5, at=(1, 2)), event("y", "reserve", 0, 9, at=(3, 4))]
    report = check(history, {0: 60, 1: 5}, HELD, time_limit=0.2)
    assert report.verdict is Verdict.UNKNOWN
    assert "Indécis" in report.explain()


# Against brute force


class Clerk:
    """The box office with one clerk, written another way than the checker: seats one by one, each with its owner."""

    def __init__(self, initial: dict[int, int]) -> None:
        self.seats: dict[int, list[object]] = {show: [None] * seats for show, seats in initial.items()}

    def free(self) -> dict[int, int]:
        return {show: seats.count(None) for show, seats in self.seats.items()}

    def held(self, client: object) -> dict[int, int]:
        found = {
            show: sum(isinstance(s, tuple) and s[0] == client for s in seats) for show, seats in self.seats.items()
        }
        return {show: number for show, number in found.items() if number}

    def do(self, e: Event, hold: object) -> Any:
        """Do what is asked, and return the answer. hold: of a hold, or of the end of one: which."""
        if e.kind == "list":
            return self.free()
        if e.kind == "basket":
            return self.held(e.client)
        row = self.seats.get(e.show, [])
        if e.kind in ("reserve", "hold"):
            if not 0 < e.seats <= row.count(None):
                return False
            for _ in range(e.seats):
                row[row.index(None)] = "sold" if e.kind == "reserve" else (e.client, hold)
        elif e.kind == "release":
            mine = sorted((s for s in row if isinstance(s, tuple) and s[0] == e.client), key=lambda s: s[1])
            if not 0 < e.seats <= len(mine):
                return False
            for seat in mine[::-1][: e.seats]:
                row[row.index(seat)] = None
        elif e.kind == "confirm":
            if not 0 < e.seats == sum(self.held(e.client).values()):
                return False
            self._change(lambda s: isinstance(s, tuple) and s[0] == e.client, "sold")
        elif e.kind == "leave":
            self._change(lambda s: isinstance(s, tuple) and s[0] == e.client, None)
        else:
            self._change(lambda s: s == (e.client, hold), None)
        return True

    def _change(self, which: Any, into: object) -> None:
        self.seats = {show: [into if which(s) else s for s in seats] for show, seats in self.seats.items()}


def with_ends(history: Sequence[Event], hold_seconds: float) -> list[tuple[Event, object]]:
    """Return the events and the ends of holds, each with the number of its hold."""
    given = round(hold_seconds * 1e9)
    found: list[tuple[Event, object]] = []
    for number, e in enumerate(sorted(history, key=lambda e: e.call)):
        found.append((e, number))
        if e.kind == "hold" and e.result is not False:
            ret = None if e.ret is None else e.ret + given
            found.append((Event(e.client, "expire", 0, 0, True, e.call + given, ret), number))
    return found


def brute_force(history: Sequence[Event], initial: dict[int, int], hold_seconds: float) -> bool:
    """Try every order of everything, without remembering anything."""

    def explained(todo: list[tuple[Event, object]], past: list[tuple[Event, object]]) -> bool:
        if all(e.ret is None for e, _ in todo):
            return True
        for item in todo:
            e, hold = item
            if any(other.ret is not None and other.ret < e.call for other, _ in todo):
                continue
            if e.kind == "expire" and not any(done.kind == "hold" and number == hold for done, number in past):
                continue
            if any(done.kind == "leave" and done.client == e.client for done, _ in past) and e.kind in ASKING:
                continue
            clerk = Clerk(initial)
            for done, number in past:
                clerk.do(done, number)
            answer = clerk.do(e, hold)
            right = e.kind in ("leave", "expire") or (answer is True if e.result is None else answer == e.result)
            if right and explained([other for other in todo if other is not item], [*past, item]):
                return True
        return False

    todo = [item for item in with_ends(history, hold_seconds) if item[0].result is not None or item[0].kind in ASKING]
    return explained(todo, [])


def simulate(rng: random.Random, clients: int, count: int) -> list[Event]:
    """Make a valid history: a correct clerk, one instant inside of each operation, the ends of holds at their time."""
    clock = dict.fromkeys(range(clients), 0)
    life = dict.fromkeys(range(clients), 0)
    planned: list[tuple[float, int, int, int, str]] = []
    for number in range(count):
        client = number % clients
        call = clock[client] + rng.randint(0, 30) * MS
        ret = call + rng.randint(1, 30) * MS
        clock[client] = ret + 1
        planned.append((rng.uniform(call, ret), client, call, ret, ""))
    clerk = Clerk(START)
    ends: list[tuple[float, str, int]] = []
    history: list[Event] = []
    seen_ids = itertools.count()
    for at, client, call, ret, _ in sorted(planned):
        for end in sorted(ends):
            if end[0] <= at:
                clerk.do(Event(end[1], "expire", 0, 0, True, 0, 0), end[2])
                ends.remove(end)
        name = f"{client}.{life[client]}"
        held = clerk.held(name)
        kind: Any = rng.choice(["list", "reserve", "hold", "hold", "hold", "release", "confirm", "basket", "leave"])
        show = rng.choice([0, 1]) if kind in ("reserve", "hold", "release") else 0
        seats = rng.randint(0, 4) if kind in ("reserve", "hold", "release") else 0
        if kind == "confirm":
            seats = sum(held.values()) if rng.random() < 0.7 else rng.randint(0, 4)
        if kind == "hold":
            seats = max(seats, 1)
        hold = next(seen_ids)
        e = Event(name, kind, show, seats, None, call, ret)
        lost = kind in ASKING and rng.random() < 0.08
        if lost and rng.random() < 0.5:
            history.append(replace(e, ret=None))
        else:
            answer = clerk.do(e, hold)
            if kind == "hold" and answer:
                ends.append((at + HELD * 1e9, name, hold))
            history.append(replace(e, result=answer) if not lost else replace(e, ret=None))
        if lost:  # killed: it leaves now
            clerk.do(Event(name, "leave", 0, 0, True, ret, ret), 0)
            history.append(Event(name, "leave", 0, 0, True, call + 1, ret))
        if lost or kind == "leave":
            life[client] += 1
    return history


def spoilt(rng: random.Random, history: list[Event]) -> list[Event]:
    """Change the answer of one operation."""
    place = rng.choice([n for n, e in enumerate(history) if e.result is not None and e.kind != "leave"])
    e = history[place]
    if isinstance(e.result, bool):
        wrong: Any = not e.result
    else:
        wrong = dict(e.result or {0: 0})
        show = rng.choice(sorted(wrong) or [0])
        wrong[show] = max(wrong.get(show, 0) + rng.choice([-1, 1, 3]), 0)
    return [*history[:place], replace(e, result=wrong), *history[place + 1 :]]


@pytest.mark.parametrize("seed", range(120))
def test_agrees_with_brute_force(seed: int) -> None:
    """On short histories, valid and spoilt, with holds that end, clients that leave, and answers that never came.

    (Seen to fail: with a confirmation of less than the basket acknowledged by the model, with lists that match nothing
    placed at once. What chance hardly meets is among the histories above, which were seen to fail: with holds released
    in the order of time, with their ends one ms late, or before the hold, with what a client that has left still had
    in hand placed after that.)
    """
    rng = random.Random(seed)
    history = simulate(rng, rng.choice([2, 3]), rng.choice([5, 6, 7]))
    assert check(history, START, HELD).verdict is Verdict.VALID
    assert brute_force(history, START, HELD)
    for _ in range(3):
        try:
            changed = spoilt(rng, history)
        except IndexError:
            continue
        expected = Verdict.VALID if brute_force(changed, START, HELD) else Verdict.INVALID
        assert check(changed, START, HELD).verdict is expected, changed


@pytest.mark.parametrize("seed", range(3))
def test_long_histories(seed: int) -> None:
    """A thousand operations of five clients: valid, then with one answer changed that nothing explains."""
    rng = random.Random(seed)
    history = simulate(rng, 5, 1000)
    assert check(history, START, HELD, time_limit=60).verdict is Verdict.VALID
    places = [n for n, e in enumerate(history) if e.kind == "list"]
    place = places[len(places) // 2]
    e = history[place]
    assert isinstance(e.result, dict)
    history[place] = replace(e, result={**e.result, 0: e.result[0] + 20})
    report = check(history, START, HELD, time_limit=60)
    assert report.verdict is Verdict.INVALID
    assert report.culprit == history[place]
    assert "Du spectacle 0 il restait, selon l'ordre" in " ".join(report.explain().split())
