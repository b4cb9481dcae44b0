"""Whether what the clients of x2_basket were told could have come from one clerk at one desk, with a clock on the wall.

Beside `linearizability`, whose search takes each show for itself and seats for something that only goes down. Here a
confirmation is about several shows at once, and seats come back: so there is one state, of the whole desk, and a plain
search for an order, after Wing and Gong (1993), that remembers what it has refuted. Sequential model: `free`, the seats
of each show that nobody has, and for each client a basket, a list of holds, the oldest first.

* a list returns `free`, of all shows at one instant;
* a reservation of n seats is acknowledged when 0 < n <= free, which it lowers; a hold too, and fills the basket;
* a release of n is acknowledged when 0 < n <= what the basket has of that show; the holds added last give first;
* a confirmation of n is acknowledged when n > 0 is all that the basket has; the basket is then empty, `free` as it was;
* a look at the basket returns its seats by show;
* who leaves gives back what is in the basket, and asks for nothing any more;
* whatever else is asked is refused, and changes nothing.

The clock is one more client. For every hold that may have been made it has an operation of its own: *the time of this
hold is up*, which gives back what is left of it. It is called `hold_seconds` after the hold was called, and has
returned so long after the hold returned: not a seat may be back before, nor gone after.
"""

from __future__ import annotations

import itertools
import math
import textwrap
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from spectacles.lab.judge.linearizability import Verdict

WIDTH = 100  # columns
SHOWN = 12  # operations of a counterexample that are told: the last
STEPS_BETWEEN_LOOKS = 32  # at the clock
MOST_STATES = 200  # looked at to say what could have been

Kind = Literal["list", "reserve", "hold", "release", "confirm", "basket", "leave", "expire"]
ASKING = ("reserve", "hold", "release", "confirm")
LOOKING = ("list", "basket")


@dataclass(frozen=True, slots=True)
class Event:
    """One operation of one client, as its client saw it.

    client: number or name; one operation at a time, and none after a "leave" or after one without an answer but a
        "leave". kind: "expire" is the checker's own.
    show, seats: of a reserve, hold or release; seats: of a confirm; else 0.
    result: of a list or basket, seats by show; of what is asked for, whether it was acknowledged; True of a leave;
        None: no answer.
    call, ret: instants, nanoseconds of one clock common to all clients; ret None: it may happen at any time after its
        call, or never. A leave has returned once the server is known to have done with the client.
    """

    client: int | str
    kind: Kind
    show: int
    seats: int
    result: bool | Mapping[int, int] | None
    call: int
    ret: int | None


@dataclass(frozen=True, slots=True)
class Report:
    """Outcome of check(). fault: the shortest part of the history that no order explains, by call; () if none is known.

    states: what the desk can have looked like just before the last of them, as far as it was looked for.
    """

    verdict: Verdict
    operations: int
    elapsed: float
    fault: tuple[Event, ...] = ()
    states: tuple[State, ...] = ()

    @property
    def culprit(self) -> Event | None:
        """The operation whose return made the history inexplicable."""
        return max(
            (event for event in self.fault if event.ret is not None), key=lambda event: event.ret or 0, default=None
        )

    def explain(self) -> str:
        """Tell the outcome in French, in lines of 100 columns at most, without a final newline."""
        size = f"{self.operations} opérations, {self.elapsed:.2f} s".replace(".", ",")
        culprit = self.culprit
        if self.verdict is Verdict.VALID:
            return f"Historique linéarisable, paniers compris ({size})."
        if self.verdict is Verdict.UNKNOWN or culprit is None:
            return f"Indécis faute de temps ({size})."
        # What was refused, or only looked at, has changed nothing.
        changes = [e for e in self.fault if e is culprit or (e.result is not False and e.kind not in LOOKING)]
        shown = changes[-SHOWN:]
        lines = [f"Historique non linéarisable ({size}). Ce qui a eu un effet, en µs :"]
        for event in shown:
            end = "…" if event.ret is None else f"{(event.ret - shown[0].call) / 1000:.1f}"
            lines.append(f"{(event.call - shown[0].call) / 1000:>12.1f} {end:>12}  {_told(event)}"[:WIDTH])
        lines += textwrap.wrap(f"Aucun ordre n'explique : {_told(culprit)}. {_possible(culprit, self.states)}", WIDTH)
        return "\n".join(lines)


