"""What the tests share: names that belong to one run of pytest, and what that run has left on the machine.

Several people, and several runs, may share a host. So every System V key carries the 15 bits of its run, every
semaphore its name, and every process inherits an environment variable: what is left over can be told from what is
somebody else's.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import itertools
import os
import random
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from spectacles.common import addresses
from spectacles.common.spectacle import Spectacle, unpack_table
from spectacles.lab.programs.process import QUESTIONS, TCP, ServerProcess, children

ROOT = Path(__file__).resolve().parent.parent
FORKING = ("q1_pipes", "q2_msq")  # a parent, two children, shared memory, a named semaphore
QUEUES = ("q2_msq", "q3_threads", "q4_thread_per_request")  # one System V queue, Q2's client
MANY = QUESTIONS[1:]  # more than one client at a time
SHOWS = 6  # in the sample catalogue, in slots 0 to 5
PLACES = (120, 80, 300, 250, 40, 12)

DEADLINE = 10.0  # seconds; of every wait that should take a fraction of one
MARKER = "SPECTACLES_TEST_RUN"
RUN = random.SystemRandom().randrange(1, 0x7FFF)  # high bits of every System V key of this run
RUN_NAME = f"{RUN:04x}-{os.getpid()}"

_counter = itertools.count(1)
_derived_keys: set[int] = set()
_derived_semaphores: set[str] = set()


# Names


def fresh_key() -> int:
    """Return a System V key that nobody else has, and that this run answers for."""
    return RUN << 16 | next(_counter)


def fresh_high_key() -> int:
    """Return such a key with its highest bit set: negative as a C int."""
    return fresh_key() | 1 << 31


def fresh_semaphore() -> str:
    """Return a semaphore name that nobody else has, and that this run answers for."""
    return f"/spectacles-test-{RUN_NAME}-{next(_counter)}"


def fresh_names(question: str) -> list[str]:
    """Return --key, --shm-key and --sem-name with fresh values; [] for those of TCP, which have no such objects."""
    if question in TCP:
        return []
    return ["--key", hex(fresh_key()), "--shm-key", hex(fresh_key()), "--sem-name", fresh_semaphore()]


def register_directory(path: str | Path) -> None:
    """Make this run answer for the names that servers, in Python and in C, derive from the run directory `path`."""
    for project in range(addresses.PROJECT_MSQ, addresses.PROJECT_SEM + 1):
        key = addresses.directory_key(str(path), project)
        _derived_keys.add(key)
        _derived_semaphores.update((f"spectacles-{key:x}", f"spectacles-c-{key:08x}"))


def forget_directories() -> None:
    """Answer no more for names derived from directories: a stranger's may have one of them, by chance, 16 bits of it.

    At the end of each test: of the hundreds of directories of a run, one is soon some other server's by its key.
    """
    _derived_keys.clear()
    _derived_semaphores.clear()


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that was free a moment ago."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# What is left


def own_objects() -> set[str]:
    """Return the kernel objects of this run, as "msg 0x...", "shm 0x...", "sem 0x..." and "/dev/shm/sem.NAME".

    A semaphore may also lie where musl puts it, as "/dev/shm/NAME".
    """
    found = set()
    for kind in ("msg", "shm", "sem"):
        for line in Path(f"/proc/sysvipc/{kind}").read_text().splitlines()[1:]:
            key = int(line.split()[0]) & 0xFFFFFFFF
            if key >> 16 & 0x7FFF == RUN or key in _derived_keys:
                found.add(f"{kind} {key:#x}")
    for path in Path("/dev/shm").iterdir():
        name = path.name.removeprefix("sem.")
        if name.startswith(f"spectacles-test-{RUN_NAME}-") or name in _derived_semaphores:
            found.add(str(path))
    return found


def remove_objects(objects: set[str]) -> None:
    """Remove what own_objects() named, or as much of it as still exists."""
    libc = ctypes.CDLL(None, use_errno=True)
    for name in objects:
        kind, _, key = name.partition(" ")
        if not key:
            Path(name).unlink(missing_ok=True)
        elif kind == "msg":
            libc.msgctl(libc.msgget(ctypes.c_int(int(key, 0)), 0), 0, None)
        elif kind == "shm":
            libc.shmctl(libc.shmget(ctypes.c_int(int(key, 0)), 0, 0), 0, None)
        else:
            libc.semctl(libc.semget(ctypes.c_int(int(key, 0)), 0, 0), 0, 0)


def own_processes() -> dict[int, str]:
    """Return the processes that this run has started, orphans too, with their command lines (zombies: "zombie")."""
    marker = f"{MARKER}={RUN_NAME}".encode()
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if marker in Path("/proc", entry, "environ").read_bytes().split(b"\0"):
                command = Path("/proc", entry, "cmdline").read_bytes()
                found[int(entry)] = command.replace(b"\0", b" ").decode("utf-8", "replace")
    todo = children(os.getpid())  # those whose environment does not say so: zombies, and the very young
    while todo:
        pid = todo.pop()
        found.setdefault(pid, "zombie" if process_state(pid) == "Z" else "?")
        todo += children(pid)
    return found


def process_state(pid: int) -> str:
    """Return the state letter of proc(5), "" if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def is_gone(pid: int) -> bool:
    """Say whether `pid` has ended, reaped or not."""
    return process_state(pid) in ("", "Z", "X")


