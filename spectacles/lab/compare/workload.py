"""What one measurement does to a server: real client processes that consult and reserve, each in a loop of its own.

A client process speaks the protocol directly through the channel of its question and notes, for every request, the raw
nanoseconds of CLOCK_MONOTONIC, which all processes of a machine share. In a closed loop a request starts when the one
before it has been answered. At a fixed rate it has an intended start, and its latency counts from there: a request that
had to wait because the one before it was stuck does not pretend to have been fast.

`python -m spectacles.lab.compare.workload` is such a client. It is told what to do on its standard input (one line of
JSON), says `prêt`, waits for a line with the common start, says `fini`, waits for a line, and hands back what it noted.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import random
import re
import select
import struct
import subprocess
import sys
import time
from argparse import Namespace
from array import array
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectacles.common import addresses, storage
from spectacles.common.errors import NoServerError, SpectaclesError
from spectacles.common.lifecycle import program
from spectacles.common.protocol import (
    LIST,
    LIST_REPLY,
    LIST_REQUEST,
    RESERV,
    RESERV_REPLY,
    RESERV_REQUEST,
    TCP_REQUEST,
    TCP_RESERV_REPLY,
)
from spectacles.common.spectacle import RECORD_SIZE, TABLE_SIZE, Spectacle, pack_table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from spectacles.lab.programs.process import ServerProcess

CONSULT, RESERVE = "consult", "reserve"
VAST = 1_000_000_000  # seats that no load can sell
SHOWS = (VAST, VAST, VAST, 30)  # slots 0 to 3; the last one is soon sold out, so that refusals happen
SMALL = len(SHOWS) - 1
SMALL_SHARE = 0.1  # of the reservations are for the small show
MOST_SEATS = 3  # of one reservation, which takes 1 to this
PLAN = 8192  # requests drawn in advance; then the same again
HEAD_START = 20_000_000  # nanoseconds between the word to start and the start
READY, DONE = "prêt", "fini"
START_TIMEOUT = 20.0  # seconds for a client process to be ready, and beyond its work to say so

# Where the seats of SHOWS are in the table, skipping what stands between them.
_PLACES = struct.Struct("<" + f"{RECORD_SIZE - 4}xi" * len(SHOWS))
_LIST_PLACES = struct.Struct(f"<4x{_PLACES.format[1:]}")  # in a reply of the queue, after the server's PID
_PR_SET_TIMERSLACK = 29


@dataclass(frozen=True)
class Workload:
    """The same work for every server. Two runs can be compared when theirs are equal.

    duration: seconds. mix: how many consultations for how many reservations. rate: requests per second of all clients
    together, None for a closed loop. fsync: whether a reservation waits for the disk. seed: of what is drawn by lot.
    """

    duration: float = 1.5
    consults: int = 4
    reserves: int = 1
    rate: float | None = None
    fsync: bool = True
    seed: int = 1
    shows: tuple[int, ...] = SHOWS

    def describe(self) -> str:
        """Return the workload in one French sentence."""
        pace = (
            "en boucle fermée" if self.rate is None else f"à {self.rate:g} demandes/s en tout, départs fixés d'avance"
        )
        disk = "acquittées une fois sur le disque" if self.fsync else "acquittées sans attendre le disque"
        text = (
            f"consultations et réservations {self.consults}:{self.reserves}, de 1 à {MOST_SEATS} places, {disk} ; "
            f"{len(self.shows) - 1} spectacles inépuisables et un de {self.shows[SMALL]} places "
            f"({SMALL_SHARE * 100:.0f} % des réservations) ; {pace}, {self.duration:g} s par mesure, graine {self.seed}"
        )
        return re.sub(r"(?<=\d)\.(?=\d)", ",", text)

    def fill(self, directory: Path) -> None:
        """Write the spectacles.dat that every measurement starts from."""
        shows = {
            slot: Spectacle(slot + 1, f"Spectacle {slot}", "2027-01-01", places)
            for slot, places in enumerate(self.shows)
        }
        (directory / storage.FILE_NAME).write_bytes(pack_table(shows))


@dataclass
class Notes:
    """What one client process has noted, or several together.

    latencies: nanoseconds, by kind. sold: seats acknowledged, by show. refused: reservations refused, by show.
    history: of the first requests (kind, show, seats, result, call, ret) with a list of seats as result of a
    consultation of the whole table; complete until `until` (CLOCK_MONOTONIC, ns; None: to the end).
    late: requests that a fixed rate had planned and that had not left when twice the time was over.
    first, last: ns, of the first call, last return.
    """

    latencies: dict[str, array[int]] = field(default_factory=lambda: {CONSULT: array("q"), RESERVE: array("q")})
    sold: dict[int, int] = field(default_factory=dict)
    refused: dict[int, int] = field(default_factory=dict)
    history: list[tuple[str, int, int, Any, int, int | None]] = field(default_factory=list)
    until: int | None = None
    late: int = 0
    first: int = 0
    last: int = 0
    problem: str | None = None


# In the client process


def _pipes(options: Namespace) -> tuple[Any, Callable[[int], Any], Callable[[int, int], bool]]:
    from spectacles.q1_pipes.channel import ClientPipes

    pipes = ClientPipes(options.dir, options.timeout)
    return pipes, lambda show: pipes.exchange(LIST, show), lambda show, seats: bool(pipes.exchange(RESERV, show, seats))


def _queue(options: Namespace) -> tuple[Any, Callable[[int], Any], Callable[[int, int], bool]]:
    from spectacles.q2_msq.channel import ClientQueue

    queue = ClientQueue(addresses.directory_key(options.dir, addresses.PROJECT_MSQ), options.timeout)
    pid = os.getpid()
    exchange, list_request, size = queue.exchange, LIST_REQUEST.pack(pid), LIST_REPLY.size

    def consult(show: int) -> Any:
        return _LIST_PLACES.unpack_from(exchange(LIST, list_request, size))

    def reserve(show: int, seats: int) -> bool:
        reply = exchange(RESERV, RESERV_REQUEST.pack(pid, show, seats), RESERV_REPLY.size)
        return bool(RESERV_REPLY.unpack(reply)[1])

    return queue, consult, reserve


def _connection(options: Namespace) -> tuple[Any, Callable[[int], Any], Callable[[int, int], bool]]:
    from spectacles.q5_sockets.channel import ClientConnection

    options.tls = options.ca = options.cert = options.key = None
    connection = ClientConnection(options)
    exchange, list_request = connection.exchange, TCP_REQUEST.pack(LIST, 0, 0)

    def consult(show: int) -> Any:
        return _PLACES.unpack_from(exchange(list_request, TABLE_SIZE))

    def reserve(show: int, seats: int) -> bool:
        return exchange(TCP_REQUEST.pack(RESERV, show, seats), TCP_RESERV_REPLY.size) != b"\0"

    return connection, consult, reserve


def _plan(work: Workload, number: int) -> list[tuple[bool, int, int]]:
    lot = random.Random(f"{work.seed} {number}")
    plan = []
    for _ in range(PLAN):
        reserve = lot.random() * (work.consults + work.reserves) >= work.consults
        show = SMALL if lot.random() < SMALL_SHARE else lot.randrange(SMALL)
        plan.append((reserve, show, lot.randint(1, MOST_SEATS)))
    return plan


def _precise_sleep() -> None:
    # By default the kernel may wake a sleeper 50 us late, which a fixed rate would count as the server's.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)


def _work(
    work: Workload,
    number: int,
    clients: int,
    most: int,
    start: int,
    consult: Callable[[int], Any],
    reserve: Callable[[int, int], bool],
) -> Notes:
    """Run the plan of client `number` of `clients` from the instant `start` on; note `most` requests in full."""
    notes = Notes()
    plan, clock, history = _plan(work, number), time.monotonic_ns, notes.history
    consulted, reserved = notes.latencies[CONSULT].append, notes.latencies[RESERVE].append
    end = start + int(work.duration * 1e9)
    interval = clients * 1e9 / work.rate if work.rate else 0.0
    offset = start + number * interval / clients
    planned = max(math.ceil((end - offset) / interval), 0) if interval else 0
    done = 0
    if work.rate:
        _precise_sleep()
        end += int(work.duration * 1e9)  # what could not leave in time leaves late: left out, it would have been fast
    while (pause := start - clock()) > 0:
        time.sleep(pause / 1e9)
    while True:
        call = intended = clock()
        if interval:
            if done == planned:
                break
            intended = int(offset + done * interval)
            while (pause := intended - clock()) > 0:
                time.sleep(pause / 1e9)
            call = clock()
        if call >= end:
            break
        is_reserve, show, seats = plan[done % PLAN]
        kind = RESERVE if is_reserve else CONSULT
        try:
            result = reserve(show, seats) if is_reserve else consult(show)
        except NoServerError as error:
            history.append((kind, show, seats if is_reserve else 0, None, call, None))
            notes.problem = str(error)
            break
        ret = clock()
        if is_reserve:
            reserved(ret - intended)
            account = notes.sold if result else notes.refused
            account[show] = account.get(show, 0) + (seats if result else 1)
        else:
            consulted(ret - intended)
            seats = 0
        if done < most:
            history.append((kind, show, seats, result, call, ret))
        elif notes.until is None:
            notes.until = call
        done += 1
        notes.last = ret
    if interval and notes.problem is None:
        notes.late = planned - done
    notes.first = start
    return notes


@program
def main(argv: list[str] | None = None) -> int:
    """Run one client process, see the module. Returns 0; what went wrong is in the notes."""
    task = json.loads(sys.stdin.readline())
    work = Workload(**task["work"] | {"shows": tuple(task["work"]["shows"])})
    opener = {"q1_pipes": _pipes, "q5_sockets": _connection}.get(task["question"], _queue)
    channel, consult, reserve = opener(Namespace(**task["options"]))
    with channel:
        print(READY, flush=True)
        start = int(sys.stdin.readline() or 0)
        if not start:
            return 0
        notes = _work(work, task["number"], task["clients"], task["most"], start, consult, reserve)
        print(DONE, flush=True)
        sys.stdin.readline()
    header = {name: value for name, value in vars(notes).items() if name != "latencies"}
    header["counts"] = {kind: len(latencies) for kind, latencies in notes.latencies.items()}
    sys.stdout.buffer.write(json.dumps(header).encode() + b"\n")
    for latencies in notes.latencies.values():
        latencies.tofile(sys.stdout.buffer)
    sys.stdout.flush()
    return 0


# In the process that measures


class Crowd:
    """The client processes of one measurement. A context manager that ends them, and waits for them.

    server: whom they ask. most: requests that each notes in full. Raises SpectaclesError.
    """

    def __init__(self, server: ServerProcess, work: Workload, clients: int, most: int) -> None:
        self._server = server
        self._work = work
        self._clients = clients
        self._most = most
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Crowd:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.communicate()

    def start(self) -> None:
        """Start the processes; return when all are connected and have the word to start. Blocks."""
        options: dict[str, object] = {"dir": str(self._server.directory), "timeout": 5.0}
        if self._server.question == "q5_sockets":
            options["host"], options["port"] = self._server.address()
        for number in range(self._clients):
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "spectacles.lab.compare.workload"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                )
            )
            self._tell(
                self._processes[-1],
                json.dumps(
                    {
                        "question": self._server.question,
                        "options": options,
                        "work": asdict(self._work),
                        "number": number,
                        "clients": self._clients,
                        "most": self._most,
                    }
                ),
            )
        for process in self._processes:
            self._hear(process, READY)
        start = time.monotonic_ns() + HEAD_START
        for process in self._processes:
            self._tell(process, str(start))

    def wait(self) -> None:
        """Return when all have done their work; they stay connected. Blocks."""
        for process in self._processes:
            self._hear(process, DONE, 2 * self._work.duration + START_TIMEOUT)

    def notes(self) -> list[Notes]:
        """Let the processes go and return what each has noted. Blocks."""
        found = []
        for process in self._processes:
            self._tell(process, "")
            assert process.stdout is not None
            header = json.loads(process.stdout.readline())
            counts = header.pop("counts")
            latencies = {}
            for kind in (CONSULT, RESERVE):
                latencies[kind] = array("q")
                latencies[kind].frombytes(process.stdout.read(counts[kind] * 8))
            for name in ("sold", "refused"):
                header[name] = {int(show): seats for show, seats in header[name].items()}
            found.append(Notes(latencies=latencies, **header))
            process.wait()
        return found

    def _tell(self, process: subprocess.Popen[bytes], line: str) -> None:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has died: what it said follows
            process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()

    def _hear(self, process: subprocess.Popen[bytes], word: str, timeout: float = START_TIMEOUT) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        ready, _, _ = select.select([process.stdout], [], [], timeout)
        said = process.stdout.readline().decode().strip() if ready else f"rien en {timeout:g} s"
        if said != word:
            process.kill()
            raise SpectaclesError(
                f"{self._server.question} : un client : {process.stderr.read().decode().strip() or said}"
            )


def answered(notes: Sequence[Notes]) -> int:
    """Return how many requests were answered."""
    return sum(len(latencies) for note in notes for latencies in note.latencies.values())


if __name__ == "__main__":
    sys.exit(main())
