"""The crash map: a server killed at each call of one reservation, and what a power cut could leave at each of them.

One run is watched to learn the calls that lead from the request to its answer; then, in a fresh world for each of them,
the server is killed there, all its processes at once, and started again.

Power cuts are not tried but reckoned, from the calls: what was not synced may be on the disk or not, each write by
itself (all that POSIX promises); a sector of 512 bytes is written whole or not at all.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from spectacles.common.errors import EXIT_DONE, EXIT_FAILED, SpectaclesError
from spectacles.common.spectacle import TABLE_SIZE, Spectacle, pack_table, unpack_table
from spectacles.common.storage import FILE_NAME
from spectacles.lab.gate.events import RELEASES, WANTS, Event, Kind
from spectacles.lab.gate.policy import Decision, Go, Hold
from spectacles.lab.gate.policy import Gate as PolicyGate
from spectacles.lab.gate.supervisor import Gate
from spectacles.lab.programs import reference
from spectacles.lab.programs.process import READY
from spectacles.lab.programs.world import Program, World, WorldError

SHOW, SEATS, ASKED = 5, 100, 3
BEFORE, AFTER, EMPTY, TORN = "avant", "après", "vide", "coupé"
SECTOR = 512  # bytes
START = 30.0  # seconds for a start
ANSWER, PATIENT = 1.0, 10.0  # seconds that the client waits; on a machine so busy that it then had no answer at all
PORT = "7501"  # of question 5, in a world of its own
PACKAGE = Path(__file__).parents[3]
_CALLS = ("read", "write", "open", "rename", "ftruncate", "fsync", "msgrcv", "msgsnd", "send", "recv", "semop", "fcntl",
          "flock", WANTS, RELEASES)  # fmt: skip
_KINDS = {"queue": "file", "shared memory": "mémoire", "semaphores": "sémaphores", "POSIX semaphore": "sémaphore",
          "POSIX shared memory": "mémoire POSIX", "POSIX queue": "file POSIX", "FIFO": "FIFO"}  # fmt: skip
_ASIDE = ("terminal", "logs", "pipe", "memfd")  # what has no part in the reservation


@dataclass(frozen=True)
class Service:
    """One of the ten servers, and how it is started and asked."""

    question: str
    in_c: bool

    def server(self) -> list[str]:
        """Return the command of the server."""
        own = [f"./{reference.server_name(self.question)}"] if self.in_c else self._ours("server")
        return [*own, "--dir", ".", *self._port()]

    def client(self, *words: str, patience: float = ANSWER) -> list[str]:
        """Return the command of a client."""
        if self.in_c:
            return [
                f"./{reference.CLIENTS[self.question]}",
                *words,
                "--dir",
                ".",
                "--timeout",
                str(patience),
                *self._port(),
            ]
        return [*self._ours("client"), "--dir", ".", *self._port(), "--timeout", str(patience), *words]

    def _ours(self, what: str) -> list[str]:
        return [sys.executable, "-m", f"spectacles.{self.question}.{what}"]

    def _port(self) -> list[str]:
        return ["--port", PORT] if self.question == "q5_sockets" else []


@dataclass(frozen=True)
class Point:
    """A call of the reservation, by name."""

    task: str
    call: str
    object: str
    nth: int  # from 1: such calls of the task since the client was started, this one included

    def __str__(self) -> str:
        words = {WANTS: "prendre", RELEASES: "rendre"}
        object_ = "verrou" if self.object.startswith("lock ") else self.object
        return f"{words.get(self.call, self.call)}({object_})"


@dataclass(frozen=True)
class Row:
    """What came of a kill just before a call."""

    point: Point
    told: str  # the client: "réservé", "refusé", "sans réponse"
    file: str  # BEFORE, AFTER, EMPTY, TORN
    left: str  # in the kernel, in words; "" for nothing
    again: str  # what the next start said: "" when it serves
    seats: int | None  # that it then sells of the show
    disk: tuple[str, ...]  # what a power cut here could leave

    @property
    def broken(self) -> bool:
        """Whether a promise is not kept: told yes and gone, or a table lost, or no service."""
        told = self.told == "réservé"
        return bool(self.again) or self.seats is None or (told and self.seats != SEATS - ASKED)

    @property
    def broken_by_power_cut(self) -> bool:
        """Whether a power cut here could break a promise."""
        return bool({EMPTY, TORN} & set(self.disk)) or (self.told == "réservé" and self.disk != (AFTER,))


def crash_map(service: Service) -> list[Row]:
    """Return a row for each call from the request to its answer, in their order, and one for after the answer.

    Blocks for some ten seconds. Raises SpectaclesError.
    """
    with _prepared(service) as folder:
        points, disks = _learn(service, folder)
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda pair: _kill_at(service, folder, *pair), zip(points, disks, strict=True)))


@contextlib.contextmanager
def _prepared(service: Service) -> Iterator[Path]:
    """Yield a folder with the table, and the programs in C."""
    with tempfile.TemporaryDirectory(prefix="spectacles-") as name:
        shows = {show: Spectacle(show + 1, f"Spectacle {show}", "2027-01-01", SEATS) for show in range(SHOW + 1)}
        Path(name, FILE_NAME).write_bytes(pack_table(shows))
        if service.in_c:
            reference.build(name, [service.question])
        yield Path(name)


class _KillAt:
    """Lets all go but one call of one task, once armed; then it is held until all are killed."""

    waiting = False
    stepwise = False

    def __init__(self, point: Point | None) -> None:
        self.reached = threading.Event()
        self._point = point
        self._armed = False
        self._left = point.nth if point else 0

    def arm(self) -> None:
        """From now on."""
        self._armed = True

    def opened(self, gate: PolicyGate) -> None:
        """Nothing to prepare."""

    def decide(self, gate: PolicyGate, event: Event) -> Decision:
        """Hold the call that is looked for."""
        point = self._point
        if (
            self._armed
            and point
            and (event.task, event.call, plain(event.object))
            == (
                point.task,
                point.call,
                point.object,
            )
        ):
            self._left -= 1
            if self._left == 0:
                self.reached.set()
                return Hold()
        return Go()

    def look(self, gate: PolicyGate) -> None:
        """Nothing to look for."""


@contextlib.contextmanager
def _served(service: Service, folder: Path, policy: _KillAt) -> Iterator[tuple[World, Gate, Program]]:
    """Yield a world with a server under the gate that is ready."""
    with World(folder, env={"PYTHONPATH": str(PACKAGE)}) as world:
        if not world.private:
            raise SpectaclesError(world.refused)
        with Gate(world, policy) as gate:
            server = gate.start("server", service.server())
            server.wait_output(READY, START)
            if gate.until_quiet(START) is None:  # its children may not have come to their first request yet
                raise SpectaclesError(f"{service.question} : le serveur n'est pas au repos")
            yield world, gate, server


def _reserve(service: Service, world: World, patience: float) -> Program:
    return world.start(service.client("reserve", str(SHOW), str(ASKED), patience=patience))


def _learn(service: Service, folder: Path) -> tuple[list[Point], list[tuple[str, ...]]]:
    """Return the calls from the request to after the answer, and what the disk may hold just before each."""
    policy = _KillAt(None)
    with _served(service, folder, policy) as (world, gate, _):
        first = len(gate.events())
        client = _reserve(service, world, PATIENT)
        if client.wait(START) != EXIT_DONE:
            raise SpectaclesError(f"{service.question} : la réservation n'a pas été faite\n{client.output()}")
        writers = [event.task for event in gate.events(first) if event.call == "write" and event.object == FILE_NAME]
        if not writers:
            raise SpectaclesError(f"{service.question} : personne n'a écrit {FILE_NAME}")
        _wait_idle(gate, writers[0])
        events = [event for event in gate.events(first) if event.task == writers[0]]
    return _points(events)


def _wait_idle(gate: Gate, task: str) -> None:
    """Wait until the task has come to its next request, or has ended."""
    deadline = time.monotonic() + START
    while not gate.tasks[task].dead and gate.asleep(task) is None:
        if time.monotonic() > deadline:
            raise SpectaclesError(f"{task} n'attend pas la demande suivante")
        time.sleep(0.001)


def _points(events: Sequence[Event]) -> tuple[list[Point], list[tuple[str, ...]]]:
    """Choose, of the events of the task that saves, those from the request to the call after the answer."""
    saved = next(i for i, event in enumerate(events) if event.call == "write" and event.object == FILE_NAME)
    received = [
        i for i in range(saved) if events[i].kind == Kind.RESULT and events[i].call in ("read", "recv", "msgrcv")
    ]
    begin = received[-1] if received else -1  # a thread that was born with its request
    answered = next(
        i
        for i in range(saved, len(events))
        if events[i].kind == Kind.CALL
        and events[i].call in ("write", "send", "msgsnd")
        and not events[i].object.startswith((*_ASIDE, FILE_NAME))
    )
    seen: dict[tuple[str, str], int] = {}
    points: list[Point] = []
    disks: list[tuple[str, ...]] = []
    done: list[Event] = []  # on the file
    for number, event in enumerate(events):
        if event.kind not in (Kind.CALL, Kind.MARK):
            continue
        name = plain(event.object)
        seen[event.call, name] = seen.get((event.call, name), 0) + 1
        aside = event.object.startswith(_ASIDE) or event.call not in _CALLS
        if begin < number and (not aside or number > answered):
            points.append(Point(event.task, event.call, name, seen[event.call, name]))
            disks.append(_disk(done))
            if number > answered:
                break
        if event.object == FILE_NAME and number > begin:
            done.append(event)
    return points, disks


def plain(name: str) -> str:
    """Return an object's name without what is another in every run: a key from the directory, a number of a pipe."""
    return re.sub(r"[ -]?(?:0x)?[0-9a-f]{8}\b| #\d+$", "", name)