# Waiting


def eventually(condition: Callable[[], object], what: str = "", timeout: float = DEADLINE) -> None:
    """Return once condition() is true. Fails after `timeout` seconds, saying `what` was waited for."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what or condition}"
        time.sleep(0.005)


def stopped(pid: int) -> bool:
    """Say whether `pid` is stopped by SIGSTOP, with all its threads: one that is late may still take a message."""
    with contextlib.suppress(OSError):
        states = [path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{pid}/task").glob("*/stat")]
        return bool(states) and set(states) == {"T"}
    return False


def freeze(pids: Sequence[int]) -> None:
    """SIGSTOP the processes and wait until they stand still."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    for pid in pids:
        eventually(lambda pid=pid: stopped(pid), f"{pid} stopped")  # type: ignore[misc]


# Servers and clients


class Servers:
    """Starts servers for one test, and ends them with it. Call it to start one that serves.

    Each gets fresh names unless its options give them, and a fresh directory unless `directory` does. What a server
    that was killed with -9 leaves in the kernel is removed at the end; any other must have cleaned up by itself.
    """

    def __init__(self, make_directory: Callable[[], Path]) -> None:
        self._make_directory = make_directory
        self._running: list[ServerProcess] = []

    def __call__(
        self,
        question: str,
        *options: str,
        directory: str | Path | None = None,
        names: Sequence[str] | None = None,
        command: Sequence[str] | None = None,
        env: dict[str, str] | None = None,
    ) -> ServerProcess:
        """Start a server and return it once it serves. Raises ServerError.

        names: the addressing options; None makes fresh ones, () leaves the server to derive them from the directory.
        """
        server = self.start(question, *options, directory=directory, names=names, command=command, env=env)
        server.wait_ready()
        return server

    def start(
        self,
        question: str,
        *options: str,
        directory: str | Path | None = None,
        names: Sequence[str] | None = None,
        command: Sequence[str] | None = None,
        env: dict[str, str] | None = None,
    ) -> ServerProcess:
        """Start a server and return it at once."""
        directory = self._make_directory() if directory is None else Path(directory)
        if directory.is_dir():
            register_directory(directory)
        if names is None:
            names = fresh_names(question)
        server = ServerProcess(question, directory, *names, *options, command=command, env=env)
        self._running.append(server)
        return server

    def close(self) -> None:
        """End every server that is still there, the last first."""
        killed = False
        while self._running:
            server = self._running.pop()
            if server.process.poll() is None:
                for pid in server.tree():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGCONT)
                server.stop()
            killed = killed or server.process.returncode == -signal.SIGKILL
        if killed:
            remove_objects(own_objects())


class House:
    """Several servers of x1_sessions in one directory, with the same names."""

    def __init__(self, servers: Servers, directory: Path) -> None:
        self._servers = servers
        self.directory = directory
        self.names = fresh_names("x1_sessions")
        self.alive: list[ServerProcess] = []
        self.alive_once: list[ServerProcess] = []

    def open(self, count: int = 1, env: dict[str, str] | None = None) -> None:
        """Start `count` more, one after the other."""
        for _ in range(count):
            started = self._servers("x1_sessions", *self.names, directory=self.directory, names=(), env=env)
            self.alive.append(started)
            self.alive_once.append(started)

    def kill(self, server: ServerProcess) -> None:
        """kill -9 one of them."""
        self.alive.remove(server)
        server.kill()

    def close(self) -> None:
        """Stop those that are left; each has to end well."""
        while self.alive:
            server = self.alive.pop()
            assert server.stop() == 0, server.output


# Becomes a program that inherits ignored and blocked signals, as from nohup(1), a script's background job, a JVM.
_INHERITING = """
import os, signal, sys
ignored, blocked = ([int(word) for word in words.split()] for words in sys.argv[1:3])
signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
for number in ignored:
    signal.signal(number, signal.SIG_IGN)
os.execvp(sys.argv[3], sys.argv[3:])
"""
ALL_SIGNALS = frozenset(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}


