"""`spectacles trace`: record a run, and draw it.

`scenario` reads what clients are to do, `service` runs one of our servers with them, `programs` runs anybody's,
`readiness` sees when a server waits, `history` makes a run of a counter-example of the judge.

From outside: main(). Leans on programs, display, kernel, gate, record and judge.
"""

from __future__ import annotations

import os
import shlex
import sys
from argparse import ArgumentTypeError
from pathlib import Path
from typing import TYPE_CHECKING

from spectacles.common import cli, invocation
from spectacles.common.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, SpectaclesError, UsageError, reason
from spectacles.common.lifecycle import program
from spectacles.common.text import printable
from spectacles.lab.display.files import refuse_unwritable, write_whole
from spectacles.lab.display.page import require_jinja
from spectacles.lab.display.terminal import Interrupts, question
from spectacles.lab.gate.script import Script
from spectacles.lab.judge.linearizability import Verdict, check, load
from spectacles.lab.record import derive, focus, store
from spectacles.lab.record.drawings import mermaid, page, perfetto, terminal
from spectacles.lab.trace import history, programs, scenario, service

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence

    from spectacles.lab.record.model import Run

OUTPUTS = ("html", "mermaid", "perfetto", "save")


def _parser() -> cli.Parser:
    parser = cli.Parser(
        prog=invocation.name("spectacles trace"),
        description="Enregistre ce que font des programmes, et le dessine : qui a envoyé quoi à qui, qui attend qui.",
        usage="spectacles trace [options] Q\n"
        '        spectacles trace [options] -- COMMANDE ... [--and "COMMANDE"]\n'
        "        spectacles trace [options] --open FICHIER [FICHIER2]\n"
        "        spectacles trace [options] --history HISTORIQUE --initial 0=50",
        epilog="exemples : spectacles trace 2                             deux clients de la question 2\n"
        '           spectacles trace 2 --do "A: list; B: reserve 5 3 & A: reserve 5 99"\n'
        "           spectacles trace --c 4 --html page.html        le serveur en C, une page à montrer\n"
        '           spectacles trace -- ./serveur --and "./client"  des programmes, dans une copie du répertoire\n'
        "           spectacles trace --open avant.jsonl apres.jsonl --html page.html\n"
        "code de sortie : 0 dessiné, 1 un programme n'a pas pu être suivi jusqu'au bout, 2 usage, 130 Ctrl-C\n"
        "(ce qui a été vu est dessiné quand même).",
    )
    parser.add_argument("question", nargs="?", type=question, metavar="Q", help="un de nos serveurs, 1 à 5")
    parser.add_argument("--do", metavar="DEMANDES", help=f"ce que demandent ses clients (« {scenario.DEFAULT} »)")
    parser.add_argument(
        "--c", action="store_true", help="le serveur de la référence en C ; les clients restent les nôtres"
    )
    parser.add_argument(
        "--broken", action="store_true", help="question 4 privée de son verrou : deux fois les mêmes places"
    )
    parser.add_argument(
        "--and", action="append", default=[], dest="others", metavar="COMMANDE", help="une commande de plus"
    )
    parser.add_argument("--type", metavar="LIGNES", help="à taper quand un programme lit : « client: 1; client: 5 »")
    parser.add_argument("--script", metavar="FICHIER", help="ordonnancement à suivre (docs/worlds-and-gate.md)")
    parser.add_argument("--seconds", type=cli.seconds, default=60.0, metavar="N", help="au plus (60)")
    parser.add_argument("--no-world", dest="world", action="store_false", help="sans monde à part")
    parser.add_argument("--memory", action="store_true", help="chaque accès à la mémoire partagée (x86-64 ; plus lent)")
    parser.add_argument(
        "--open", nargs="+", metavar="FICHIER", help="dessine ce que --save a enregistré ; deux : compare"
    )
    parser.add_argument("--history", metavar="FICHIER", help="dessine les contre-exemples d'un historique")
    parser.add_argument("--initial", type=_seats, default={}, metavar="0=50,1=20", help="ses places au départ")
    parser.add_argument("--final", type=_seats, metavar="0=12,1=3", help="et à la fin, après tout le reste")
    parser.add_argument("--all", action="store_true", help="tout, préparatifs et fin compris")
    parser.add_argument("--html", metavar="FICHIER", help="écrit une page à montrer")
    parser.add_argument("--mermaid", metavar="FICHIER", help="écrit un diagramme Mermaid")
    parser.add_argument("--perfetto", metavar="FICHIER", help="écrit une trace pour ui.perfetto.dev")
    parser.add_argument("--save", metavar="FICHIER", help="garde l'enregistrement (docs/trace.md) ; « - » : la sortie")
    return parser


