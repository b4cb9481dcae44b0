"""What happens to programs under the gate, as data. One stream, in the order in which the gate saw it.

A call makes one event before it happens (CALL, or MARK for what is no system call), and one when it is known to be
over (RESULT), which names the first. Which message a receive took, what a read brought, is in the RESULT, as `data`;
where the result is not known, `buffer` is what lies in the memory that it was asked for. Where the preload library is,
`at` says the place in the program: in the RESULT of a call, in a MARK itself.

    seq task      kind    call    object            arguments
    12  server    call    msgrcv  queue 0x0000002a  type=1, size=16
    15  A         call    msgsnd  queue 0x0000002a  type=1, size=8, data=b"..."
    16  A         result  msgsnd  queue 0x0000002a  of=15, result=0
    17  server    result  msgrcv  queue 0x0000002a  of=12, result=8, type=1, data=b"..."
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What an event is."""

    BIRTH = "birth"  # a task is first seen; arguments: parent (a task, "" for a program), thread (whether it is one),
    # inside (its PID, or thread ID, in its world: what getpid() and kill() call it there)
    CALL = "call"  # a system call is about to happen; see calls.py for the arguments of each
    MARK = "mark"  # something is about to happen that is no system call: see below
    ACCESS = "access"  # "reads" or "writes" of shared memory; arguments: offset, at (place in the program), data (the
    # first 8 bytes there, before it)
    RESULT = "result"  # the call of the event `of` is over
    INTERRUPTED = "interrupted"  # the call of the event `of` was never made: a signal came first; it may come again
    DEATH = "death"  # a task is no more; call: "exit", "killed"; result: the exit code where there was one
    DECISION = "decision"  # the gate did something: call "hold", "let", "fail", "answer", "kill"; of: the held call
    NOTE = "note"  # something to know about the whole run, in French; arguments: text


# Calls of kind MARK, whose object is a lock. What is wanted, then got: two events; nothing in between but waiting.
WANTS = "wants"  # sem_wait, pthread_mutex_lock...: asks for the lock
BUSY = "busy"  # it is taken; will now sleep
HAS = "has"  # has got it; result: 0, or an errno (EOWNERDEAD: got it after its owner died)
LACKS = "lacks"  # has not got it: a try in vain, or a time limit; result: the errno
RELEASES = "releases"  # sem_post, pthread_mutex_unlock
WAITS = "waits"  # pthread_cond_wait: releases the lock in `lock`, and sleeps
WAKES = "wakes"  # pthread_cond_signal, pthread_cond_broadcast
BEGINS = "begins"  # a thread is about to run its function; without an object. Only where Gate was asked for threads
MARKS = (WANTS, BUSY, HAS, LACKS, RELEASES, WAITS, WAKES, BEGINS)


@dataclass(frozen=True)
class Event:
    """One thing that happened. All numbers are as the program sees them, unless it says otherwise."""

    seq: int  # from 1, without gaps
    time: float  # seconds since the gate was opened
    task: str  # "server", its children and threads "server.1", "server.2", of these "server.1.1"; stable between runs
    kind: Kind
    call: str  # the name of the system call, "openat" as "open", "semtimedop" as "semop"...; of a mark, see above
    object: str = ""  # what it acts on, by a name that is the same in every run: see calls.py
    arguments: Mapping[str, Any] = field(default_factory=dict)  # decoded; bytes under "data", at most calls.SHOWN
    result: int | None = None  # None: not known
    errno: str = ""  # "ENOSPC", when the call failed and that is known
    of: int = 0  # the seq that this one belongs to
    pid: int = 0  # of the process, outside its world
    tid: int = 0  # of the thread, outside its world
    exact: bool = True  # a RESULT: False when it was only learnt at the task's next call, after the fact

    def __str__(self) -> str:
        """One line for a person: `A: msgsnd(queue 0x0000002a) type=1 size=8 -> 0`."""
        words = [f"{self.task}: {self.call}" + (f"({self.object})" if self.object else "")]
        words += [f"{name}={value!r}" for name, value in self.arguments.items()]
        if self.errno or self.result is not None:
            words.append(f"-> {self.errno or self.result}")
        if self.kind not in (Kind.CALL, Kind.MARK, Kind.ACCESS):
            words.insert(0, f"[{self.kind}]")
        return " ".join(words)
