"""The command line of `spectacles break`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from spectacles.common import cli, invocation
from spectacles.common.errors import EXIT_DONE, EXIT_FAILED, SpectaclesError, UsageError
from spectacles.lab.display import files, terminal
from spectacles.lab.hazards import by_hand, crash_table, hazard, play, predict, view
from spectacles.lab.hazards.hazard import BROKEN, SOUND, Hazard
from spectacles.lab.programs import process

if TYPE_CHECKING:
    from argparse import Namespace

    from rich.console import Console

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
        "           spectacles break crash --profile p.toml ./dossier    celui de n'importe qui\n"
        "code de sortie : 0 comme attendu, 1 un péril n'a pas montré ce qu'il devait, ou une mort rompt une promesse,\n"
        "2 usage ou profil, 3 (crash) ni construit ni démarré, 130 Ctrl-C.",
    )
    parser.add_argument("name", nargs="?", metavar="PÉRIL", help="son nom, dans la liste")
    parser.add_argument(
        "what",
        nargs="?",
        metavar="Q | DOSSIER",
        help="avec « crash » : question 1 à 5 ; ou, avec --profile, un dossier",
    )
    parser.add_argument("--profile", metavar="F.toml", help="avec « crash » : profil de « spectacles check »")
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
    options = _parser().parse_intermixed_args(argv)  # so that the folder may come after --profile
    if options.name and options.all:
        raise UsageError(f"« {options.name} » ou --all : l'un des deux")
    if options.name == CRASH:
        return _crash(options)
    if options.what is not None or options.profile is not None:
        raise UsageError("une question, un dossier, --profile ne vont qu'avec « crash »")
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


def _crash(options: Namespace) -> int:
    others = [name for name in vars(options) if name not in ("name", "what", "profile", "times")]
    if any(vars(options)[name] not in (None, False, 0) for name in others) or options.times > 1:
        raise UsageError("« crash » va avec une question, ou --profile et un dossier, et rien d'autre")
    if options.profile is not None:
        return crash_table.of_dossier(terminal.console(), options.what or ".", options.profile)
    question = process.question(options.what or "")
    if question is None:
        raise UsageError("« crash » va avec une question, 1 à 5, ou avec --profile F.toml et un dossier")
    return crash_table.of_question(terminal.console(), question)


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
