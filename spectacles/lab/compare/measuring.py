"""One server under one number of clients, measured: what a row holds; and all of a comparison, in turns."""

from __future__ import annotations

import contextlib
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from spectacles.common import storage
from spectacles.common.errors import EXIT_DONE, SpectaclesError, reason
from spectacles.lab.compare.checking import judge
from spectacles.lab.compare.crowd import Crowd
from spectacles.lab.compare.rows import CHECKED, CURVE, LOCKLESS, POINTS, PYTHON, C, Row, median
from spectacles.lab.compare.workload import CONSULT, RESERVE
from spectacles.lab.display.french import in_words
from spectacles.lab.judge.accounts import seats_in_file
from spectacles.lab.kernel import processes
from spectacles.lab.programs import reference
from spectacles.lab.programs.process import QUESTIONS, ServerError, ServerProcess

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from spectacles.lab.compare.workload import Notes, Workload
    from spectacles.lab.display import terminal
    from spectacles.lab.judge.linearizability import Counterexample

SAMPLING = 0.05  # seconds between two counts of threads


@dataclass(frozen=True)
class Subject:
    """Something to measure. command: of the server, None for the Python one. options: added to it."""

    question: str
    variant: str
    command: tuple[str, ...] | None
    options: tuple[str, ...]


class Cell(NamedTuple):
    """What becomes one row: a subject under a number of client processes."""

    subject: Subject
    clients: int


def subjects(questions: Sequence[str], work: Workload, programs: Path | None, broken: bool) -> list[Subject]:
    """Return what to measure. programs: where the C reference was built, None to leave it out."""
    options = ("--log-level", "warning", *(() if work.fsync else ("--no-fsync",)))
    found = []
    for question in questions:
        found.append(Subject(question, PYTHON, None, options))
        if programs is not None and question in QUESTIONS:  # what goes further has no counterpart in C
            found.append(Subject(question, C, (str(programs / reference.server_name(question)),), ("--quiet",)))
    if broken:
        command = (sys.executable, "-m", "spectacles.lab.programs.lockless")
        found.append(Subject("q4_thread_per_request", LOCKLESS, command, options))
    return found


def cells_of(found: Sequence[Subject], counts: Sequence[int]) -> list[Cell]:
    """Return what is measured: every subject under every number of clients, question 1 under one."""
    return [Cell(subject, count) for subject in found for count in ([1] if subject.question == "q1_pipes" else counts)]


