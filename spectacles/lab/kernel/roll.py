"""Who is there: all processes of the machine, the tree under some of them, and what each of their threads does.

Kept from look to look, so that a look reads anew only what can have changed: a thread that was not given a processor
since the last look is still in the same call.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from spectacles.lab.kernel import calls, futexes
from spectacles.lab.kernel.model import Lock, Semaphore, Task, Wait
from spectacles.lab.kernel.proc import KERNEL_THREAD, Peephole, Stat, pids, read, stat_of, why

if TYPE_CHECKING:
    from collections.abc import Iterable

REFRESH = 2.0  # seconds after which everything is read anew: a PID may have been given to another process
YOUNG = 3.0  # seconds during which a process is still opening what it will use

_EXEC_START = re.compile(rb"se\.exec_start\s*:\s*([\d.]+)")


class _Seen(NamedTuple):
    task: Task
    since: float  # time.monotonic()
    exact: bool


class Roll:
    """All processes of this PID namespace."""

    def __init__(self) -> None:
        self.table: dict[int, Stat] = {}
        self.first_seen: dict[int, float] = {}
        self.holes: dict[int, Peephole] = {}
        self.words: dict[int, Lock | Semaphore] = {}  # TID -> what its futex is, of this look
        self._commands: dict[int, tuple[str, ...]] = {}
        self._seen: dict[int, _Seen] = {}
        self._refreshed = float("-inf")
        self._offset: float | None = None  # of the scheduler's clock, in this look

    def update(self) -> None:
        """See who has come and gone."""
        now = time.monotonic()
        present = set(pids())
        all_ = now - self._refreshed > REFRESH
        if all_:
            self._refreshed = now
        for pid in list(present if all_ else present - self.table.keys()):
            try:
                found = stat_of(f"/proc/{pid}")
            except OSError:
                present.discard(pid)
                continue
            old = self.table.get(pid)
            if old is None or old.started != found.started:
                self._forget(pid)
                self.first_seen[pid] = now
            elif old.name != found.name:
                self._commands.pop(pid, None)
            self.table[pid] = found
        for pid in self.table.keys() - present:
            del self.table[pid]
            self._forget(pid)
        self.words = {}
        self._offset = None

    def _forget(self, pid: int) -> None:
        self.first_seen.pop(pid, None)
        self._commands.pop(pid, None)
        hole = self.holes.pop(pid, None)
        if hole is not None:
            hole.close()

    def close(self) -> None:
        """Close what is open."""
        for hole in self.holes.values():
            hole.close()

    def hole(self, pid: int) -> Peephole:
        """Return the peephole into a process, always the same."""
        if pid not in self.holes:
            self.holes[pid] = Peephole(pid)
        return self.holes[pid]

    def strangers(self) -> list[int]:
        """Return the processes that are neither this one nor the kernel's own."""
        own = os.getpid()
        return [pid for pid, found in self.table.items() if not found.flags & KERNEL_THREAD and pid != own]

    def young(self, pid: int) -> bool:
        """Say whether a process has come so lately that it may still be opening things."""
        return time.monotonic() - self.first_seen.get(pid, 0.0) < YOUNG

    def tree(self, roots: Iterable[int]) -> set[int]:
        """Return the processes of `roots` that are there, and all their descendants."""
        children: dict[int, list[int]] = {}
        for pid, found in self.table.items():
            children.setdefault(found.parent, []).append(pid)
        members: set[int] = set()
        todo = [pid for pid in roots if pid in self.table]
        while todo:
            pid = todo.pop()
            if pid not in members:
                members.add(pid)
                todo += children.get(pid, ())
        return members

    def command(self, pid: int) -> tuple[str, ...]:
        """Return the words of the command line, () if it has none."""
        if pid not in self._commands:
            try:
                data = read(f"/proc/{pid}/cmdline")
            except OSError:
                data = b""
            self._commands[pid] = tuple(os.fsdecode(word) for word in data.rstrip(b"\0").split(b"\0")) if data else ()
        return self._commands[pid]

    def family(self, pid: int) -> int:
        """Return the eldest ancestor with the same command line: the process that forked, and did not execute."""
        while True:
            parent = self.table[pid].parent if pid in self.table else 0
            if parent not in self.table or not self.command(pid) or self.command(parent) != self.command(pid):
                return pid
            pid = parent

    def tasks(self, pid: int) -> tuple[Task, ...]:
        """Return the threads of a process, () when it has gone."""
        try:
            tids = sorted((int(name) for name in os.listdir(f"/proc/{pid}/task")), key=lambda tid: (tid != pid, tid))
        except OSError:
            return ()
        hole = self.hole(pid)
        read_: list[tuple[int, Stat, float, int]] = []
        ran = False
        for tid in tids:
            path = f"/proc/{pid}/task/{tid}"
            try:
                processor, switches = _runs(path)  # before its state: see _called()
                found = stat_of(path)
            except OSError:
                continue
            if tid == pid and found.started != self.table[pid].started:  # the PID was given to another meanwhile
                self._forget(pid)
                self.table[pid] = found
                return ()
            old = self._seen.get(tid)
            ran = ran or old is None or old.task.switches != switches or not old.task.call
            read_.append((tid, found, found.processor if processor is None else processor, switches))
        if ran:
            hole.forget()
        return tuple(self._task(pid, hole, *what) for what in read_)

    def _task(self, pid: int, hole: Peephole, tid: int, found: Stat, processor: float, switches: int) -> Task:
        now = time.monotonic()
        old = self._seen.get(tid)
        if (
            old is not None
            and (old.task.pid, old.task.switches, old.task.state) == (pid, switches, found.state)
            and (old.task.call or old.task.refused)
        ):
            # It has not run since: still the same call, and only what lies at the address of a futex may differ.
            task = old.task
            if task.call == "futex":
                task = self._with_futex(task, hole)
            seen = _Seen(task, old.since, old.exact)
        else:
            path = f"/proc/{pid}/task/{tid}"
            task = Task(pid, tid, found.name, found.state, processor, switches)
            if found.state in "SDTt":
                task = self._called(task, path, hole, old.task if old is not None else None)
            ago = self._asleep(path) if found.state in "SDTt" else None
            seen = _Seen(task, now - ago if ago is not None else now, ago is not None or old is not None)
            self._seen[tid] = seen
        return replace(task, processor=processor, since=now - seen.since, exact=seen.exact)

    def _called(self, task: Task, path: str, hole: Peephole, before: Task | None) -> Task:
        try:
            data = read(f"{path}/syscall", 300)
        except OSError as error:
            place = None
            with contextlib.suppress(OSError):
                place = read(f"{path}/wchan", 100).decode("ascii", "replace").strip("\0\n0 ") or None
            return replace(task, refused=why(error), place=place)
        parsed = calls.parse(data)
        if parsed is None or (task.state in "Tt" and calls.enters_handler(data)):
            return task
        with contextlib.suppress(OSError):
            # Asleep when its state was read, asleep when its call was, and not given a processor from before the one
            # until after the other: they belong together.
            if _runs(path)[1] != task.switches:
                return task
        number, arguments = parsed
        if hole.bits() == 32:
            return replace(task, call=f"call {number}", arguments=arguments, refused="programme de 32 bits")
        call = calls.NAMES.get(number, f"call {number}")
        if call == "restart_syscall" and before is not None and before.waits:
            # It goes on with what a stop has interrupted, and its arguments are no longer those.
            return replace(task, call=before.call, arguments=before.arguments, waits=before.waits)
        waits = calls.waits_of(call, arguments, hole)
        task = replace(task, call=call, arguments=arguments, waits=waits)
        return self._with_futex(task, hole) if call == "futex" else task

    def _with_futex(self, task: Task, hole: Peephole) -> Task:
        if not task.waits or not task.arguments:
            return task
        address, operation, expected = task.arguments[:3]
        kind, thing = futexes.look_at(hole, address, operation, expected & 0xFFFFFFFF)
        timeout = task.waits[0].timeout
        if isinstance(thing, int):
            return replace(task, waits=(Wait(kind, None, thing, timeout=timeout),))
        self.words[task.tid] = thing
        return replace(task, waits=(Wait(kind, thing.id, timeout=timeout),))

    def _asleep(self, path: str) -> float | None:
        """Return for how many seconds a task has not run, by the scheduler's own clock, None where it does not say."""
        try:
            if self._offset is None:
                own = _EXEC_START.search(read("/proc/thread-self/sched", 400))
                if own is None:
                    return None
                self._offset = time.monotonic() - float(own[1]) / 1000
            found = _EXEC_START.search(read(f"{path}/sched", 400))
        except OSError:
            return None
        return max(time.monotonic() - self._offset - float(found[1]) / 1000, 0.0) if found else None

    def prune(self) -> None:
        """Forget the threads of processes that have gone."""
        for tid in [tid for tid, seen in self._seen.items() if seen.task.pid not in self.table]:
            del self._seen[tid]


