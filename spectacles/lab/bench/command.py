"""The command line of the bench."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from typing import TYPE_CHECKING

from spectacles.common import cli
from spectacles.common.errors import UsageError
from spectacles.lab.bench import cluster, parts
from spectacles.lab.bench.measuring import KINDS, Bench, Row, compare, start_up
from spectacles.lab.display import terminal
from spectacles.lab.display.files import refuse_unwritable, write_whole
from spectacles.lab.display.french import number
from spectacles.lab.kernel.machine import machine as this_machine
from spectacles.lab.programs import reference
from spectacles.lab.programs.process import FURTHER, QUESTIONS

if TYPE_CHECKING:
    from argparse import Namespace

    from rich.console import Console

    from spectacles.lab.kernel.processes import Memory

RSS_GOAL_KB = 15 * 1024
START_GOAL = 0.1  # seconds from the start to READY


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
        epilog="exemples : make bench ARGS='3 --only list --clients 1' ; make bench ARGS=x3 (etcd)",
    )
    terminal.add_questions(parser, further=True)
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
    refuse_unwritable(options.json)
    if set(options.questions) & set(FURTHER):
        return _bench_cluster(options)
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
        said = ", ".join(f"{name} {value}" for name, value in machine.items() if value)
        screen.print(said, soft_wrap=True, markup=False)
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
    if options.json is not None:
        document = {"machine": machine, "rows": [asdict(r) for r in rows], "start": starts, "parts": costs}
        write_whole(options.json, json.dumps(document, ensure_ascii=False, indent=1) + "\n")
    return 0


def _bench_cluster(options: Namespace) -> int:
    """Measure x3, which has no server in C to be compared with: see cluster."""
    if set(options.questions) != {"x3_cluster"} or options.only:
        raise UsageError("x3 se mesure seule et toute entière ; les autres suites, par « spectacles compare »")
    screen = terminal.console()
    machine = this_machine(tempfile.gettempdir())
    with tempfile.TemporaryDirectory(prefix="spectacles-c-") as programs, terminal.Interrupts() as interrupts:
        said = ", ".join(f"{name} {value}" for name, value in machine.items() if value)
        screen.print(said, soft_wrap=True, markup=False)
        client = reference.build(programs, ["q5_sockets"]) / reference.CLIENTS["q5_sockets"]
        found = cluster.measure(
            client,
            options.seconds,
            options.rounds,
            interrupts,
            lambda row: screen.print(cluster.line(row), soft_wrap=True, markup=False),
        )
    memory = " + ".join(f"{rss / 1024:.1f}" for rss in found.nodes)
    screen.print(f"VmRSS d'etcd {memory} Mo, d'un serveur {found.server / 1024:.1f} Mo".replace(".", ","), markup=False)
    if options.json is not None:
        write_whole(
            options.json, json.dumps({"machine": machine, **asdict(found)}, ensure_ascii=False, indent=1) + "\n"
        )
    return 0


def _report_start(screen: Console, question: str, seconds: float, memories: list[Memory]) -> None:
    colour = "green" if seconds <= START_GOAL else "yellow"
    largest = max(memory.rss for memory in memories)
    heavy = "green" if largest <= RSS_GOAL_KB else "yellow"
    screen.print(
        f"{'start':<17} {question:<22} [{colour}]{seconds * 1000:.0f} ms[/{colour}] jusqu'à Serveur UP (but 100), "
        f"VmRSS [{heavy}]{' + '.join(f'{memory.rss / 1024:.1f}' for memory in memories)} Mo[/{heavy}] (but 15), "
        f"PSS {sum(memory.pss for memory in memories) / 1024:.1f} Mo",
        soft_wrap=True,
    )
