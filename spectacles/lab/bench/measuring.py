"""Servers measured in turns against yardsticks, by the C client or a Python one."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from spectacles.common import storage
from spectacles.common.errors import SpectaclesError
from spectacles.lab.bench import parts
from spectacles.lab.kernel import processes
from spectacles.lab.programs import reference
from spectacles.lab.programs.process import ServerError, ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable

    from spectacles.lab.display import terminal

KINDS = ("reserve", "reserve-no-fsync", "list", "bare", "manager", "start", "parts")
LOAD_TIMEOUT = 15.0  # seconds for a client process beyond its work


class Rates(NamedTuple):
    """Two servers measured in turns.

    ours, theirs: requests per second, medians. ratio: ours over theirs, median over the pairs of neighbouring measures,
    so that a machine that slows down for a while weighs on both. low, high: the least and the greatest of these ratios.
    """

    ours: float
    theirs: float
    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """One comparison. ours to high: as Rates; goal: the least ratio wanted, None for none."""

    what: str
    question: str
    clients: int
    ours: float
    theirs: float
    ratio: float
    low: float
    high: float
    goal: float | None


def goal(kind: str, question: str, clients: int) -> float | None:
    """Return the ratio wanted, None where there is no goal; docs/performance.md says why so much."""
    short = question[:2]
    if kind == "reserve":
        if clients == 1:
            return 0.9 if short == "q4" else 1.0
        return 1.5 if short in ("q4", "q5") else None
    if kind == "reserve-no-fsync":
        return 2.0 if short == "q4" else 8.0
    if kind == "list":
        if short == "q4":
            return 0.35 if clients == 1 else 0.25
        return 0.5 if short == "q5" and clients > 1 else 0.7
    return {"bare": 0.85, "manager": 4.0}.get(kind)


def fill(directory: Path) -> None:
    """Give a run directory shows that no load can sell out."""
    (directory / storage.FILE_NAME).write_bytes(parts.full_table())


class Bench:
    """Starts servers in directories of their own, and loads them. A context manager that ends and removes them."""

    def __init__(self, interrupts: terminal.Interrupts, base: str | None, seconds: float, rounds: int) -> None:
        self._interrupts = interrupts
        self._base = base
        self._seconds = seconds
        self._rounds = rounds
        self._stack = contextlib.ExitStack()
        self.programs = Path()

    def __enter__(self) -> Bench:
        self.directory = Path(
            self._stack.enter_context(tempfile.TemporaryDirectory("", "spectacles-bench-", self._base))
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def server(self, question: str, *options: str, command: list[str] | None = None) -> ServerProcess:
        """Start a server, by default the Python one at level warning, on a table that cannot be sold out."""
        directory = Path(tempfile.mkdtemp(dir=self.directory))
        fill(directory)
        if command is None:
            options = ("--log-level", "warning", *options)
        with self._interrupts.held():
            server = ServerProcess(question, directory, *options, command=command)
            self._stack.callback(_stop, server)
        server.wait_ready()
        return server

    def c_server(self, question: str) -> ServerProcess:
        """Start the C server."""
        return self.server(question, "--quiet", command=[str(self.programs / reference.server_name(question))])

    def bare(self, question: str) -> ServerProcess:
        """Start the bare Python loop."""
        return self.server(
            question, command=[sys.executable, "-m", "spectacles.lab.bench.yardsticks", "bare", question]
        )

    def in_turns(
        self, ours: ServerProcess, theirs: ServerProcess, load: Callable[[ServerProcess], list[str]], clients: int
    ) -> Rates:
        """Measure A B A B... under `clients` clients. Blocks. Raises SpectaclesError when a client fails."""
        our_rates, their_rates = [], []
        for _ in range(self._rounds):
            our_rates.append(self._load(ours, load(ours), clients))
            their_rates.append(self._load(theirs, load(theirs), clients))
        ratios = [a / b for a, b in zip(our_rates, their_rates, strict=True)]
        median = statistics.median
        return Rates(median(our_rates), median(their_rates), median(ratios), min(ratios), max(ratios))

    def c_load(self, operation: str) -> Callable[[ServerProcess], list[str]]:
        """Return how to make a server's C client repeat `operation`, list or reserve."""

        def command(server: ServerProcess) -> list[str]:
            client = str(self.programs / reference.CLIENTS[server.question])
            return [client, *server.client_options(), "bench", operation, "--seconds", str(self._seconds)]

        return command

    def python_load(self, server: ServerProcess) -> list[str]:
        """Return how to make a Python client ask for the table again and again."""
        what = "manager" if server.directory.joinpath("manager.sock").exists() else server.question
        options = ["--dir", str(server.directory), "--seconds", str(self._seconds)]
        if what == "q5_sockets":
            options += server.client_options()[2:]
        return [sys.executable, "-m", "spectacles.lab.bench.yardsticks", "load", what, *options]

    def c_or_proxy_load(self, server: ServerProcess) -> list[str]:
        """Return the fastest client of each: the C client, or where there is none the manager's own proxy."""
        if server.question in reference.CLIENTS:
            return self.c_load("list")(server)
        return self.python_load(server)

    def _load(self, server: ServerProcess, command: list[str], clients: int) -> float:
        running = [
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(clients)
        ]
        rate = 0.0
        failures = []
        for process in running:
            try:
                output, errors = process.communicate(timeout=self._seconds + LOAD_TIMEOUT)
            except BaseException:
                for other in running:
                    other.kill()
                    other.wait()
                raise
            if process.returncode != 0:
                failures.append(errors.strip())
                continue
            done = json.loads(output)
            if done.get("refused"):
                failures.append(f"{done['refused']} demandes refusées")
            rate += done["requests"] / done["seconds"]
        if failures:
            raise SpectaclesError(f"{server.question} : {failures[0]}\n{server.output}")
        return rate


