"""What a step touches: by that two steps are known to be independent, so that their order need not be tried both ways.

A key stands for one thing that steps can touch, by a name that is the same in every run; touching is reading or
changing. Two steps of different tasks depend on each other when they touch the same key, and one changes it. What is
not known exactly counts as touched: that costs schedules, and hides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from spectacles.lab.gate.events import BEGINS, BUSY, HAS, LACKS, RELEASES, WAITS, WAKES, WANTS, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spectacles.lab.gate.events import Event

Keys = tuple[tuple[str, bool], ...]  # key, whether it is changed

LINE = 64  # bytes of shared memory that are one thing: the longest access of one instruction
_LOCKS = (WANTS, BUSY, RELEASES, WAITS, WAKES)
_STREAMS = "(streams)"  # all pipes and sockets together: what poll(2) looks at
_CHANNELS = ("pipe ", "socket ", "connection ", "port ", "descriptor ", "[", "eventfd")
_LOCAL = ("exec", "fork", "thread", "pipe", "socket", "sleep", "pause", "shmdt", HAS, LACKS)


@dataclass
class Process:
    """What must be known of a process to say what its steps touch."""

    name: str  # of its first task
    parent: str  # of the process that has it as a child
    open: set[str]  # streams that it may have open, its parents' included
    threaded: bool = False  # it has had threads: between any two calls it may touch its own memory, which is not seen


def touches(event: Event, process: Process, named: Mapping[int, str]) -> Keys:
    """Return what the call that a task is held at will touch; () if it is nobody's affair but its own.

    named: processes by the number that their world gives them.
    """
    keys = _touches(event, process, named)
    if process.threaded:
        keys = (*keys, (f"plain memory of {process.name}", True))
    return (*keys, (f"signals of {process.name}", False)) if keys else ()


def _touches(event: Event, process: Process, named: Mapping[int, str]) -> Keys:
    call, object_, said = event.call, event.object, event.arguments
    if event.kind == Kind.ACCESS:
        first, last = said["offset"] // LINE, (said["offset"] + LINE - 1) // LINE
        return tuple((f"{object_} #{line}", call == "writes") for line in {first, last})
    if call in _LOCKS:
        return ((object_, True), *(((str(said["lock"]), True),) if "lock" in said else ()))
    if call == BEGINS or call in _LOCAL or object_ == "terminal":
        return ()
    if call == "exit":
        closed = ((stream, True) for stream in sorted(process.open))
        told = ((f"children of {process.parent}", True),) if process.parent else ()
        return (*told, (_STREAMS, False), *closed)
    if call == "wait":
        return ((f"children of {process.name}", True),)
    if call == "kill":
        whom = named.get(said["pid"])
        return tuple((f"signals of {name}", True) for name in ([whom] if whom else named.values()))
    if call == "poll":
        return ((_STREAMS, True),)
    if call == "open":
        changes = any(flag in str(said.get("flags")) for flag in ("O_CREAT", "O_TRUNC", "O_WRONLY", "O_RDWR"))
        return ((object_, changes),)
    if call in ("flock", "fcntl"):
        process.open.add(f"lock on {object_}")  # which its end releases
        return ((f"lock on {object_}", True),)
    if call in ("msgget", "semget", "shmget"):
        return ((object_, "IPC_CREAT" in str(said.get("flags"))),) if not object_.startswith("private") else ()
    if call in ("shmat", "fsync"):
        return ((object_, False),)
    if call == "rename":
        return ((object_, True), (str(said["to"]), True))
    if call in ("bind", "connect"):
        return ((object_, True), (f"port {str(said.get('address', '')).rpartition(':')[2]}", True), (_STREAMS, False))
    if object_.startswith(_CHANNELS) or said.get("fifo"):
        process.open.add(object_)
        return ((object_, True), (_STREAMS, False))
    if call == "read":
        return ((object_, False), (f"place in {object_}", True))
    return ((object_, True),)


def label(event: Event) -> str:
    """Return what a task is about to do, as a script says it: "msgsnd(queue 0x0000002a)"."""
    return event.call + (f"({event.object})" if event.object else "")