class State(NamedTuple):
    """The desk at one instant. free: by show. baskets: of each client that has one, its holds (event, show, seats)."""

    free: tuple[tuple[int, int], ...]
    baskets: tuple[tuple[int | str, tuple[tuple[int, int, int], ...]], ...]


def check(
    events: Iterable[Event],
    initial: Mapping[int, int],
    hold_seconds: float,
    *,
    time_limit: float = 10.0,
    final: Mapping[int, int] | None = None,
) -> Report:
    """Check a history. Blocks, `time_limit` seconds at most.

    events: in any order. initial: seats of each show that exists. hold_seconds: of the server. final: what the file has
    when the server has stopped: a list after everything, when all have left.
    Raises ValueError when a client's operations overlap, or go on after it has left.
    """
    started = time.monotonic()
    deadline = started + time_limit
    history = sorted(events, key=lambda event: event.call)
    _validate(history)
    size = len(history)
    if final is not None:
        history = _closed(history, final)
    verdict, _ = _Search(history, initial, hold_seconds).run(deadline)
    fault: tuple[Event, ...] = ()
    states: tuple[State, ...] = ()
    if verdict is Verdict.INVALID:
        fault = tuple(_shortest(history, initial, hold_seconds, deadline))
        culprit = max((event.ret or 0) for event in fault)
        before = [replace(event, result=None, ret=None) if event.ret == culprit else event for event in fault]
        _, states = _Search(before, initial, hold_seconds).run(deadline, MOST_STATES)
    return Report(verdict, size, time.monotonic() - started, fault, states)


def _closed(history: Sequence[Event], final: Mapping[int, int]) -> list[Event]:
    """Return a history in which all have left in the end, and somebody then looks at what is left."""
    last = max((event.call if event.ret is None else event.ret for event in history), default=0) + 1
    ended = [replace(e, ret=last) if e.kind == "leave" and e.ret is None else e for e in history]
    there = {e.client for e in history} - {e.client for e in history if e.kind == "leave"}
    leaves = [Event(client, "leave", 0, 0, True, last, last) for client in sorted(there, key=str)]
    return [*ended, *leaves, Event("état final", "list", 0, 0, dict(final), last + 1, last + 1)]


def _validate(history: Sequence[Event]) -> None:
    by_client: dict[int | str, list[Event]] = {}
    for event in history:
        if event.kind == "expire" or (event.ret is not None and event.ret < event.call):
            raise ValueError(f"opération mal formée : {event}")
        by_client.setdefault(event.client, []).append(event)
    for mine in by_client.values():
        for before, after in itertools.pairwise(mine):
            over = before.kind == "leave" or (before.ret is None and after.kind != "leave")
            if over or (before.ret is not None and after.call < before.ret):
                raise ValueError(f"le client {before.client!r} fait deux choses à la fois : {before} puis {after}")