def _disk(done: Sequence[Event]) -> tuple[str, ...]:
    """Return all that the disk may hold after these calls on the file, if the power goes now."""
    states = {BEFORE}
    pending: list[Event] = []
    for event in done:
        if event.call == "fsync":
            states, pending = {_apply(state, pending) for state in states}, []
        elif event.call in ("write", "ftruncate") or "O_TRUNC" in str(event.arguments.get("flags", "")):
            pending.append(event)
    found: set[str] = set()
    for count in range(len(pending) + 1):
        for some in itertools.combinations(pending, count):
            found |= {_apply(state, some) for state in states}
            if some and some[-1].call == "write" and _sectors(some[-1]) > 1:
                found.add(TORN)
    return tuple(word for word in (BEFORE, AFTER, EMPTY, TORN) if word in found)


def _apply(state: str, events: Sequence[Event]) -> str:
    for event in events:
        state = AFTER if event.call == "write" else EMPTY
    return state


def _sectors(event: Event) -> int:
    start = int(event.arguments.get("at", 0))
    return (start + int(event.arguments.get("size", 0)) - 1) // SECTOR - start // SECTOR + 1


def _kill_at(service: Service, folder: Path, point: Point, disk: tuple[str, ...], patience: float = ANSWER) -> Row:
    policy = _KillAt(point)
    with _served(service, folder, policy) as (world, gate, server):
        policy.arm()
        client = _reserve(service, world, patience)
        while not policy.reached.wait(0.1) and client.code is None:
            pass
        if not policy.reached.is_set() and patience < PATIENT:
            return _kill_at(service, folder, point, disk, PATIENT)
        if not policy.reached.is_set():
            raise SpectaclesError(f"{service.question} : {point} n'est pas venu cette fois")
        pids = {task.pid: name for name, task in gate.tasks.items() if not task.dead}
        for name in pids.values():
            gate.kill(name)
        server.wait(START)
        told = _told(client)
        data = (world.folder / FILE_NAME).read_bytes()
        left = world.objects().counts
        again, seats = _start_again(service, world)
        return Row(point, told, _state(data), _words(left), again, seats, disk)