def _seats(text: str) -> dict[int, int]:
    found = {}
    for part in text.split(","):
        show, equals, seats = part.partition("=")
        if not equals:
            raise ArgumentTypeError(f"« {part} » : SPECTACLE=PLACES, séparés par des virgules")
        found[cli.integer(0, 10**6)(show)] = cli.integer(0, 10**9)(seats)
    return found


@program
def main(argv: list[str] | None = None) -> int:
    """Record and draw. The exit code is described by --help."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command: list[str] | None = None
    if "--" in arguments:
        place = arguments.index("--")
        arguments, command = arguments[:place], arguments[place + 1 :]
        while "--and" in command:  # also after the command, where one thinks of it
            at = command.index("--and")
            arguments += command[at : at + 2]
            del command[at : at + 2]
        if not command:
            raise UsageError("quelle commande, après « -- » ?")
    options = _parser().parse_args(arguments)
    _refuse(options, command)
    if options.open:
        return _draw([store.load(path) for path in options.open], options)
    if options.history is not None:
        return _draw_history(options)
    if command is None:
        record, remark = _serve(options)
    else:
        record, remark = programs.record(_plan(options, command))
    code = _draw([record], options)
    if remark:
        print(f"spectacles trace : {printable(remark)}", file=sys.stderr)
    if record.failed is not None:
        raise record.failed
    if remark == service.INTERRUPTED:
        return EXIT_INTERRUPTED
    return EXIT_FAILED if remark and command is None else code


def _refuse(options: Namespace, command: Sequence[str] | None) -> None:
    """Raise UsageError when what is asked for makes no sense, or cannot be written: before the work."""
    given = {
        "une question": options.question,
        "une commande": command,
        "--open": options.open,
        "--history": options.history,
    }
    asked = [name for name, value in given.items() if value]
    if len(asked) != 1:
        raise UsageError(
            f"{' et '.join(asked)} : un seul à la fois" if asked else "que suivre ? une question, ou -- COMMANDE"
        )
    for name, value, wanted in (
        ("--do", options.do, "une question"),
        ("--c", options.c, "une question"),
        ("--broken", options.broken, "une question"),
        ("--and", options.others, "une commande"),
        ("--type", options.type, "une commande"),
        ("--script", options.script, "une commande"),
        ("--initial", options.initial, "--history"),
        ("--final", options.final, "--history"),
        ("--save", options.save, "une question ou une commande"),
    ):
        if value and asked[0] not in wanted:
            raise UsageError(f"{name} va avec {wanted}")
    if options.broken and (options.question != "q4_thread_per_request" or options.c):
        raise UsageError("--broken : question 4, en Python, seulement")
    if options.open and len(options.open) == 2 and (options.mermaid or options.perfetto):
        raise UsageError("--mermaid et --perfetto dessinent un seul enregistrement ; --html en compare deux")
    if options.open and len(options.open) > 2:
        raise UsageError("--open : un fichier, ou deux à comparer")
    paths = [getattr(options, name) for name in OUTPUTS]
    if paths.count("-") > 1:
        raise UsageError("« - » : une seule chose à la fois sur la sortie")
    files = [os.path.realpath(path) for path in paths if path not in (None, "-")]
    if len(set(files)) < len(files):
        raise UsageError("deux fois le même fichier à écrire")
    refuse_unwritable(*(None if path == "-" else path for path in paths))
    if options.html is not None:
        require_jinja()


def _serve(options: Namespace) -> tuple[store.Record, str]:
    default = scenario.DEFAULT_PIPES if options.question == "q1_pipes" else scenario.DEFAULT
    default = scenario.DEFAULT_BROKEN if options.broken else default
    groups = scenario.parse(default if options.do is None else options.do, options.question)
    with Interrupts():
        return service.record(
            options.question,
            groups,
            in_c=options.c,
            broken=options.broken,
            accesses=options.memory,
            private=None if options.world else False,
            path=None if options.save == "-" else options.save,
        )


def _plan(options: Namespace, command: list[str]) -> programs.Plan:
    try:
        others = [shlex.split(other) for other in options.others]
    except ValueError:
        raise UsageError("--and : des guillemets qui ne sont pas fermés") from None
    commands = programs.named([command, *others])
    script = None
    if options.script is not None:
        try:
            script = Script(Path(options.script).read_text())
        except (OSError, UnicodeDecodeError) as error:
            named = isinstance(error, OSError) and error.filename
            raise UsageError(f"--script : {'' if named else f'{options.script} : '}{reason(error)}") from None
        except UsageError as error:
            raise UsageError(f"{options.script}, {error}") from None
    typed = [] if options.type is None else programs.lines(options.type, list(commands))
    return programs.Plan(
        commands,
        typed=typed,
        script=script,
        accesses=options.memory,
        private=None if options.world else False,
        seconds=options.seconds,
        interactive=options.type is None and sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty(),
        path=None if options.save == "-" else options.save,
    )


def seen(record: store.Record, *, everything: bool) -> Run:
    """Return what is drawn of a record."""
    run = derive.run(record)
    if everything:
        return run
    run = focus.without_interpreters(focus.during(run, record.ready, record.over))
    servers = record.head.get("service")
    if isinstance(servers, list) and servers:
        run = focus.service(run, tuple(str(name) for name in servers))
    return run


def _draw(records: Sequence[store.Record], options: Namespace) -> int:
    runs = [seen(record, everything=options.all) for record in records]
    if options.save == "-":
        for row in store.lines(records[0]):
            print(row, end="")
    kept = [] if options.save in (None, "-") or records[0].failed is not None else [options.save]
    return _put(runs, options, [record.torn for record in records], kept)


def _draw_history(options: Namespace) -> int:
    try:
        with open(options.history, "rb") as file:
            report = check(load(file), options.initial, final=options.final)
    except OSError as error:
        raise UsageError(reason(error)) from error
    except ValueError as error:
        raise UsageError(f"{options.history} : {error}") from error
    if report.verdict is not Verdict.INVALID:
        raise SpectaclesError(f"{options.history} : aucun contre-exemple à dessiner ; {report.explain()}")
    example = min(report.counterexamples, key=lambda one: len(one.operations))
    return _put([history.run(example)], options)


def _put(runs: Sequence[Run], options: Namespace, torn: Sequence[bool] = (), kept: Sequence[str] = ()) -> int:
    """Write the drawings wherever they are wanted; in the terminal, unless something else is on standard output."""
    makers: dict[str, Callable[[], str]] = {
        "html": lambda: page.compare(*(page.Side(run) for run in runs)),
        "mermaid": lambda: mermaid.draw(runs[0]),
        "perfetto": lambda: perfetto.draw(runs[0]),
    }
    written = []
    for name, make in makers.items():
        path = getattr(options, name)
        if path == "-":
            print(make(), end="")
        elif path is not None:
            write_whole(path, make())
            written.append(path)
    if "-" not in [getattr(options, name) for name in OUTPUTS]:
        for run in runs:
            print(terminal.draw(run, terminal.medium(sys.stdout)), end="")
    if not options.all and any(not run.steps for run in runs):
        print("spectacles trace : rien à dessiner ; --all dessine aussi les préparatifs", file=sys.stderr)
    if any(torn):
        print("spectacles trace : enregistrement interrompu : sa dernière ligne manque", file=sys.stderr)
    written += kept
    if written and sys.stderr is not None:
        print(f"spectacles trace : écrit : {printable(', '.join(written))}", file=sys.stderr)
    return EXIT_DONE
