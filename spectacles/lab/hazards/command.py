"""The command line of `spectacles break`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from spectacles.common import cli, invocation
from spectacles.common.errors import EXIT_DONE, EXIT_FAILED, SpectaclesError, UsageError
from spectacles.lab.display import files, terminal
from spectacles.lab.display.terminal import harmless
from spectacles.lab.hazards import by_hand, crash, hazard, play, predict, view
from spectacles.lab.hazards.hazard import BROKEN, SOUND, Hazard

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

CRASH = "crash"


def _parser() -> cli.Parser:
    parser = cli.Parser(
        prog=invocation.name("spectacles break"),
        description="Les périls connus : chacun cassé, puis sain, sous le même ordre imposé. Sans nom : leur liste.",
        epilog="exemples : spectacles break                  la liste\n"
        "           spectacles break second           un péril, joué\n"
        "           spectacles break --all            tous : chacun doit casser le cassé, et pas le sain\n"
        "           spectacles break crash 2          le serveur tué à chaque appel d'une réservation\n"
        "           spectacles break answers --play /tmp/jeu --slow 5    à la main, dans d'autres terminaux\n"
        "code de sortie : 0 comme attendu, 1 un péril n'a pas montré ce qu'il devait, 2 usage, 130 Ctrl-C.",
    )
    parser.add_argument("name", nargs="?", metavar="PÉRIL", help="son nom, dans la liste")
    parser.add_argument("question", nargs="?", type=terminal.question, metavar="Q", help="avec « crash » : 1 à 5")
    parser.add_argument("--all", action="store_true", help="les joue tous, et dit ce qui en est venu")
    parser.add_argument("--step", action="store_true", help="pas à pas : dit ce qui va se passer, attend l'espace")
    parser.add_argument("--predict", action="store_true", help="demande d'abord ce qui va arriver, et compare à la fin")
    parser.add_argument("--html", metavar="FICHIER", help="les deux, côte à côte, en une page")
    parser.add_argument("--times", type=cli.integer(1, 100_000), default=1, metavar="N", help="N fois chacun (1)")
    parser.add_argument("--play", type=Path, metavar="RÉPERTOIRE", help="met le programme cassé entre vos mains")
    parser.add_argument("--sound", action="store_true", help="avec --play : le programme sain")
    parser.add_argument(
        "--slow", type=cli.integer(0, 3600), default=0, metavar="SECONDES", help="avec --play : fenêtre tenue ouverte"
    )
    return parser


def run(argv: list[str] | None = None) -> int:
    """Do what the command line says. Returns its exit code; raises SpectaclesError."""
    options = _parser().parse_args(argv)
    if options.name and options.all:
        raise UsageError(f"« {options.name} » ou --all : l'un des deux")
    if options.name == CRASH:
        if options.question is None or options.all or options.play:
            raise UsageError("« crash » va avec une question, 1 à 5, et rien d'autre")
        return _crash_maps(terminal.console(), options.question)
    if options.question:
        raise UsageError("une question ne va qu'avec « crash »")
    alone = options.step or options.predict or options.html is not None
    if alone and (options.all or not options.name or options.play is not None or options.times > 1):
        raise UsageError("--step, --predict et --html montrent un péril : « spectacles break PÉRIL --step »")
    if (options.sound or options.slow) and options.play is None:
        raise UsageError("--sound et --slow vont avec --play RÉPERTOIRE")
    if options.play is not None:
        if not options.name:
            raise UsageError("quel péril ? « spectacles break » en donne la liste")
        chosen = hazard.load(options.name)
        return by_hand.try_out(chosen, SOUND if options.sound else BROKEN, options.play.absolute(), options.slow)
    screen = terminal.console()
    if options.all:
        return _play_all(screen, hazard.everything(), options.times)
    if not options.name:
        _list(screen)
        return EXIT_DONE
    if options.times > 1:
        return _play_all(screen, [hazard.load(options.name)], options.times)
    return _play_one(screen, hazard.load(options.name), options)


def _list(screen: Console) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("péril", "Q", "défaut", "en une ligne"):
        table.add_column(heading, no_wrap=heading == "péril")
    for one in hazard.everything():
        table.add_row(one.name, str(one.question), str(one.defect or "-"), one.title)
    screen.print(table)
    screen.print()
    terminal.say(screen, "« spectacles break PÉRIL » en joue un ; docs/defects.md dit ce que sont les défauts.")


def _crash_maps(screen: Console, question: str) -> int:
    """Print two maps: ours, and the original's way of saving. Returns whether ours keeps its promises."""
    kept = True
    for in_c, title in ((False, "notre serveur"), (True, "la référence en C : O_TRUNC, puis write, comme l'original")):
        began = time.monotonic()
        rows = crash.crash_map(crash.Service(question, in_c))
        screen.print(_crash_table(question, title, rows))
        took = f"{time.monotonic() - began:.0f}"
        broken = sum(row.broken or row.broken_by_power_cut for row in rows)
        verdict = "aucun ne rompt une promesse" if not broken else f"{broken} rompent une promesse (en rouge)"
        for mark, said in _refusals(rows).items():
            terminal.say(screen, f"{mark} {said}")
        terminal.say(screen, f"{len(rows)} morts en {took} s : {verdict}.")
        screen.print()
        kept = kept and (in_c or not broken)
    terminal.say(
        screen,
        f"Une réservation de {crash.ASKED} places sur {crash.SEATS}. Tous les processus du serveur sont tués juste "
        "avant l'appel. « Coupure » : ce que le disque peut contenir si le courant manque là, calculé : ce qui n'est "
        "pas encore synchronisé est écrit ou non, chaque écriture pour soi, par secteurs de 512 octets.",
    )
    return EXIT_DONE if kept else EXIT_FAILED


