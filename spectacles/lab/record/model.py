"""A run as it is drawn: lanes, steps on them, what went from whom to whom, who held which lock.

    lanes          A        queue 0x2a       server
    steps 15       msgsnd ──────▶
    blocked span                ▲            │ msgrcv, since 12
    steps 17                    └──────────▶ │
    transfer       15 ─▶ 17

Everything here is derived from the events of the gate, which are what is kept in a file. Drawings lean on these classes
alone, and know neither the gate nor the file. All times are in seconds since the run began, all sizes in bytes, and a
`seq` is the number of the event that a thing began or ended with, from 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class LaneKind(StrEnum):
    """What a lane stands for."""

    PROCESS = "process"
    THREAD = "thread"
    QUEUE = "queue"
    FIFO = "fifo"
    PIPE = "pipe"
    SOCKET = "socket"
    SEMAPHORE = "semaphore"
    LOCK = "lock"  # a mutex, a condition variable
    MEMORY = "memory"
    FILE = "file"
    OTHER = "other"


TASKS = (LaneKind.PROCESS, LaneKind.THREAD)


@dataclass(frozen=True)
class Lane:
    """One column of a drawing: a task, or an object of the kernel."""

    id: str  # a task as in Event.task, an object as in Event.object: the same in every run of the program
    kind: LaneKind
    label: str  # for people, in French: "serveur", "file 0x2a", "FIFO demandes"; may be hostile: a program chose it
    parent: str = ""  # of a task: the lane of who started it
    born: int = 0  # the seq it was first seen with
    died: int = 0  # the seq of its death or removal; 0: it outlived the run
    pid: int = 0  # of a task: what getpid() says in its world; 0: not known


class Action(StrEnum):
    """What a step is, whatever call was used for it."""

    SEND = "send"  # msgsnd, write to a FIFO, pipe or socket
    RECEIVE = "receive"  # msgrcv, read of a FIFO, pipe or socket
    TAKE = "take"  # a lock or semaphore: asked for until got
    RELEASE = "release"
    READ = "read"  # a file
    WRITE = "write"
    LOOK = "look"  # shared memory read
    CHANGE = "change"  # shared memory written
    OPEN = "open"
    CLOSE = "close"
    MAKE = "make"  # an object: msgget, mkfifo, socket, shm_open
    REMOVE = "remove"
    SYNC = "sync"  # fsync, fdatasync
    WAIT = "wait"  # for a child, a thread, a condition, a time
    WAKE = "wake"  # a condition variable signalled
    BIRTH = "birth"  # task: who started it; `object` the lane of the new one
    DEATH = "death"
    SIGNAL = "signal"  # kill, tgkill: `object` the lane of whom it was for, where that is known
    DECISION = "decision"  # the schedule's: held, let go, failed, killed
    NOTE = "note"  # about the run; task ""
    OTHER = "other"


@dataclass(frozen=True)
class Step:
    """One thing that one task did, from when it began until it was over."""

    seq: int
    until: int  # the seq of the end; 0: never seen to end
    time: float
    ended: float  # the time of the end; that of the last event of the run where it did not end
    task: str  # a lane's id; "" for notes
    action: Action
    object: str = ""  # a lane's id
    call: str = ""  # "msgsnd", "pthread_mutex_lock"
    words: str = ""  # for people, in French, short, without the task: "demande 3 places du spectacle 5"; may be hostile
    detail: Mapping[str, Any] = field(default_factory=dict)  # name: value, decoded where the layout is known
    data: bytes = b""  # the first bytes of what was sent, read, written
    size: int | None = None  # all of them
    result: int | None = None
    errno: str = ""
    blocked: bool = False  # it waited for somebody between its beginning and its end
    interrupted: bool = False  # a signal came first
    place: str = ""  # "serveur.c:42", where the program tells
    count: int = 1  # that many in a row, folded: accesses to the same part of shared memory
    seqs: tuple[int, ...] = ()  # of a folded one: all it stands for
    began: int = 0  # the seq from which on it can have happened, where it was held before it; 0: at once
    exact: bool = True  # False: that it was over was learnt later, at the task's next call


@dataclass(frozen=True)
class Transfer:
    """Bytes that one step put into an object and another took out of it; a post and the wait it let go."""

    send: int  # seq of the Step
    receive: int
    object: str
    size: int | None = None  # bytes that went from this send to this receive: streams may cut and join
    sure: bool = True  # False: only likely, as what was taken was not seen whole


@dataclass(frozen=True)
class Hold:
    """A lock in somebody's hands."""

    lock: str  # a lane's id
    task: str
    since: int  # seq of the Step that took it
    until: int  # seq of the Step that released it; 0: never
    lost: bool = False  # its holder died with it


@dataclass(frozen=True)
class Run:
    """Everything about one run."""

    title: str
    lanes: tuple[Lane, ...]  # in the order in which they are best drawn: senders left, objects between, receivers right
    steps: tuple[Step, ...]  # by seq
    transfers: tuple[Transfer, ...]  # of one object: in the order in which they left it
    holds: tuple[Hold, ...]
    about: Mapping[str, Any] = field(default_factory=dict)  # when, machine, commands, versions: the file's head
    unsent: tuple[int, ...] = ()  # seqs of sends that nobody took: what was left lying in the kernel