def _told(client: Program) -> str:
    try:
        code = client.wait(PATIENT + 3 * ANSWER)
    except WorldError:
        return "sans réponse"
    return {EXIT_DONE: "réservé", EXIT_FAILED: "refusé"}.get(code, "sans réponse")


def _state(data: bytes) -> str:
    if not data:
        return EMPTY
    if len(data) != TABLE_SIZE:
        return TORN
    places = dict(unpack_table(data))[SHOW].places
    return {SEATS: BEFORE, SEATS - ASKED: AFTER}.get(places, TORN)


def _words(counts: Mapping[str, int]) -> str:
    """Say in French what lies in the kernel, and FIFOs."""
    return ", ".join(f"{counts[kind]} {word}" for kind, word in _KINDS.items() if counts.get(kind))


def _start_again(service: Service, world: World) -> tuple[str, int | None]:
    """Start it once more, and ask it. Returns what it said if it does not serve, and the seats it then has."""
    server = world.start(service.server())
    try:
        server.wait_output(READY, START / 3)
        asked = world.start(service.client("list"))
        asked.wait(START)
        data = (world.folder / FILE_NAME).read_bytes()
        if len(data) != TABLE_SIZE:
            return "", None
        return "", dict(unpack_table(data)).get(SHOW, Spectacle(0, "", "", 0)).places
    except WorldError:
        said = [line for line in server.output().splitlines() if line.strip()]
        return (said[-1] if said else "ne démarre pas"), None
