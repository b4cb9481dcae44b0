"""What matters in a run: not how it was prepared and ended, and of our own servers not what keeps them alive."""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from typing import TYPE_CHECKING

from spectacles.lab.record.model import TASKS, Action, LaneKind

if TYPE_CHECKING:
    from spectacles.lab.record.model import Lane, Run, Step

_CHANNELS = (LaneKind.QUEUE, LaneKind.FIFO, LaneKind.SOCKET)
_LOCKS = (LaneKind.SEMAPHORE, LaneKind.LOCK)
# What an interpreter or a library guards for itself, and nobody else has asked for.
_THEIR_OWN = re.compile(r"(lock|condition) ((python|perl|ruby)[\d.]*|java|node|lib[^+]*\.so[^+]*)\+")
_ALWAYS = (Action.DECISION, Action.NOTE, Action.SIGNAL, Action.WAKE)


def during(run: Run, ready: int, over: int) -> Run:
    """Return what happened after event `ready` and up to `over` (0: until the end). Who waited then waits still."""
    last = over or max((step.seq for step in run.steps), default=0)
    kept = [step for step in run.steps if step.seq <= last]
    kept = [step for step in kept if step.seq > ready or not 0 < step.until <= ready or step.action is Action.NOTE]
    kept = [step for step in kept if step.seq > ready or step.blocked or step.action is Action.NOTE]
    steps = [step if step.until <= last else dataclasses.replace(step, until=0, blocked=True) for step in kept]
    lanes = [dataclasses.replace(lane, died=0) if lane.died > last else lane for lane in run.lanes]
    lanes = [lane for lane in lanes if lane.born <= last and not 0 < lane.died <= ready]
    return _without_the_rest(run, lanes, steps)


def without_interpreters(run: Run) -> Run:
    """Return the run without the locks of interpreters and libraries that one task alone uses, and never waits for.

    Perl, say, takes a hundred before the first line of the script.
    """
    users: dict[str, set[str]] = defaultdict(set)
    for step in run.steps:
        users[step.object] |= {step.task, *(["a wait"] if step.blocked else [])}
    dull = {name for name, tasks in users.items() if len(tasks) == 1 and _THEIR_OWN.match(name)}
    return _without_the_rest(run, list(run.lanes), [step for step in run.steps if step.object not in dull])


def service(run: Run, servers: tuple[str, ...]) -> Run:
    """Return what a server of the service does for its clients. servers: names of the programs that are one.

    Left out: its logs, its locks on files, the pipes between its own tasks, what it looks at to see that all is well;
    of clients, what they ask their user.
    """
    kinds = {lane.id: lane.kind for lane in run.lanes}
    matched = {one.receive for one in run.transfers}
    steps = [step for step in run.steps if _serves(step, kinds, matched) or step.call == "poll"]
    steps = _with_waits_for_others(steps, servers)
    clients = [lane for lane in run.lanes if lane.kind in TASKS and lane.id.partition(".")[0] not in servers]
    seen = {lane.id for lane in clients} | set(servers)
    lanes = [lane for lane in run.lanes if lane.kind not in TASKS or lane.id in seen or _acts(lane, steps)]
    return _without_the_rest(run, lanes, steps)


def _with_waits_for_others(steps: list[Step], servers: tuple[str, ...]) -> list[Step]:
    """Return the steps without those polls that are for no message: of who only looks after the others, of a menu."""
    found: list[Step] = []
    following: dict[str, Step] = {}
    for step in reversed(steps):
        program, _, child = step.task.partition(".")
        then = following.get(step.task)
        receives = then is not None and (then.action is Action.RECEIVE or then.call in ("accept", "poll"))
        idle = then is None and not step.until and program in servers
        if step.call != "poll" or (step.blocked and (receives or idle) and (child or program not in servers)):
            found.append(step)
            if step.action is not Action.BIRTH:  # seen when the parent rests, or when the child first stops
                following[step.task] = step
    return found[::-1]


def _acts(lane: Lane, steps: list[Step]) -> bool:
    return any(step.task == lane.id or step.object == lane.id for step in steps)


def _serves(step: Step, kinds: dict[str, LaneKind], matched: set[int]) -> bool:
    kind = kinds.get(step.object, LaneKind.OTHER)
    # Without the preload library no result is known: what took something then is what was matched with a send.
    got = step.seq in matched if step.result is None else step.result > 0
    failed = bool(step.errno) or (step.action is Action.RECEIVE and step.until > 0 and not got)
    if step.action in _ALWAYS:
        return True
    if step.action is Action.DEATH:
        return step.words != "fin" and not step.words.startswith("fin, code 1")
    if step.action is Action.BIRTH:
        return step.task != step.object
    if step.action in (Action.SEND, Action.RECEIVE):
        return kind in _CHANNELS and not failed and step.detail.get("layout") != "PIPE_INT"
    if step.call in ("connect", "accept"):
        return not failed or step.errno == "EINPROGRESS"
    if step.action in (Action.TAKE, Action.RELEASE):
        return kind in _LOCKS
    if step.action in (Action.LOOK, Action.CHANGE):
        return kind is LaneKind.MEMORY and ("spectacle" in step.words or "la table" in step.words)
    if step.action is Action.WRITE:
        return step.object.rpartition("/")[2] == "spectacles.dat"
    return step.action is Action.SYNC


def _without_the_rest(run: Run, lanes: list[Lane], steps: list[Step]) -> Run:
    """Return the run with these steps, without what hangs in the air."""
    there = {step.seq for step in steps}
    used = {step.object for step in steps} | {step.task for step in steps}
    holds = [hold for hold in run.holds if hold.since in there]
    last = max(there, default=0)
    return dataclasses.replace(
        run,
        lanes=tuple(lane for lane in lanes if lane.kind in TASKS or lane.id in used),
        steps=tuple(steps),
        transfers=tuple(one for one in run.transfers if one.send in there and one.receive in there),
        holds=tuple(hold if hold.until <= last else dataclasses.replace(hold, until=0, lost=False) for hold in holds),
        unsent=tuple(seq for seq in run.unsent if seq in there),
    )
