"""`spectacles watch`: what lies in the kernel and who waits for whom, live, for a projector; or once, for a pipe.

`rows` makes lines of a look and knows no terminal, `screen` is the terminal, `command` a program on a terminal of its
own, `live` the loop between them. The screen is written here, in two hundred lines, and not with Textual or rich.live:
a frame is thirty lines of which one or two change, and what a projector needs beyond that (a key, a window that changes
its size, Ctrl-Z) is the terminal's own. docs/see.md has the figures.

From outside: main(). Leans on programs and kernel.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time

from spectacles.common import cli, invocation
from spectacles.common.errors import EXIT_DONE, EXIT_FAILED, EXIT_NO_SERVER, NoServerError, UsageError
from spectacles.common.lifecycle import program
from spectacles.common.processes import process_exists
from spectacles.lab.kernel.looker import Looker
from spectacles.lab.kernel.model import Look
from spectacles.lab.programs import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from spectacles.lab.watch.command import Command

SETTLE = 0.3  # seconds, more than findings.SETTLED and than between two rounds of housekeeping of our servers


def _parser() -> cli.Parser:
    parser = cli.Parser(
        prog=invocation.name("spectacles watch"),
        description="Montre en direct qui attend quoi, et ce que contient chaque objet du noyau, sans rien y toucher.",
        usage="spectacles watch [options] [RÉPERTOIRE | Q]\n"
        "        spectacles watch [options] --pid PID\n"
        "        spectacles watch [options] -- COMMANDE ...",
        epilog="exemples : spectacles watch 2                       le serveur de la question 2, ses clients\n"
        "           spectacles watch /tmp/guichet            le serveur de ce répertoire\n"
        "           spectacles watch --pid 1234              un processus et ses enfants\n"
        "           spectacles watch -- ./serveur 5 10       un programme, lancé par watch\n"
        "           spectacles watch 2 --once | less         un regard, en texte\n"
        "touches : q quitter, espace figer, s un regard, ↑ ↓ Entrée un objet en entier, ? aide.\n"
        "code de sortie : 0 fini (avec --once : rien d'anormal), 1 une alarme (avec --once), 2 usage,\n"
        "3 rien à regarder (avec --once), 130 Ctrl-C ; avec une commande : le sien, 128 + n si le signal n l'a tuée.",
    )
    parser.add_argument("what", nargs="?", metavar="RÉPERTOIRE | Q", help="répertoire de travail, question 1 à 5, x1")
    cli.add_directory(parser)
    parser.add_argument(
        "--pid", type=cli.integer(1, 1 << 22), action="append", metavar="PID", help="un processus et ses enfants"
    )
    parser.add_argument(
        "--key",
        type=_key,
        action="append",
        default=[],
        metavar="CLEF",
        help="un objet de plus : clef System V, ou /NOM",
    )
    parser.add_argument("--once", action="store_true", help="un regard, en texte")
    parser.add_argument("--json", action="store_true", help="un regard par ligne, pour les machines (docs/see.md)")
    parser.add_argument(
        "--interval", type=cli.seconds, default=0.25, metavar="SECONDES", help="entre deux regards (0.25)"
    )
    return parser


def _key(text: str) -> int | str:
    return text if text.startswith("/") and len(text) > 1 else cli.integer(1, 0xFFFFFFFF)(text)


@program
def main(argv: list[str] | None = None) -> int:
    """Look until `q`, or once. The exit code is described by --help."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command: list[str] = []
    if "--" in arguments:
        place = arguments.index("--")
        arguments, command = arguments[:place], arguments[place + 1 :]
        if not command:
            raise UsageError("quelle commande, après « -- » ?")
    options = _parser().parse_args(arguments)
    where, question = _target(options, command)
    if command:
        if options.once or options.json:
            raise UsageError("--once et --json regardent ce qui tourne déjà : sans commande")
        return _live(options, None, question, command)
    if options.once or options.json:
        return _print(options, where, question)
    return _live(options, where, question, [])