def _crash_table(question: str, title: str, rows: Sequence[crash.Row]) -> Table:
    from rich.table import Table

    table = Table(title=f"{question} : {title}", box=None, pad_edge=False, header_style="bold")
    for heading in ("tué avant", "le client", "le fichier", "reste au noyau", "redémarrage", "coupure"):
        table.add_column(heading, overflow="fold")
    marks = {said: mark for mark, said in _refusals(rows).items()}
    for row in rows:
        again = f"refuse {marks[_said(row)]}" if row.again else f"sert, {row.seats} places"
        disk = " ou ".join(row.disk)
        table.add_row(
            str(row.point),
            row.told,
            _red(row.file, row.file in (crash.EMPTY, crash.TORN)),
            row.left or "rien",
            _red(again, row.broken),
            _red(disk, row.broken_by_power_cut),
        )
    return table


def _said(row: crash.Row) -> str:
    return crash.plain(harmless(row.again))


def _refusals(rows: Sequence[crash.Row]) -> dict[str, str]:
    """Return what servers said that did not start again, each once, by the sign that stands for it in the table."""
    said = dict.fromkeys(_said(row) for row in rows if row.again)
    return {f"({chr(ord('a') + number)})": text for number, text in enumerate(said)}


def _red(text: str, wrong: bool) -> Text:
    from rich.text import Text

    return Text(text, style="bold red" if wrong else "")


def _play_one(screen: Console, one: Hazard, options: Namespace) -> int:
    """Play a hazard broken, then sound, and show both."""
    if options.html is not None:
        files.refuse_unwritable(options.html)
    terminal.say(screen, f"{one.title} (question {one.question}, {one.source.name})", "bold")
    terminal.say(screen, " ".join(one.lesson.splitlines()))
    screen.print()
    broken, sound = view.Scene(one, BROKEN), view.Scene(one, SOUND)
    guesses = predict.ask(screen, one, broken, sound) if options.predict else []
    view.show(screen, broken, sound, wait=view.key if options.step else None)
    screen.print()
    for scene, style in ((broken, "red"), (sound, "green")):
        terminal.say(screen, f"{view.NAMES[scene.which].capitalize()} : {scene.verdict}.", style)
        for what in scene.outcome.differs(one.signatures[scene.which]):
            terminal.say(screen, f"    autre chose que prévu : {what}", "bold red")
    predict.compare(screen, guesses)
    if options.html is not None:
        files.write_whole(options.html, view.html(broken, sound))
        terminal.say(screen, f"La page : {options.html}")
    return EXIT_DONE if broken.as_expected and sound.as_expected else EXIT_FAILED


def _play_all(screen: Console, hazards: list[Hazard], times: int) -> int:
    """Play each as often as asked for; say which were not as they must be."""
    wrong = 0
    width = max(len(one.name) for one in hazards)
    for one in hazards:
        line = f"{one.name:<{width}}"
        details: list[str] = []
        for which in (BROKEN, SOUND):
            began = time.monotonic()
            right = 0
            for _ in range(times):
                differs = _differs(one, which)
                right += not differs
                details += [f"{view.NAMES[which]} : {what}" for what in differs if len(details) < 5]
            took = (time.monotonic() - began) / times
            line += f"   {view.NAMES[which]} {right}/{times} ({took:.2f} s)".replace(".", ",")
            wrong += right < times
        screen.print(line, markup=False, style="red" if details else "", soft_wrap=True)
        for detail in details:
            terminal.say(screen, f"    {detail}")
    if wrong:
        print(f"{wrong} fois autre chose que ce qui doit arriver", file=sys.stderr)
    return EXIT_FAILED if wrong else EXIT_DONE


def _differs(one: Hazard, which: str) -> list[str]:
    try:
        return play.play(one, which).differs(one.signatures[which])
    except play.HazardError:
        raise
    except SpectaclesError as error:
        return [str(error)]
