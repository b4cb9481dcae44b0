"""The command line of the comparison: what is asked for, measured, kept, shown."""

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
import textwrap
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectacles import __version__
from spectacles.common import cli, storage
from spectacles.common.errors import EXIT_DONE, EXIT_FAILED, SpectaclesError, UsageError, reason
from spectacles.common.spectacle import unpack_table
from spectacles.lab.compare.sheets import (
    CHECKED,
    CURVE,
    LOCKLESS,
    POINTS,
    PYTHON,
    VERDICTS,
    C,
    Row,
    Sheet,
    median,
    remarks,
    sheets,
    side_by_side,
    verdict,
)
from spectacles.lab.compare.workload import CONSULT, RESERVE, SMALL, Crowd, Workload, answered
from spectacles.lab.display import terminal
from spectacles.lab.display.french import in_words, unbroken
from spectacles.lab.judge.linearizability import Operation, Verdict, check, split_list
from spectacles.lab.kernel import processes
from spectacles.lab.kernel.machine import machine as this_machine
from spectacles.lab.programs import reference
from spectacles.lab.programs.process import QUESTIONS, ServerError, ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console
    from rich.table import Table

    from spectacles.lab.compare.workload import Notes

CHECK_TIME = 5.0  # seconds for it
SAMPLING = 0.05  # seconds between two counts of threads
RUNS = "runs"
SHORTEST = 0.05  # seconds of one measurement


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
        command = (sys.executable, "-m", "spectacles.lab.programs.lockless")
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
    baseline = processes.Usage(0.0, 0, 0)
    try:
        with contextlib.ExitStack() as stack:
            began = time.monotonic()
            with interrupts.held():
                server = ServerProcess(subject.question, directory, *subject.options, command=subject.command)
                stack.callback(_end, server)
            server.wait_ready()
            row.start_up = time.monotonic() - began
            pids = server.tree()
            row.processes = len(pids)
            row.threads = row.threads_at_rest = sum(processes.thread_count(pid) for pid in pids)
            with Crowd(server, work, clients, -(-CHECKED // clients)) as crowd:
                crowd.start()
                baseline = processes.usage(pids)
                end = time.monotonic() + work.duration
                while (left := end - time.monotonic()) > 0:
                    time.sleep(min(left, SAMPLING))
                    row.threads = max(row.threads, sum(processes.thread_count(pid) for pid in pids))
                crowd.wait()
                used: processes.Usage | None = None
                with contextlib.suppress(OSError):  # no server any more: its clients know more
                    used = processes.usage(pids) - baseline
                notes = crowd.notes()
            _summarize(row, notes, work, used)
            # The clients have gone: those of the Python pages that they share with the server do not make it smaller.
            row.memory = [processes.memory(pid) for pid in pids]
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
            row.switches = max(switches - baseline.voluntary - baseline.involuntary, 0) / max(row.requests, 1)
    except (ServerError, SpectaclesError, subprocess.TimeoutExpired) as error:
        row.problems.append(str(error))
    except OSError as error:
        row.problems.append(f"le serveur a disparu ({reason(error)})")
    final: dict[int, int] = {}
    try:
        final = {slot: show.places for slot, show in unpack_table((directory / storage.FILE_NAME).read_bytes())}
        row.left_in_file = sum(final.values())
    except (OSError, ValueError) as error:
        row.problems.append(f"{storage.FILE_NAME} : {reason(error)}")
    if notes:
        _judge(row, notes, work, final)
    return row


def _end(server: ServerProcess) -> None:
    server.__exit__()
    if server.process.returncode != EXIT_DONE:
        server.clean()


def _summarize(row: Row, notes: list[Notes], work: Workload, used: processes.Usage | None) -> None:
    row.requests = answered(notes)
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


FULL_NAMES = 100  # columns from which on the questions are called by their full names


def _rich_table(sheet: Sheet, *, short: bool) -> Table:
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
    names = {"question": "", "passage": "", "clients": "cl."} if short else {}
    for column, heading in enumerate(names.get(heading, heading) for heading in sheet.headings):
        table.add_column(heading, justify="right" if column else "left", overflow="fold")
    previous = None
    in_groups = len({cells[0] for cells in sheet.lines}) < len(sheet.lines)
    for cells, bad in zip(sheet.lines, sheet.bad, strict=True):
        if in_groups and previous not in (None, cells[0]):
            table.add_section()
        previous = cells[0]
        first = cells[0].partition("_")[0] if short else cells[0]
        table.add_row(first, *cells[1:], style="bold white on red" if bad else None)
    return table


def say(screen: Console, text: str, style: str = "") -> None:
    """Print a paragraph of French. rich would break a line at any space, those before a colon too."""
    screen.print(textwrap.fill(unbroken(text), screen.width), style=style, markup=False, soft_wrap=True)


def show(screen: Console, document: dict[str, Any], rows: Sequence[Row], before: Sequence[Row]) -> None:
    """Print the tables, then the remarks, then what is wrong."""
    for sheet in sheets(rows, before):
        screen.print(_rich_table(sheet, short=screen.width < FULL_NAMES))
    for remark in document["remarks"]:
        say(screen, f"• {remark}", style="dim")
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
            Row(**{**values, "memory": [processes.Memory(**memory) for memory in values["memory"]]})
            for values in document["rows"]
        ]
        document["workload"]["shows"] = tuple(document["workload"]["shows"])
        if document["workload"].keys() != asdict(Workload(**document["workload"])).keys():
            raise ValueError("charge incomplète")
        for text in (document["date"], document["command"]):
            str.strip(text)
        document["machine"].items()
        # What is shown beside another run must be there, and be numbers.
        side_by_side(rows, rows)
        remarks(rows, Workload(**document["workload"]))
    except OSError as error:
        raise UsageError(f"{path} : {reason(error)}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} : ce n'est pas une comparaison enregistrée ({error})") from error
    return document, rows


def refuse_unequal(work: Workload, other: Workload, path: str) -> None:
    """Raise UsageError unless both runs do the same work: figures of different work say nothing about each other."""
    mine, theirs = asdict(work), asdict(other)
    unequal = [f"{name} {theirs[name]} et non {mine[name]}" for name in mine if mine[name] != theirs[name]]
    if unequal:
        raise UsageError(f"{path} : autre charge ({', '.join(unequal)}) ; deux charges inégales ne se comparent pas")


def refuse_disjoint(cells: Sequence[tuple[Subject, int]], before: Sequence[Row], path: str) -> None:
    """Raise UsageError when the earlier run has nothing of what is about to be measured."""
    known = {(row.question, row.variant, row.clients) for row in before}
    if not any((subject.question, subject.variant, count) in known for subject, count in cells):
        raise UsageError(f"{path} : ni les mêmes questions ni les mêmes nombres de clients, rien à mettre côte à côte")


def _write(path: str | Path, text: str) -> None:
    """Write a file whole or not at all: a full disk must not take what was there. Raises OSError."""
    path = Path(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def _mix(text: str) -> tuple[int, int]:
    consults, _, reserves = text.partition(":")
    whole = cli.integer(0, 1000)
    found = whole(consults), whole(reserves)
    if not sum(found):
        raise argparse.ArgumentTypeError("au moins une consultation ou une réservation")
    return found


def _duration(text: str) -> float:
    duration = cli.seconds(text)
    if duration < SHORTEST:
        raise argparse.ArgumentTypeError(f"{text} : {SHORTEST:g} s au moins : le temps que chaque client agisse")
    return duration


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
    parser.add_argument("--duration", type=_duration, default=1.5, metavar="S", help="durée d'une mesure (1.5)")
    parser.add_argument(
        "--rounds", type=cli.integer(1, 100), default=1, metavar="N", help="mesures de chaque ligne, à tour de rôle (1)"
    )
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


def cells_of(found: Sequence[Subject], counts: Sequence[int]) -> list[tuple[Subject, int]]:
    """Return what is measured: every subject under every number of clients, question 1 under one."""
    return [(subject, count) for subject in found for count in ([1] if subject.question == "q1_pipes" else counts)]


def measure_all(
    cells: Sequence[tuple[Subject, int]], rounds: int, work: Workload, screen: Console, interrupts: terminal.Interrupts
) -> list[Row]:
    """Measure every cell `rounds` times, with a progress bar, and return the median row of each. Blocks.

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
            for (subject, count), rows in zip(cells, measured, strict=True):
                variant = "" if subject.variant == PYTHON else f" {subject.variant}"
                progress.update(task, description=f"{subject.question[:2]}{variant}, {in_words(count)}")
                rows.append(run(subject, count, work, interrupts, Path(base)))
                progress.advance(task)
    return [median(rows) for rows in measured]


def compare(argv: list[str] | None) -> int:
    """Run the comparison that `argv` asks for (None: the command line). Returns 0 when every result is right, else 1.

    Blocks. Raises SpectaclesError.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    screen = terminal.console()
    questions = list(dict.fromkeys(options.questions)) or list(QUESTIONS)
    counts = sorted(set(options.clients))
    consults, reserves = options.mix
    work = Workload(options.duration, consults, reserves, options.rate, options.fsync, options.seed)
    outputs = [path for path in (options.json, options.html) if path]
    for path in outputs:  # before the minute of work, not after it
        if os.path.isdir(path) or not os.access(os.path.dirname(os.path.abspath(path)), os.W_OK):
            raise UsageError(f"{path} : impossible d'écrire là")
    if len({os.path.realpath(path) for path in outputs}) < len(outputs):
        raise UsageError(f"{options.json} : --json et --html désignent le même fichier")
    machine = this_machine(tempfile.gettempdir())
    say(screen, f"charge de travail : {work.describe()}")
    say(screen, "machine : " + ", ".join(f"{k} {v}" for k, v in machine.items() if v))
    with terminal.Interrupts() as interrupts, _programs(options.c, questions, screen) as programs:
        cells = cells_of(subjects(questions, work, programs, options.broken), counts)
        earlier, before = load(options.against) if options.against else (None, [])
        if earlier is not None:
            refuse_unequal(work, Workload(**earlier["workload"]), options.against)
            refuse_disjoint(cells, before, options.against)
        started = time.monotonic()
        rows = measure_all(cells, options.rounds, work, screen, interrupts)
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
    if earlier is not None:
        document["remarks"].append(_about_earlier(earlier, machine))
    kept = _keep(document, rows, before, options.json, options.html)
    show(screen, document, rows, before)
    for line in kept:
        screen.print(line, soft_wrap=True, markup=False)
    wrong = not all(row.correct for row in rows)
    say(screen, verdict(rows), style="bold white on red" if wrong else "bold green")
    return EXIT_FAILED if wrong else EXIT_DONE


def _about_earlier(earlier: dict[str, Any], machine: dict[str, str | int]) -> str:
    told = f"Comparée à la mesure du {earlier['date']} ({earlier['command']})"
    moving = {"charge système"}  # never twice the same
    other = [f"{what} {value}" for what, value in earlier["machine"].items() if value != machine.get(what)]
    other = [difference for difference in other if not difference.startswith(tuple(moving))]
    return f"{told}, faite sur une autre machine : {', '.join(other)}." if other else f"{told}, sur cette machine."


def _keep(
    document: dict[str, Any], rows: list[Row], before: list[Row], json_path: str | None, html_path: str | None
) -> list[str]:
    """Write the run wherever it is wanted, before anything is shown; return what to say of that.

    One place that cannot be written takes nothing from the others. Raises SpectaclesError, at the end, if it was asked
    for on the command line.
    """
    text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
    said, failed = [], []
    try:
        os.makedirs(RUNS, exist_ok=True)
        stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        path = next(
            path
            for path in (f"{RUNS}/{stamp}{(n and f'-{n}') or ''}.json" for n in range(1000))
            if not os.path.exists(path)
        )
        _write(path, text)
        said.append(f"Enregistré dans {path} ; à comparer : spectacles compare --against {path}")
    except OSError as error:
        said.append(f"{RUNS} : {reason(error)} ; rien n'y est enregistré")
    for wanted, what in ((json_path, "Chiffres"), (html_path, "Page")):
        if wanted:
            try:
                if wanted == html_path:
                    from spectacles.lab.compare import page

                    text = page.render(document, rows, before)
                _write(wanted, text)
                said.append(f"{what} : {wanted}")
            except OSError as error:
                failed.append(f"{wanted} : {reason(error)}, rien n'y a été changé")
    if failed:
        raise SpectaclesError(" ; ".join([*failed, *said]))
    return said