class _Search:
    """One search. Events are numbered by their calls; `done` is the set of those placed, as bits of an integer."""

    def __init__(self, history: Sequence[Event], initial: Mapping[int, int], hold_seconds: float) -> None:
        events = [e for e in history if e.result is not None or e.kind in (*ASKING, "leave")]
        given = round(hold_seconds * 1e9)
        last = max((max(e.call, e.ret or 0) for e in events), default=0)
        for hold in [e for e in events if e.kind == "hold" and e.result is not False and e.call + given <= last]:
            end = None if hold.ret is None else hold.ret + given
            events.append(Event(hold.client, "expire", hold.show, 0, True, hold.call + given, end))
        # The clock's n-th event of a client is of its n-th hold: both are called in the same order.
        events.sort(key=lambda e: e.call)
        self._events = events
        self._ret = [math.inf if e.ret is None else e.ret for e in events]
        self._start = State(tuple(sorted(initial.items())), ())
        self._hold_of: dict[int, int] = {}
        self._pending: dict[int | str, int] = {}  # the operation of a client that has no answer
        holds: dict[int | str, list[int]] = {}
        for number, event in enumerate(events):
            if event.kind == "hold" and event.result is not False:
                holds.setdefault(event.client, []).append(number)
            elif event.kind == "expire":
                self._hold_of[number] = holds[event.client].pop(0)
            if event.ret is None and event.kind in ASKING:
                self._pending[event.client] = number

    def run(self, deadline: float, most: int = 0) -> tuple[Verdict, tuple[State, ...]]:
        """Search, depth first; with `most`, go on for as many states in which the history can have ended."""
        required = sum(1 << n for n, ret in enumerate(self._ret) if ret != math.inf)
        seen: set[tuple[int, State]] = set()
        found: dict[State, None] = {}
        stack = [(0, self._start)]
        steps = 0
        while stack:
            steps += 1
            if steps % STEPS_BETWEEN_LOOKS == 0 and time.monotonic() > deadline:
                return Verdict.UNKNOWN, tuple(found)
            done, state = stack.pop()
            done, choices = self._choices(done, state)
            if done & required == required:
                found[state] = None
                if len(found) >= most:
                    return Verdict.VALID, tuple(found)
            for number, after in choices:
                configuration = (done | 1 << number | self._ended_by(number, done), after)
                if configuration not in seen:
                    seen.add(configuration)
                    stack.append(configuration)
        return Verdict.VALID if found else Verdict.INVALID, tuple(found)

    def _choices(self, done: int, state: State) -> tuple[int, list[tuple[int, State]]]:
        """Place what changes nothing, at once: whatever order follows can have it here. Return what may come next.

        The best comes last: whoever returns first, and what need not happen only if nothing else explains the rest.
        """
        while True:
            first, enabled = math.inf, []
            position = (~done & (done + 1)).bit_length() - 1  # of the first that is not placed
            for number in range(position, len(self._events)):
                if done >> number & 1:
                    continue
                if self._events[number].call > first:
                    break
                first = min(first, self._ret[number])
                enabled.append(number)
            choices = []
            for number in enabled:
                after = self._after(number, done, state)
                if after is None:
                    continue
                if after == state and not self._ended_by(number, done):
                    done |= 1 << number
                    break
                choices.append((number, after))
            else:
                choices.sort(key=lambda choice: self._ret[choice[0]], reverse=True)
                return done, choices

    def _ended_by(self, number: int, done: int) -> int:
        """Return, as a bit, the request in hand of a client that leaves: it will never happen now. 0: there is none."""
        event = self._events[number]
        pending = self._pending.get(event.client) if event.kind == "leave" else None
        return 0 if pending is None or done >> pending & 1 else 1 << pending

    def _after(self, number: int, done: int, state: State) -> State | None:
        """Return the state after an event, None if it cannot come next, or not with this answer."""
        event = self._events[number]
        if event.kind == "expire" and not done >> self._hold_of[number] & 1:
            return None
        return self._apply(number, event, state)

    def _apply(self, number: int, event: Event, state: State) -> State | None:
        free, baskets = dict(state.free), dict(state.baskets)
        mine = list(baskets.get(event.client, ()))
        if event.kind == "list":
            return state if event.result == free else None
        if event.kind == "basket":
            held: dict[int, int] = {}
            for _, show, seats in mine:
                held[show] = held.get(show, 0) + seats
            return state if event.result == held else None
        if event.kind in ASKING:
            possible = _is_possible(event, free, mine)
            if event.result is not None and event.result != possible:
                return None
            if not possible:
                return state if event.result is False else None
        if event.kind in ("reserve", "hold"):
            free[event.show] -= event.seats
            if event.kind == "hold":
                mine.append((number, event.show, event.seats))
        elif event.kind == "release":
            left = event.seats
            for place in reversed(range(len(mine))):
                hold, show, seats = mine[place]
                if show == event.show and left:
                    back = min(seats, left)
                    mine[place] = (hold, show, seats - back)
                    left -= back
            free[event.show] += event.seats
            mine = [entry for entry in mine if entry[2]]
        elif event.kind == "confirm":
            mine = []
        else:
            ending = [entry for entry in mine if event.kind == "leave" or entry[0] == self._hold_of[number]]
            for entry in ending:
                free[entry[1]] += entry[2]
                mine.remove(entry)
        baskets[event.client] = tuple(mine)
        kept = sorted(((client, holds) for client, holds in baskets.items() if holds), key=lambda item: str(item[0]))
        return State(tuple(sorted(free.items())), tuple(kept))


