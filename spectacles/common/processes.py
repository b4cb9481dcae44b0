"""Whether a process is there, and what it does, by its PID."""

from __future__ import annotations

import os


def process_exists(pid: int) -> bool:
    """Say whether `pid` (above 0) is a process, of whatever user, kill(2) with signal 0."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def process_runs(pid: int) -> bool:
    """Say whether `pid` is a process that has not ended: a zombie only waits for its parent, proc(5)."""
    return process_state(pid) not in ("", "Z", "X")


def process_state(pid: int) -> str:
    """Return the letter for what the process does, "T" for standing still, "" if there is no such process, proc(5)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0].decode()
    except OSError:
        return ""
