"""What came of an exploration: for people, in French, and for machines."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Any, TextIO

from spectacles.common.text import printable
from spectacles.lab.display.french import number
from spectacles.lab.kernel.machine import machine
from spectacles.lab.record import sources, store
from spectacles.lab.schedules.explorer import Verdict
from spectacles.lab.schedules.words import object_words

if TYPE_CHECKING:
    from pathlib import Path

    from spectacles.lab.schedules.explorer import Found, Report
    from spectacles.lab.schedules.replay import Replay
    from spectacles.lab.schedules.words import Line, Segment

WIDTH = 100
TEXT = 46  # columns of what a task does
FOLDED = 6  # lines of one segment that are shown; of more, the first and the last three


class Progress:
    """One line that is written over, where there is a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown = False

    def __call__(self, report: Report) -> None:
        """Show what is known until now."""
        if not self._stream.isatty():
            return
        said = f"{_many(report.played, 'entrelacement')}, {number(report.rate)} par seconde"
        self._stream.write(f"\r\x1b[K{said}")
        self._stream.flush()
        self._shown = True

    def end(self) -> None:
        """Take it away."""
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def _many(count: int, noun: str) -> str:
    return f"{number(count)} {noun}{'s' if count > 1 else ''}"


def text(report: Report, where: Path | None, again: str, width: int | None = None) -> str:
    """Return the report. width: of a screen, at whose edge lines of source are cut; None: nothing is."""
    parts = []
    if report.found is not None:
        parts.append(_found(report.found, width))
    parts.append(_covered(report))
    if report.found is not None and where is not None:
        parts.append(f"Script : {where}\nPour le rejouer : {again}")
    return "\n\n".join(parts)


def _found(found: Found, width: int | None) -> str:
    sure = (
        "revu dans un monde neuf, par le script"
        if found.sure
        else f"PAS revu par le script ({_missed(found)}) : à prendre avec prudence"
    )
    branch = found.branch
    head = f"TROUVÉ, avec {_many(branch.preemptions, 'préemption')}"
    head += f" et {_many(branch.kills, 'mort')}" if branch.kills else ""
    lines = [f"{head} ({sure}) :", textwrap.indent(_wrapped(object_names(found.failure.text)), "  "), ""]
    column = max((len(segment.task) for segment in found.segments), default=0) + 2
    schedule = [line for segment in found.segments for line in _segment(segment, column)]
    return "\n".join(
        [*lines, *(line if width is None or len(line) <= width else f"{line[: width - 1]}…" for line in schedule)]
    )


def object_names(said: str) -> str:
    """Return a sentence with the names of objects in French."""
    return re.sub(
        r"\((semaphore|lock|queue|private \w+|condition) ([^,)]*)",
        lambda found: f"({object_words(f'{found[1]} {found[2]}')}",
        said,
    )


def _missed(found: Found) -> str:
    if found.again is None:
        return "pas essayé"
    return "; ".join(str(missed) for missed in found.again.missed) or "il finit bien"


def _segment(segment: Segment, column: int) -> list[str]:
    lines = []
    if segment.preempted:
        pending = f", qui allait faire : {segment.before}" if segment.before else ""
        lines.append(f"  {'':<{column}}── préemption de {segment.preempted}{pending}")
    if segment.killed:
        return [*lines, f"  {segment.task:<{column}}✗ tué ici"]
    shown = list(segment.lines)
    between: list[Line | None] = list(shown)
    if len(shown) > FOLDED:
        between = [*shown[:2], None, *shown[-3:]]
    name = segment.task
    for line in between:
        if line is None:
            others = len(shown) - 5
            lines.append(f"  {'':<{column}}⋮ ({others} autre{'s' if others > 1 else ''} pas)")
            continue
        said = f"  {name:<{column}}{printable(line.text):<{TEXT}}"
        if line.place:
            said += f" {line.place:<14} {printable(line.source)}"
        lines.append(said.rstrip())
        name = ""
    return lines


