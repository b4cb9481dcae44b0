"""The gate: takes in the calls of programs before they happen, records them, and does what a policy decides.

A thread waits on the listeners of all programs. For each held call it makes an event (events.py), asks the policy
(policy.py), and lets the call happen, or not. Whoever owns the gate may do the same from outside: let(), fail(),
answer(), kill(). One lock guards everything.

Rest is known, never guessed from silence: at_rest() is true when every task is held, or asleep in a call that waits
for somebody else, or dead. That no task is missed is due to births, exits and waits being held as well: a child is
named at the next stop of its parent, or at its own first, whichever comes first, and until then its parent runs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import shutil
import signal
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectacles.common.errors import SpectaclesError, reason
from spectacles.lab.gate import calls, marks, seccomp
from spectacles.lab.gate.events import BEGINS, BUSY, HAS, LACKS, WAITS, WAKES, Event, Kind
from spectacles.lab.gate.policy import Answer, Fail, Free, Go, Hold, Kill, Policy
from spectacles.lab.programs import kernel
from spectacles.lab.programs.world import pid_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from spectacles.lab.programs.world import Program, World

REST = 10.0  # seconds that all tasks get to come to rest
LOOKING = 0.002  # seconds between two looks at tasks that make no call
PAUSE = 0.0001  # seconds before the first look at who was let go; so many more before each further one
NURSERY = "SPECTACLES_NURSERY"  # the variable of marks.c
KEPT = 300_000  # events kept in memory: some 200 MiB
BURST = 200  # calls taken in before the policy is asked to look() again


class GateError(SpectaclesError):
    """A program cannot be put under the gate, a task cannot be told so, or did not come to rest in time."""


def late(timeout: float, busy: Sequence[str]) -> str:
    """Say who did not come to rest."""
    return f"pas au repos en {timeout:g} s : " + " ; ".join(busy)


@dataclass(frozen=True)
class Rest:
    """How a task is at rest."""

    task: str
    state: str  # "held", "asleep", "dead"
    call: str = ""
    object: str = ""


@dataclass
class Task:
    """A thread of a program under the gate."""

    name: str
    tid: int  # outside its world
    pid: int  # of its process
    program: str
    held: Event | None = None  # the event it is held at
    dead: bool = False
    killed: bool = False  # by the gate
    exiting: Event | None = None  # has been let go to exit(2)
    children: int = 0
    bore: bool = False  # has been let go to have a child, which has perhaps no name yet
    told: int = 0  # where in its memory the kernel writes the ID of that child, if it is a thread
    call_file: int = -1  # its /proc/TID/syscall, kept open
    stat_file: int = -1  # and its stat
    rest: Rest | None = None  # how it was at rest when that was last looked at, one at a time
    _notification: seccomp.Notification | None = field(default=None, repr=False)
    _listener: int = field(default=-1, repr=False)
    _pending: tuple[Event, str, tuple[int, ...]] | None = field(
        default=None, repr=False
    )  # let go, not known to be over

    @property
    def running(self) -> bool:
        """Whether it is neither held nor dead: it may be asleep."""
        return self.held is None and not self.dead

    def named_all(self) -> None:
        """Its children have their names."""
        self.bore, self.told = False, 0

    def close(self) -> None:
        """Close what is kept open of it."""
        for file in (self.call_file, self.stat_file):
            if file >= 0:
                os.close(file)
        self.call_file = self.stat_file = -1


@dataclass
class _Nursery:
    """A program that was started up to where its own code begins, and has children from there."""

    program: Program
    control: socket.socket
    pid: int = 0  # of the child that lives


class Gate:
    """Puts programs of one world under supervision. A context manager; its end kills them.

    policy: who decides (policy.py, script.py); without one everything runs free and is recorded. calls: names of those
    that are held (calls.NAMES); births, deaths and waits always are. marks: whether locks and results are to be seen,
    by a preload library; accesses: those to shared memory, too (x86-64 only). threads: their beginnings and, with
    accesses, changes of the program's variables once there are threads. clock: one that is the same in every run, see
    marks.c; alarms: whether they ring, where that clock is not used. sink: called with every event as it
    happens, by whatever thread, the lock held: must not block. Only the first KEPT are kept here. `notes` says what is
    not seen, and why.
    """

    def __init__(
        self,
        world: World,
        policy: Policy | None = None,
        *,
        calls_held: Sequence[str] = calls.NAMES,
        with_marks: bool = True,
        accesses: bool = False,
        threads: bool = False,
        clock: bool = False,
        alarms: bool = True,
        sink: Callable[[Event], None] | None = None,
    ) -> None:
        self.policy: Policy = policy or Free()
        self.notes: list[str] = []
        self.tasks: dict[str, Task] = {}  # by name, the dead ones too
        self.programs: dict[str, Program] = {}
        self._world = world
        always = ("fork", "exec", "wait", "exit")
        held = calls.numbers_of(list(dict.fromkeys((*calls_held, *always))))
        self._filter = seccomp.build(held, calls.MARK_NUMBER)
        self._marks = with_marks
        self._accesses = accesses
        self._threads = threads
        self._clock = clock
        self._alarms = alarms
        self._preload: str | None = None
        self._sanitized = self._out_of_reach = False  # the program that was inspected last
        self._nurseries: dict[str, _Nursery] = {}
        self._threaded: set[int] = set()  # PIDs of processes that have had threads
        self._events: list[Event] = []
        self._deaths = 0
        self._count = 0  # of events, kept or not
        self._sink = sink
        self._by_tid: dict[int, Task] = {}
        self._listeners: dict[int, str] = {}  # descriptor -> program
        self._watched: dict[int, int] = {}  # pidfd -> PID
        self._changed = threading.Condition(threading.RLock())
        self._closing = False
        self._failure: BaseException | None = None
        self._arrived: dict[int, tuple[seccomp.Notification, int]] = {}  # by thread: held, and not yet looked at
        self._ended: dict[int, int] = {}  # PID -> pidfd of processes that are dead, which is not yet told
        self._fresh_watches = True  # there is something new to wait for
        self._turn: Task | None = None
        self._shaken = False  # somebody may have been killed who is held
        self._sent = False  # something may be on its way on a connection

    def __enter__(self) -> Gate:
        """Open it. Raises GateError where the kernel or the machine cannot."""
        if not kernel.KNOWN:
            raise GateError(f"le portillon ne connaît pas les appels de {os.uname().machine} : x86-64 ou aarch64")
        self._unseen = list(self._world.shared)
        self._poll = select.poll()
        self._woken, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._poll.register(self._woken, select.POLLIN)
        self._start = time.monotonic()
        if self._marks:
            library, why = marks.library()
            if library is None:
                self._note(why)
            else:
                self._preload = self._world.lend(library)
                self._unseen.append(self._preload)
                if self._accesses and os.uname().machine != "x86_64":
                    self._note("les accès à la mémoire partagée ne sont vus que sur x86-64")
        self._begin()
        self.policy.opened(self)
        self._thread = threading.Thread(target=self._serve, name="portillon", daemon=True)
        if not self.policy.stepwise:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closing = True
            for task in self._by_tid.values():
                if not task.dead:
                    _kill(task.pid)
        os.write(self._wake, b"x")
        if not self.policy.stepwise:
            self._thread.join(REST)
        for nursery in self._nurseries.values():
            nursery.control.close()
        for task in self._by_tid.values():
            task.close()
        for descriptor in (*self._listeners, *self._watched, self._woken, self._wake):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        if self._failure is not None:
            raise self._failure

    # Programs

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Program:
        """Start a command under the gate, as the task `name`; options: of World.start(). Raises GateError, WorldError.

        Returns before the program has become what it is called: its first call, exec, is the first to be held.
        """
        with self._changed:
            if name in self.tasks:
                raise GateError(f"{name} : il y a déjà une tâche de ce nom")
        self._inspect(name, command, env or {}, str(options.get("cwd", ".")))
        program = self._world.start(command, env=self._with_library(env or {}), seccomp=self._filter, **options)
        if program.listener is None:
            raise GateError(program.failed or f"{name} : pas de portillon possible ici")
        with self._changed:
            self.programs[name] = program
            self._adopt(name, program.pid, program.pid, name, "")
            self._listeners[program.listener] = name
            self._fresh_watches = True
            program.listener = None  # ours to close
        os.write(self._wake, b"x")
        return program

    # The same programs many times, in the same world

    def prepare(
        self, name: str, command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: str = "."
    ) -> bool:
        """Start a command up to where its own code begins; spawn() makes copies of it, each on a terminal of its own.

        cwd: where, within the world's folder. Return False where that cannot be: no preload library, or a program that
        it does not reach. Raises GateError, WorldError.
        """
        self._inspect(name, command, env or {}, cwd)
        if self._preload is None or self._out_of_reach:
            return False
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            keep = (NURSERY, theirs.fileno())
            program = self._world.start(command, env=self._with_library(env or {}), cwd=cwd, keep=keep)
        ours.settimeout(REST)
        self._nurseries[name] = _Nursery(program, ours)
        return True

    def spawn(self, name: str) -> int:
        """Make the task `name`, a copy of what was prepared under that name, and return its terminal, to read and to
        write, without waiting; the caller closes it. Raises GateError."""
        nursery = self._nurseries[name]
        try:
            nursery.control.send(self._filter)
            said, descriptors = kernel.receive(nursery.control, 64)
        except OSError as error:
            raise GateError(f"{name} : pas de copie ({reason(error)})") from None
        if said != b"born" or len(descriptors) != 3:
            raise GateError(f"{name} : pas de copie, un programme qui n'est pas arrivé à son début")
        pidfd, listener, terminal = descriptors
        pid = pid_of(pidfd)
        with self._changed:
            nursery.pid = pid
            self._watched[pidfd] = pid
            self._adopt(name, pid, pid, name, "", watch=False)
            self._listeners[listener] = name
        return terminal

    def renew(self) -> dict[str, int]:
        """Kill all tasks and forget them, to begin anew; what was prepared stays. Return the exit code of each spawned
        program, or minus the signal that ended it. The world's reset() is the caller's affair. Raises GateError."""
        codes = {}
        with self._changed:
            for task in self._by_tid.values():
                if not task.dead:
                    _kill(task.pid)
            for name, nursery in self._nurseries.items():
                if nursery.pid:
                    _kill(nursery.pid)
                    try:
                        codes[name] = os.waitstatus_to_exitcode(struct.unpack("i", nursery.control.recv(4))[0])
                    except (OSError, struct.error):
                        raise GateError(f"{name} : sa copie ne finit pas") from None
                    nursery.pid = 0
            for descriptor in (*self._listeners, *self._watched):
                with contextlib.suppress(KeyError):
                    self._poll.unregister(descriptor)
                os.close(descriptor)
            for task in self._by_tid.values():
                task.close()
            for group in (self.tasks, self.programs, self._by_tid, self._listeners, self._watched, self._arrived):
                group.clear()
            self._ended.clear()
            self._threaded.clear()
            self._events = []
            self._count = self._deaths = 0
            self._turn, self._shaken, self._fresh_watches = None, False, True
            self._begin()
        return codes

    @property
    def prepared(self) -> list[Program]:
        """The programs that prepare() started, whose copies spawn() makes."""
        return [nursery.program for nursery in self._nurseries.values()]

    def _begin(self) -> None:
        self._start = time.monotonic()
        self._names = calls.Names(self._world.inside, self._world.keys)
        self._names.unseen += self._unseen

    def _with_library(self, env: Mapping[str, str]) -> dict[str, str]:
        extra = dict(env)
        if self._preload is not None:
            extra["LD_PRELOAD"] = f"{self._preload} {extra.get('LD_PRELOAD', '')}".strip()
            if self._sanitized:  # which would refuse to start with a library before its own
                extra["ASAN_OPTIONS"] = f"verify_asan_link_order=0:{extra.get('ASAN_OPTIONS', '')}".rstrip(":")
            timing = "c" * self._clock + "q" * (not self._alarms)
            extra["SPECTACLES_MARKS"] = "lr" + "a" * self._accesses + "t" * self._threads + timing
        return extra

    def _inspect(self, name: str, command: Sequence[str | Path], env: Mapping[str, str], cwd: str) -> None:
        """Refuse what cannot be supervised, say what will not be seen, find out what it takes."""
        self._sanitized = self._out_of_reach = False
        words = str(command[0])
        path = env.get("PATH", "/usr/local/bin:/usr/bin:/bin")
        if "/" in words:
            found: str | None = str(self._world.folder / cwd / words) if not words.startswith("/") else words
        else:
            found = shutil.which(words, path=path)
        if found is None or not os.path.exists(found):
            return  # exec will say
        if marks.word_size(found) == 32:
            raise GateError(
                f"{words} : programme 32 bits, dont les appels ont d'autres numéros ; le compiler en 64 bits"
            )
        self._sanitized = marks.links(found, b"libasan.so")
        self._out_of_reach = marks.linked_statically(found) is True
        if self._preload is not None and self._out_of_reach:
            self._note(f"{words} est lié statiquement : ne sont pas vus {marks.UNSEEN}")

    # What happened

    def events(self, since: int = 0) -> list[Event]:
        """Return the events with a seq above `since`."""
        with self._changed:
            self._raise_failure()
            return self._events[since:]

    def wait_for(self, task: str, call: str, timeout: float = REST, *, since: int = 0) -> Event:
        """Return the first event of that task and call after `since`, once there is one. Raises GateError if late."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                self._raise_failure()
                for event in self._events[since:]:
                    if event.task == task and event.call == call:
                        return event
                since = max(since, len(self._events))
                left = deadline - time.monotonic()
                if left <= 0:
                    raise GateError(f"{task} : {call} n'est pas venu en {timeout:g} s")
                if self.policy.stepwise:
                    self._next_turn()
                else:
                    self._changed.wait(left)

    # Rest

    def settle(self, timeout: float = REST) -> dict[str, Rest]:
        """Block until every task is at rest, and return how. Raises GateError that names who never came to rest."""
        deadline = time.monotonic() + timeout
        if self.policy.stepwise:
            return self._settle_in_turns(deadline, timeout)
        while True:
            with self._changed:
                self._raise_failure()
                rest, busy = self._look_at_all()
                if not busy and not self._poll_pending():
                    return rest
                if time.monotonic() > deadline:
                    raise GateError(late(timeout, busy))
                self._changed.wait(LOOKING)

    def at_rest(self) -> bool:
        """Say whether every task is at rest now."""
        with self._changed:
            return not self._look_at_all()[1] and not self._poll_pending()

    def quiet(self) -> dict[str, Rest] | None:
        """Return how every task is at rest while the policy, asked again, lets nobody go; None if something moves."""
        with self._changed:
            self._raise_failure()
            self.policy.look(self)
            rest, busy = self._look_at_all()
            return None if busy or self._poll_pending() else rest

    def until_quiet(self, timeout: float, done: Callable[[], bool] = lambda: True) -> dict[str, Rest] | None:
        """Block until all are quiet() and `done` says so; return how they are at rest, None after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            rest = self.quiet()
            if rest is not None and done():
                return rest
            if time.monotonic() > deadline:
                return None
            time.sleep(LOOKING)

    def asleep(self, name: str) -> Rest | None:
        """Return in what a task is asleep, or held; None if it runs. Raises GateError if there never was one."""
        with self._changed:
            task = self._task(name)
            found = self._look(task)[0]
            # In this order: a call that is about to be held looks like sleep, until the listener says that it is there.
            return None if self._poll_pending() else found

    def _poll_pending(self) -> bool:
        """Say whether a call is held that the thread has not yet taken in."""
        peek = select.poll()  # one object cannot be asked by two threads
        for listener in self._listeners:
            peek.register(listener, select.POLLIN)
        return any(what & select.POLLIN for _, what in peek.poll(0))

    def _look_at_all(self) -> tuple[dict[str, Rest], list[str]]:
        rest: dict[str, Rest] = {}
        busy: list[str] = []
        deaths = self._deaths
        for name, task in list(self.tasks.items()):
            found, why = self._look(task)
            if found is not None:
                rest[name] = found
            else:
                busy.append(f"{name} ({why})")
        if self._deaths > deaths:
            busy.append("une tâche vient de mourir")  # whom that wakes may have been looked at before
        if not busy and self._names.has_connections:
            for task in self.tasks.values():
                if not task.dead:  # any will do: one network for all
                    if _in_flight(task.tid):
                        busy.append(f"{task.name} (des octets en route sur une connexion)")
                    break
        return rest, busy

    def _look(self, task: Task) -> tuple[Rest | None, str]:
        """Return how a task is at rest, or None and what it does."""
        if task.dead:
            return Rest(task.name, "dead"), ""
        if task.held is not None:
            if task._notification is None or seccomp.valid(task._listener, task._notification.id):
                if self._shaken and _state(task.tid)[0] == "R":
                    return None, "meurt"
                return Rest(task.name, "held", task.held.call, task.held.object), ""
            self._lost(task)
        state, number = self._glance(task) if self.policy.stepwise else _state(task.tid)
        if state in ("Z", "X", ""):
            if state == "Z" and task.tid == task.pid and not task.killed and not _all_dead(task.pid):
                return Rest(task.name, "dead"), ""  # the first thread ended, others live on
            self._died(task)
            return Rest(task.name, "dead"), ""
        said = calls.name(number)
        bore = task._pending is not None and task._pending[0].call in ("fork", "thread")
        if state in "SDT" and bore and not self.policy.stepwise:
            # It sleeps without having made another call since: its child may not have made its first one.
            known = len(self.tasks)
            self._name_children(task)
            if len(self.tasks) > known:
                return None, "un enfant vient de naître"
        if state in "ST" and (said in calls.BLOCKING or state == "T"):
            pending = task._pending
            where = pending[0].object if pending is not None and pending[0].call == said else ""
            if pending is not None and pending[0].call in (BUSY, WAITS) and said == "futex":
                where = pending[0].object
            return Rest(task.name, "asleep", said or "stopped", where), ""
        if said == "fork" and task._pending is not None and task._pending[0].arguments.get("waits"):
            return Rest(task.name, "asleep", said), ""
        return None, f"état {state}, " + (f"dans {said}" if said else f"appel {number}" if number >= 0 else "calcule")

    # One at a time. Who was let go has his turn until he is at rest, then whoever that has woken, in the order of
    # birth; who is held meanwhile waits for his. So the same choices make the same stream, whatever the scheduler did.

    def _settle_in_turns(self, deadline: float, timeout: float) -> dict[str, Rest]:
        pause = 0.0
        while busy := self._next_turn(pause):
            if self._turn is None:
                pause = 0.0
            elif pause and time.monotonic() > deadline:
                raise GateError(late(timeout, [busy]))
            else:
                pause = min(pause + PAUSE, LOOKING)
        return {name: task.rest for name, task in self.tasks.items() if task.rest is not None}

    def _next_turn(self, pause: float = LOOKING) -> str:
        """Take in what there is; let whose turn it is go on. Return who is not at rest and what he does, "" for nobody.

        Waits for at most `pause` seconds, while he calculates.
        """
        self._gather(pause)
        if self._turn is not None:
            busy = self._move(self._turn)
            if busy:
                return busy
            self._turn = None
        for task in list(self.tasks.values()):
            if task.dead:
                continue
            if busy := self._move(task):
                self._turn = task if task.running else None
                return busy
        if self._arrived:  # of nobody known yet
            for task in list(self.tasks.values()):
                self._name_children(task)
            for tid, (_, listener) in list(self._arrived.items()):
                if tid not in self._by_tid or self._by_tid[tid].dead:
                    self._meet(tid, self._listeners[listener])
            return "un enfant vient de naître"
        self._shaken = False
        if self._sent and self._names.has_connections:
            for task in self.tasks.values():
                if not task.dead:
                    if _in_flight(task.tid):
                        return "des octets en route sur une connexion"
                    break
        self._sent = False
        return ""

    def _move(self, task: Task) -> str:
        """Take in what a task was held at. Return "" if it is at rest, else what it does."""
        if task.held is not None and not self._shaken and task.pid not in self._threaded:
            return ""
        arrived = self._arrived.pop(task.tid, None)
        if arrived is None:
            if task.pid in self._ended:
                self._process_died(self._ended.pop(task.pid))
                # Not he whose turn it is: whom that wakes may already have been looked at.
                return "" if task is self._turn else f"{task.name} vient de mourir"
            found, why = self._look(task)
            if found is None:
                return f"{task.name} ({why})"
            if found.state == "asleep":
                self._gather(0)  # in this order: what is about to be held looks like sleep
                arrived = self._arrived.pop(task.tid, None)
            if arrived is None and found.state == "asleep" and task.bore:
                known = len(self.tasks)
                self._name_children(task)
                task.named_all()
                if len(self.tasks) > known:
                    return "un enfant vient de naître"
            if arrived is None:
                task.rest = found
                return f"{task.name} vient de mourir" if found.state == "dead" and task is not self._turn else ""
        self._handle(task, *arrived)
        if task.held is None:
            return f"{task.name} (calcule)"
        task.rest = Rest(task.name, "held", task.held.call, task.held.object)
        return ""

    def _gather(self, pause: float) -> None:
        """Take in all that is held, for its turn, and deaths; wait for it for at most `pause` seconds."""
        if self._fresh_watches:
            self._fresh_watches = False
            self._register()
        if pause:
            select.select([*self._listeners, *self._watched], [], [], pause)
        ready = self._poll.poll(0)
        if ready:
            self._take_all(ready, set(self._listeners))

    def _glance(self, task: Task) -> tuple[str, int]:
        """Return what _state() does; one short read where the task runs.

        Between two processors, who has been woken is for some microseconds neither asleep nor in a queue of who runs:
        then `syscall` still names the call, and only the letter in `stat` says that it is over.
        """
        try:
            if task.call_file < 0:
                task.call_file = os.open(f"/proc/{task.tid}/syscall", os.O_RDONLY | os.O_CLOEXEC)
                task.stat_file = os.open(f"/proc/{task.tid}/stat", os.O_RDONLY | os.O_CLOEXEC)
            said = os.pread(task.call_file, 200, 0)
            if said.startswith(b"running"):
                return "R", -1
            state = os.pread(task.stat_file, 200, 0).rpartition(b")")[2].split(None, 1)[0].decode()
            if state not in "SDT":
                return state, -1
            again = os.pread(task.call_file, 200, 0)
            return (state if again == said else "R"), int(said.split(None, 1)[0])
        except (OSError, IndexError, ValueError):
            return _state(task.tid)

    # Decisions

    def held(self) -> list[Task]:
        """Return the tasks that are held, in the order of their birth, which is the same in every run."""
        with self._changed:
            return [task for task in self.tasks.values() if task.held is not None]

    def let(self, name: str) -> None:
        """Let the held call of a task happen. Raises GateError if it is not held."""
        self._decide(name, "let")

    def fail(self, name: str, number: int) -> None:
        """Make the held call of a task fail with an errno. Raises GateError."""
        self._decide(name, "fail", number)

    def answer(self, name: str, value: int) -> None:
        """Return a value in the place of the held call of a task. Raises GateError."""
        self._decide(name, "answer", value)

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to the process of a task, held or not. Raises GateError. Dead: nothing."""
        with self._changed:
            task = self._task(name)
            if task.dead:
                return
            self._record(
                task, Kind.DECISION, "kill", of=task.held.seq if task.held else 0, arguments={"signal": number}
            )
            if number == signal.SIGKILL:
                for other in self._by_tid.values():
                    if other.pid == task.pid:  # whoever lets all go after this must not let its held call happen
                        other.killed = True
                        other.held = other._notification = None
            self._shaken = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(task.pid, number)
            self._changed.notify_all()

    def memory(self, name: str, most: int = 1 << 20) -> bytes:
        """Return what shared memory of that name ("memory 0x0000002b") holds, b"" where no task has it any more."""
        with self._changed:
            for task in self.tasks.values():
                caller = calls.Caller(task.tid)
                for start, end, _, _, _ in [] if task.dead else caller.maps():
                    if self._names.place(caller, start) == f"{name}+0x0":
                        return caller.memory(start, min(end - start, most))
        return b""

    def has_something(self, name: str) -> bool:
        """Say whether what a task held at poll(2) or a call like it looks for is there: then it would not wait.

        True as well where nobody can say. Raises GateError if it is not held.
        """
        with self._changed:
            task = self._task(name)
            if task.held is None:
                raise GateError(f"{name} n'est pas retenu")
            return calls.something(task.pid, task.held.arguments.get("watched", ()))

    def _task(self, name: str) -> Task:
        if name not in self.tasks:
            raise GateError(f"{name} : pas de tâche de ce nom ({', '.join(self.tasks) or 'aucune'})")
        return self.tasks[name]

    def _decide(self, name: str, what: str, value: int = 0) -> None:
        with self._changed:
            task = self._task(name)
            if task.held is None:
                raise GateError(f"{name} n'est pas retenu")
            self._record(task, Kind.DECISION, what, task.held.object, of=task.held.seq, **_valued(what, value))
            self._turn = self._turn or task
            self._release(task, what, value)
            self._changed.notify_all()

    def _release(self, task: Task, what: str, value: int = 0) -> None:
        """Answer for a held call."""
        event, notification = task.held, task._notification
        assert event is not None
        assert notification is not None
        if what == "let" and event.call == "thread":  # while it stands still
            task.told = calls.told_of_thread(_real(notification), calls.Caller(task.tid), notification.args)
        if what == "let":
            done = seccomp.let(task._listener, notification.id)
        elif what == "fail":
            done = seccomp.answer(task._listener, notification.id, 0, value)
        else:
            done = seccomp.answer(task._listener, notification.id, value)
        if not done:
            self._lost(task)
            return
        task.held = task._notification = None
        if what == "let":
            task._pending = (event, _real(notification), notification.args) if event.kind != Kind.ACCESS else None
            task.bore = task.bore or event.call in ("fork", "thread")
            self._shaken = self._shaken or event.call in ("exit", "kill")
            self._sent = self._sent or event.call == "exit" or event.object.startswith(("connection ", "socket "))
            if event.call == "exit":
                task.exiting = event
                for other in self._by_tid.values():  # threads that exit_group takes along
                    if event.arguments.get("all") and other.pid == task.pid:
                        other.exiting = event
            elif event.call in ("exec", "shmat", "shmdt"):
                self._names.forget_places(task.tid)
        else:
            error = errno.errorcode.get(value, str(value)) if what == "fail" else ""
            self._record(task, Kind.RESULT, event.call, event.object, of=event.seq,
                         result=-1 if what == "fail" else value, errno=error)  # fmt: skip

    def _lost(self, task: Task) -> None:
        """A held call is held no more: its task is dead, or a signal took it away, and it may make the call again."""
        event = task.held
        task.held = task._notification = None
        if event is not None and _state(task.tid)[0] not in ("", "Z", "X"):
            self._record(task, Kind.INTERRUPTED, event.call, event.object, of=event.seq)

    # The thread

    def _serve(self) -> None:
        try:
            while not self._closing:
                self._pump(int(LOOKING * 1000) if self.policy.waiting else 200)
        except BaseException as error:  # ours to mend; nobody must wait for ever for it
            with self._changed:
                self._failure = error
                for task in self._by_tid.values():
                    _kill(task.pid)
                self._changed.notify_all()

    def _pump(self, milliseconds: int) -> None:
        """Wait for held calls and deaths, and take them in."""
        registered = self._register()
        ready = self._poll.poll(milliseconds)
        with self._changed:
            self._take_all(ready, registered)
            self.policy.look(self)
            self._changed.notify_all()

    def _register(self) -> set[int]:
        with self._changed:
            for listener in self._listeners:
                self._poll.register(listener, select.POLLIN)
            for pidfd in self._watched:
                self._poll.register(pidfd, select.POLLIN)
            return set(self._listeners)

    def _take_all(self, ready: list[tuple[int, int]], listeners: set[int]) -> None:
        for number, what in sorted(ready, key=lambda pair: pair[0] not in self._watched):  # deaths first
            if number == self._woken:
                os.read(self._woken, 512)
            elif number in listeners:
                for _ in range(BURST):
                    if not what & select.POLLIN:
                        break
                    self._take(number)
                    again = select.poll()
                    again.register(number, select.POLLIN)
                    what = dict(again.poll(0)).get(number, 0)
                if what & select.POLLHUP and not what & select.POLLIN:
                    self._poll.unregister(number)
                    del self._listeners[number]
                    os.close(number)
            elif number in self._watched:
                if self.policy.stepwise:
                    self._ended[self._watched[number]] = number
                    self._poll.unregister(number)
                else:
                    self._process_died(number)

    def _take(self, listener: int) -> None:
        """Take in one held call."""
        notification = seccomp.receive(listener)
        if notification is None:
            return
        if self.policy.stepwise:  # until its turn comes
            self._arrived[notification.tid] = (notification, listener)
            return
        task = self._by_tid.get(notification.tid)
        if task is None or task.dead:
            task = self._meet(notification.tid, self._listeners[listener])
        self._handle(task, notification, listener)

    def _handle(self, task: Task, notification: seccomp.Notification, listener: int) -> None:
        """Make an event of a held call, and do what the policy decides."""
        task._notification, task._listener = notification, listener
        if notification.foreign:
            self._refuse(task)
            return
        caller = calls.Caller(notification.tid)
        tagged = notification.nr == calls.MARK_NUMBER
        if tagged and calls.mark_name(notification.args[1]) in ("result", "names"):
            self._hear(task, caller, notification)
            return
        event = self._mark(task, caller, notification) if tagged else self._call(task, caller, notification)
        if event is None or self._closing:
            seccomp.let(listener, notification.id)
            task._notification = None
            return
        task.held = event
        if task.bore or not self.policy.stepwise:
            self._name_children(task)
            task.named_all()
        if task.held is event:  # else it has died meanwhile, which was seen while children were named
            self._apply(task, event)

    def _apply(self, task: Task, event: Event) -> None:
        decision = self.policy.decide(self, event)
        if isinstance(decision, Go):
            self._release(task, "let")
        elif isinstance(decision, Answer):
            self._release(task, "answer", decision.value)
        elif isinstance(decision, Fail):
            self._record(task, Kind.DECISION, "fail", event.object, of=event.seq, **_valued("fail", decision.number))
            self._release(task, "fail", decision.number)
        elif isinstance(decision, Kill):
            self.kill(task.name)
        elif isinstance(decision, Hold):
            pass

    def _hear(self, task: Task, caller: calls.Caller, notification: seccomp.Notification) -> None:
        """Take in a mark at which nobody is held: the result of a call, the name of a semaphore."""
        _, kind, a, b, at, _ = notification.args
        if calls.mark_name(kind) == "names":
            self._names.name_memory(caller, a, f"semaphore /{caller.string(b).lstrip('/')}")
        elif task._pending is not None:
            self._over(task, caller, result=a - (1 << 64) if a >> 63 else a, number=b, at=at)
        seccomp.let(task._listener, notification.id)
        task._notification = None

    def _over(
        self, task: Task, caller: calls.Caller, *, result: int | None = None, number: int = 0, at: int | None = None
    ) -> None:
        """The call that was let go is over. at: the address that it was made at, 0 where that says nothing; None: it
        was over some time ago, and what it returned is not known."""
        assert task._pending is not None
        event, real, args = task._pending
        task._pending = None
        if event.kind != Kind.CALL:
            return
        brought = {} if number else calls.received(real, caller, args, result)
        if at:
            brought["at"] = self._names.place(caller, at)
        if event.call == "wait" and result:  # then who was waited for is dead, whether poll(2) has said so or not
            for pidfd, pid in list(self._watched.items()):
                if _state(pid)[0] in ("Z", "X", ""):
                    self._process_died(pidfd)
        said = errno.errorcode.get(number, str(number)) if number else ""
        exact = at is not None
        self._record(
            task, Kind.RESULT, event.call, event.object, brought, of=event.seq, result=result, exact=exact, errno=said
        )

    def _mark(self, task: Task, caller: calls.Caller, notification: seccomp.Notification) -> Event | None:
        _, kind, a, b, c, _ = notification.args
        said = calls.mark_name(kind)
        if not said:
            return None
        if task._pending is not None:
            self._over(task, caller)
        place = self._names.place(caller, a)
        if said in ("reads", "writes"):
            where, _, offset = place.partition("+")
            at = self._names.place(caller, b)
            there = {"offset": int(offset or "0", 16), "at": at, "data": caller.memory(a, 8)}
            return self._record(task, Kind.ACCESS, said, where, there)
        if said == BEGINS:
            return self._record(task, Kind.MARK, said, "", {"at": place})
        found: dict[str, Any] = {"at": self._names.place(caller, c)} if c else {}
        what = "condition" if said in (WAITS, WAKES) else "lock"
        lock = place if place.startswith("semaphore ") else f"{what} {place}"
        if said == WAITS:
            found["lock"] = f"lock {self._names.place(caller, b)}"
        if said in (HAS, LACKS):
            return self._record(
                task, Kind.MARK, said, lock, result=b, errno=errno.errorcode.get(b, str(b)) if b else ""
            )
        return self._record(task, Kind.MARK, said, lock, found)

    def _call(self, task: Task, caller: calls.Caller, notification: seccomp.Notification) -> Event | None:
        real = _real(notification)
        if task._pending is not None:
            self._over(task, caller)
        call, decoded = calls.decode(real, caller, self._names, notification.args)
        if not seccomp.valid(task._listener, notification.id) or decoded is None:
            return None
        return self._record(task, Kind.CALL, call, decoded[0], decoded[1])

    # Births and deaths

    def _adopt(self, name: str, tid: int, pid: int, program: str, parent: str, *, watch: bool = True) -> Task:
        self._names.forget_places(tid)
        task = Task(name, tid, pid, program)
        self.tasks[name] = task
        self._by_tid[tid] = task
        arguments = {"parent": parent, "thread": tid != pid, "inside": _ids(tid)[2]}
        self._record(task, Kind.BIRTH, "birth", arguments=arguments)
        if tid != pid:
            self._threaded.add(pid)
        elif watch:
            with contextlib.suppress(OSError):
                self._watched[os.pidfd_open(pid)] = pid
        self._fresh_watches = True
        return task

    def _meet(self, tid: int, program: str) -> Task:
        """A task is held for the first time: find out whose child it is."""
        pid, parent, _ = _ids(tid)
        maker = self._by_tid.get(parent if pid == tid else pid)
        if pid == tid:  # by which thread of its parent?
            for task in self._by_tid.values():
                if task.pid == parent and not task.dead and tid in _children(task.pid, task.tid):
                    maker = task
        for task in ([] if maker is None else [maker]) + list(self._by_tid.values()):
            if not task.dead:
                self._name_children(task)
                if tid in self._by_tid and not self._by_tid[tid].dead:
                    return self._by_tid[tid]
        return self._adopt(self._fresh(self.tasks[program]), tid, pid, program, program)  # its parent is no more

    def _name_children(self, task: Task) -> None:
        """Name the children of a task, and the threads of its process, that have no name yet."""
        for other in list(self._by_tid.values()):  # threads that have left
            if other.pid == task.pid and other.exiting is not None and not other.dead and not _state(other.tid)[0]:
                self._died(other)
        born = [(pid, pid) for pid in _children(task.pid, task.tid)]
        if task.tid == task.pid or task._pending is not None or task.bore:
            born += [(tid, task.pid) for tid in _threads(task.pid)]
        for tid, pid in born:
            known = self._by_tid.get(tid)
            if known is None or (known.dead and _state(tid)[0] not in ("", "Z", "X")):
                parent = task if tid == pid else self._maker_of(tid, task)
                if parent is not None:
                    self._adopt(self._fresh(parent), tid, pid, parent.program, parent.name)

    def _maker_of(self, tid: int, otherwise: Task) -> Task | None:
        """Return who made a thread: any thread of its process may have. None: that will be known at its first call.

        The kernel says it to the maker alone, in its memory. `otherwise`: where nobody was to be told.
        """
        makers = [task for task in self._by_tid.values() if task.told and task.pid == otherwise.pid and not task.dead]
        inside = struct.pack("i", _ids(tid)[2]) if makers else b""
        for maker in makers:
            if calls.Caller(maker.tid).memory(maker.told, len(inside)) == inside:
                return maker
        return None if makers else otherwise

    def _fresh(self, parent: Task) -> str:
        parent.children += 1
        return f"{parent.name}.{parent.children}"

    def _process_died(self, pidfd: int) -> None:
        pid = self._watched.pop(pidfd, 0)
        if not pid:
            return
        with contextlib.suppress(KeyError):
            self._poll.unregister(pidfd)
        os.close(pidfd)
        for task in list(self._by_tid.values()):
            if task.pid == pid and not task.dead:
                self._died(task)

    def _died(self, task: Task) -> None:
        task.held = task._notification = None
        task.dead = True
        task.rest = Rest(task.name, "dead")
        task.close()
        self._deaths += 1
        # A process is seen dead a moment before its parent is woken. Both happen under one lock of the kernel, which
        # a signal to a group must take too: once this returns, the parent runs.
        with contextlib.suppress(OSError):
            os.kill(0, 0)
        exiting = task.exiting
        code = exiting.arguments["code"] if exiting is not None and not task.killed else None
        self._record(task, Kind.DEATH, "killed" if exiting is None or task.killed else "exit", result=code,
                     of=exiting.seq if exiting is not None else 0)  # fmt: skip

    def _refuse(self, task: Task) -> None:
        """A call of another architecture: its number and arguments mean something else, nothing can be said of it."""
        self._note(f"{task.name} : appel d'un programme 32 bits, arrêté là ; le compiler en 64 bits")
        task.killed = True
        _kill(task.pid)

    # Events

    def _record(
        self,
        task: Task | None,
        kind: Kind,
        call: str,
        object_: str = "",
        arguments: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> Event:
        event = Event(
            seq=self._count + 1,
            time=time.monotonic() - self._start,
            task=task.name if task is not None else "",
            kind=kind,
            call=call,
            object=object_,
            arguments=arguments or {},
            pid=task.pid if task is not None else 0,
            tid=task.tid if task is not None else 0,
            **more,
        )
        self._count = event.seq
        if event.seq <= KEPT:
            self._events.append(event)
        if event.seq == KEPT:
            self.notes.append(f"plus de {KEPT} événements : les suivants ne sont pas gardés")
        if self._sink is not None:
            self._sink(event)
        return event

    def _note(self, text: str) -> None:
        self.notes.append(text)
        self._record(None, Kind.NOTE, "note", arguments={"text": text})

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise GateError(f"le portillon est tombé : {self._failure!r}") from self._failure


def _real(notification: seccomp.Notification) -> str:
    return calls.REAL.get(notification.nr, "")


def _valued(what: str, value: int) -> dict[str, Any]:
    return {} if what == "let" else {"arguments": {"errno" if what == "fail" else "value": value}}


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _state(tid: int) -> tuple[str, int]:
    """Return the state letter of a task and the number of the call it is in (-1: none, or not to be known)."""
    try:
        with open(f"/proc/{tid}/stat") as file:
            state = file.read().rpartition(")")[2].split()[0]
        if state not in "SDT":
            return state, -1
        with open(f"/proc/{tid}/syscall") as file:
            word = file.read().split()[0]
        with open(f"/proc/{tid}/stat") as file:  # still asleep, so that the call is the one it sleeps in
            again = file.read().rpartition(")")[2].split()[0]
        return (state if again == state else "R"), int(word) if word.lstrip("-").isdigit() else -1
    except (OSError, IndexError):
        return "", -1


def _ids(tid: int) -> tuple[int, int, int]:
    """Return the process of a thread, its parent, and the thread as its world calls it; (tid, 0, 0) if it is gone."""
    found = {"Tgid": tid, "PPid": 0, "NSpid": 0}
    with contextlib.suppress(OSError), open(f"/proc/{tid}/status") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name in found:
                found[name] = int(value.split()[-1])
    return found["Tgid"], found["PPid"], found["NSpid"]


def _in_flight(tid: int) -> bool:
    for family in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), open(f"/proc/{tid}/net/{family}") as table:
            if calls.in_flight(table.read()):
                return True
    return False


def _children(pid: int, tid: int) -> list[int]:
    """Return the children that a thread has made and that live, or are zombies, in the order of their birth."""
    try:
        with open(f"/proc/{pid}/task/{tid}/children") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def _threads(pid: int) -> Iterator[int]:
    try:
        yield from sorted(int(name) for name in os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return


def _all_dead(pid: int) -> bool:
    return all(_state(tid)[0] in ("Z", "X", "") for tid in _threads(pid))
