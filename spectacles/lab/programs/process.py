"""Start real servers and clients as black boxes: for the demo, the comparison and the tests.

Readiness is observed (the line that contains `Serveur UP`), never slept for, and every wait has a deadline.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from spectacles.common import addresses

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

QUESTIONS = ("q1_pipes", "q2_msq", "q3_threads", "q4_thread_per_request", "q5_sockets")
FURTHER = ("x1_sessions", "x2_basket", "x3_cluster")  # beside the five, of the same kind
TCP = ("q5_sockets", "x2_basket", "x3_cluster")  # found by a port
READY = "Serveur UP"
# The environment of clients whose output is read here, whatever the locale.
UTF8 = {**os.environ, "PYTHONIOENCODING": "utf-8"}
START_TIMEOUT = 10.0  # seconds from the start of a server to READY
STOP_TIMEOUT = 5.0  # seconds from the signal to its end; then it is killed


def question(text: str, *, further: bool = False) -> str | None:
    """Return the question that "2", "q2" or "q2_msq" names, None if none; further: or "x1", "x1_sessions"."""
    wanted = text.lower()
    if further and (found := next((name for name in FURTHER if wanted in (name, name.partition("_")[0])), None)):
        return found
    wanted = wanted.removeprefix("q")
    return next((name for name in QUESTIONS if wanted and wanted in (name[1], name[1:])), None)


class ServerError(Exception):
    """The server did not start, or did not stop; the message holds what it printed."""


class ServerProcess:
    """A server in a process of its own. A context manager that stops it, by force in the end.

    question: of QUESTIONS or FURTHER. directory: the run directory. options: of the server's command line; those of
    TCP get `--port 0` unless they name a port. command: what to run instead of the Python server (a C one). echo:
    called with every line that the server prints, in a thread.
    """

    def __init__(
        self,
        question: str,
        directory: str | Path,
        *options: str,
        command: Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        echo: Callable[[str], None] | None = None,
    ) -> None:
        self.question = question
        self.directory = Path(directory)
        self.options = options
        self.lines: list[str] = []
        self._echo = echo
        self._ready = threading.Event()
        self._foreign = command is not None
        if command is None:
            command = [sys.executable, "-m", f"spectacles.{question}.server"]
        if question in TCP and "--port" not in options:
            options = (*options, "--port", "0")
        self.process = subprocess.Popen(
            [*command, "--dir", str(directory), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=env,
            start_new_session=True,  # so that a Ctrl-C can be sent to its group alone
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> ServerProcess:
        """Wait until the server can serve. Raises ServerError."""
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ServerError):
            self.stop()

    @property
    def pid(self) -> int:
        """The PID of the server; of the parent, where it forks."""
        return self.process.pid

    @property
    def output(self) -> str:
        """All that it has printed until now, standard error included."""
        return "\n".join(self.lines)

    def wait_ready(self) -> None:
        """Block until the server says that it can serve. Raises ServerError if it ends first, or is too late."""
        if not self._ready.wait(START_TIMEOUT) or not any(READY in line for line in self.lines):
            state = self.process.poll()
            raise ServerError(f"{self.question} : le serveur n'est pas prêt (code de sortie {state})\n{self.output}")

    def wait_for(self, pattern: str, timeout: float = 5.0) -> str:
        """Return the first line printed that `pattern` (a regular expression) is found in, once there is one.

        Raises ServerError after `timeout` seconds.
        """
        step = threading.Event()
        for _ in range(max(int(timeout / 0.01), 1)):
            for line in list(self.lines):
                if re.search(pattern, line):
                    return line
            step.wait(0.01)
        raise ServerError(f"{self.question} : aucune ligne avec {pattern!r} en {timeout} s\n{self.output}")

    def address(self) -> tuple[str, int]:
        """Return host and port of question 5, as printed."""
        found = re.search(r"port (?:(?:\[([0-9a-f:.]+)\]|([0-9.]+)):)?(\d+)\b", self.output)
        if not found:
            raise ServerError(f"{self.question} : aucun port annoncé\n{self.output}")
        return found[1] or found[2] or "127.0.0.1", int(found[3])

    def client_options(self) -> list[str]:
        """Return the addressing options that a client needs to reach this server."""
        options = ["--dir", str(self.directory)]
        if self.question in TCP:
            host, port = self.address()
            return [*options, "--host", host, "--port", str(port)]
        for name in ("--key", "--shm-key", "--sem-name"):
            if name in self.options:
                options += [name, self.options[self.options.index(name) + 1]]
        return options

    def client_command(self, *arguments: str) -> list[str]:
        """Return the command line of a Python client of this server."""
        module = f"spectacles.{self.question}.client"
        return [sys.executable, "-m", module, *self.client_options(), *arguments]

    def client(self, *arguments: str, timeout: float = 20.0, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a Python client to its end and return its output and exit code."""
        return subprocess.run(
            self.client_command(*arguments),
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
            env=UTF8,
            timeout=timeout,
            check=False,
        )

    def tree(self) -> list[int]:
        """Return the PIDs of the server and of its children."""
        return [self.pid, *children(self.pid)]

    def stop(self, number: int = signal.SIGTERM, timeout: float = STOP_TIMEOUT) -> int:
        """Send a signal, wait for the end and return the exit code. Raises ServerError, having killed it, if late."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServerError(
                f"{self.question} : encore là {timeout} s après le signal {number}\n{self.output}"
            ) from None
        self._reader.join(STOP_TIMEOUT)
        return code

    def kill(self) -> None:
        """End it with SIGKILL and wait."""
        self.process.kill()
        self.process.wait(STOP_TIMEOUT)
        self._reader.join(STOP_TIMEOUT)

    def clean(self) -> None:
        """Remove what the server, ended by force, has left in the kernel and in its directory. Blocks."""
        command = [sys.executable, "-m", "spectacles", "clean", "--dir", str(self.directory)]
        if self._foreign:  # a C server notes nowhere what it makes, but derives all names
            key = addresses.directory_key(str(self.directory), addresses.PROJECT_MSQ)
            memory = addresses.directory_key(str(self.directory), addresses.PROJECT_SHM)
            command += ["--key", hex(key), "--shm-key", hex(memory), "--sem-name", f"/spectacles-c-{key:08x}"]
        subprocess.run(command, capture_output=True, timeout=START_TIMEOUT, check=False)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stdout:
            for line in stdout:
                self.lines.append(line.rstrip("\n"))
                if READY in line:
                    self._ready.set()
                if self._echo is not None:
                    self._echo(self.lines[-1])
        self._ready.set()


def children(pid: int) -> list[int]:
    """Return the PIDs of the children of `pid`, [] if it does not exist, proc(5)."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(word) for word in path.read_text().split()]
    return found
