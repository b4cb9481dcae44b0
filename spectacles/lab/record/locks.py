"""Who held which lock, and who handed it to whom.

A mutex, a lock on a file, a semaphore that is used as one: taken and given back by the same task. A semaphore that
others post than take is a signal, and nobody holds it. A lock dies with its holder (a POSIX semaphore, a mutex), unless
the kernel gives it back: a lock on a file, a System V semaphore with SEM_UNDO.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from spectacles.lab.gate import events as gate_events
from spectacles.lab.record import matching
from spectacles.lab.record.matching import Side
from spectacles.lab.record.model import Action, Hold, LaneKind, Transfer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from spectacles.lab.gate.events import Event
    from spectacles.lab.record.draft import Draft

SEM_UNDO = 0x1000


def _moves(draft: Draft) -> list[tuple[str, int, bool]]:
    """Return what a step takes from (below 0) or gives to each lock: name, how much, whether the kernel undoes it."""
    if draft.action not in (Action.TAKE, Action.RELEASE):
        return []
    if draft.event.call == "semop":
        ops = [op for op in draft.event.arguments.get("ops") or [] if isinstance(op, list) and len(op) == 3]
        return [(f"{draft.object}\0{op[0]}", op[1], bool(op[2] & SEM_UNDO)) for op in ops if op[1]]
    on_file = draft.event.call in ("flock", "fcntl")
    return [(draft.object, -1 if draft.action is Action.TAKE else 1, on_file)]


def _kept_by_one(drafts: Iterable[Draft]) -> set[str]:
    """Return the locks that were only ever given back by who had them."""
    found: set[str] = set()
    signals: set[str] = set()
    has: dict[tuple[str, str], int] = {}
    for _, _, draft in _in_order(drafts):
        for lock, count, _ in _moves(draft):
            found.add(lock)
            owner = (lock, draft.event.task)
            if count > 0 and has.get(owner, 0) < count and draft.event.call not in ("flock", "fcntl"):
                signals.add(lock)
            has[owner] = has.get(owner, 0) - count
    return found - signals


def _in_order(drafts: Iterable[Draft]) -> list[tuple[float, int, Draft]]:
    """Return the steps that got a lock or gave it back, by when: got at their end, given back at their beginning."""
    moves = [
        (draft.end if draft.action is Action.TAKE else draft.begin, draft.event.seq, draft)
        for draft in drafts
        if draft.action in (Action.TAKE, Action.RELEASE) and draft.succeeded and draft.end < math.inf
    ]
    return sorted(moves, key=lambda move: move[:2])


def holds(drafts: Iterable[Draft], deaths: Mapping[str, Event], removed: Mapping[str, Sequence[int]]) -> list[Hold]:
    """Return who held what, in the order in which it was taken.

    removed: object -> when, as nobody misses the lock that went with it.
    """
    drafts = list(drafts)
    kept = _kept_by_one(drafts)
    moves: list[tuple[float, int, Draft, bool]] = [(*move, False) for move in _in_order(drafts)]
    for draft in drafts:  # a condition gives its lock back, and takes it again
        if draft.event.call == gate_events.WAITS:
            moves.append((draft.begin, draft.event.seq, draft, True))
            if draft.end < math.inf:
                moves.append((draft.end, draft.event.seq, draft, False))
    moves.sort(key=lambda move: move[:2])
    open_: dict[tuple[str, str], tuple[int, bool]] = {}  # (lock, task) -> since, whether the kernel gives it back
    found: list[Hold] = []

    def let_go(lock: str, task: str, until: int, *, lost: bool = False) -> None:
        since, _ = open_.pop((lock, task))
        found.append(Hold(lock.partition("\0")[0], task, since, until, lost))

    for _, seq, draft, gives in moves:
        task = draft.event.task
        if draft.event.call == gate_events.WAITS:
            lock = str(draft.event.arguments.get("lock", ""))
            if gives and (lock, task) in open_:
                let_go(lock, task, seq)
            elif not gives:
                open_[lock, task] = (seq, False)
            continue
        for lock, count, undone in _moves(draft):
            if lock not in kept:
                continue
            if count < 0:
                open_.setdefault((lock, task), (seq, undone))
            elif (lock, task) in open_:
                let_go(lock, task, seq)
    for (lock, task), (since, undone) in list(open_.items()):
        death = deaths.get(task)
        if death is None:
            let_go(lock, task, 0)
            continue
        gone = any(since < when < death.seq for when in removed.get(lock.partition("\0")[0], ()))
        let_go(lock, task, death.seq if undone or gone else 0, lost=not undone and not gone)
    return sorted(found, key=lambda hold: hold.since)


def hand_over(drafts: Mapping[int, Draft], transfers: list[Transfer]) -> None:
    """Add to the transfers which release let go whom: of a lock, only where somebody waited for it."""
    kept = _kept_by_one(drafts.values())
    given: dict[str, list[tuple[Side, int]]] = {}
    taken: dict[str, list[tuple[Side, int]]] = {}
    for _, _, draft in _in_order(drafts.values()):
        for lock, count, _ in _moves(draft):
            side = Side(draft.event.seq, draft.begin, draft.end)
            (given if count > 0 else taken).setdefault(lock, []).append((side, abs(count)))
    starts = _starts(drafts)
    for lock, takes in taken.items():
        object_ = lock.partition("\0")[0]
        posts = given.get(lock, [])
        if lock in kept or drafts[takes[0][0].seq].kind is not LaneKind.SEMAPHORE:
            _hand(lock, object_, drafts, transfers)
            continue
        pairs = matching.tokens(posts, takes, starts.get(lock))
        transfers += [Transfer(pair.send, pair.receive, object_, None, pair.sure) for pair in pairs]


def _starts(drafts: Mapping[int, Draft]) -> dict[str, int]:
    """Return what semaphores were set to before they were used, where that was seen."""
    found: dict[str, int] = {}
    used: set[str] = set()
    for _, draft in sorted(drafts.items()):
        used |= {lock for lock, _, _ in _moves(draft)}
        arguments = draft.event.arguments
        if draft.event.call == "semctl" and arguments.get("command") == "SETVAL" and draft.succeeded:
            lock = f"{draft.object}\0{arguments.get('number')}"
            value = arguments.get("value")
            if lock not in used and isinstance(value, int):
                found[lock] = value & 0x7FFF_FFFF
    return found


def _hand(lock: str, object_: str, drafts: Mapping[int, Draft], transfers: list[Transfer]) -> None:
    """Who waited for a lock got it from who gave it back last."""
    last: Draft | None = None
    for _, _, draft in _in_order(drafts.values()):
        for name, count, _ in _moves(draft):
            if name != lock:
                continue
            if count > 0:
                last = draft
            elif last is not None and last.begin > draft.begin and last.event.task != draft.event.task:
                transfers.append(Transfer(last.event.seq, draft.event.seq, object_, None, True))
                draft.blocked = True
