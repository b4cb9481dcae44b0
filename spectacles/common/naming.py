"""Names of processes and threads, as `ps -L` and `top -H` show them: who is who among the tasks of a server."""

from __future__ import annotations

import contextlib
import os

_COMM = "/proc/thread-self/comm"  # proc(5); of the main thread it is the name of the process
_SIZE = 15  # bytes
_PLAIN = str.maketrans("àâçéèêëîïôùûü", "aaceeeeiiouuu")


def show_as(name: str) -> None:
    """Have the calling thread shown as `name`, without accents and cut at 15 bytes.

    A new thread or child is shown as the one that has started it. Does nothing where proc(5) is not to be written to.
    """
    with contextlib.suppress(OSError):
        fd = os.open(_COMM, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, os.fsencode(name.translate(_PLAIN))[:_SIZE])
        finally:
            os.close(fd)


def shown_as() -> str:
    """Return the name that the calling thread is shown as, "" if that is not to be known."""
    with contextlib.suppress(OSError), open(_COMM, "rb") as file:
        return os.fsdecode(file.read().rstrip(b"\n"))
    return ""
