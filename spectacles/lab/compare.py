"""`spectacles compare [Q...]`: what each architecture costs, measured on real processes doing the same work.

For every question and number of clients: a fresh server in a directory of its own, that many client processes (see
workload.py), then the questions in the order in which they matter. Is the result right? What does it take up? What does
it cost? A row whose result is wrong is red and makes the exit code non-zero, however fast it was.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import math
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectacles import __version__
from spectacles.common import cli, storage
from spectacles.common.errors import EXIT_DONE, EXIT_FAILED, SpectaclesError, UsageError
from spectacles.common.lifecycle import program
from spectacles.common.spectacle import unpack_table
from spectacles.lab import measure, reference, terminal
from spectacles.lab.linearizability import Operation, Verdict, check, split_list
from spectacles.lab.process import QUESTIONS, ServerError, ServerProcess, thread_count
from spectacles.lab.report import (
    CHECKED,
    CURVE,
    LOCKLESS,
    POINTS,
    PYTHON,
    VERDICTS,
    C,
    Row,
    Sheet,
    correctness,
    cost,
    footprint,
    gains,
    in_words,
    remarks,
    side_by_side,
)
from spectacles.lab.workload import CONSULT, RESERVE, SMALL, Crowd, Workload, answered

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console
    from rich.table import Table

    from spectacles.lab.workload import Notes

CHECK_TIME = 5.0  # seconds for it
SAMPLING = 0.05  # seconds between two counts of threads
RUNS = "runs"


@dataclass(frozen=True)
class Subject:
    """Something to measure. command: of the server, None for the Python one. options: added to it."""

    question: str
    variant: str
    command: tuple[str, ...] | None
    options: tuple[str, ...]


def subjects(questions: Sequence[str], work: Workload, programs: Path | None, broken: bool) -> list[Subject]:
    """Return what to measure. programs: where the C reference was built, None to leave it out."""
    options = ("--log-level", "warning", *(() if work.fsync else ("--no-fsync",)))
    found = []
    for question in questions:
        found.append(Subject(question, PYTHON, None, options))
        if programs is not None:
            found.append(Subject(question, C, (str(programs / reference.server_name(question)),), ("--quiet",)))
    if broken:
        command = (sys.executable, "-m", "spectacles.lab.lockless")
        found.append(Subject("q4_thread_per_request", LOCKLESS, command, options))
    return found


def run(subject: Subject, clients: int, work: Workload, interrupts: terminal.Interrupts, base: Path) -> Row:
    """Measure `subject` under `clients` client processes, in a new directory in `base`. Blocks, work.duration and more.

    What goes wrong is in the row's problems.
    """
    row = Row(subject.question, subject.variant, clients)
    directory = Path(tempfile.mkdtemp(dir=base))
    work.fill(directory)
    row.initial = sum(work.shows)
    notes: list[Notes] = []
    baseline = measure.Usage(0.0, 0, 0)
    try:
        with contextlib.ExitStack() as stack:
            began = time.monotonic()
            with interrupts.held():
                server = ServerProcess(subject.question, directory, *subject.options, command=subject.command)
                stack.callback(server.__exit__)
            server.wait_ready()
            row.start_up = time.monotonic() - began
            pids = server.tree()
            row.processes = len(pids)
            row.threads = row.threads_at_rest = sum(thread_count(pid) for pid in pids)
            with Crowd(server, work, clients, -(-CHECKED // clients)) as crowd:
                crowd.start()
                baseline = measure.usage(pids)
                end = time.monotonic() + work.duration
                while (left := end - time.monotonic()) > 0:
                    time.sleep(min(left, SAMPLING))
                    row.threads = max(row.threads, sum(thread_count(pid) for pid in pids))
                crowd.wait()
                row.cpu = (measure.usage(pids).cpu - baseline.cpu) * 1e6
                row.memory = [measure.memory(pid) for pid in pids]
                notes = crowd.notes()
            answer = server.client("--json", "list")
            if answer.returncode == EXIT_DONE:
                row.left = sum(show["places"] for show in json.loads(answer.stdout)["shows"])
            else:
                row.problems.append(f"pas d'état final : {answer.stderr.strip()}")
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            code = server.stop()
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            if code != EXIT_DONE:
                row.problems.append(f"serveur sorti avec le code {code} : {server.output.strip()}")
            # Of all its threads and children, those that have ended included, which /proc no longer knows.
            switches = after.ru_nvcsw + after.ru_nivcsw - before.ru_nvcsw - before.ru_nivcsw
            row.switches = max(switches - baseline.voluntary - baseline.involuntary, 0)
    except (ServerError, SpectaclesError, OSError, subprocess.TimeoutExpired) as error:
        row.problems.append(str(error))
    final: dict[int, int] = {}
    try:
        final = {slot: show.places for slot, show in unpack_table((directory / storage.FILE_NAME).read_bytes())}
        row.left_in_file = sum(final.values())
    except (OSError, ValueError) as error:
        row.problems.append(f"{storage.FILE_NAME} : {error}")
    if notes:
        _summarize(row, notes, work)
        _judge(row, notes, work, final)
    return row


def _summarize(row: Row, notes: list[Notes], work: Workload) -> None:
    row.requests = answered(notes)
    row.late = sum(note.late for note in notes)
    row.sold = sum(seats for note in notes for seats in note.sold.values())
    row.refused = sum(count for note in notes for count in note.refused.values())
    if not row.requests:
        row.problems.append("aucune demande servie")
        return
    row.throughput = row.requests / ((max(note.last for note in notes) - notes[0].first) / 1e9)
    row.cpu /= row.requests
    row.switches /= row.requests
    by_kind = {kind: sorted(ns for note in notes for ns in note.latencies[kind]) for kind in (CONSULT, RESERVE)}
    by_kind[""] = sorted(by_kind[CONSULT] + by_kind[RESERVE])
    row.latency = {
        kind: {point: rank(found, share) for point, share in POINTS} for kind, found in by_kind.items() if found
    }
    row.curve = [rank(by_kind[""], share) for share in CURVE if (1 - share) * row.requests >= 1]


def rank(found: Sequence[int], share: float) -> int:
    """Return the smallest of `found` (sorted, not empty) that at least `share` of them do not exceed: nearest rank."""
    return found[max(math.ceil(share * len(found)) - 1, 0)]


def _judge(row: Row, notes: list[Notes], work: Workload, final: dict[int, int]) -> None:
    """Find what is wrong, beyond the sum: refusals that make no sense, lost answers, an impossible history."""
    row.problems += [f"un client : {note.problem}" for note in notes if note.problem]
    wrongly = sum(count for note in notes for show, count in note.refused.items() if show != SMALL)
    if wrongly:
        row.problems.append(f"{wrongly} refus pour des spectacles où il reste des places")
    history, whole = recorded(notes)
    row.checked = len(history)
    operations = [operation for entry in history for operation in _operations(row.question, *entry)]
    initial = dict(enumerate(work.shows))
    report = check(operations, initial, time_limit=CHECK_TIME, final=final if whole else None)
    row.linearizable = VERDICTS[report.verdict]
    if report.verdict is Verdict.INVALID:
        shortest = min((example.explain() for example in report.counterexamples), key=len, default=report.explain())
        row.problems.append("aucun guichet tenu par une seule personne n'aurait répondu cela :\n" + shortest)


Entry = tuple[int, str, int, int, Any, int, "int | None"]


def recorded(notes: list[Notes]) -> tuple[list[Entry], bool]:
    """Return the first CHECKED requests or fewer as (client, kind, show, seats, result, call, return), and whether all.

    Cut at one instant for all clients: a request called before it and answered after it counts as unanswered, since
    what it was answered may rest on requests beyond the cut.
    """
    entries: list[Entry] = [(number, *entry) for number, note in enumerate(notes) for entry in note.history]
    entries.sort(key=lambda entry: entry[5])
    cuts = [note.until for note in notes if note.until is not None]
    if len(entries) > CHECKED:
        cuts.append(entries[CHECKED][5])
    if not cuts:
        return entries, True
    cut = min(cuts)
    return [
        entry if entry[6] is not None and entry[6] < cut else (*entry[:4], None, entry[5], None)
        for entry in entries
        if entry[5] < cut
    ], False


def _operations(
    question: str, client: int, kind: str, show: int, seats: int, result: Any, call: int, ret: int | None
) -> list[Operation]:
    if kind == RESERVE or ret is None or question == "q1_pipes":
        return [Operation(client, "reserve" if kind == RESERVE else "consult", show, seats, result, call, ret)]
    return split_list(client, dict(enumerate(result)), call, ret)


# What is printed


def _rich_table(sheet: Sheet) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        title=sheet.title,
        title_style="bold",
        title_justify="left",
        box=SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    for column, heading in enumerate(sheet.headings):
        table.add_column(heading, justify="right" if column else "left", overflow="fold")
    previous = None
    in_groups = len({cells[0] for cells in sheet.lines}) < len(sheet.lines)
    for cells, bad in zip(sheet.lines, sheet.bad, strict=True):
        if in_groups and previous not in (None, cells[0]):
            table.add_section()
        previous = cells[0]
        table.add_row(*cells, style="bold white on red" if bad else None)
    return table


def show(screen: Console, document: dict[str, Any], rows: Sequence[Row], before: Sequence[Row]) -> None:
    """Print the tables, then the remarks, then what is wrong."""
    for sheet in (correctness(rows), footprint(rows), cost(rows)):
        screen.print(_rich_table(sheet))
    steps = gains(rows)
    if steps.lines:
        screen.print(_rich_table(steps))
    if before:
        screen.print(_rich_table(side_by_side(rows, before)))
    for remark in document["remarks"]:
        screen.print(f"• {remark}", style="dim", markup=False)
    for row in rows:
        for problem in row.problems:
            screen.print(
                f"{row.name}, {in_words(row.clients)} : {problem}", style="bold red", markup=False, soft_wrap=True
            )


# Runs in files


def load(path: str) -> tuple[dict[str, Any], list[Row]]:
    """Read a run. Raises UsageError when the file is none."""
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        rows = [
            Row(**{**values, "memory": [measure.Memory(**memory) for memory in values["memory"]]})
            for values in document["rows"]
        ]
        document["workload"]["shows"] = tuple(document["workload"]["shows"])
        Workload(**document["workload"])
    except OSError as error:
        raise UsageError(f"{path} : {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} : ce n'est pas une comparaison enregistrée ({error})") from error
    return document, rows


def refuse_unequal(work: Workload, other: Workload, path: str) -> None:
    """Raise UsageError unless both runs do the same work: figures of different work say nothing about each other."""
    mine, theirs = asdict(work), asdict(other)
    unequal = [f"{name} {theirs[name]} et non {mine[name]}" for name in mine if mine[name] != theirs[name]]
    if unequal:
        raise UsageError(f"{path} : autre charge ({', '.join(unequal)}) ; deux charges inégales ne se comparent pas")


def _write(path: str | Path, text: str) -> None:
    Path(path).write_text(text, encoding="utf-8")


def _mix(text: str) -> tuple[int, int]:
    consults, _, reserves = text.partition(":")
    whole = cli.integer(0, 1000)
    found = whole(consults), whole(reserves)
    if not sum(found):
        raise argparse.ArgumentTypeError("au moins une consultation ou une réservation")
    return found


def _rate(text: str) -> float:
    return float(cli.integer(1, 10_000_000)(text))


def _parser() -> cli.Parser:
    parser = cli.Parser(
        prog="spectacles compare",
        description="Mesure les questions côte à côte, sous la même charge, puis les compare.",
        epilog="exemple : spectacles compare 2 3 --clients 1,4 --html comparaison.html\n"
        "code de sortie : 0 tout est juste, 1 un résultat est faux, 2 usage.",
    )
    terminal.add_questions(parser)
    parser.add_argument(
        "--clients", type=terminal.counts, default=[1, 2, 4, 8], metavar="1,2,4,8", help="nombres de clients (1,2,4,8)"
    )
    parser.add_argument("--duration", type=cli.seconds, default=1.5, metavar="S", help="durée d'une mesure (1.5)")
    parser.add_argument("--mix", type=_mix, default=(4, 1), metavar="C:R", help="consultations pour réservations (4:1)")
    parser.add_argument("--rate", type=_rate, metavar="N", help="demandes par seconde en tout (boucle fermée)")
    parser.add_argument("--no-fsync", dest="fsync", action="store_false", help="acquitte sans attendre le disque")
    parser.add_argument(
        "--c", action="store_true", help="ajoute la référence en C, qui réécrit tout le fichier sans fsync"
    )
    parser.add_argument("--broken", action="store_true", help="ajoute la question 4 privée de son verrou, pour voir")
    parser.add_argument("--seed", type=cli.integer(0, 2**63), default=1, metavar="N", help="graine du tirage (1)")
    parser.add_argument("--against", metavar="FICHIER", help="montre à côté une comparaison enregistrée dans runs/")
    parser.add_argument("--json", metavar="FICHIER", help="écrit tous les chiffres ici aussi")
    parser.add_argument("--html", metavar="FICHIER", help="écrit une page à montrer")
    return parser


@contextlib.contextmanager
def _programs(wanted: bool, questions: Sequence[str], screen: Console) -> Iterator[Path | None]:
    if not wanted:
        yield None
    elif reference.compiler() is None:
        screen.print("pas de compilateur C (cc) : --c est ignorée", style="yellow")
        yield None
    else:
        with tempfile.TemporaryDirectory(prefix="spectacles-c-") as directory:
            yield reference.build(directory, questions)


def measure_all(
    found: Sequence[Subject], counts: Sequence[int], work: Workload, screen: Console, interrupts: terminal.Interrupts
) -> list[Row]:
    """Measure every subject under every number of clients (question 1 under one), with a progress bar. Blocks."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    cells = [(subject, count) for subject in found for count in ([1] if subject.question == "q1_pipes" else counts)]
    columns = (TextColumn("{task.description:<32}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    rows = []
    with (
        tempfile.TemporaryDirectory(prefix="spectacles-compare-") as base,
        Progress(*columns, console=screen, transient=True) as progress,
    ):
        task = progress.add_task("", total=len(cells))
        for subject, count in cells:
            variant = "" if subject.variant == PYTHON else f" {subject.variant}"
            progress.update(task, description=f"{subject.question[:2]}{variant}, {in_words(count)}")
            rows.append(run(subject, count, work, interrupts, Path(base)))
            progress.advance(task)
    return rows


@program
def main(argv: list[str] | None = None) -> int:
    """Run the comparison: 0 when every result is right, 1 otherwise."""
    parser = _parser()
    options = parser.parse_args(argv)
    screen = terminal.console()
    questions = options.questions or list(QUESTIONS)
    counts = sorted(set(options.clients))
    consults, reserves = options.mix
    work = Workload(options.duration, consults, reserves, options.rate, options.fsync, options.seed)
    before: list[Row] = []
    if options.against:
        earlier, before = load(options.against)
        refuse_unequal(work, Workload(**earlier["workload"]), options.against)
    for path in filter(None, (options.json, options.html)):  # before the minute of work, not after it
        if os.path.isdir(path) or not os.access(os.path.dirname(os.path.abspath(path)), os.W_OK):
            raise UsageError(f"{path} : impossible d'écrire là")
    machine = measure.machine(tempfile.gettempdir())
    screen.print(f"charge  : {work.describe()}", markup=False)
    screen.print("machine : " + ", ".join(f"{k} {v}" for k, v in machine.items() if v), markup=False)
    started = time.monotonic()
    with terminal.Interrupts() as interrupts, _programs(options.c, questions, screen) as programs:
        found = subjects(questions, work, programs, options.broken)
        rows = measure_all(found, counts, work, screen, interrupts)
    document: dict[str, Any] = {
        "spectacles": __version__,
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join(["spectacles", "compare", *(sys.argv[1:] if argv is None else argv)]),
        "machine": machine,
        "workload": asdict(work),
        "description": work.describe(),
        "seconds": round(time.monotonic() - started, 1),
        "remarks": remarks(rows, work),
        "rows": [asdict(row) for row in rows],
    }
    show(screen, document, rows, before)
    _keep(document, rows, before, options.json, options.html, screen)
    wrong = [row for row in rows if not row.correct]
    if wrong:
        screen.print(f"{len(wrong)} mesure(s) au résultat faux", style="bold white on red")
    return EXIT_FAILED if wrong else EXIT_DONE


def _keep(
    document: dict[str, Any],
    rows: list[Row],
    before: list[Row],
    json_path: str | None,
    html_path: str | None,
    screen: Console,
) -> None:
    text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
    try:
        os.makedirs(RUNS, exist_ok=True)
        stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        path = next(
            path
            for path in (f"{RUNS}/{stamp}{(n and f'-{n}') or ''}.json" for n in range(1000))
            if not os.path.exists(path)
        )
        _write(path, text)
        screen.print(f"Enregistré dans {path} ; à comparer : spectacles compare --against {path}", soft_wrap=True)
    except OSError as error:
        screen.print(f"{RUNS} : {error.strerror} ; rien n'y est enregistré", style="yellow")
    if json_path:
        _write(json_path, text)
    if html_path:
        from spectacles.lab import page

        _write(html_path, page.render(document, rows, before))
        screen.print(f"Page : {html_path}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
