"""What a look at the kernel finds, as data: tasks, what they wait for, objects, what lies in them.

Every class is frozen: a look is a picture, taken once. Numbers have the unit that is named beside them; a time is in
seconds, a size in bytes. What could not be had is None, and `refused` then says why in one line.

Objects have names ("ids") that stay the same from one look to the next: `queue:12` (msqid), `semset:3` (semid),
`shm:7` (shmid), `sem:/dev/shm/sem.x` (a named POSIX semaphore), `fifo:DEVICE:INODE`, `pipe:INODE`, `socket:INODE`,
`file:DEVICE:INODE`, `mq:/name` (a POSIX message queue), `lock:PID:ADDRESS` or `lock:DEVICE:INODE:OFFSET` (a futex, in
memory of one process or in a shared file), `connection:LOCAL-REMOTE` (which nobody has accepted yet).
"""

from __future__ import annotations

import dataclasses
from typing import Any

FORMAT = "spectacles/look"
VERSION = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Show:
    """A show of a table. slot: 0..9; seats: what is left."""

    slot: int
    id: int
    name: str
    seats: int


@dataclasses.dataclass(frozen=True, slots=True)
class Wait:
    """What a blocked task waits for.

    kind: "receive", "send" (queues), "read", "write", "open", "accept", "connect", "semaphore", "lock" (mutex or lock
    of a file), "condition", "memory" (a futex of unknown purpose), "join" (the end of a thread), "child", "sleep",
    "signal", "event" (any of several descriptors: poll, select, epoll), "disk", "other".
    target: id of the object, None if there is none or it is not known; `event` has several waits instead.
    number: message type for "receive" (0: any, negative: lowest up to that) and "send"; index of the semaphore in its
    set; PID for "child" (-1: any), TID for "join"; descriptor for what has one and no known object.
    size: bytes asked for or to be sent; of "semaphore", what is to be added to it, 0: wait for zero.
    timeout: seconds after which it gives up or has slept enough, None: never. path: of a file to be opened.
    """

    kind: str
    target: str | None = None
    number: int | None = None
    size: int | None = None
    timeout: float | None = None
    path: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """A thread, proc(5).

    state: the letter of proc(5): R running or ready, S asleep, D in the disk's hands, T stopped, t stopped by a
    debugger, Z ended and not yet waited for, X ended. processor: seconds of processor time used. call: the system call
    it is in, by name ("call 999" for one that has none here), None if it is in none. arguments: its six words.
    waits: what for; empty if it does not wait. since: seconds for which it has done nothing else, a lower bound unless
    `exact`. switches: how often it was given a processor, or gave it up; the same number twice: it has not run.
    refused: why call and waits are not known. place: the kernel function it sleeps in (wchan), if they were refused.
    """

    pid: int
    tid: int
    name: str
    state: str
    processor: float
    switches: int
    call: str | None = None
    arguments: tuple[int, ...] = ()
    waits: tuple[Wait, ...] = ()
    since: float | None = None
    exact: bool = False
    refused: str | None = None
    place: str | None = None

    @property
    def stopped(self) -> bool:
        """Whether a signal has stopped it (Ctrl-Z, SIGSTOP)."""
        return self.state == "T"

    @property
    def ended(self) -> bool:
        """Whether it is no more than an entry in the table of processes."""
        return self.state in "ZX"


