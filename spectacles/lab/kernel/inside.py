"""Looks from inside a world: where a program has IPC, PID, mount and network namespaces of its own, namespaces(7).

From outside, its queues do not exist, and the PIDs in its messages are not ours. So a process of our own goes in,
setns(2), and looks from there: every number in its looks is the world's own. It needs no more rights than those of the
user who made the world, and is gone with `close()`.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from spectacles.common.errors import SpectaclesError, reason
from spectacles.lab.kernel.looker import Looker

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spectacles.lab.kernel.model import Look

# In the order in which rights over the others come with them
NAMESPACES = {"user": 0x10000000, "ipc": 0x08000000, "net": 0x40000000, "mnt": 0x00020000, "pid": 0x20000000}
_SIZE = struct.Struct("<Q")


class InsideLooker:
    """A Looker in the world of process `inside` (a PID of ours). Arguments, and what look() returns, are the world's.

    A context manager. Raises SpectaclesError when the world may not be entered, or has gone.
    """

    def __init__(
        self, inside: int, pids: Iterable[int] = (1,), directory: str | None = None, keys: Iterable[int | str] = ()
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "spectacles.lab.kernel.inside"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            self._ask((inside, tuple(pids), directory, tuple(keys)))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> InsideLooker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the world."""
        self._process.kill()
        self._process.communicate()

    def look(self) -> Look:
        """Take a look. Blocks for some milliseconds. Raises SpectaclesError when the world has gone."""
        found: Look = self._ask(None)
        return found

    def _ask(self, question: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        data = pickle.dumps(question)
        try:
            self._process.stdin.write(_SIZE.pack(len(data)) + data)
            self._process.stdin.flush()
            (size,) = _SIZE.unpack(self._process.stdout.read(_SIZE.size))
            answer = pickle.loads(self._process.stdout.read(size))
        except (OSError, struct.error):
            raise SpectaclesError("le monde regardé n'existe plus") from None
        if isinstance(answer, str):
            raise SpectaclesError(answer)
        return answer


def enter(pid: int) -> None:
    """Move this process into all namespaces of `pid` that are not its own; of PIDs, its children. Raises OSError."""
    wanted = 0
    for name, flag in NAMESPACES.items():
        if os.readlink(f"/proc/self/ns/{name}") != os.readlink(f"/proc/{pid}/ns/{name}"):
            wanted |= flag
    if not wanted:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.pidfd_open(pid)
    try:
        if libc.setns(fd, wanted) < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    finally:
        os.close(fd)


def _serve() -> None:
    """Answer questions on standard input: first what to look at, then one look for every None."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever asks, who ends us
    inside, pids, directory, keys = _read()
    try:
        enter(inside)
    except OSError as error:
        _write(f"espaces de noms du processus {inside} : {reason(error)}")
        return
    child = os.fork()  # which is in the PID namespace
    if child:
        os.waitpid(child, 0)
        return
    looker = Looker(pids, directory, keys)
    _write(None)
    while True:
        _read()
        _write(looker.look())


def _read() -> Any:
    size = sys.stdin.buffer.read(_SIZE.size)
    if len(size) < _SIZE.size:
        os._exit(0)  # whoever asked has gone
    return pickle.loads(sys.stdin.buffer.read(*_SIZE.unpack(size)))


def _write(answer: object) -> None:
    data = pickle.dumps(answer)
    sys.stdout.buffer.write(_SIZE.pack(len(data)) + data)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    _serve()
