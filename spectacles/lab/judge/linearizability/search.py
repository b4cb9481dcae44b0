"""Linearizability checking of box-office histories.

A history is what the clients of one server recorded: for each operation, when it was called, when it
was answered and with what.  The history is *linearizable* when every operation can be given one instant
between its call and its return such that the operations, taken in the order of those instants, behave
like a sequential box office.

The checker is the Wing-Gong-Lowe search (Wing & Gong 1993; Lowe, "Testing for linearizability", 2017)
with memoisation of the configurations already refuted, applied to each show alone: shows are
independent objects and linearizability is local, so a history is linearizable if and only if its
restriction to each show is (the P-compositionality of Horn & Kroening, and of the Go tool porcupine).

Sequential model of one show that has `seats` seats left:

* a consult returns `seats`;
* a reserve of n is acknowledged when ``0 < n <= seats``, and then ``seats`` becomes ``seats - n``;
* any other reserve is refused and changes nothing.

An operation without an answer (its client or its server was killed) is pending for ever: a pending
reserve may have taken effect at any time after its call, or never; a pending consult says nothing.

What is given to people (reports, error messages) is in French, the language of the project's users.

Command line::

    python -m spectacles.lab.linearizability HISTORY.jsonl --initial 0=50,1=20 [OPTIONS]

with options --final 0=12,1=3 (seats at the end), --absent 7,8 (shows that do not exist) and
--time-limit 10 (seconds).

Exit status: 0 linearizable, 1 not linearizable (a counterexample is printed), 2 usage or malformed
history, 4 unknown (out of time).
"""

from __future__ import annotations

import argparse
import enum
import io
import itertools
import json
import math
import sys
import textwrap
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, TextIO

__all__ = [
    "FINAL_CLIENT",
    "Counterexample",
    "Operation",
    "Report",
    "Verdict",
    "check",
    "check_show",
    "dump",
    "load",
    "main",
    "split_list",
]

#: Name of the client of the consult that `check(final=...)` adds after everything.
FINAL_CLIENT = "état final"

_WIDTH = 100
# Beyond this many lines the oldest reservations of a counterexample are summed up in one line.
_MAX_LINES = 40
# And beyond this many, which operations that cannot be summed up hardly ever reach, only the last ones
# are shown.
_MOST_LINES = 200
# A search that refuted so many configurations keeps going without recording more: the verdict stays
# right, and the memory bounded (about 200 bytes a configuration).
_MEMO_LIMIT = 2_000_000


