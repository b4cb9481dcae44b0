"""Programs that stand still in a known way, and the kernel objects that a test looks at."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import helpers

SOURCES = Path(__file__).parent / "c"
IPC_CREAT, IPC_RMID, IPC_NOWAIT, MSG_COPY = 0o1000, 0, 0o4000, 0o40000

libc = ctypes.CDLL(None, use_errno=True)
libc.msgsnd.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.msgrcv.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long, ctypes.c_int]


def dead_pid() -> int:
    """Return the PID of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


class Stuck:
    """Starts programs that stand still; they end with the test."""

    def __init__(self, program: Path) -> None:
        self._program = program
        self._undo = contextlib.ExitStack()

    def __call__(self, mode: str, *arguments: object, stdin: int | None = subprocess.PIPE) -> int:
        """Start one and return its PID once it is set up."""
        command = [str(self._program), mode, *(str(word) for word in arguments)]
        process = self._undo.enter_context(helpers.background(command, stdin=stdin))
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        self._undo.callback(_end, process)
        return process.pid

    def close(self) -> None:
        """End all of them."""
        self._undo.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a program with its children, which share its session."""
    with contextlib.suppress(ProcessLookupError):
        for pid in list(helpers.own_processes()):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[3] == str(process.pid):
                    os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def stuck_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled stuck.c; skips without a compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc)")
    out = tmp_path_factory.mktemp("see") / "stuck"
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-g", "-O1", "-pthread"]
    subprocess.run([compiler, *flags, "-o", str(out), str(SOURCES / "stuck.c"), "-lrt"], check=True, timeout=60)
    return out


@pytest.fixture
def stuck(stuck_program: Path) -> Iterator[Stuck]:
    """Start programs that stand still: stuck(mode, argument) -> PID."""
    programs = Stuck(stuck_program)
    yield programs
    programs.close()


class TestQueue:
    """A System V queue of the test's own."""

    __test__ = False

    def __init__(self) -> None:
        self.key = helpers.fresh_key()
        self.id: int = libc.msgget(self.key, IPC_CREAT | 0o600)
        assert self.id >= 0

    def send(self, type_: int, body: bytes) -> None:
        """Put a message into it."""
        assert libc.msgsnd(self.id, struct.pack("l", type_) + body, len(body), IPC_NOWAIT) == 0

    def take(self) -> tuple[int, bytes] | None:
        """Take the first message out of it, None if it is empty."""
        buffer = ctypes.create_string_buffer(8 + 8192)
        size = libc.msgrcv(self.id, buffer, 8192, 0, IPC_NOWAIT)
        return None if size < 0 else (struct.unpack_from("l", buffer)[0], buffer.raw[8 : 8 + size])

    def remove(self) -> None:
        """Remove it."""
        libc.msgctl(self.id, IPC_RMID, None)


@pytest.fixture
def queue() -> Iterator[TestQueue]:
    """A System V queue; skips where the kernel cannot copy messages."""
    made = TestQueue()
    made.send(1, b"")
    size = libc.msgrcv(made.id, ctypes.create_string_buffer(8 + 8192), 8192, 0, IPC_NOWAIT | MSG_COPY)
    made.take()
    if size < 0:
        made.remove()
        pytest.skip("this kernel has no MSG_COPY (CONFIG_CHECKPOINT_RESTORE)")
    yield made
    made.remove()
