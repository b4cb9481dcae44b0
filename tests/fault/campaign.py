"""What these tests do again and again: real clients at work, servers that die under them, the count at the end."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from spectacles.common.spectacle import TABLE_SIZE, Spectacle, pack_table, unpack_table
from spectacles.lab.programs.process import ServerProcess, children
from tests import helpers
from tests.fault.client_loop import Order, Told, read_logs

PLENTY = 1_000_000  # seats that no campaign sells out


class Clients:
    """Real clients in processes of their own: see client_loop. close() ends them all.

    prefix: what to put before their command, to run them elsewhere.
    """

    def __init__(self, directory: Path, prefix: Sequence[str] = ()) -> None:
        self._directory = directory
        self._prefix = prefix
        self._running: list[subprocess.Popen[bytes]] = []
        self._orders: dict[int, Order] = {}
        self.logs: list[str] = []

    def start(self, server: ServerProcess, seed: int, **what: object) -> subprocess.Popen[bytes]:
        """Start a client of `server`; `what`: fields of Order."""
        return self.start_with(server.question, server.client_options(), seed, **what)

    def start_with(self, question: str, options: list[str], seed: int, **what: object) -> subprocess.Popen[bytes]:
        """Start a client of `question` with `options`; `what`: fields of Order."""
        log = str(self._directory / f"client{len(self.logs)}.log")
        order = Order(question, options, log, seed, **what)  # type: ignore[arg-type]
        self.logs.append(log)
        return self._start(order)

    def _start(self, order: Order) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([*self._prefix, *order.command()], start_new_session=True)
        self._running.append(process)
        self._orders[process.pid] = order
        return process

    def kill_one(self, choice: random.Random) -> None:
        """kill -9 one of them, with the C program it may have started, and start another in its place."""
        victim = self._running.pop(choice.randrange(len(self._running)))
        os.killpg(victim.pid, signal.SIGKILL)
        victim.wait()
        order = self._orders.pop(victim.pid)
        log = str(self._directory / f"client{len(self.logs)}.log")
        self.logs.append(log)
        self._start(Order(**{**vars(order), "log": log, "seed": choice.randrange(2**32)}))

    def kill_all(self) -> None:
        """kill -9 all of them, and start none."""
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._running = []

    def wait(self, timeout: float = 60.0, codes: tuple[int, ...] = (0,)) -> None:
        """Wait until all have done their number of requests."""
        deadline = time.monotonic() + timeout
        for process in self._running:
            assert process.wait(max(deadline - time.monotonic(), 0.01)) in codes
        self._running = []

    def stop(self) -> None:
        """Ask all to finish the request in hand, and wait."""
        for process in self._running:
            process.terminate()
        # The signal may come before a client has its handler, or after the interpreter has taken it back: nothing is
        # under way then.
        self.wait(codes=(0, -signal.SIGTERM))

    def close(self) -> None:
        """End whatever still runs."""
        self.kill_all()

    def told(self, keep: Callable[[str], bool] = lambda kind: True) -> Told:
        """Return what they wrote down until now."""
        return read_logs(self.logs, keep)

    def asked(self, count: int) -> Callable[[], bool]:
        """Return a condition: `count` requests more than now have been answered."""
        goal = self._answers() + count
        return lambda: self._answers() >= goal

    def all_answered(self) -> bool:
        """Say whether each of them has had an answer."""
        return all(Path(log).exists() and b'"ret"' in Path(log).read_bytes() for log in self.logs)

    def _answers(self) -> int:
        return sum(Path(log).read_bytes().count(b'"ret"') for log in self.logs if Path(log).exists())


def write_table(directory: Path, places: Sequence[int]) -> None:
    """Write a spectacles.dat with shows of so many seats."""
    shows = {slot: Spectacle(slot + 1, f"Spectacle {slot}", "2026-11-22", seats) for slot, seats in enumerate(places)}
    path = directory / "spectacles.dat"
    path.write_bytes(pack_table(shows))
    path.chmod(0o600)


def read_places(directory: Path) -> dict[int, int]:
    """Return the seats left in the file by slot. Fails unless it is 720 bytes."""
    data = (directory / "spectacles.dat").read_bytes()
    assert len(data) == TABLE_SIZE, f"the file is torn: {len(data)} bytes"
    return {slot: known.places for slot, known in unpack_table(data)}


def lost_seats(initial: Sequence[int], places: dict[int, int], told: Told) -> int:
    """Count the seats that the file has wrong: acknowledged and not taken, or taken and never asked for."""
    lost = 0
    for slot, seats in enumerate(initial):
        taken = seats - places[slot]
        lost += max(told.acknowledged[slot] - taken, 0)
        lost += max(taken - told.acknowledged[slot] - told.doubtful[slot], 0)
        lost += max(-places[slot], 0)
    return lost


def names_of(question: str) -> list[str]:
    """Return addressing options that stay the same over restarts."""
    return ["--port", str(helpers.free_port())] if question == "q5_sockets" else helpers.fresh_names(question)


def kill_tree(server: ServerProcess) -> None:
    """kill -9 all processes of a server, children first: nobody is left to notice."""
    pids = server.tree()
    for pid in reversed(pids):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    server.process.wait()
    for pid in pids:
        helpers.eventually(lambda pid=pid: helpers.is_gone(pid), f"{pid} gone")  # type: ignore[misc]


def kill_parent(server: ServerProcess) -> None:
    """kill -9 the server alone; its children, if any, have to die with it."""
    pids = children(server.pid)
    server.process.kill()
    server.process.wait()
    for pid in pids:
        helpers.eventually(lambda pid=pid: helpers.is_gone(pid), f"child {pid} gone with its parent")  # type: ignore[misc]