class Verdict(enum.Enum):
    """Outcome of a check: linearizable, not linearizable, or out of time before knowing."""

    VALID = "valid"
    INVALID = "invalid"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of one client on one show, as its client saw it.

    client: number or name of the client; a client runs one operation at a time.  After an unanswered
        operation, a client that goes on must do so under another name.
    kind: "consult" or "reserve".
    show: number of the show.
    seats: seats asked by a reserve (any integer: asking 0 or less must be refused); 0 for a consult.
    result: seats seen by a consult (int), acknowledgement of a reserve (bool), or None: no answer.
    call, ret: instants of the call and of the return, nanoseconds of one clock common to all clients;
        ret is None exactly when result is None.

    Two operations are ordered when one returned strictly before the other was called.  At equal
    instants they count as concurrent, which can hide a fault but never accuses wrongly.
    """

    client: int | str
    kind: Literal["consult", "reserve"]
    show: int
    seats: int
    result: int | bool | None
    call: int
    ret: int | None


def split_list(client: int | str, reply: Mapping[int, int], call: int, ret: int) -> list[Operation]:
    """Split the reply of one `list` request (show number -> seats left) into one consult per show.

    This asks less of the server than a snapshot of all shows at one instant would: each show is
    required to have been read at some instant of the request, not all at the same one.
    """
    return [Operation(client, "consult", show, 0, seats, call, ret) for show, seats in sorted(reply.items())]


# --- validation -----------------------------------------------------------------------------------


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _defect(op: Operation) -> str | None:
    """Say what is wrong with an operation taken alone, or None."""
    if not (_is_int(op.client) or isinstance(op.client, str)):
        return "le client doit être un entier ou un nom"
    if op.kind not in ("consult", "reserve"):
        return f"genre inconnu {op.kind!r} (attendu : consult ou reserve)"
    for name in ("show", "seats", "call"):
        if not _is_int(getattr(op, name)):
            return f"{name} doit être un entier"
    if op.ret is not None and not _is_int(op.ret):
        return "ret doit être un entier ou absent (null)"
    if op.kind == "consult":
        if op.seats != 0:
            return "une consultation ne demande pas de places (seats doit valoir 0)"
        if op.result is not None and not _is_int(op.result):
            return "le résultat d'une consultation est un nombre de places"
    elif op.result is not None and not isinstance(op.result, bool):
        return "le résultat d'une réservation est un booléen"
    if (op.result is None) != (op.ret is None):
        return "result et ret doivent manquer ensemble (opération sans réponse) ou être là tous les deux"
    if op.ret is not None and op.ret < op.call:
        return "le retour (ret) précède l'appel (call)"
    return None


def _validate(operations: Sequence[Operation]) -> None:
    """Raise ValueError, naming the operation, when a history is malformed."""
    by_client: dict[int | str, list[Operation]] = {}
    for op in operations:
        defect = _defect(op)
        if defect is not None:
            raise ValueError(f"opération mal formée : {defect} : {op}")
        by_client.setdefault(op.client, []).append(op)
    for mine in by_client.values():
        mine.sort(key=lambda op: (op.call, math.inf if op.ret is None else op.ret, op.kind, op.show))
        for before, after in itertools.pairwise(mine):
            # The consults that `split_list` made of one reply share their interval.
            same_list = (
                before.kind == after.kind == "consult"
                and (before.call, before.ret) == (after.call, after.ret)
                and before.show != after.show
            )
            if before.ret is None and not same_list:
                raise ValueError(
                    f"le client {before.client!r} continue après une opération sans réponse "
                    f"(un client qui reprend doit changer de nom) : {before} puis {after}"
                )
            if before.ret is not None and after.call < before.ret and not same_list:
                raise ValueError(
                    f"le client {before.client!r} a deux opérations qui se chevauchent : {before} et {after}"
                )


def _validate_seats(show: int, seats: object) -> None:
    if not isinstance(seats, int) or isinstance(seats, bool) or seats < 0:
        raise ValueError(f"spectacle {show} : nombre de places initial {seats!r} (attendu : entier positif)")


def _deadline(time_limit: float) -> float:
    if math.isnan(time_limit) or time_limit < 0:
        raise ValueError(f"durée limite {time_limit!r} (attendu : secondes, positives)")
    return time.monotonic() + time_limit


# --- search ---------------------------------------------------------------------------------------

_ACKED, _PENDING, _CONSULT, _REFUSED = range(4)
_REMOVABLE = (_CONSULT, _REFUSED)


def _role(op: Operation) -> int | None:
    """Part an operation plays in the search, or None when it constrains nothing."""
    if op.result is None:
        # A pending reserve of 0 seats or less can only have been refused.
        return _PENDING if op.kind == "reserve" and op.seats > 0 else None
    if op.kind == "consult":
        return _CONSULT
    return _ACKED if op.result else _REFUSED


def _out_of_bounds(
    events: Sequence[tuple[int, int, int]], roles: Sequence[int], amount: Sequence[int], initial: int
) -> bool:
    """Whether some operation alone, or with one earlier read, is out of what the seats can have been.

    Most faults show here in one pass over the (sorted) events, where the search would have to exhaust
    every order first.  False proves nothing.

    Let `called` and `returned` be the seats of the acknowledged reserves called, or returned, so far,
    and r a read that returned before operation x was called.  What r left unspent can only shrink: the
    reserves that returned before the call of x and were called after the return of r are spent
    between them, those called before the return of x are all that can be.
    """
    called = returned = doubtful = 0
    # Bounds on (seats seen + seats of the reserves that may, or must, have been counted by then).
    most = least = initial
    at_call: dict[int, tuple[int, int]] = {}
    for _, is_return, k in events:
        role, n = roles[k], amount[k]
        if not is_return:
            if role == _PENDING:
                doubtful += n
                continue
            if role != _REFUSED and n > most - returned:
                return True
            if role == _ACKED:
                called += n
            else:
                at_call[k] = (least, returned)
        elif role == _ACKED:
            returned += n
        elif role == _CONSULT or n > 0:
            lower, spent = at_call[k]
            left = lower - called - doubtful  # at least so many are left
            if (n < left) if role == _CONSULT else (n <= left):
                return True
            if role == _CONSULT:
                most = min(most, n + called)
                least = max(least, n + spent)
            else:
                most = min(most, n - 1 + called)
    return False


def _search(operations: Iterable[Operation], initial: int, deadline: float) -> Verdict:
    """Decide whether the operations, all on one show, are linearizable from `initial` seats.

    The search builds an order from left to right.  An operation not yet placed is *enabled* when no
    other unplaced operation returned before its call; only an enabled operation may come next.  Calls
    and returns form one doubly linked list, sorted by instant; placing an operation unlinks its two
    events (and backtracking links them again), so the enabled operations are those whose call comes
    before the first return of the list.

    Reads (consults and refused reserves) do not change the state, acknowledged and pending reserves
    only lower it, and by an amount that does not depend on the order.  From this follow five rules;
    each says that an order that breaks it can be rearranged into another good order that does not, so
    that nothing is lost by following them all:

    R. An enabled read that holds in the present state is placed at once.  Whatever order puts it
       later, move it here: nothing unplaced has to precede it (it is enabled), it holds here, and
       the operations it jumps over see the states they saw.
    E. Among enabled acknowledged reserves of the same n, only the one that returns first is tried.
       If another comes first, exchange the two: the states are the same, both are enabled here, and
       whatever had to follow the later-returning one was already behind the place it moves to.
       Pending reserves count as returning last (never), and among themselves by call.
    B. A pending reserve is placed only if a read, or another pending reserve in the same case, comes
       next.  If an acknowledged reserve comes next, exchange the two: the acknowledged one has more
       seats, the other finds the same sum spent, and never returned, so that nothing had to follow
       it.  If nothing comes next, leave it out.
    W. So pending reserves are tried only while an enabled read waits for the seats to go down.
    F. When no enabled read waits, every read left was called after the first return of the list, and
       so comes after the operation f that returns there, which is then an acknowledged reserve.  Only
       reserves can precede f, and they commute: move f first.  No branching.

    Each rearrangement improves, in lexicographic order, (number of pending reserves used, fewer; sum
    of the ranks of the pending reserves, higher; sum of the ranks of the reads, lower; inversions of
    the acknowledged reserves with respect to their returns, fewer; call ranks of the pending reserves
    used and inversions among them, fewer): rearranging ends, and at its end all rules hold together.
    """
    ops: list[tuple[Operation, int]] = []
    for op in operations:
        role = _role(op)
        if role is not None:
            ops.append((op, role))
    ops.sort(key=lambda item: item[0].call)
    count = len(ops)
    roles = [role for _, role in ops]
    amount = [int(op.result or 0) if role == _CONSULT else op.seats for op, role in ops]
    slack = initial
    for role, n in zip(roles, amount, strict=True):
        if role == _ACKED:
            if n <= 0:
                return Verdict.INVALID
            slack -= n
    # `slack` is what remains for pending reserves once all acknowledged ones are served.  While it is
    # not negative no acknowledged reserve can lack seats, whatever the order.
    if slack < 0:
        return Verdict.INVALID

    # Events: the calls come before the returns of the same instant, so that equality is concurrency.
    events = [(op.call, 0, k) for k, (op, _) in enumerate(ops)]
    events += [(op.ret, 1, k) for k, (op, _) in enumerate(ops) if op.ret is not None]
    events.sort()
    end = len(events) + 1
    owner = [-1] * (end + 1)
    is_return = [False] * (end + 1)
    call_at = [0] * count
    return_at = [end] * count
    for position, (_, phase, k) in enumerate(events, 1):
        owner[position] = k
        if phase:
            is_return[position] = True
            return_at[k] = position
        else:
            call_at[k] = position
    if _out_of_bounds(events, roles, amount, initial):
        return Verdict.INVALID
    following = list(range(1, end + 2))
    preceding = list(range(-1, end + 1))

    # Pending reserves can stay unplaced to the end; numbered apart from the others, they do not hold
    # back the window of the others, and memo keys stay as short as the overlap of the clients.
    number = [0] * count
    tally = [0, 0]
    for k, role in enumerate(roles):
        which = role == _PENDING
        number[k] = tally[which]
        tally[which] += 1

    def lift(k: int) -> None:
        for e in (call_at[k], return_at[k]):
            if e != end:
                before, after = preceding[e], following[e]
                following[before] = after
                preceding[after] = before

    def unlift(k: int) -> None:
        for e in (return_at[k], call_at[k]):
            if e != end:
                following[preceding[e]] = e
                preceding[following[e]] = e

    seats = initial
    trail: list[int] = []  # operations placed, in order
    stack: list[tuple[int, list[int]]] = []  # (length of the trail before the choice, choices left)
    refuted: set[tuple[int, int, int, bool]] = set()
    steps = 0
    must_read = False  # the last choice was a pending reserve that no read has used yet (rule B)

    while True:
        steps += 1
        if steps % 32 == 0 and time.monotonic() > deadline:
            return Verdict.UNKNOWN

        waiting = dead = False
        floor = 0  # the highest count that an enabled consult still waits to see
        base = -1
        window = pending_left = 0
        acked: dict[int, int] = {}
        pending: dict[int, int] = {}
        e = following[0]
        # One pass is enough: placing a read does not change the state, so the reads passed before
        # still do not hold, and the operations it enables are further down the list.
        while e != end and not is_return[e]:
            k = owner[e]
            e = following[e]
            role, n = roles[k], amount[k]
            if role == _PENDING:
                pending_left |= 1 << number[k]
                pending.setdefault(n, k)
                continue
            if role == _ACKED:
                best = acked.get(n)
                if best is None or return_at[k] < return_at[best]:
                    acked[n] = k
            else:
                if (n == seats) if role == _CONSULT else (n <= 0 or seats < n):
                    if e == return_at[k]:
                        e = following[e]
                    lift(k)
                    trail.append(k)
                    must_read = False
                    continue
                waiting = True
                if role == _CONSULT:
                    if n > seats:  # seats never come back
                        dead = True
                        break
                    floor = max(floor, n)
            # Calls are met in order, so the first one met is the lowest number of the window.
            if base < 0:
                base = number[k]
            window |= 1 << (number[k] - base)

        choices: list[int] = []
        if not dead:
            if e == end:
                return Verdict.VALID  # no return left: only pending reserves are unplaced
            # The operations left are those of the window and all those called later; the set placed is
            # thus known from the key, and the seats from the set.
            key = (base, window, pending_left, must_read)
            if key not in refuted:
                if len(refuted) < _MEMO_LIMIT:
                    refuted.add(key)
                if waiting:  # rules B, E and W
                    for n, k in pending.items():
                        if n <= slack and seats - n >= floor and n not in acked:
                            choices.append(k)
                    if not must_read:
                        # Tried first, being last in the list: reserves that must return soonest.
                        choices += sorted(
                            (k for n, k in acked.items() if seats - n >= floor),
                            key=return_at.__getitem__,
                            reverse=True,
                        )
                elif not must_read:  # rule F
                    choices.append(owner[e])
        stack.append((len(trail), choices))

        while stack and not stack[-1][1]:
            stack.pop()
            # Go back to just after the choice below: undo the reads placed since, and that choice.
            mark = stack[-1][0] if stack else 0
            while len(trail) > mark:
                k = trail.pop()
                unlift(k)
                if roles[k] in (_ACKED, _PENDING):
                    seats += amount[k]
                    if roles[k] == _PENDING:
                        slack += amount[k]
        if not stack:
            return Verdict.INVALID
        k = stack[-1][1].pop()
        lift(k)
        trail.append(k)
        seats -= amount[k]
        must_read = roles[k] == _PENDING
        if must_read:
            slack -= amount[k]


def _model(operations: Iterable[Operation], absent: bool) -> list[Operation]:
    """Give an absent show as a show without seats, whatever way its consults say so."""
    if not absent:
        return list(operations)
    return [
        replace(op, result=0) if op.kind == "consult" and op.result is not None and op.result < 0 else op
        for op in operations
    ]


def check_show(
    operations: Iterable[Operation], initial: int, *, time_limit: float = 10.0, absent: bool = False
) -> Verdict:
    """Check the operations of one show that starts with `initial` seats (0 or more).

    time_limit: seconds after which the answer is UNKNOWN (0 or more, may be infinite).
    absent: the show does not exist (its slot of the table has id 0): `initial` must be 0, every
        reserve must be refused, and a consult can only see 0 or a negative error value.

    Raises ValueError when the history is malformed or bears on several shows.
    """
    ops = list(operations)
    _validate(ops)
    shows = sorted({op.show for op in ops})
    if len(shows) > 1:
        raise ValueError(f"un seul spectacle attendu, l'historique en contient {len(shows)} : {shows}")
    _validate_seats(shows[0] if shows else 0, initial)
    if absent and initial != 0:
        raise ValueError(f"un spectacle absent n'a pas de places, initial vaut {initial}")
    return _search(_model(ops, absent), initial, _deadline(time_limit))


# --- counterexamples ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Counterexample:
    """Operations of one show that no sequential order explains.

    show, initial, absent: the show, the seats it started with, whether it does not exist.
    operations: what is needed, sorted by call; operations that had not returned at the end of the
        shortest invalid prefix are given as unanswered.
    total: operations of this show in the history checked.
    minimal: False when time ran out before the operations could be reduced to a minimum.
    """

    show: int
    initial: int
    absent: bool
    operations: tuple[Operation, ...]
    total: int
    minimal: bool

    @property
    def culprit(self) -> Operation:
        """The operation whose return made the history inexplicable: the last one to return."""
        # Ties are broken as when the prefix was chosen (see _Minimizer.shorten).
        returns = ((op.ret, op.call, k) for k, op in enumerate(self.operations) if op.ret is not None)
        return self.operations[max(returns)[2]]

    def explain(self) -> str:
        """Tell the counterexample in French: one line per operation, 100 columns at most."""
        return "\n".join(_render(self))


class _Minimizer:
    """Reduction of an invalid history of one show.

    Only consults and refused reserves are ever removed.  They do not change the state, so dropping
    one from an order that explains a history leaves an order that explains the rest: if the rest is
    invalid, so is the whole.  Nothing such holds of acknowledged reserves (without one, a later
    consult that saw its effect looks wrong by itself) nor of pending ones (which may be what makes a
    history explicable): they are kept, except pending reserves of 0 seats or less, which never act.
    """

    def __init__(self, operations: Sequence[Operation], initial: int, deadline: float) -> None:
        self.best = [op for op in operations if _role(op) is not None]
        self.initial = initial
        self.deadline = deadline
        self.minimal = True

    def invalid(self, operations: list[Operation]) -> bool:
        """Whether the operations are proved invalid; remembers the smallest such history."""
        now = time.monotonic()
        if now > self.deadline:
            self.minimal = False
            return False
        # One hard question must not take all the time: without an answer, more is kept.
        verdict = _search(operations, self.initial, now + (self.deadline - now) / 10)
        if verdict is Verdict.UNKNOWN:
            self.minimal = False
        if verdict is Verdict.INVALID and len(operations) <= len(self.best):
            self.best = operations
        return verdict is Verdict.INVALID

    def run(self) -> list[Operation]:
        self.shorten()
        self.reduce()
        # Without the reads removed, an earlier return may already be inexplicable.  (Nothing more can
        # be removed after that: what is invalid in a prefix is invalid in the whole.)
        self.shorten()
        return self.best

    def shorten(self) -> None:
        """Keep the shortest invalid prefix.

        Linearizability is prefix closed, so the invalid prefixes are those from some return on:
        binary search.
        """
        whole = self.best
        returns = sorted((op.ret, op.call, k) for k, op in enumerate(whole) if op.ret is not None)

        def prefix(length: int) -> list[Operation]:
            last = returns[length - 1][0] if length else -math.inf
            returned = {k for _, _, k in returns[:length]}
            cut = (
                op if k in returned else replace(op, result=None, ret=None)
                for k, op in enumerate(whole)
                if op.call <= last
            )
            return [op for op in cut if _role(op) is not None]

        low, high = 0, len(returns)
        while high - low > 1:
            middle = (low + high) // 2
            if self.invalid(prefix(middle)):
                high = middle
            else:
                low = middle
        self.best = prefix(high)

    def reduce(self) -> None:
        """Remove reads until none can be, by QuickXplain (Junker 2004).

        A superset of an invalid set of reads is invalid, so this takes a number of checks in
        k log(n / k) for k reads kept out of n.  The latest reads are kept by preference: they are
        close to the fault.
        """
        fixed = [op for op in self.best if _role(op) not in _REMOVABLE]
        reads = [op for op in self.best if _role(op) in _REMOVABLE]
        reads.sort(key=lambda op: (op.ret or 0, op.call), reverse=True)

        def conflict(known: list[Operation], added: bool, candidates: list[Operation]) -> list[Operation]:
            if added and self.invalid(fixed + known):
                return []
            if len(candidates) <= 1:
                return candidates
            half = len(candidates) // 2
            first, second = candidates[:half], candidates[half:]
            kept_second = conflict(known + first, bool(first), second)
            kept_first = conflict(known + kept_second, bool(kept_second), first)
            return kept_first + kept_second

        kept = [] if not reads or self.invalid(fixed) else conflict([], False, reads)
        self.invalid(fixed + kept)


def _counterexample(
    operations: Sequence[Operation], show: int, initial: int, absent: bool, deadline: float
) -> Counterexample:
    minimizer = _Minimizer(_model(operations, absent), initial, deadline)
    found = sorted(minimizer.run(), key=lambda op: (op.call, math.inf if op.ret is None else op.ret))
    total = sum(op.client != FINAL_CLIENT for op in operations)
    return Counterexample(show, initial, absent, tuple(found), total, minimizer.minimal)


# --- French text ----------------------------------------------------------------------------------


def _places(n: int) -> str:
    return f"{n} place" if abs(n) < 2 else f"{n} places"


def _granted(n: int) -> str:
    return f"{_places(n)} acquittée{'' if n < 2 else 's'}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n < 2 else f"{n} {noun}s"


def _clip(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _who(op: Operation) -> str:
    name = f"client {op.client}" if _is_int(op.client) else str(op.client)
    # A name from a history file can hold anything; a control character would break the lines.
    return "".join(c if c.isprintable() else "?" for c in name)


def _what(op: Operation) -> str:
    if op.kind == "consult":
        return f"consulte → {op.result} vues" if op.result is not None else "consulte → sans réponse"
    answer = "sans réponse" if op.result is None else "acquittée" if op.result else "refusée"
    return f"réserve {op.seats} → {answer}"


def _microseconds(ns: int) -> str:
    return f"{ns // 1000},{ns % 1000 // 100}"


def _settled(operations: Sequence[Operation]) -> list[Operation]:
    """Acknowledged reserves that returned before every read was called: their order is immaterial."""
    first = min((op.call for op in operations if _role(op) in _REMOVABLE), default=math.inf)
    return [op for op in operations if _role(op) == _ACKED and op.ret is not None and op.ret < first]


def _bar(op: Operation, start: int, stop: int, width: int) -> str:
    def column(instant: int) -> int:
        return (instant - start) * (width - 1) // max(1, stop - start)

    left = column(op.call)
    if op.ret is None:
        return "." * left + "[" + "=" * (width - left - 2) + ">" * (left < width - 1)
    right = column(op.ret)
    middle = "|" if left == right else "[" + "=" * (right - left - 1) + "]"
    return "." * left + middle + "." * (width - 1 - right)


def _render(example: Counterexample) -> list[str]:
    culprit = example.culprit
    settled = sorted(_settled(example.operations), key=lambda op: op.ret or 0)
    excess = max(0, len(example.operations) - _MAX_LINES)
    folded = [op for op in settled if op is not culprit][:excess]
    hidden = {id(op) for op in folded}
    shown = [op for op in example.operations if id(op) not in hidden]
    older = max(0, len(shown) - _MOST_LINES)
    # The culprit is among the last called, unless it lasted: it is shown anyway.
    shown = [op for place, op in enumerate(shown) if place >= older or op is culprit]

    had = "n'existe pas" if example.absent else f"{_places(example.initial)} au départ"
    clients = [op for op in example.operations if op.client != FINAL_CLIENT]
    reads = sum(op.kind == "consult" for op in clients)
    parts = [
        text
        for text, count in (
            (_count(reads, "consultation"), reads),
            (_count(len(clients) - reads, "réservation"), len(clients) - reads),
            ("l'état final", len(example.operations) - len(clients)),
        )
        if count
    ]
    head = (
        f"Spectacle {example.show} ({had}) : historique non linéarisable. "
        f"Contre-exemple : {' et '.join(parts)}, sur {_count(example.total, 'opération')}"
        + ("." if example.minimal else " (non réduit au minimum, faute de temps).")
    )
    lines = textwrap.wrap(head, _WIDTH)
    if folded:
        spent = sum(op.seats for op in folded)
        lines += textwrap.wrap(
            f"Avant cela, {_count(len(folded), 'réservation')} : {_places(spent)} en tout, "
            f"il en restait au plus {example.initial - spent}.",
            _WIDTH,
        )
    if older:
        lines.append(f"(Les {older} opérations suivantes, trop nombreuses, ne sont pas montrées.)")

    start = min(op.call for op in shown)
    stop = max(op.ret if op.ret is not None else op.call for op in shown)
    rows = [
        (
            _microseconds(op.call - start),
            "…" if op.ret is None else _microseconds(op.ret - start),
            _clip(_who(op), 16),
            _clip(_what(op), 28),
            op,
        )
        for op in shown
    ]
    titles = ("appel µs", "retour µs", "client", "opération")
    widths = [min(16, max(len(titles[0]), *(len(row[0]) for row in rows)))]
    widths.append(min(16, max(len(titles[1]), *(len(row[1]) for row in rows))))
    widths.append(max(len(titles[2]), *(len(row[2]) for row in rows)))
    widths.append(max(len(titles[3]), *(len(row[3]) for row in rows)))
    room = min(40, _WIDTH - sum(widths) - 10)
    lines.append(f"{titles[0]:>{widths[0]}}  {titles[1]:>{widths[1]}}  {titles[2]:<{widths[2]}}  {titles[3]}")
    for called, returned, who, what, op in rows:
        lines.append(
            f"{_clip(called, widths[0]):>{widths[0]}}  {_clip(returned, widths[1]):>{widths[1]}}  "
            f"{who:<{widths[2]}}  {what:<{widths[3]}}  {_bar(op, start, stop, room)}"
        )
    return lines + textwrap.wrap(_sentence(example, culprit), _WIDTH)


def _sentence(example: Counterexample, culprit: Operation) -> str:
    """Say what no order explains, with bounds on the seats left when they are enough to see it."""
    others = [op for op in example.operations if op is not culprit]
    until = culprit.ret if culprit.ret is not None else culprit.call
    before = [op for op in others if _role(op) == _ACKED and op.ret is not None and op.ret < culprit.call]
    begun = [op for op in others if _role(op) in (_ACKED, _PENDING) and op.call <= until]
    spent = sum(op.seats for op in before)
    possible = sum(op.seats for op in begun)
    high = example.initial - spent
    low = max(0, example.initial - possible)
    asked = culprit.seats
    no_order = "Aucun ordre séquentiel n'explique que"
    name = _clip(_who(culprit), 40)
    who, whose = (f"le {name}", f"du {name}") if _is_int(culprit.client) else (name, f"de {name}")

    if example.absent:
        if culprit.kind == "consult":
            return f"{no_order} {who} ait vu {_places(int(culprit.result or 0))} : ce spectacle n'existe pas."
        return (
            f"{no_order} la réservation de {_places(asked)} {whose} ait été acquittée : "
            "ce spectacle n'existe pas, toute réservation doit être refusée."
        )
    if culprit.kind == "consult":
        seen = int(culprit.result or 0)
        if culprit.client == FINAL_CLIENT:
            doubt = any(_role(op) == _PENDING for op in begun)
            opening = f"{no_order} l'état final compte {_places(seen)} : "
            if seen > high or not doubt:
                return (
                    f"{opening}{_granted(spent)} sur {example.initial}, "
                    f"il doit en rester {'au plus ' if doubt else ''}{high}."
                )
        else:
            opening = f"{no_order} {who} ait vu {_places(seen)} : "
        if seen > high:
            if spent == 0:
                return f"{opening}il n'y en a jamais eu plus de {example.initial}."
            return f"{opening}{_granted(spent)} avant son appel, il en restait au plus {high}."
        if seen < low:
            return (
                f"{opening}les réservations commencées avant sa réponse ne font que {_places(possible)}, "
                f"il en restait au moins {low}."
            )
        return (
            f"{opening}aucun choix parmi les réservations commencées avant sa réponse ne laisse ce nombre "
            "en accord avec les autres réponses."
        )
    if culprit.result:
        opening = f"{no_order} la réservation de {_places(asked)} {whose} ait été acquittée : "
        if asked <= 0:
            return f"{opening}on ne réserve pas moins d'une place."
        if asked > high:
            return f"{opening}il restait au plus {_places(high)} à son appel."
        granted = asked + sum(op.seats for op in others if _role(op) == _ACKED)
        if granted > example.initial:
            return (
                f"{opening}avec elle, les réservations acquittées font {_places(granted)} "
                f"pour {example.initial} au départ."
            )
        return f"{opening}prise en compte, elle contredit ce que les autres ont lu."
    opening = f"{no_order} la réservation de {_places(asked)} {whose} ait été refusée : "
    if low >= asked:
        return f"{opening}il en restait au moins {low} jusqu'à sa réponse."
    return (
        f"{opening}d'après les autres réponses, il en est toujours resté au moins {asked} "
        "entre son appel et sa réponse."
    )


@dataclass(frozen=True, slots=True)
class Report:
    """Outcome of `check`.

    verdict: INVALID if any show is, else UNKNOWN if any show is, else VALID.
    shows: verdict of each show of the history, of `final`, in increasing order of number.
    counterexamples: one for each invalid show, in the same order.
    operations: operations checked (without those that `final` adds).
    elapsed: seconds taken, reduction of the counterexamples included.
    """

    verdict: Verdict
    shows: Mapping[int, Verdict]
    counterexamples: tuple[Counterexample, ...]
    operations: int
    elapsed: float

    def explain(self) -> str:
        """Tell the outcome in French, in lines of 100 columns at most, without a final newline."""
        size = f"{_count(self.operations, 'opération')}, {_count(len(self.shows), 'spectacle')}"
        seconds = f"{self.elapsed:.2f} s".replace(".", ",")
        paragraphs: list[str] = []
        if self.verdict is Verdict.VALID:
            paragraphs.append(f"Historique linéarisable ({size}, {seconds}).")
        paragraphs += [example.explain() for example in self.counterexamples]
        undecided = [str(show) for show, verdict in self.shows.items() if verdict is Verdict.UNKNOWN]
        if undecided:
            noun = "spectacle" if len(undecided) == 1 else "spectacles"
            text = f"Indécis faute de temps ({size}, {seconds}) : {noun} {', '.join(undecided)}."
            paragraphs.append(textwrap.fill(text, _WIDTH))
        return "\n\n".join(paragraphs)


def check(
    operations: Iterable[Operation],
    initial: Mapping[int, int],
    *,
    time_limit: float = 10.0,
    final: Mapping[int, int] | None = None,
    absent: Collection[int] = (),
) -> Report:
    """Check a whole history, show by show.

    operations: in any order.
    initial: seats (0 or more) of each show before the first operation.
    time_limit: seconds for all shows together, the reduction of counterexamples included.
    final: seats of some shows after everything (what the file says once the server has stopped),
        checked like a consult called after the last event of the history.
    absent: shows that do not exist (slots with id 0), which need no initial seats; every reserve of
        them must be refused, and a consult can only see 0 or a negative error value.

    Raises ValueError when the history is malformed, or when the initial seats of a show that occurs in
    the history or in `final` are not given: guessing them would make the verdict worthless.
    """
    started = time.monotonic()
    deadline = _deadline(time_limit)
    ops = list(operations)
    _validate(ops)
    by_show: dict[int, list[Operation]] = {}
    for op in ops:
        if op.client == FINAL_CLIENT:
            raise ValueError(f"le nom de client {FINAL_CLIENT!r} est réservé : {op}")
        by_show.setdefault(op.show, []).append(op)
    for show, seats in (final or {}).items():
        if not _is_int(seats):
            raise ValueError(f"spectacle {show} : état final {seats!r} (attendu : entier)")
        by_show.setdefault(show, [])
    unknown = sorted(show for show in by_show if show not in initial and show not in absent)
    if unknown:
        raise ValueError(
            f"nombre de places initial inconnu pour : {', '.join(map(str, unknown))} (il ne se devine pas)"
        )
    for show, seats in initial.items():
        _validate_seats(show, seats)
        if show in absent and seats != 0:
            raise ValueError(f"spectacle {show} donné à la fois absent et avec {_places(seats)}")

    last = max((op.call if op.ret is None else op.ret for op in ops), default=0) + 1
    for show, seats in (final or {}).items():
        by_show[show].append(Operation(FINAL_CLIENT, "consult", show, 0, seats, last, last))

    shows = {
        show: _search(_model(by_show[show], show in absent), initial.get(show, 0), deadline) for show in sorted(by_show)
    }
    # All verdicts first: reducing a counterexample may only use the time that they leave.
    examples = tuple(
        _counterexample(by_show[show], show, initial.get(show, 0), show in absent, deadline)
        for show, verdict in shows.items()
        if verdict is Verdict.INVALID
    )
    overall = next((v for v in (Verdict.INVALID, Verdict.UNKNOWN) if v in shows.values()), Verdict.VALID)
    return Report(overall, shows, examples, len(ops), time.monotonic() - started)


# --- histories in files ---------------------------------------------------------------------------

_FIELDS = tuple(field.name for field in fields(Operation))


def dump(operations: Iterable[Operation], file: TextIO) -> None:
    """Write a history as JSON lines: one object per operation, with the fields of `Operation`."""
    for op in operations:
        file.write(json.dumps(asdict(op), ensure_ascii=False) + "\n")


def load(file: Iterable[str | bytes]) -> list[Operation]:
    """Read a history written by `dump`, from the lines of a text or binary (UTF-8) file.

    Blank lines are skipped.  Raises ValueError naming the line (from 1) that is not UTF-8, not a JSON
    object with exactly the fields of `Operation`, or an operation malformed by itself.
    """
    operations: list[Operation] = []
    for number, raw in enumerate(file, 1):
        try:
            line = raw.decode() if isinstance(raw, bytes) else raw
            if line.strip():
                operations.append(_operation_of(json.loads(line)))
        except UnicodeDecodeError:
            raise ValueError(f"ligne {number} : texte qui n'est pas en UTF-8") from None
        except json.JSONDecodeError as error:
            raise ValueError(f"ligne {number} : JSON mal formé, colonne {error.colno}") from None
        except RecursionError:
            raise ValueError(f"ligne {number} : JSON trop imbriqué") from None
        except ValueError as error:
            raise ValueError(f"ligne {number} : {error}") from None
    return operations


def _operation_of(value: Any) -> Operation:
    if not isinstance(value, dict):
        raise ValueError("un objet JSON est attendu")
    missing = [name for name in _FIELDS if name not in value]
    if missing:
        raise ValueError(f"champs manquants : {', '.join(missing)}")
    extra = sorted(set(value) - set(_FIELDS))
    if extra:
        raise ValueError(f"champs inconnus : {', '.join(extra)}")
    op = Operation(**value)
    defect = _defect(op)
    if defect is not None:
        raise ValueError(f"{defect} : {op}")
    return op


# --- command line ---------------------------------------------------------------------------------


def _seats_argument(text: str) -> dict[int, int]:
    """Read ``0=50,1=20`` as show -> seats."""
    seats: dict[int, int] = {}
    for part in text.split(","):
        left, equals, right = part.partition("=")
        try:
            show, value = int(left), int(right)
        except ValueError:
            equals = ""
        if not equals:
            raise argparse.ArgumentTypeError(f"{part!r} n'est pas de la forme spectacle=places")
        if show in seats:
            raise argparse.ArgumentTypeError(f"spectacle {show} donné deux fois")
        seats[show] = value
    return seats


def _shows_argument(text: str) -> frozenset[int]:
    try:
        return frozenset(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} n'est pas une liste de numéros de spectacles") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command (arguments: those of the process by default) and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m spectacles.lab.linearizability",
        description="Vérifie qu'un historique d'opérations est linéarisable.",
        epilog="Code de retour : 0 linéarisable, 1 non linéarisable, 2 usage, 4 indécis faute de temps.",
    )
    parser.add_argument("history", metavar="HISTORIQUE.jsonl", help="une opération JSON par ligne")
    parser.add_argument("--initial", type=_seats_argument, default={}, metavar="0=50,1=20", help="places au départ")
    parser.add_argument(
        "--final", type=_seats_argument, metavar="0=12,1=3", help="places à la fin, après tout le reste"
    )
    parser.add_argument(
        "--absent",
        type=_shows_argument,
        default=frozenset(),
        metavar="7,8",
        help="spectacles qui n'existent pas",
    )
    parser.add_argument(
        "--time-limit", type=float, default=10.0, metavar="S", help="durée limite en secondes (10 par défaut)"
    )
    options = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show an accent must not cost the verdict.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        with open(options.history, "rb") as file:
            history = load(file)
        report = check(
            history,
            options.initial,
            time_limit=options.time_limit,
            final=options.final,
            absent=options.absent,
        )
    except OSError as error:
        print(f"{options.history} : {error.strerror or error}", file=sys.stderr)
        return 2
    except ValueError as error:
        print(f"{options.history} : {error}", file=sys.stderr)
        return 2
    print(report.explain())
    return {Verdict.VALID: 0, Verdict.INVALID: 1, Verdict.UNKNOWN: 4}[report.verdict]