@dataclasses.dataclass(frozen=True, slots=True)
class Process:
    """A process. role: "tree" (asked for, or descended from one that was), "user" (uses the same objects).

    command: its words. title: what to call it, from them. parent: PID. user: its effective UID. bits: 32 or 64, of its
    program. refused: why its descriptors or its memory are not known.
    """

    pid: int
    parent: int
    role: str
    command: tuple[str, ...]
    title: str
    user: int
    tasks: tuple[Task, ...]
    bits: int = 64
    refused: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """A message in a queue, first in first out. type: above 0. size: of its body, data: the first bytes of it.

    layout: its name if it is one of the service's ("LIST_REQUEST", ...), else None; fields: what it says. addressee:
    the PID it is for (of a reply) or from (of a request), None if that is not known; alive: whether it lives; sure:
    whether the layout says so, and not only that the type looks like a PID.
    """

    type: int
    size: int
    data: bytes
    layout: str | None = None
    fields: tuple[tuple[str, int], ...] = ()
    addressee: int | None = None
    alive: bool | None = None
    sure: bool = False
    table: tuple[Show, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Queue:
    """A System V message queue. size: bytes in it, count: messages; limit: most bytes, None if refused.

    last_sender, last_receiver: PID, 0 for none yet. messages: the first ones; there may be more (count).
    """

    id: str
    key: int
    msqid: int
    user: int
    mode: int
    size: int
    count: int
    limit: int | None
    last_sender: int
    last_receiver: int
    messages: tuple[Message, ...] = ()
    refused: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class MessageQueue:
    """A POSIX message queue, mq_overview(7). What the messages say cannot be seen without taking them.

    size: bytes in it; count: messages; most, most_size: how many, and how long, they may be.
    """

    id: str
    name: str
    size: int | None = None
    count: int | None = None
    most: int | None = None
    most_size: int | None = None
    users: tuple[int, ...] = ()
    refused: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Pipe:
    """A FIFO (path) or a pipe (path None). size: bytes in it, None if refused; data: the first ones.

    readers, writers: PIDs of the processes seen that have it open so.
    """

    id: str
    path: str | None
    size: int | None
    data: bytes = b""
    readers: tuple[int, ...] = ()
    writers: tuple[int, ...] = ()
    numbers: tuple[int, ...] = ()
    refused: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Semaphore:
    """A POSIX semaphore, in the C library's own memory. name: "/name", or where it lies in memory.

    value: what is left to take. waiters: as the C library counts them. users: PIDs of those seen that have it mapped.
    service: whether its name is one that the servers of this course give to the lock of the table.
    """

    id: str
    name: str
    value: int | None
    waiters: int | None
    users: tuple[int, ...] = ()
    service: bool = False
    refused: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class SetMember:
    """A semaphore of a System V set. waiters: for more; zero_waiters: for zero; last: PID that last changed it or 0."""

    value: int
    waiters: int
    zero_waiters: int
    last: int


@dataclasses.dataclass(frozen=True, slots=True)
class SemaphoreSet:
    """A System V semaphore set."""

    id: str
    key: int
    semid: int
    user: int
    mode: int
    count: int
    members: tuple[SetMember, ...] = ()
    refused: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Memory:
    """Shared memory: System V (key, shmid) or a file mapped by several (path). size: bytes. attached: by how many.

    creator, last: PIDs (System V). data: the first bytes, read in the memory of a process that has it; table: the shows
    in it if it begins with a table. claims: key of the queue that a server makes its own by it.
    """

    id: str
    key: int | None
    path: str | None
    size: int
    attached: int
    creator: int = 0
    last: int = 0
    users: tuple[int, ...] = ()
    data: bytes = b""
    table: tuple[Show, ...] | None = None
    claims: int | None = None
    refused: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class FileLock:
    """A lock on a file, /proc/locks. kind: "FLOCK", "POSIX" or "OFDLCK". write: exclusive. waiting: not yet granted.

    pid: who took it (flock: its children share it), -1 where that is not a process.
    """

    kind: str
    write: bool
    pid: int
    waiting: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class File:
    """A regular file. table: the shows in it if it is one. problem: why it is no table, for a spectacles.dat."""

    id: str
    path: str
    size: int
    table: tuple[Show, ...] | None = None
    problem: str | None = None
    locks: tuple[FileLock, ...] = ()
    users: tuple[int, ...] = ()
    refused: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Socket:
    """A socket. family: "tcp", "tcp6", "unix"; state: "LISTEN", "ESTABLISHED"...; local, remote: "host:port" or a path.

    unread: bytes that have arrived and that nobody has read. unacknowledged: bytes sent that the other end has not
    acknowledged. waiting: of a listener, connections that nobody has accepted; most: how many of them there may be.
    users: PIDs of those seen that have it open, none for a connection that nobody has accepted. peer: id of the other
    end, if it is on this machine. data: the first unread bytes. fields: what they say if they are the service's.
    """

    id: str
    family: str
    state: str
    local: str
    remote: str
    unread: int | None = None
    unacknowledged: int | None = None
    waiting: int | None = None
    most: int | None = None
    users: tuple[int, ...] = ()
    peer: str | None = None
    data: bytes = b""
    layout: str | None = None
    fields: tuple[tuple[str, int], ...] = ()
    refused: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Lock:
    """A mutex of threads or another word in memory that tasks wait on, futex(7).

    name: of the variable where the program's symbols say it, else where it lies. kind: "mutex" (its holder is known),
    "semaphore" (value and waiters are), "condition", "unknown". holder: TID, None if unknown; holder_pid: its process;
    holder_alive: whether it lives. users: PIDs that have the memory.
    """

    id: str
    name: str
    kind: str
    holder: int | None = None
    holder_pid: int | None = None
    holder_alive: bool | None = None
    value: int | None = None
    waiters: int | None = None
    users: tuple[int, ...] = ()


Object = Queue | MessageQueue | Pipe | Semaphore | SemaphoreSet | Memory | File | Socket | Lock


@dataclasses.dataclass(frozen=True, slots=True)
class Edge:
    """Who waits for whom: `waiter` (TID) waits for `target` (an object's id), which the tasks `by` (TIDs) could give.

    closed: nobody else could, so that it waits for ever if none of them can. dead: PID of one that could and has died.
    """

    waiter: int
    target: str | None
    by: tuple[int, ...]
    closed: bool
    dead: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """Something that goes wrong. kind: "cycle", "dead-holder", "dead-addressee", "lost-lock", "crossed", "stopped",
    "differs". level: "alarm" (certain) or "warning" (probable, or harmless in itself). text: in French. tasks: TIDs;
    objects: ids.
    """

    kind: str
    level: str
    text: str
    tasks: tuple[int, ...] = ()
    objects: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """One look. taken: seconds since 1970. cost: seconds of this process's own processor time that it took.

    machine: "x86_64", ... refused: what could not be seen and why, one line each.
    """

    taken: float
    cost: float
    machine: str
    processes: tuple[Process, ...]
    objects: dict[str, Object]
    edges: tuple[Edge, ...] = ()
    findings: tuple[Finding, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def tasks(self) -> dict[int, Task]:
        """All tasks by TID."""
        return {task.tid: task for process in self.processes for task in process.tasks}

    def to_json(self) -> dict[str, Any]:
        """Return the look as JSON types: bytes in hexadecimal, objects with their class name as `class`."""
        objects = [{"class": type(thing).__name__, **_plain(thing)} for thing in self.objects.values()]
        rest = {
            field.name: _plain(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.name != "objects"
        }
        return {"format": FORMAT, "version": VERSION, **rest, "objects": objects}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, bytes):
        return value.hex()
    if (
        isinstance(value, tuple)
        and value
        and all(isinstance(v, tuple) and len(v) == 2 and isinstance(v[0], str) for v in value)
    ):
        return {name: _plain(inner) for name, inner in value}
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]
    return value