def _is_possible(event: Event, free: Mapping[int, int], mine: Sequence[tuple[int, int, int]]) -> bool:
    """Say whether the clerk would acknowledge what is asked for."""
    if event.kind in ("reserve", "hold"):
        return 0 < event.seats <= free.get(event.show, -1)
    if event.kind == "release":
        return 0 < event.seats <= sum(seats for _, show, seats in mine if show == event.show)
    return 0 < event.seats == sum(seats for _, _, seats in mine)


def _shortest(
    history: Sequence[Event], initial: Mapping[int, int], hold_seconds: float, deadline: float
) -> list[Event]:
    """Return the shortest invalid prefix: a prefix of a good history is good, so a binary search finds it."""
    returns = sorted(event.ret for event in history if event.ret is not None)

    def prefix(length: int) -> list[Event]:
        last = returns[length - 1]
        known = (event for event in history if event.call <= last)
        return [e if e.ret is not None and e.ret <= last else replace(e, result=None, ret=None) for e in known]

    low, high = 0, len(returns)
    while high - low > 1:
        middle = (low + high) // 2
        now = time.monotonic()
        verdict, _ = _Search(prefix(middle), initial, hold_seconds).run(now + (deadline - now) / 4)
        low, high = (low, middle) if verdict is Verdict.INVALID else (middle, high)
    return prefix(high)


def _told(event: Event) -> str:
    """Return an operation and its answer in French."""
    what = {
        "list": "liste",
        "reserve": f"réserve {event.seats} du spectacle {event.show}",
        "hold": f"met au panier {event.seats} du spectacle {event.show}",
        "release": f"retire {event.seats} du spectacle {event.show}",
        "confirm": f"confirme {event.seats}",
        "basket": "regarde son panier",
        "leave": "s'en va",
    }[event.kind]
    if isinstance(event.result, Mapping):
        answer = ", ".join(f"{show} : {seats}" for show, seats in sorted(event.result.items())) or "rien"
    else:
        answer = "sans réponse" if event.result is None else "oui" if event.result else "non"
    return f"{event.client} {what}" + ("" if event.kind == "leave" else f" → {answer}")


def _possible(culprit: Event, states: Sequence[State]) -> str:
    """Say what could have been answered instead, as far as the states tell."""
    if not states:
        return ""
    if culprit.kind in ("reserve", "hold"):
        could = sorted({dict(state.free).get(culprit.show, 0) for state in states})
        return f"Il en restait, selon l'ordre : {' ou '.join(map(str, could))}."
    if culprit.kind in ("release", "confirm", "basket"):
        baskets = {dict(state.baskets).get(culprit.client, ()) for state in states}
        could_hold = sorted({sum(seats for _, _, seats in holds) for holds in baskets})
        return f"Il y avait dans son panier, selon l'ordre : {' ou '.join(map(str, could_hold))} place(s)."
    seen = culprit.result if isinstance(culprit.result, Mapping) else {}
    for show in sorted(seen):
        could = sorted({dict(state.free).get(show, 0) for state in states})
        if seen[show] not in could:
            return f"Du spectacle {show} il restait, selon l'ordre : {' ou '.join(map(str, could))}."
    return ""
