"""The client processes of one measurement, seen from the process that measures."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
import time
from array import array
from dataclasses import asdict
from typing import TYPE_CHECKING

from spectacles.common.errors import SpectaclesError
from spectacles.lab.compare.client import DONE, READY
from spectacles.lab.compare.workload import CONSULT, RESERVE, Notes, Request
from spectacles.lab.programs.process import TCP

if TYPE_CHECKING:
    from types import TracebackType

    from spectacles.lab.compare.workload import Workload
    from spectacles.lab.programs.process import ServerProcess

HEAD_START = 20_000_000  # nanoseconds between the word to start and the start
START_TIMEOUT = 20.0  # seconds for a client process to be ready, and beyond its work to say so


class Crowd:
    """The client processes of one measurement. A context manager that ends them, and waits for them.

    server: whom they ask. most: requests that each notes in full. Raises SpectaclesError.
    """

    def __init__(self, server: ServerProcess, work: Workload, clients: int, most: int) -> None:
        self._server = server
        self._work = work
        self._clients = clients
        self._most = most
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Crowd:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.communicate()

    def start(self) -> None:
        """Start the processes; return when all are connected and have the word to start. Blocks."""
        options: dict[str, object] = {"dir": str(self._server.directory), "timeout": 5.0}
        if self._server.question in TCP:
            options["host"], options["port"] = self._server.address()
        for number in range(self._clients):
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "spectacles.lab.compare.client"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                )
            )
            self._tell(
                self._processes[-1],
                json.dumps(
                    {
                        "question": self._server.question,
                        "options": options,
                        "work": asdict(self._work),
                        "number": number,
                        "clients": self._clients,
                        "most": self._most,
                    }
                ),
            )
        for process in self._processes:
            self._hear(process, READY)
        start = time.monotonic_ns() + HEAD_START
        for process in self._processes:
            self._tell(process, str(start))

    def wait(self) -> None:
        """Return when all have done their work; they stay connected. Blocks."""
        for process in self._processes:
            self._hear(process, DONE, 2 * self._work.duration + START_TIMEOUT)

    def notes(self) -> list[Notes]:
        """Let the processes go and return what each has noted. Blocks."""
        found = []
        for process in self._processes:
            self._tell(process, "")
            assert process.stdout is not None
            header = json.loads(process.stdout.readline())
            counts = header.pop("counts")
            latencies = {}
            for kind in (CONSULT, RESERVE):
                latencies[kind] = array("q")
                latencies[kind].frombytes(process.stdout.read(counts[kind] * 8))
            for name in ("sold", "refused"):
                header[name] = {int(show): seats for show, seats in header[name].items()}
            header["history"] = [Request(*request) for request in header["history"]]
            found.append(Notes(latencies=latencies, **header))
            process.wait()
        return found

    def _tell(self, process: subprocess.Popen[bytes], line: str) -> None:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the client has died: what it said on standard error says why
            process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()

    def _hear(self, process: subprocess.Popen[bytes], word: str, timeout: float = START_TIMEOUT) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        ready, _, _ = select.select([process.stdout], [], [], timeout)
        said = process.stdout.readline().decode().strip() if ready else f"rien en {timeout:g} s"
        if said != word:
            process.kill()
            raise SpectaclesError(
                f"{self._server.question} : un client : {process.stderr.read().decode().strip() or said}"
            )