def _stop(server: ServerProcess) -> None:
    with contextlib.suppress(ServerError):
        server.stop()


def start_up(bench: Bench, question: str, rounds: int) -> tuple[float, list[processes.Memory]]:
    """Return the median of the seconds from the start to `Serveur UP`, and the memory of each process under load."""
    durations = []
    for _ in range(rounds):
        began = time.monotonic()
        server = bench.server(question)
        durations.append(time.monotonic() - began)
    bench.in_turns(server, server, bench.c_load("list"), 1)
    bench.in_turns(server, server, bench.c_load("reserve"), 1)
    return statistics.median(durations), [processes.memory(pid) for pid in server.tree()]


def compare(
    kinds: list[str],
    questions: list[str],
    clients: list[int],
    bench_of: Callable[[], Bench],
    report: Callable[[Row], None],
) -> None:
    """Measure every comparison asked for and hand each row to `report` as soon as it is known."""
    for question in questions:
        counts = [1] if question == "q1_pipes" else clients
        for kind in kinds:
            if kind in ("start", "manager", "parts"):
                continue
            with bench_of() as bench:
                ours = bench.server(question, *(["--no-fsync"] if kind == "reserve-no-fsync" else []))
                theirs = bench.bare(question) if kind == "bare" else bench.c_server(question)
                operation = "reserve" if kind.startswith("reserve") else "list"
                for count in counts:
                    rates = bench.in_turns(ours, theirs, bench.c_load(operation), count)
                    report(Row(kind, question, count, *rates, goal(kind, question, count)))
        if "manager" in kinds and question != "q1_pipes":
            with bench_of() as bench:
                command = [sys.executable, "-m", "spectacles.lab.bench.yardsticks", "manager", "manager"]
                ours, theirs = bench.server(question), bench.server("manager", command=command)
                for kind, load in (("manager", bench.c_or_proxy_load), ("manager-python", bench.python_load)):
                    for count in counts:
                        rates = bench.in_turns(ours, theirs, load, count)
                        report(Row(kind, question, count, *rates, goal(kind, question, count)))