def measure_all(
    cells: Sequence[Cell],
    rounds: int,
    work: Workload,
    screen: Console,
    interrupts: terminal.Interrupts,
    examples: list[Counterexample],
) -> list[Row]:
    """Measure every cell `rounds` times, with a progress bar, and return the median row of each. Blocks.

    examples: takes the counter-examples that were found.

    In turns, so that a machine that slows down for a while weighs on all.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<32}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    measured: list[list[Row]] = [[] for _ in cells]
    with (
        tempfile.TemporaryDirectory(prefix="spectacles-compare-") as base,
        Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress,
    ):
        task = progress.add_task("", total=len(cells) * rounds)
        for _ in range(rounds):
            for cell, rows in zip(cells, measured, strict=True):
                variant = "" if cell.subject.variant == PYTHON else f" {cell.subject.variant}"
                progress.update(task, description=f"{cell.subject.question[:2]}{variant}, {in_words(cell.clients)}")
                measurement = Measurement(cell, work, Path(base))
                rows.append(measurement.run(interrupts))
                examples += [] if measurement.example is None else [measurement.example]
                progress.advance(task)
    return [median(rows) for rows in measured]


class Measurement:
    """One measurement, in a new directory in `base`. Used once."""

    def __init__(self, cell: Cell, work: Workload, base: Path) -> None:
        self._cell = cell
        self._work = work
        self._row = Row(cell.subject.question, cell.subject.variant, cell.clients)
        self._row.initial = sum(work.shows)
        self._directory = Path(tempfile.mkdtemp(dir=base))
        self.example: Counterexample | None = None  # of an impossible history
        self._notes: list[Notes] = []
        self._pids: list[int] = []  # the server's processes, as it started
        self._before = processes.Usage(0.0, 0, 0)  # what these had used when the load began

    def run(self, interrupts: terminal.Interrupts) -> Row:
        """Measure, judge, and return the row; what goes wrong is in its problems. Blocks, work.duration and more."""
        self._work.fill(self._directory)
        try:
            with contextlib.ExitStack() as stack:
                server = self._start(stack, interrupts)
                self._load(server)
                self._look_at_rest(server)
                self._stop(server)
        except (ServerError, SpectaclesError, subprocess.TimeoutExpired) as error:
            self._row.problems.append(str(error))
        except OSError as error:
            self._row.problems.append(f"le serveur a disparu ({reason(error)})")
        final = self._read_file()
        if self._notes:
            self.example = judge(self._row, self._notes, self._work, final)
        return self._row

    def _start(self, stack: contextlib.ExitStack, interrupts: terminal.Interrupts) -> ServerProcess:
        subject = self._cell.subject
        began = time.monotonic()
        with interrupts.held():
            server = ServerProcess(subject.question, self._directory, *subject.options, command=subject.command)
            stack.callback(_end, server)
        server.wait_ready()
        self._row.start_up = time.monotonic() - began
        return server

    def _load(self, server: ServerProcess) -> None:
        row, work, clients = self._row, self._work, self._cell.clients
        self._pids = pids = server.tree()
        row.processes = len(pids)
        row.threads = row.threads_at_rest = sum(processes.thread_count(pid) for pid in pids)
        with Crowd(server, work, clients, -(-CHECKED // clients)) as crowd:
            crowd.start()
            self._before = processes.usage(pids)
            end = time.monotonic() + work.duration
            while (left := end - time.monotonic()) > 0:
                time.sleep(min(left, SAMPLING))
                row.threads = max(row.threads, sum(processes.thread_count(pid) for pid in pids))
            crowd.wait()
            used: processes.Usage | None = None
            with contextlib.suppress(OSError):  # the server is gone: what its clients noted says when
                used = processes.usage(pids) - self._before
            self._notes = crowd.notes()
        summarize(row, self._notes, work, used)

    def _look_at_rest(self, server: ServerProcess) -> None:
        # The clients have gone: those of the Python pages that they share with the server do not make it smaller.
        self._row.memory = [processes.memory(pid) for pid in self._pids]
        answer = server.client("--json", "list")
        if answer.returncode == EXIT_DONE:
            self._row.left = sum(show["places"] for show in json.loads(answer.stdout)["shows"])
        else:
            self._row.problems.append(f"pas d'état final : {answer.stderr.strip()}")

    def _stop(self, server: ServerProcess) -> None:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        code = server.stop()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if code != EXIT_DONE:
            self._row.problems.append(f"serveur sorti avec le code {code} : {server.output.strip()}")
        # getrusage() counts all threads and children of the server, those included that have ended and /proc forgets.
        switches = after.ru_nvcsw + after.ru_nivcsw - before.ru_nvcsw - before.ru_nivcsw
        switches -= self._before.voluntary + self._before.involuntary
        self._row.switches = max(switches, 0) / max(self._row.requests, 1)

    def _read_file(self) -> dict[int, int]:
        final: dict[int, int] = {}
        try:
            final = seats_in_file(self._directory)
            self._row.left_in_file = sum(final.values())
        except (OSError, ValueError) as error:
            self._row.problems.append(f"{storage.FILE_NAME} : {reason(error)}")
        return final


def _end(server: ServerProcess) -> None:
    server.__exit__()
    if server.process.returncode != EXIT_DONE:
        server.clean()


def summarize(row: Row, notes: Sequence[Notes], work: Workload, used: processes.Usage | None) -> None:
    """Fill in what the notes of all clients come to. used: by the server meanwhile, None if it is not known."""
    by_kind = {kind: sorted(ns for note in notes for ns in note.latencies[kind]) for kind in (CONSULT, RESERVE)}
    by_kind[""] = sorted(by_kind[CONSULT] + by_kind[RESERVE])
    row.requests = len(by_kind[""])
    row.late = sum(note.late for note in notes)
    row.sold = sum(seats for note in notes for seats in note.sold.values())
    row.refused = sum(count for note in notes for count in note.refused.values())
    if not row.requests:
        row.problems.append("aucune demande servie")
        return
    took = (max(note.last for note in notes) - notes[0].first) / 1e9
    row.throughput = row.requests / max(took, work.duration)  # at a slow rate the last answer comes early
    if used is not None:
        row.cpu = used.cpu * 1e6 / row.requests
    row.latency = {
        kind: {point: rank(found, share) for point, share in POINTS} for kind, found in by_kind.items() if found
    }
    row.curve = [rank(by_kind[""], share) for share in CURVE if (1 - share) * row.requests >= 1]


def rank(found: Sequence[int], share: float) -> int:
    """Return the smallest of `found` (sorted, not empty) that at least `share` of them do not exceed: nearest rank."""
    return found[max(math.ceil(share * len(found)) - 1, 0)]
