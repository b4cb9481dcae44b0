"""`spectacles explore`: every order that matters of a small scenario, and the shortest one that goes wrong.

    scenarios    what is explored: a question and its clients, a file, a command
    report       what came of it, in French, and as JSON

From outside: main(). Leans on programs, display, dossier, kernel, record and schedules.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from spectacles.common import cli, invocation
from spectacles.common.errors import EXIT_DONE, EXIT_FAILED, EXIT_NO_SERVER, SpectaclesError, UsageError, reason
from spectacles.common.lifecycle import program
from spectacles.common.text import printable
from spectacles.lab.display.files import refuse_unwritable, write_whole
from spectacles.lab.display.page import require_jinja
from spectacles.lab.explore import report, scenarios
from spectacles.lab.programs import process
from spectacles.lab.record import derive, focus, store
from spectacles.lab.record.drawings import page

if TYPE_CHECKING:
    from argparse import Namespace

    from spectacles.lab.schedules.explorer import Report
    from spectacles.lab.schedules.scenario import Scenario

EXIT_OPEN = 4
PREEMPTIONS, SECONDS = 2, 60.0


def _parser() -> cli.Parser:
    parser = cli.Parser(
        prog=invocation.name("spectacles explore"),
        description="Essaie tous les entrelacements qui comptent d'un petit scénario, et montre le plus court qui se "
        "passe mal.\nLes programmes ne sont ni modifiés ni recompilés ; chacun tourne dans un monde à part.",
        usage='spectacles explore [options] Q --clients "reserve 5 1; reserve 5 1"\n'
        "        spectacles explore [options] FICHIER.toml\n"
        "        spectacles explore [options] DOSSIER --profile PROFIL.toml\n"
        "        spectacles explore [options] -- COMMANDE ...",
        epilog="exemples : spectacles explore -- ./guichet                     un programme qui crée ses processus\n"
        '           spectacles explore 2 --c --clients "reserve 5 1; reserve 5 1"\n'
        "           spectacles explore scenario.toml --preemptions 3    (docs/explore.md dit ce qu'on y écrit)\n"
        "           spectacles explore -- ./guichet --replay guichet.script\n"
        "code de sortie : 0 rien trouvé, et tout essayé ; 1 un entrelacement se passe mal ; 2 usage ;\n"
        "3 les programmes ne démarrent pas ; 4 tout n'a pas pu être essayé, et rien trouvé ; 130 Ctrl-C.",
    )
    parser.add_argument("what", nargs="?", metavar="Q | FICHIER.toml", help="question 1 à 5, x1, x2, ou un scénario")
    parser.add_argument("--profile", metavar="FICHIER", help="profil de « spectacles check » du programme d'un dossier")
    parser.add_argument("--c", action="store_true", help="la référence en C, au lieu du serveur et des clients Python")
    parser.add_argument(
        "--clients",
        metavar="DEMANDES",
        help="ce que demande chaque client, entre « ; » : reserve SPECTACLE PLACES, consult SPECTACLE",
    )
    parser.add_argument(
        "--seats",
        type=cli.integer(0, 1_000_000),
        metavar="N",
        help="places de chaque spectacle (une de moins qu'il n'en faut)",
    )
    parser.add_argument(
        "--preemptions", type=cli.integer(0, 20), default=PREEMPTIONS, metavar="K",
        help=f"nombre maximal de préemptions ({PREEMPTIONS})",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=cli.seconds, default=SECONDS, metavar="S", help=f"durée maximale ({SECONDS:g})"
    )
    parser.add_argument("--kill", metavar="QUI", help="une mort en plus, n'importe où : any, ou le nom d'un programme")
    parser.add_argument(
        "--workers", type=cli.integer(1, 64), metavar="N", help="processus qui explorent (un par processeur)"
    )
    parser.add_argument("--calls-only", action="store_true", help="sans les accès à la mémoire partagée")
    parser.add_argument(
        "--all-orders", action="store_true", help="aussi les ordres de pas indépendants (pour comparer)"
    )
    parser.add_argument("--script", metavar="FICHIER", help="où écrire le script de l'échec (défaut : TITRE.script)")
    parser.add_argument("--replay", metavar="FICHIER", help="rejoue un script, et n'explore pas")
    parser.add_argument("--html", metavar="FICHIER", help="écrit l'échec comme une page à montrer")
    parser.add_argument("--save", metavar="FICHIER", help="l'enregistre pour « spectacles trace --open »")
    parser.add_argument("--json", action="store_true", help="le rapport, pour les machines (docs/explore.md)")
    return parser


@program
def main(argv: list[str] | None = None) -> int:
    """Explore, or replay. The exit code is described by --help."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command: list[str] = []
    if "--" in arguments:
        place = arguments.index("--")
        arguments, command = arguments[:place], arguments[place + 1 :]
        if not command:
            raise UsageError("quelle commande, après « -- » ?")
    options = _parser().parse_args(arguments)
    with contextlib.ExitStack() as undo:
        try:
            try:
                scenario = _scenario(options, command, undo)
            except ValueError as error:
                raise UsageError(str(error)) from None
            return _replay(scenario, options) if options.replay else _explore(scenario, options, command)
        except UsageError:
            raise
        except (SpectaclesError, OSError) as error:
            print(f"{invocation.name('spectacles explore')} : {printable(str(error))}", file=sys.stderr)
            return EXIT_NO_SERVER


