"""What /proc says of processes: memory, CPU time, context switches, threads."""

from __future__ import annotations

import contextlib
import re
import time
from dataclasses import dataclass
from pathlib import Path

_CPUCLOCK_SCHED = 2  # the kind of clock in a clock id, see usage()


@dataclass(frozen=True)
class Memory:
    """Memory of one process, kB. rss: what it maps; pss: shared pages divided by their users; private: its own."""

    rss: int
    pss: int
    private: int


@dataclass(frozen=True)
class Usage:
    """What a group of processes has used: CPU seconds (user and system) and context switches."""

    cpu: float
    voluntary: int
    involuntary: int

    def __sub__(self, earlier: Usage) -> Usage:
        return Usage(self.cpu - earlier.cpu, self.voluntary - earlier.voluntary, self.involuntary - earlier.involuntary)


def _fields(path: str) -> dict[str, int]:
    """Return the `Name:  number` lines of a file of /proc. Raises OSError."""
    return {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+)", Path(path).read_text(), re.MULTILINE)}


def memory(pid: int) -> Memory:
    """Return the memory of `pid`. Raises OSError when it does not exist or belongs to another user."""
    rss = _fields(f"/proc/{pid}/status").get("VmRSS", 0)
    rollup = _fields(f"/proc/{pid}/smaps_rollup")
    return Memory(rss, rollup["Pss"], rollup["Private_Clean"] + rollup["Private_Dirty"])


def thread_count(pid: int) -> int:
    """Return the number of threads of `pid`, 0 if it does not exist."""
    return len(list(Path(f"/proc/{pid}/task").glob("*")))


def usage(pids: list[int]) -> Usage:
    """Return what `pids` have used since they began, threads that have ended included in the CPU time.

    The context switches of threads that have ended are lost to /proc: use them only where threads stay. Raises OSError.
    """
    cpu = 0.0
    voluntary = involuntary = 0
    for pid in pids:
        # The CPU clock of another process, as clock_getcpuclockid(3) makes it up: /proc only counts in ticks of 10 ms.
        cpu += time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED)
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):  # the thread has ended since iterdir()
                fields = _fields(f"{task}/status")
                voluntary += fields["voluntary_ctxt_switches"]
                involuntary += fields["nonvoluntary_ctxt_switches"]
    return Usage(cpu, voluntary, involuntary)
