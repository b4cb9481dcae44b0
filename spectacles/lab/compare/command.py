"""The command line of the comparison: what is asked for, measured, kept, shown."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import io
import os
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from spectacles.common import cli, invocation
from spectacles.common.errors import EXIT_DONE, EXIT_FAILED, SpectaclesError, UsageError, reason
from spectacles.common.text import printable
from spectacles.lab.compare import page, runs
from spectacles.lab.compare.measuring import cells_of, measure_all, subjects
from spectacles.lab.compare.report import show
from spectacles.lab.compare.runs import Run
from spectacles.lab.compare.sheets import remarks, verdict
from spectacles.lab.compare.workload import Workload
from spectacles.lab.display import terminal
from spectacles.lab.display.files import refuse_unwritable, write_whole
from spectacles.lab.display.page import require_jinja
from spectacles.lab.judge.linearizability import FINAL_CLIENT, dump
from spectacles.lab.kernel.machine import machine as this_machine
from spectacles.lab.programs import reference
from spectacles.lab.programs.process import QUESTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from spectacles.lab.compare.rows import Row
    from spectacles.lab.judge.linearizability import Counterexample

SHORTEST = 0.05  # seconds of one measurement
FILES = ("--against", "--json", "--html", "--trace")  # options that name one


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
        prog=invocation.name("spectacles compare"),
        description="Mesure les questions côte à côte, sous la même charge, puis les compare.",
        epilog="exemple : spectacles compare 2 3 --clients 1,4 --html comparaison.html\n"
        "code de sortie : 0 tout est juste, 1 un résultat est faux, 2 usage.",
    )
    terminal.add_questions(parser, further=True)
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
    parser.add_argument(
        "--trace", metavar="FICHIER", help="garde le contre-exemple d'un résultat faux, pour « spectacles trace »"
    )
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
            yield reference.build(directory, [question for question in questions if question in QUESTIONS])


def compare(argv: list[str] | None) -> int:
    """Run the comparison that `argv` asks for (None: the command line). Returns 0 when every result is right, else 1.

    Blocks. Raises SpectaclesError.
    """
    options = _parser().parse_args(argv)
    screen = terminal.console()
    questions = list(dict.fromkeys(options.questions)) or list(QUESTIONS)
    counts = sorted(set(options.clients))
    consults, reserves = options.mix
    work = Workload(options.duration, consults, reserves, options.rate, options.fsync, options.seed)
    _refuse_outputs(options.json, options.html)  # before the minute of work, not after it
    refuse_unwritable(options.trace)
    earlier = None if options.against is None else runs.load(options.against)
    if earlier is not None:
        runs.refuse_unequal(work, earlier.workload, options.against)
    machine = this_machine(tempfile.gettempdir())
    terminal.say(screen, f"charge de travail : {work.describe()}")
    terminal.say(screen, "machine : " + ", ".join(f"{k} {v}" for k, v in machine.items() if v))
    with terminal.Interrupts() as interrupts, _programs(options.c, questions, screen) as programs:
        cells = cells_of(subjects(questions, work, programs, options.broken), counts)
        if earlier is not None:
            runs.refuse_disjoint(cells, earlier.rows, options.against)
        started = time.monotonic()
        examples: list[Counterexample] = []
        rows = measure_all(cells, options.rounds, work, screen, interrupts, examples)
    typed = sys.argv[1:] if argv is None else argv
    run = Run(
        date=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        command=shlex.join(["spectacles", "compare", *typed]),
        machine=machine,
        workload=work,
        description=work.describe(),
        seconds=round(time.monotonic() - started, 1),
        remarks=[*remarks(rows, work), *([] if earlier is None else [runs.about(earlier, machine)])],
        rows=rows,
    )
    before = [] if earlier is None else earlier.rows
    kept = keep(run, before, options.json, options.html)
    kept += [] if options.trace is None else [keep_example(examples, options.trace)]
    show(screen, run.remarks, rows, before)
    for line in kept:
        screen.print(printable(line), soft_wrap=True, markup=False)
    wrong = not all(row.correct for row in rows)
    terminal.say(screen, verdict(rows), style="bold white on red" if wrong else "bold green")
    return EXIT_FAILED if wrong else EXIT_DONE


def _refuse_outputs(json_path: str | None, html_path: str | None) -> None:
    """Raise SpectaclesError unless what is to be written can be."""
    refuse_unwritable(json_path, html_path)
    if None not in (json_path, html_path) and os.path.realpath(str(json_path)) == os.path.realpath(str(html_path)):
        raise UsageError(f"{json_path} : --json et --html désignent le même fichier")
    if html_path is not None:
        require_jinja()


def keep(run: Run, before: Sequence[Row], json_path: str | None, html_path: str | None) -> list[str]:
    """Write the run wherever it is wanted, before anything is shown; return what to say of that.

    One place that cannot be written takes nothing from the others. Raises SpectaclesError, at the end, if it was asked
    for on the command line.
    """
    said, failed = [], []
    try:
        path = runs.keep(run)
        said.append(f"Enregistré dans {path} ; à comparer : {_beside(run.command, path)}")
    except OSError as error:
        said.append(f"{reason(error)} ; rien n'y est enregistré")
    for wanted, what in ((json_path, "Chiffres"), (html_path, "Page")):
        if wanted is not None:
            try:
                write_whole(wanted, run.text() if what == "Chiffres" else page.render(run, before))
                said.append(f"{what} : {wanted}")
            except OSError as error:
                failed.append(f"{reason(error)}, rien n'y a été changé")
    if failed:
        raise SpectaclesError(" ; ".join([*failed, *said]))
    return said


def keep_example(examples: Sequence[Counterexample], path: str) -> str:
    """Write the history of the shortest counter-example; return what to say of it. Raises OSError."""
    if not examples:
        return f"Aucun contre-exemple : rien n'est écrit dans {path}"
    example = min(examples, key=lambda one: len(one.operations))
    text = io.StringIO()
    dump((one for one in example.operations if one.client != FINAL_CLIENT), text)
    write_whole(path, text.getvalue())
    options = f"--initial {example.show}={example.initial}"
    options += "".join(f" --final {one.show}={one.result}" for one in example.operations if one.client == FINAL_CLIENT)
    return f"Contre-exemple : {path} ; à dessiner : spectacles trace --history {shlex.quote(path)} {options}"


def _beside(command: str, path: str) -> str:
    """Return the command that measures the same again and shows the run in `path` beside it."""
    words, same = iter(shlex.split(command)), []
    for word in words:
        if word in FILES:
            next(words, None)
        elif word.partition("=")[0] not in FILES:
            same.append(word)
    return shlex.join([*same, "--against", path])
