"""What the tasks of a program do at this moment: who waits for the keyboard, for a request, for a lock.

A lighter look than kernel.looker's, as it is taken hundreds of times a second: no objects, and only of PIDs that are
given. All numbers are ours, outside the world.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spectacles.lab.kernel import calls, proc

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spectacles.lab.kernel.model import Wait

# What a server waits in for its next request. Of poll(2) and its kin each descriptor is a "read" of its own.
SERVING = ("receive", "read", "accept", "open", "semaphore")
_STREAMS = ("fifo:", "pipe:", "socket:")
_TERMINAL = ("device:/dev/pts/", "device:/dev/tty")


@dataclass(frozen=True)
class Doing:
    """What one task does. state: the letter of proc(5). switches: how often it was given a processor, or gave it up."""

    pid: int
    tid: int
    state: str
    switches: int
    call: str = ""
    waits: tuple[Wait, ...] = ()

    @property
    def reads_terminal(self) -> bool:
        """Whether it waits for somebody to type."""
        return any(wait.kind == "read" and (wait.target or "").startswith(_TERMINAL) for wait in self.waits)

    @property
    def serves(self) -> bool:
        """Whether it waits for a request: in a call on something else than the terminal."""
        return any(
            wait.kind in SERVING and (wait.kind != "read" or (wait.target or "").startswith(_STREAMS))
            for wait in self.waits
        )

    @property
    def timed(self) -> bool:
        """Whether it will wake by itself."""
        return any(wait.kind == "sleep" or wait.timeout is not None for wait in self.waits)

    @property
    def asleep(self) -> bool:
        """Whether it waits for somebody else, and for nothing but that."""
        return self.state in "SDT" and bool(self.call)


def look(pids: Iterable[int]) -> list[Doing]:
    """Return what the threads of `pids` do, those that are no more left out. Some 50 µs each."""
    found = []
    for pid in pids:
        hole = proc.Peephole(pid)
        try:
            tids = sorted(int(name) for name in os.listdir(f"/proc/{pid}/task"))
        except OSError:
            continue
        for tid in tids:
            try:
                found.append(_look(pid, tid, hole))
            except (OSError, ValueError, IndexError):
                continue
        hole.close()
    return found


def _look(pid: int, tid: int, hole: proc.Peephole) -> Doing:
    path = f"/proc/{pid}/task/{tid}"
    before = _switches(path)
    state = proc.read(f"{path}/stat", 512).rpartition(b")")[2].split()[0].decode()
    if state not in "SDTt":
        return Doing(pid, tid, state, before)
    try:
        parsed = calls.parse(proc.read(f"{path}/syscall", 300))
    except PermissionError:
        return Doing(pid, tid, state, before)
    if parsed is None or _switches(path) != before:
        return Doing(pid, tid, state, before)
    call = calls.NAMES.get(parsed[0], f"call {parsed[0]}")
    return Doing(pid, tid, state, before, call, calls.waits_of(call, parsed[1], hole))


def _switches(path: str) -> int:
    """Return how often a task was given a processor or gave it up: twice the same number, it has not run."""
    total = 0
    for line in proc.read(f"{path}/status", 8192).splitlines():
        if b"ctxt_switches" in line:
            total += int(line.rpartition(b":")[2])
    return total


def processor(pids: Iterable[int]) -> float:
    """Return the seconds of processor time that `pids` have used, those of threads that have ended included."""
    total = 0.0
    for pid in pids:
        try:
            fields = proc.read(f"/proc/{pid}/stat", 512).rpartition(b")")[2].split()
        except OSError:
            continue
        total += (int(fields[11]) + int(fields[12])) / proc.TICKS
    return total


def naps(pid: int, tid: int) -> int:
    """Return how often a task has gone to sleep of its own will, 0 if it is no more."""
    try:
        for line in proc.read(f"/proc/{pid}/task/{tid}/status", 8192).splitlines():
            if line.startswith(b"voluntary_ctxt_switches"):
                return int(line.rpartition(b":")[2])
    except OSError:
        pass
    return 0
