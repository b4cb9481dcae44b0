"""What is measured by the bench, and its command line."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spectacles.common import cli, storage
from spectacles.common.errors import SpectaclesError
from spectacles.lab.bench import parts
from spectacles.lab.display import terminal
from spectacles.lab.display.french import number
from spectacles.lab.kernel import processes
from spectacles.lab.kernel.machine import machine as this_machine
from spectacles.lab.programs import reference
from spectacles.lab.programs.process import QUESTIONS, ServerError, ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

KINDS = ("reserve", "reserve-no-fsync", "list", "bare", "manager", "start", "parts")
RSS_GOAL_KB = 15 * 1024
START_GOAL = 0.1  # seconds


@dataclass(frozen=True)
class Row:
    """One comparison. ours, theirs: requests per second, medians; ratio: ours over theirs, median over the pairs of
    neighbouring measures, so that a machine that slows down for a while weighs on both; low, high: the least and the
    greatest of these ratios; goal: the least ratio wanted, None for none."""

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
    """Return the ratio wanted, None where there is no goal."""
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
    ) -> tuple[float, float, float, float, float]:
        """Measure A B A B... and return requests per second of both, their ratio (medians), its least and greatest."""
        rates: tuple[list[float], list[float]] = ([], [])
        for _ in range(self._rounds):
            for server, found in zip((ours, theirs), rates, strict=True):
                found.append(self._load(server, load(server), clients))
        ratios = [a / b for a, b in zip(*rates, strict=True)]
        return (
            statistics.median(rates[0]),
            statistics.median(rates[1]),
            statistics.median(ratios),
            min(ratios),
            max(ratios),
        )

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
                output, errors = process.communicate(timeout=self._seconds + 15)
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


def _line(row: Row) -> str:
    verdict = ""
    if row.goal is not None:
        style = "green" if row.ratio >= row.goal else "yellow"
        verdict = f"[{style}]but {row.goal:g}[/{style}]"
    return (
        f"{row.what:<17} {row.question:<22} {row.clients} client{'s' if row.clients > 1 else ' '} "
        f"{row.ours:>9,.0f}/s contre {row.theirs:>9,.0f}/s  [bold]× {row.ratio:5.2f}[/bold] "
        f"({row.low:.2f} à {row.high:.2f})  {verdict}"
    ).replace(",", " ")


def bench(argv: list[str] | None) -> int:
    """Run the bench that `argv` asks for (None: the command line) and print the ratios. Returns 0; blocks, minutes.

    Raises SpectaclesError when something broke.
    """
    parser = cli.Parser(
        prog="python -m spectacles.lab.bench",
        description="Compare chaque serveur à la référence en C, à une boucle Python nue et à BaseManager.",
        epilog="exemple : make bench ARGS='3 --only list --clients 1'",
    )
    terminal.add_questions(parser)
    parser.add_argument(
        "--only", action="append", choices=KINDS, help="une mesure parmi celles-ci (répétable ; toutes)"
    )
    parser.add_argument(
        "--clients", type=terminal.counts, default=[1, 4], metavar="1,4", help="nombres de clients (1,4)"
    )
    parser.add_argument("--seconds", type=cli.seconds, default=0.5, metavar="S", help="durée d'une mesure (0.5)")
    parser.add_argument("--rounds", type=cli.integer(1, 100), default=3, metavar="N", help="tours A B (3)")
    parser.add_argument(
        "--base", metavar="DIR", help="où créer les répertoires de travail (celui des fichiers temporaires)"
    )
    parser.add_argument("--json", metavar="FICHIER", help="écrit aussi les chiffres ici")
    options = parser.parse_args(argv)
    kinds = options.only or list(KINDS)
    questions = options.questions or list(QUESTIONS)
    screen = terminal.console()
    rows: list[Row] = []
    starts = []

    def report(row: Row) -> None:
        rows.append(row)
        screen.print(_line(row), soft_wrap=True)

    with tempfile.TemporaryDirectory(prefix="spectacles-c-") as programs, terminal.Interrupts() as interrupts:
        machine = this_machine(options.base or tempfile.gettempdir())
        screen.print(", ".join(f"{name} {value}" for name, value in machine.items() if value), soft_wrap=True)
        built = reference.build(programs, questions)

        def bench_of() -> Bench:
            bench = Bench(interrupts, options.base, options.seconds, options.rounds)
            bench.programs = built
            return bench

        compare(kinds, questions, options.clients, bench_of, report)
        if "start" in kinds:
            for question in questions:
                with bench_of() as bench:
                    seconds, memories = start_up(bench, question, options.rounds)
                starts.append({"question": question, "seconds": seconds, "memory": [asdict(m) for m in memories]})
                _report_start(screen, question, seconds, memories)
    costs = dict(parts.measure_parts(options.base)) if "parts" in kinds else {}
    for what, cost in costs.items():
        screen.print(f"parts{number(cost / 1000, 2):>20} µs  {what}", markup=False, soft_wrap=True)
    if options.json:
        document = {"machine": machine, "rows": [asdict(r) for r in rows], "start": starts, "parts": costs}
        Path(options.json).write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n")
    return 0


def _report_start(screen: Console, question: str, seconds: float, memories: list[processes.Memory]) -> None:
    colour = "green" if seconds <= START_GOAL else "yellow"
    largest = max(memory.rss for memory in memories)
    heavy = "green" if largest <= RSS_GOAL_KB else "yellow"
    screen.print(
        f"{'start':<17} {question:<22} [{colour}]{seconds * 1000:.0f} ms[/{colour}] jusqu'à Serveur UP (but 100), "
        f"VmRSS [{heavy}]{' + '.join(f'{memory.rss / 1024:.1f}' for memory in memories)} Mo[/{heavy}] (but 15), "
        f"PSS {sum(memory.pss for memory in memories) / 1024:.1f} Mo",
        soft_wrap=True,
    )