def _covered(report: Report) -> str:
    cost = f"{_many(report.played, 'entrelacement')} en {number(report.elapsed, 2)} s"
    rate = f"{number(report.rate)} par seconde, {report.workers} processus"
    left = [
        f"{number(report.independent)} où la préemption précède un pas dont personne ne dépend"
        if report.independent
        else "",
        f"{number(report.same)} qui mènent où un autre a mené" if report.same else "",
    ]
    said = [f"{cost} ({rate})."]
    if kept := [part for part in left if part]:
        said.append(f"Écartés sans les jouer : {', '.join(kept)}.")
    if report.verdict is Verdict.NONE:
        said.insert(
            0, f"RIEN TROUVÉ : tous les entrelacements d'au plus {_many(report.bound, 'préemption')} ont été essayés."
        )
    elif report.verdict is Verdict.OPEN:
        until = (
            f"tous ceux d'au plus {_many(report.done, 'préemption')} ont été essayés"
            if report.done >= 0
            else "même sans préemption, tout n'a pas été essayé"
        )
        said.insert(0, f"RIEN TROUVÉ, mais tout n'a pas été essayé : {until}.")
        said += [f"N'a pas pu être jugé : {trouble}" for trouble in report.troubles]
    if not report.scenario.accesses:
        said.append("Points de choix : appels et verrous seulement, pas les accès à la mémoire partagée.")
    if report.threads:
        said.append(
            "Fils d'exécution : vus sont leurs appels, leurs verrous, et ce qui change les variables du programme ; "
            "pas les lectures, ni le tas."
        )
    if report.testimony is not None:
        races, first = report.testimony.races, report.testimony.first
        where = f", le premier à {first}" if first else ""
        found = f"{races} accès sans verrou commun{where}" if races else "rien"
        said.append(f"Helgrind, deuxième témoin, sur une exécution : {found}.")
    said += [f"Non vu ici : {note}" for note in report.notes]
    return "\n".join(_wrapped(line) for line in said)


def _wrapped(said: str) -> str:
    return "\n".join(textwrap.fill(printable(line), WIDTH) for line in said.splitlines())


def replayed(done: Replay) -> str:
    """Say what a script came to."""
    lines = [f"Le script ne va pas jusqu'au bout : {missed}" for missed in done.missed]
    if done.failure is not None:
        lines.append(f"ÉCHEC REVU : {object_names(done.failure.text)}")
    else:
        lines.append("Joué : rien de mal." if not done.missed else "Rien de mal dans ce qui a été joué.")
    return "\n".join(_wrapped(line) for line in lines)


def record(report: Report) -> store.Record:
    """Return what was found as a record, from which drawings are made."""
    found = report.found
    assert found is not None
    commands = {actor.name: actor.command for actor in report.scenario.actors}
    about = store.head(commands, machine(report.scenario.folder or "."), verdict=found.failure.text)
    folders = [report.scenario.folder] if report.scenario.folder else []
    return store.Record(
        about, list(found.run.events), places=sources.places(found.run.events, folders), ready=found.run.first
    )


def plain(report: Report, where: Path | None) -> dict[str, Any]:
    """Return the report as JSON types: version 1, see docs/explore.md."""
    found = report.found
    return {
        "version": 1,
        "scenario": report.scenario.title,
        "verdict": str(report.verdict),
        "preemptions": report.bound,
        "complete_up_to": report.done,
        "schedules": report.played,
        "left_out": {"independent": report.independent, "same": report.same},
        "beyond": report.beyond,
        "steps": report.steps,
        "seconds": round(report.elapsed, 3),
        "workers": report.workers,
        "troubles": report.troubles,
        "notes": report.notes,
        "helgrind": None if report.testimony is None else report.testimony.races,
        "found": None
        if found is None
        else {
            "why": str(found.failure.why),
            "text": found.failure.text,
            "preemptions": found.branch.preemptions,
            "kills": found.branch.kills,
            "choices": list(found.run.choices),
            "sure": found.sure,
            "script": str(where) if where is not None else "",
            "segments": [
                {
                    "task": segment.task,
                    "preempted": segment.preempted,
                    "killed": segment.killed,
                    "lines": [
                        {"text": line.text, "place": line.place, "source": line.source, "seq": line.seq}
                        for line in segment.lines
                    ],
                }
                for segment in found.segments
            ],
        },
    }