def _target(options: Namespace, command: Sequence[str]) -> tuple[str | None, str]:
    """Return the run directory to look at, None for none, and the question asked for, "" for any."""
    given = [name for name, value in (("un processus", options.pid), ("une commande", command)) if value]
    if options.what is not None:
        given.insert(0, f"« {options.what} »")
    if options.what == "":
        raise UsageError("répertoire ou question : un nom vide")
    if len(given) > 1:
        raise UsageError(f"{' et '.join(given)} : un seul à la fois")
    if options.pid or command:
        if gone := [str(pid) for pid in options.pid or () if not process_exists(pid)]:
            raise NoServerError(f"aucun processus {', '.join(gone)}")
        return None, ""
    question = process.question(options.what or "", further=True) or ""
    where = options.dir if question or options.what is None else options.what
    if options.what is None and options.key and not os.path.isdir(where):
        return None, ""
    return os.path.abspath(where), question


def _looker(options: Namespace, where: str | None, pids: Sequence[int]) -> Looker:
    return Looker(pids=pids, directory=where, keys=options.key)


def _heading(looker: Looker, question: str, options: Namespace, command: Sequence[str]) -> str:
    from spectacles.lab.watch import rows

    parts = ["spectacles watch"]
    directory = looker.directory
    if directory is not None:
        served = directory.question or question
        parts += [served] if served else []
        parts.append(rows.short(directory.path))
    elif command:
        parts.append(" ".join(command))
    else:
        parts += _named(options)
    return " · ".join(parts)


def _named(options: Namespace) -> list[str]:
    """Return what was asked for by number or name."""
    named = [f"PID {pid}" for pid in options.pid or ()]
    return named + [f"clef {key:#x}" if isinstance(key, int) else key for key in options.key]


def _print(options: Namespace, where: str | None, question: str) -> int:
    """Print one look as text, or looks as JSON until Ctrl-C."""
    if where is not None and not os.path.isdir(where):
        raise NoServerError(f"{where} : aucun répertoire de ce nom")
    with contextlib.closing(_looker(options, where, options.pid or ())) as looker:
        picture = looker.look()
        if any((task.since or 0.0) < SETTLE for task in picture.tasks.values()):
            time.sleep(SETTLE)  # a wait counts as one once it lasts
            picture = looker.look()
        if options.json:
            while True:
                print(json.dumps(picture.to_json(), ensure_ascii=True), flush=True)
                if options.once:
                    break
                time.sleep(options.interval)
                picture = looker.look()
        else:
            from spectacles.lab.watch import rows

            if _code(picture) == EXIT_NO_SERVER:
                what = ", ".join(_named(options)) if where is None else where
                raise NoServerError(f"{what} : rien à regarder, ni serveur, ni client, ni objet du noyau")
            print(rows.text(picture, _heading(looker, question, options, ())))
        return _code(picture)


def _code(picture: Look) -> int:
    if not picture.processes and not picture.objects:
        return EXIT_NO_SERVER
    return EXIT_FAILED if any(finding.level == "alarm" for finding in picture.findings) else EXIT_DONE


def _live(options: Namespace, where: str | None, question: str, command: Sequence[str]) -> int:
    from spectacles.lab.watch.live import PANE, Live

    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM", "dumb") == "dumb":
        raise UsageError("l'écran demande un terminal ; pour un tube ou un fichier : --once ou --json")
    from spectacles.lab.watch.command import Command
    from spectacles.lab.watch.screen import Screen

    with contextlib.ExitStack() as stack:
        started: Command | None = None
        pids = list(options.pid or ())
        if command:
            size = os.get_terminal_size(sys.stdout.fileno())
            started = stack.enter_context(Command(command, size.columns, PANE - 1))
            pids.append(started.process.pid)
        looker = stack.enter_context(contextlib.closing(_looker(options, where, pids)))
        if looker.directory is not None:
            looker.directory.update()
        live = Live(looker, _heading(looker, question, options, command), options.interval, started)
        try:
            with Screen() as screen:
                code = live.run(screen)
        except EOFError:  # the window was closed
            return EXIT_DONE
        if started is not None and code is not None:
            if said := "\n".join(started.lines).rstrip():
                print(said)
            print(f"spectacles watch : {started.end()}", file=sys.stderr)
            return code
    return EXIT_DONE