def _scenario(options: Namespace, command: list[str], undo: contextlib.ExitStack) -> Scenario:
    if command and options.what is not None:
        raise UsageError(f"« {options.what} » et une commande : un seul à la fois")
    if not command and options.what is None:
        raise UsageError("quoi explorer ? une question, un fichier .toml, ou une commande après « -- »")
    of_question = options.c or options.clients is not None or options.seats is not None
    if options.profile is not None:
        if command or of_question:
            raise UsageError("--profile va avec le dossier d'un programme, et rien d'autre")
        into = undo.enter_context(tempfile.TemporaryDirectory(prefix="spectacles-"))
        return scenarios.of_dossier(options.what, options.profile, into, accesses=not options.calls_only)
    if command:
        if of_question:
            raise UsageError("--c, --clients et --seats vont avec une question, pas avec une commande")
        return scenarios.of_command(command, accesses=not options.calls_only)
    question = process.question(options.what, further=True)
    if question == "x3_cluster":
        raise UsageError("x3 : trois services etcd ne s'explorent pas (1 à 5, x1, x2)")
    if question is None:
        if of_question:
            raise UsageError("--c, --clients et --seats vont avec une question, pas avec un fichier")
        return scenarios.of_file(Path(options.what), accesses=not options.calls_only)
    folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="spectacles-")))
    return scenarios.of_question(
        question,
        folder,
        options.clients or scenarios.CLIENTS,
        c=options.c,
        seats=options.seats,
        accesses=not options.calls_only,
    )


def _explore(scenario: Scenario, options: Namespace, command: list[str]) -> int:
    from spectacles.lab.schedules.explorer import Verdict, explore

    killed = _who(scenario, options.kill)
    refuse_unwritable(options.html, options.save, options.script)
    if options.html is not None:
        require_jinja()
    progress = report.Progress(sys.stderr)
    try:
        done = explore(
            scenario,
            preemptions=options.preemptions,
            seconds=options.seconds,
            kills=1 if options.kill else 0,
            who=killed,
            reduce=not options.all_orders,
            workers=options.workers,
            told=progress,
        )
    finally:
        progress.end()
    where = _save(done, options) if done.found is not None else None
    if options.json:
        print(json.dumps(report.plain(done, where), ensure_ascii=False, indent=1))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print(report.text(done, where, _again(options, command, where), width))
    return {Verdict.FOUND: EXIT_FAILED, Verdict.NONE: EXIT_DONE, Verdict.OPEN: EXIT_OPEN}[done.verdict]


def _who(scenario: Scenario, kill: str | None) -> frozenset[str]:
    if kill in (None, "any"):
        return frozenset()
    names = [actor.name for actor in scenario.actors]
    if kill not in names:
        raise UsageError(f"--kill : « {kill} » n'est pas un programme du scénario (any, {', '.join(names)})")
    return frozenset((kill,))


def _save(done: Report, options: Namespace) -> Path:
    """Write the script of what was found, and what else is asked for; return where the script is. Raises OSError."""
    assert done.found is not None
    path = Path(options.script if options.script is not None else f"{done.scenario.title}.script")
    write_whole(str(path), done.found.script)
    if options.html is not None or options.save is not None:
        record = report.record(done)
        if options.save is not None:
            store.save(record, options.save)
        if options.html is not None:
            run = focus.during(derive.run(record, done.scenario.title), record.ready, 0)
            write_whole(options.html, page.compare(page.Side(run, verdict=done.found.failure.text, good=False)))
    return path


def _again(options: Namespace, command: list[str], where: Path | None) -> str:
    """Return the command that plays the script again."""
    if where is None:
        return ""
    words = ["spectacles explore", *([options.what] if options.what else [])]
    if options.c:
        words.append("--c")
    if options.clients:
        words.append(f'--clients "{options.clients}"')
    if options.seats is not None:
        words.append(f"--seats {options.seats}")
    return " ".join([*words, f"--replay {shlex.quote(str(where))}", *(["--", shlex.join(command)] if command else [])])


def _replay(scenario: Scenario, options: Namespace) -> int:
    from spectacles.lab.schedules.replay import replay

    try:
        text = Path(options.replay).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{options.replay} : ce n'est pas un texte en UTF-8") from None
    except OSError as error:
        raise UsageError(reason(error)) from None
    done = replay(scenario, text)
    print(report.replayed(done))
    return EXIT_FAILED if done.failure is not None else EXIT_OPEN if done.missed else EXIT_DONE