def _runs(path: str) -> tuple[float | None, int]:
    """Return processor time in seconds, if known, and how often the task was given a processor, or gave it up."""
    words = read(f"{path}/schedstat", 200).split()
    if len(words) == 3 and words != [b"0", b"0", b"0"]:
        return int(words[0]) / 1e9, int(words[2])
    numbers = re.findall(rb"ctxt_switches:\s+(\d+)", read(f"{path}/status"))  # a kernel without these statistics
    return None, sum(int(number) for number in numbers)


def title(command: tuple[str, ...], name: str) -> str:
    """Return what to call a process, from its command line: `q2_msq.server`, `serveur`, `client.pl`.

    name: its comm, for one without a command line.
    """
    if not command:
        return name
    words = list(command)
    program = os.path.basename(words[0])
    if re.fullmatch(r"python[\d.]*|perl[\d.]*|java|ruby|node|bash|sh|dash", program):
        for place, word in enumerate(words[1:], 1):
            if word == "-m" and place + 1 < len(words):
                return _module(words[place + 1], words[place + 2 :])
            if word in ("-c", "-e"):
                return f"{program} {word}"
            if word in ("-cp", "-classpath", "-W", "-X"):
                words[place + 1 : place + 2] = ["-"]
            elif not word.startswith("-"):
                base = os.path.basename(word)
                if base == "spectacles":
                    return _module("spectacles", words[place + 1 :])
                return base
    return program


def _module(module: str, rest: list[str]) -> str:
    if module == "spectacles":
        return " ".join(["spectacles", *rest[:2]])
    return module.removeprefix("spectacles.")