def inheriting(*, ignored: Iterable[int] = (), blocked: Iterable[int] = ()) -> list[str]:
    """Return what to put before a command so that it starts with these signals ignored and blocked."""
    words = (" ".join(str(int(number)) for number in numbers) for numbers in (ignored, blocked))
    return [sys.executable, "-c", _INHERITING, *words]


def signals(pid: int, which: str) -> set[int]:
    """Return the signals that a task ignores (`which`: "SigIgn"), blocks ("SigBlk") or catches ("SigCgt"), proc(5).

    Without those that glibc keeps for itself, 32 and 33: what posix_spawn(3) starts, for make, say, ignores them.
    """
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(which):
            mask = int(line.split()[1], 16)
            return {number for number in signal.valid_signals() if mask >> number - 1 & 1}
    raise AssertionError(f"{which} is not in /proc/{pid}/status")


def signals_as_in_the_foreground() -> None:
    """Have all programs started from here on get no signal ignored or blocked, however this one was started.

    What is ignored here stays without effect here: a handler that does nothing is what exec resets, signal(7).
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in ALL_SIGNALS - {signal.SIGPIPE, signal.SIGXFSZ}:  # ignored by Python, and given back by subprocess
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def client_command(question: str, *arguments: str) -> list[str]:
    """Return the command of the Python client of `question`."""
    return [sys.executable, "-m", f"spectacles.{question}.client", *arguments]


def server_command(question: str, *arguments: str) -> list[str]:
    """Return the command of the Python server of `question`."""
    return [sys.executable, "-m", f"spectacles.{question}.server", *arguments]


def run(
    command: Sequence[str | Path],
    *,
    stdin: str | None = None,
    timeout: float = 30.0,
    cwd: str | Path | None = None,
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, with an empty input unless given; return what it printed and its exit code."""
    return subprocess.run(
        [str(word) for word in command],
        input=stdin or "",
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=timeout,
        cwd=cwd,
        env=env,
        check=False,
    )


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return the only line on standard error; fails if there is another, or a traceback anywhere."""
    assert "Traceback" not in done.stdout + done.stderr, done
    lines = done.stderr.splitlines()
    assert len(lines) == 1, f"one line expected: {done}"
    return lines[0]


def c_options(server: ServerProcess) -> list[str]:
    """Return the addressing options of a C client for `server`."""
    return server.client_options()


def read_table(directory: str | Path) -> dict[int, Spectacle]:
    """Return the shows of the spectacles.dat in `directory` by slot."""
    return dict(unpack_table(Path(directory, "spectacles.dat").read_bytes()))


def places_in_file(directory: str | Path, show: int) -> int:
    """Return the seats that spectacles.dat has left for slot `show`, read as C would."""
    places: int = struct.unpack_from("<i", Path(directory, "spectacles.dat").read_bytes(), show * 72 + 68)[0]
    return places


@contextlib.contextmanager
def background(command: Sequence[str], *, stdin: int | None = subprocess.DEVNULL) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program beside the test, its output piped and its errors with it; kill it at the end if need be."""
    with subprocess.Popen(
        list(command), stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def read_until(fd: int, expected: str, timeout: float = DEADLINE) -> str:
    """Read from `fd` until what was read contains `expected`, and return it all. Fails at the end of file or late."""
    deadline = time.monotonic() + timeout
    data = b""
    while expected.encode() not in data:
        left = deadline - time.monotonic()
        assert left > 0, f"{expected!r} not within {timeout} s in {data.decode(errors='replace')!r}"
        if select.select([fd], [], [], left)[0]:
            try:
                part = os.read(fd, 65536)
            except OSError:  # a pty whose other end was closed
                part = b""
            assert part, f"{expected!r} not in {data.decode(errors='replace')!r}"
            data += part
    return data.decode("utf-8", "replace")


def request_waits(server: ServerProcess) -> bool:
    """Say whether a request lies unread in the channel of `server`, which the test has stopped with SIGSTOP."""
    if server.question == "q1_pipes":
        for name in ("tub1_view", "tub2_reservation"):
            fd = os.open(server.directory / name, os.O_RDONLY | os.O_NONBLOCK)
            try:
                if struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0]:
                    return True
            finally:
                os.close(fd)
        return False
    if server.question == "q5_sockets":
        port = server.address()[1]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, local, _, state, queues = line.split()[:5]
            if local.endswith(f":{port:04X}") and state == "01" and int(queues.split(":")[1], 16):
                return True
        return False
    return in_queue(server)[0] > 0


def in_queue(server: ServerProcess) -> tuple[int, int]:
    """Return how many messages lie in the queue of `server`, and how many bytes."""
    key = int(server.options[server.options.index("--key") + 1], 0) & 0xFFFFFFFF
    for line in Path("/proc/sysvipc/msg").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[0]) & 0xFFFFFFFF == key:
            return int(fields[4]), int(fields[3])
    return 0, 0
