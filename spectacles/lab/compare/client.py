"""One client process of a measurement: it consults and reserves in a loop, and notes what it is told and when.

It speaks the protocol directly through the channel of its question and notes, for every request, the raw nanoseconds of
CLOCK_MONOTONIC. In a closed loop a request starts when the one before it has been answered. At a fixed rate it has an
intended start, and its latency counts from there: a request that had to wait because the one before it was stuck does
not pretend to have been fast.

`python -m spectacles.lab.compare.client` is told what to do on its standard input (one line of JSON), says `prêt`,
waits for a line with the common start, says `fini`, waits for a line, and hands back what it noted. crowd.py is at the
other end.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import random
import struct
import sys
import time
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from spectacles.common import addresses
from spectacles.common.errors import NoServerError
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
from spectacles.common.spectacle import RECORD_SIZE, TABLE_SIZE
from spectacles.lab.compare.workload import (
    CONSULT,
    MOST_SEATS,
    RESERVE,
    SHOWS,
    SMALL,
    SMALL_SHARE,
    Notes,
    Request,
    Workload,
)
from spectacles.lab.programs.process import TCP

if TYPE_CHECKING:
    from collections.abc import Callable

PLAN = 8192  # requests drawn in advance, so that no lot is drawn while time is taken; then the same again
READY, DONE = "prêt", "fini"

# Where the seats of SHOWS are in the table, skipping what stands between them.
_PLACES = struct.Struct("<" + f"{RECORD_SIZE - 4}xi" * len(SHOWS))
_LIST_PLACES = struct.Struct(f"<4x{_PLACES.format[1:]}")  # in a reply of the queue, after the server's PID
_PR_SET_TIMERSLACK = 29  # prctl(2)


def _pipes(options: Namespace) -> tuple[Any, Callable[[int], Any], Callable[[int, int], bool]]:
    from spectacles.q1_pipes.channel import ClientPipes

    pipes = ClientPipes(options.dir, options.timeout)
    return pipes, lambda show: pipes.exchange(LIST, show), lambda show, seats: bool(pipes.exchange(RESERV, show, seats))


def _queue(options: Namespace) -> tuple[Any, Callable[[int], Any], Callable[[int, int], bool]]:
    from spectacles.q2_msq.channel import ClientQueue

    queue = ClientQueue(addresses.directory_key(options.dir, addresses.PROJECT_MSQ), options.timeout)
    return queue, *_over(queue.exchange)


def _over(exchange: Callable[[int, bytes, int], bytes]) -> tuple[Callable[[int], Any], Callable[[int, int], bool]]:
    pid = os.getpid()
    list_request, size = LIST_REQUEST.pack(pid), LIST_REPLY.size

    def consult(show: int) -> Any:
        return _LIST_PLACES.unpack_from(exchange(LIST, list_request, size))

    def reserve(show: int, seats: int) -> bool:
        reply = exchange(RESERV, RESERV_REQUEST.pack(pid, show, seats), RESERV_REPLY.size)
        return bool(RESERV_REPLY.unpack(reply)[1])

    return consult, reserve


def _sessions(options: Namespace) -> tuple[Any, Callable[[int], Any], Callable[[int, int], bool]]:
    from spectacles.x1_sessions.channel import SessionQueue

    queue = SessionQueue(addresses.directory_key(options.dir, addresses.PROJECT_MSQ), options.timeout)
    return queue, *_over(queue.ask)


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


def work_through(
    work: Workload,
    number: int,
    clients: int,
    most: int,
    start: int,
    consult: Callable[[int], Any],
    reserve: Callable[[int, int], bool],
) -> Notes:
    """Run the plan of client `number` of `clients` from the instant `start` on; note `most` requests in full.

    start: ns of CLOCK_MONOTONIC. consult, reserve: ask the server; both may raise NoServerError, which ends the work.
    Blocks, work.duration, or twice that where a rate could not be kept.
    """
    notes = Notes()
    plan, clock = _plan(work, number), time.monotonic_ns
    history: list[tuple[str, int, int, Any, int, int | None]] = []  # plain until the end: the loop is what is timed
    consulted, reserved = notes.latencies[CONSULT].append, notes.latencies[RESERVE].append
    end = start + int(work.duration * 1e9)
    interval = clients * 1e9 / work.rate if work.rate else 0.0
    offset = start + number * interval / clients
    planned = max(math.ceil((end - offset) / interval), 0) if interval else 0
    done = 0
    if work.rate:
        _precise_sleep()
        end += int(work.duration * 1e9)  # requests that had to wait leave late: left out, they would pass for fast
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
    notes.history = [Request(*request) for request in history]
    return notes


@program
def main(argv: list[str] | None = None) -> int:
    """Run one client process, see the module. Returns 0; what went wrong is in the notes."""
    task = json.loads(sys.stdin.readline())
    work = Workload(**task["work"] | {"shows": tuple(task["work"]["shows"])})
    openers = {"q1_pipes": _pipes, "x1_sessions": _sessions, **dict.fromkeys(TCP, _connection)}
    opener = openers.get(task["question"], _queue)
    channel, consult, reserve = opener(Namespace(**task["options"]))
    with channel:
        print(READY, flush=True)
        start = int(sys.stdin.readline() or 0)
        if not start:
            return 0
        notes = work_through(work, task["number"], task["clients"], task["most"], start, consult, reserve)
        print(DONE, flush=True)
        sys.stdin.readline()
    header = {name: value for name, value in vars(notes).items() if name != "latencies"}
    header["counts"] = {kind: len(latencies) for kind, latencies in notes.latencies.items()}
    sys.stdout.buffer.write(json.dumps(header).encode() + b"\n")
    for latencies in notes.latencies.values():
        latencies.tofile(sys.stdout.buffer)
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
