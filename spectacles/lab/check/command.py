"""The command line of `spectacles check`."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from spectacles.common import cli, invocation
from spectacles.common.errors import EXIT_USAGE, SpectaclesError, UsageError
from spectacles.common.text import printable
from spectacles.lab.check import (  # noqa: F401  (some for their checks)
    classes,
    dialogue,
    exports,
    pages,
    replay,
    report,
    schedules,
    starts,
    sweeps,
    wire,
)
from spectacles.lab.check.model import Report
from spectacles.lab.check.registry import LAYERS, NEEDS, checks
from spectacles.lab.check.runner import Judge
from spectacles.lab.display import files, page, terminal
from spectacles.lab.dossier import profile as profiles
from spectacles.lab.programs import kernel

OUT = "spectacles-check"


def parser() -> cli.Parser:
    """Return the parser of the command line."""
    name = invocation.name("python -m spectacles.lab.check")
    made = cli.Parser(
        prog=name,
        description="Juge un programme client-serveur : le construit, le regarde tourner, cherche ses défauts, "
        "chacun avec ses preuves.",
        epilog=f"exemples : {name} ./dossier --question 2\n"
        f"           {name} ./dossier --learn p.toml, puis --profile p.toml\n"
        "code de sortie : 0 aucun défaut, 1 des défauts, 2 usage ou profil, 3 ni construit ni démarré,\n"
        "4 sans conclusion.",
    )
    made.add_argument("folder", nargs="?", metavar="DOSSIER", help="dossier du programme : sources, ou binaires")
    made.add_argument("--question", type=cli.integer(1, 5), default=0, metavar="N", help="question du sujet, 1 à 5")
    made.add_argument("--profile", metavar="F.toml", help="comment le construire, le lancer et lui parler")
    made.add_argument("--learn", metavar="F.toml", help="apprend le profil, l'écrit, et ne juge pas")
    made.add_argument("--only", metavar="NOM,...", help="seulement ces contrôles (ou ces couches, A, B, C)")
    made.add_argument("--quick", action="store_true", help="les contrôles les plus parlants, en 15 secondes")
    made.add_argument("--list", action="store_true", help="dit tous les contrôles, et ce qu'ils cherchent")
    made.add_argument("--json", action="store_true", help="le rapport en JSON sur la sortie")
    made.add_argument(
        "--class", dest="room", metavar="DIR", help="juge toute une classe : un dossier de dossiers ou d'archives"
    )
    made.add_argument(
        "--jobs", type=cli.integer(1, 64), metavar="N", help="remises à la fois (défaut : les processeurs)"
    )
    made.add_argument("--out", metavar="DIR", default=OUT, help=f"où ranger les rapports (défaut : ./{OUT})")
    made.add_argument("--replay", metavar="DÉFAUT", help="rejoue lentement ce qui l'a montré, et le dessine")
    made.add_argument("--parent", type=cli.integer(1, 1 << 30), help=argparse.SUPPRESS)  # of --class: ends with it
    return made


def check(argv: list[str] | None = None) -> int:
    """Judge; the exit code is said in the help."""
    the_parser = parser()
    options = the_parser.parse_args(argv)
    if options.list:
        print(listing())
        return 0
    if options.room is not None:
        return _judge_class(the_parser, options)
    if options.folder is None:
        the_parser.error("quel dossier ? (par exemple : . pour celui-ci)")
    only = _only(the_parser, options.only)
    try:
        known = profiles.load(options.profile) if options.profile else None
        files.refuse_unwritable(options.learn)
    except UsageError as error:
        print(printable(str(error)), file=sys.stderr)
        return EXIT_USAGE
    if not os.path.isdir(options.folder):
        the_parser.error(f"{options.folder} n'est pas un dossier")
    if options.jobs:
        the_parser.error("--jobs va avec --class")
    judge = Judge(Path(options.folder), known, options.question, options.quick, only)
    with terminal.Interrupts():
        if options.parent:
            _end_with(options.parent)
        if options.learn:
            return _learn(judge, options.learn)
        if options.replay:
            return replay.run(judge, Path(options.out), options.replay)
        os.makedirs(options.out, exist_ok=True)  # before a minute of judging, not after
        judge.progress = _progress if sys.stderr.isatty() and not options.json else None
        found = judge.run()
        if judge.progress is not None:
            print("\r\x1b[K", end="", file=sys.stderr)
        found = replay.with_commands(found, typed(options))
        folder = save(found, judge, Path(options.out))
    if options.json:
        print(json.dumps(found.to_json(), ensure_ascii=False, indent=1))
    else:
        whole = folder.parent / "latest" / ("index.html" if (folder / "index.html").exists() else "rapport.txt")
        said = "" if found.failed else f"{exports.summary(found)}. "
        print(f"{report.text(found)}\n\n{said}En page, avec tout le reste à côté : {whole}")
    return found.code


def _judge_class(the_parser: cli.Parser, options: argparse.Namespace) -> int:
    """Judge the folders or archives of a class."""
    if options.folder is not None or options.learn or options.replay:
        the_parser.error("--class va seul : ni DOSSIER, ni --learn, ni --replay")
    _only(the_parser, options.only)
    try:
        if options.profile:
            profiles.load(options.profile)
        page.require_jinja()
        given: list[str] = ["--question", str(options.question)] if options.question else []
        given += ["--profile", os.path.abspath(options.profile)] if options.profile else []
        given += ["--only", options.only] if options.only else []
        given += ["--quick"] if options.quick else []
        finders = {one.name: one.finds for one in checks()}
        room = classes.Class(
            Path(options.room),
            Path(options.out),
            given,
            options.jobs or classes.processors(),
            finders,
            _say,
            _live if sys.stderr.isatty() else None,
            invocation.name("python -m spectacles.lab.check"),
        )
        try:
            with terminal.Interrupts():
                code = room.run()
        except KeyboardInterrupt:
            _say(f"interrompu : {len(room.reports)} remise(s) jugée(s) ; la même commande reprend où l'on en est")
            raise
    except UsageError as error:
        print(printable(str(error)), file=sys.stderr)
        return EXIT_USAGE
    if options.json:
        whole = {key: made.to_json() for key, made in room.reports.items()}
        print(json.dumps(whole, ensure_ascii=False, indent=1))
    else:
        index = os.path.join(options.out, "index.html")
        print(f"{index} : la classe ; notes.csv, moodle.csv, junit.xml et un dossier par remise à côté")
    return code


def listing() -> str:
    """Return every check: what it does, which defects it can find, what it needs."""
    lines = []
    layers = {"A": "le démarrage seul", "B": "le dialogue du client", "C": "ce qui passe sur le canal"}
    for layer in LAYERS:
        lines.append(f"couche {layer} : {layers[layer]}")
        for one in checks():
            if one.layer == layer:
                finds = ", ".join(map(str, one.finds))
                needs = f" ; il faut {', '.join(NEEDS[need] for need in one.needs)}" if one.needs else ""
                quick = "" if one.quick else " (pas avec --quick)"
                lines.append(f"  {one.name:<18} {one.does}{quick}")
                lines.append(f"  {'':<18} défauts {finds}{needs}")
    return "\n".join(lines)


def typed(options: argparse.Namespace) -> list[str]:
    """Return the words that judge this program again, without those that only choose checks."""
    words = [*invocation.name("python -m spectacles.lab.check").split(), options.folder]
    if options.profile:
        words += ["--profile", options.profile]
    if options.question:
        words += ["--question", str(options.question)]
    if options.out != OUT:
        words += ["--out", options.out]
    return words


def save(found: Report, judge: Judge, out: Path) -> Path:
    """Write the folder of one run, with `latest` beside it, and return it. Raises OSError."""
    out.mkdir(parents=True, exist_ok=True)
    base = f"{found.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder = out / base
    count = 1
    while True:
        try:
            folder.mkdir()
            break
        except FileExistsError:
            count += 1
            folder = out / f"{base}-{count}"
    files.write_whole(str(folder / "report.json"), json.dumps(found.to_json(), ensure_ascii=False, indent=1) + "\n")
    files.write_whole(str(folder / "rapport.txt"), report.text(found) + "\n")
    exports.write(folder, found)
    with contextlib.suppress(ModuleNotFoundError, SpectaclesError):  # without jinja2 there is no page
        files.write_whole(str(folder / "index.html"), pages.program(found))
    if judge.profile.server:
        files.write_whole(str(folder / "profile.toml"), profiles.dump(judge.profile))
    if judge.log:
        files.write_whole(str(folder / "build.log"), judge.log + "\n")
    for name, trace in judge.traces.items():
        files.write_whole(str(folder / f"trace-{name}.txt"), trace)
    link = out / f".latest.{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(folder.name)
    link.replace(out / "latest")
    return folder


def _only(the_parser: cli.Parser, text: str | None) -> tuple[str, ...]:
    names = tuple(word.strip() for word in (text or "").split(",") if word.strip())
    known = {one.name for one in checks()} | set(LAYERS)
    for name in names:
        if name not in known:
            the_parser.error(f"pas de contrôle « {name} » (--list les dit tous)")
    return names


def _learn(judge: Judge, target: str) -> int:
    with judge.prepared():
        files.write_whole(target, profiles.dump(judge.profile))
    for note in judge.profile.notes:
        print(f"{printable(note)} : à compléter dans {target}")
    print(f"{target} écrit : à relire, à corriger, puis --profile {target}")
    return 0 if judge.profile.talks else 4


def _end_with(parent: int) -> None:
    """Have this process end, and clean up, when the one that judges a class is no more, however that ended."""
    with contextlib.suppress(OSError):
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise KeyboardInterrupt


def _cut(line: str) -> str:
    """Return a line as a terminal shows it: one of its own lines, the rest is in the files."""
    line, width = printable(line), shutil.get_terminal_size((100, 24)).columns - 1
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _say(line: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{_cut(line)}", file=sys.stderr, flush=True)
    else:
        print(printable(line), file=sys.stderr, flush=True)


def _live(line: str) -> None:
    print(f"\r\x1b[K{_cut(line)}", end="", file=sys.stderr, flush=True)


def _progress(name: str, number: int, total: int) -> None:
    print(f"\r\x1b[K[{number + 1}/{total}] {name}", end="", flush=True, file=sys.stderr)
