"""Which processors the threads of a server may run on."""

from __future__ import annotations

import contextlib
import os
import sys


def share_one_processor() -> None:
    """Keep the calling thread, and those that it starts from now on, on one processor, sched_setaffinity(2).

    For threads that do little but hand work to each other: the interpreter's lock lets one of them run at a time. On
    one processor it changes hands with a context switch; on two, each time another processor has to be woken up. Which
    one depends on the PID, so that several servers of a host take different ones. Does nothing without such a lock.
    """
    if getattr(sys, "_is_gil_enabled", lambda: True)():
        processors = sorted(os.sched_getaffinity(0))
        with contextlib.suppress(OSError):  # taken away meanwhile: slower, nothing else
            os.sched_setaffinity(0, {processors[os.getpid() % len(processors)]})
