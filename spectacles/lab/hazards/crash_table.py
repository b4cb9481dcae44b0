"""The crash map as it is printed: one table, what its signs stand for, and what comes of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from spectacles.common.errors import EXIT_DONE, EXIT_FAILED
from spectacles.lab.display import terminal
from spectacles.lab.display.terminal import harmless
from spectacles.lab.hazards import crash
from spectacles.lab.hazards.disk import BAD
from spectacles.lab.programs.questions import Question

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

HEADINGS = ("tué avant", "le client", "le fichier", "redémarrage", "coupure")
LEFT = "reste au noyau"  # a column where it is not the same in all rows


def of_question(screen: Console, question: str) -> int:
    """Print two maps: ours, and the original's way of saving. Returns whether ours keeps its promises, an exit code."""
    codes = []
    for in_c, title in ((False, "notre serveur"), (True, "la référence en C : O_TRUNC, puis write, comme l'original")):
        with crash.of_question(Question(question, in_c, crash.PORT if question == "q5_sockets" else ())) as subject:
            codes.append(_show(screen, subject, f"{question} : {title}"))
            screen.print()
    _explain(screen)
    return codes[0]


def of_dossier(screen: Console, source: str, profile: str) -> int:
    """Print the map of the program in a folder. Returns whether it keeps its promises, an exit code."""
    with crash.of_dossier(source, profile) as subject:
        code = _show(screen, subject, subject.profile.name or source)
    screen.print()
    _explain(screen)
    return code


def _show(screen: Console, subject: crash.Subject, title: str) -> int:
    began = time.monotonic()
    found = crash.crash_map(subject)
    took = f"{time.monotonic() - began:.0f}"
    screen.print(_table(title, found.rows))
    for mark, said in _refusals(found.rows).items():
        terminal.say(screen, f"{mark} {harmless(said)}")
    broken = sum(row.broken or row.broken_by_power_cut for row in found.rows)
    breaks = f"{broken} rompent une promesse" if broken > 1 else "1 rompt une promesse"
    verdict = f"{breaks} (en rouge)" if broken else "aucune ne rompt une promesse"
    files = f" Fichier : {harmless(', '.join(found.files))}." if found.files else " Aucun fichier n'est écrit."
    terminal.say(screen, f"{len(found.rows)} morts en {took} s : {verdict}.{files}")
    left = {row.left for row in found.rows}
    if len(left) == 1:
        terminal.say(screen, f"Reste au noyau, chaque fois : {left.pop() or 'rien'}.")
    terminal.say(screen, f"Une réservation de {found.asked} place(s) sur {found.seats}.")
    if not found.durable:
        terminal.say(screen, "Rien ne dit qu'il doive garder les réservations : leur perte n'est pas comptée.")
    if found.missing:
        terminal.say(screen, f"{found.missing} autre(s) appel(s) n'ont pas été essayés, ou ne sont pas revenus.")
    return EXIT_FAILED if broken else EXIT_DONE


def _explain(screen: Console) -> None:
    terminal.say(
        screen,
        "Tous les processus du serveur sont tués juste avant l'appel. « Coupure » : ce que le disque peut contenir "
        "si le courant manque là, calculé : ce qui n'est pas encore synchronisé est écrit ou non, chaque écriture pour "
        "soi, par secteurs de 512 octets ; un nom donné par rename() l'est une fois le répertoire synchronisé.",
    )


def _table(title: str, rows: Sequence[crash.Row]) -> Table:
    from rich.table import Table

    table = Table(title=title, box=None, pad_edge=False, header_style="bold")
    with_left = len({row.left for row in rows}) > 1
    for heading in (*HEADINGS, *([LEFT] if with_left else [])):
        table.add_column(heading, overflow="fold")
    marks = {said: mark for mark, said in _refusals(rows).items()}
    for row in rows:
        again = f"sert, {row.seats} places"
        if row.again:
            again = f"{'bloqué' if row.starts else 'refuse'} {marks[crash.plain(row.again)]}"
        wrong = row.file in (*BAD, crash.DAMAGED)
        table.add_row(
            harmless(row.point),
            row.told,
            _red(harmless(row.file), wrong),
            _red(again, row.broken),
            _red(" ou ".join(row.disk), row.broken_by_power_cut),
            *([row.left or "rien"] if with_left else []),
        )
    return table


def _refusals(rows: Sequence[crash.Row]) -> dict[str, str]:
    """Return what servers said that did not serve again, each once, by the sign that stands for it in the table."""
    said = dict.fromkeys(crash.plain(row.again) for row in rows if row.again)
    return {f"({chr(ord('a') + number)})": text for number, text in enumerate(said)}


def _red(text: str, wrong: bool) -> Text:
    from rich.text import Text

    return Text(text, style="bold red" if wrong else "")
