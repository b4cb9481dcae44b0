"""The live view: one look after another on the screen, and what the keys do."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from spectacles.lab.watch import rows
from spectacles.lab.watch.rows import Changes, Row, pad
from spectacles.lab.watch.screen import Screen, cut

if TYPE_CHECKING:
    from spectacles.lab.kernel.looker import Looker
    from spectacles.lab.kernel.model import Look
    from spectacles.lab.watch.command import Command
    from spectacles.lab.watch.screen import Line

MOST_FINDINGS = 6  # lines
PANE = 7  # lines of the program's output, its heading included
HELP = """\
q            quitter (le programme lancé par watch finit avec)
espace       figer, reprendre
s            un seul regard, puis figé
↑ ↓          choisir un objet ; Entrée : tout ce qu'il contient ; Échap : retour
page ↑ ↓     faire défiler
i            écrire une ligne au programme lancé par watch

En haut, ce qui ne va pas : rouge, c'est certain ; jaune, c'est à regarder.
QUI : chaque processus et thread. ATTEND : l'appel système où il est, l'objet.
DEPUIS : le temps qu'il y est. CALCUL : son temps de processeur.
QUOI : chaque objet du noyau. Ce qui vient de changer ressort un instant.

Regarder ne touche à rien : aucun message n'est pris, aucun tube n'est ouvert."""


class Live:
    """The view of one Looker. heading: what is looked at. interval: seconds between two looks."""

    def __init__(self, looker: Looker, heading: str, interval: float, command: Command | None) -> None:
        self._looker = looker
        self._heading = heading
        self._interval = interval
        self._command = command
        self._changes = Changes()
        self._picture: Look | None = None
        self._frozen = False
        self._help = False
        self._typed: str | None = None
        self._chosen: str | None = None  # key of a row
        self._open: str | None = None  # id of an object
        self._scroll = 0
        self._rows: list[Row] = []
        self._dirty = True

    def run(self, screen: Screen) -> int | None:
        """Show looks until `q`, or until the command has ended: return its exit code then, else None. Blocks."""
        next_look = time.monotonic()
        running = self._command is not None
        while True:
            now = time.monotonic()
            if not self._frozen and now >= next_look:
                self._take()
                next_look = max(next_look + self._interval, now + self._interval / 2)
            if self._dirty:
                self._draw(screen)
                self._dirty = False
            wake = now + 3600 if self._frozen else next_look
            key, ready, changed = screen.wait(wake, [self._command.fd] if running and self._command else [])
            if ready and self._command is not None:
                running = self._command.read()
                self._dirty = True
            if changed:
                self._dirty = True
            if key is not None:
                self._dirty = True
                if not self._pressed(key, screen):
                    return None
            if self._command is not None and (code := self._command.code()) is not None and not ready:
                return code

    def _take(self) -> None:
        self._picture = self._looker.look()
        self._dirty = True

    # Keys

    def _pressed(self, key: str, screen: Screen) -> bool:
        """Do what a key asks for; return False for the end."""
        if self._typed is not None:
            self._edit(key)
            return True
        if self._help:
            self._help = False
            return key != "q"
        if key == "q":
            return False
        if key == "?":
            self._help = True
        elif key == " ":
            self._frozen = not self._frozen
        elif key == "s":
            self._frozen = True
            self._take()
        elif key == "i" and self._command is not None:
            self._typed = ""
        elif key == "escape":
            if self._open is None:
                self._chosen = None
            self._open, self._scroll = None, 0
        elif self._open is not None:
            step = {"up": -1, "down": 1, "page up": -screen.height // 2, "page down": screen.height // 2}.get(key, 0)
            self._scroll = 0 if key == "home" else max(self._scroll + step, 0)
            if key == "enter":
                self._open, self._scroll = None, 0
        else:
            self._choose(key, screen)
        return True

    def _choose(self, key: str, screen: Screen) -> None:
        keys = [row.key for row in self._rows if row.target is not None]
        if key == "enter":
            chosen = next((row for row in self._rows if row.key == self._chosen), None)
            if chosen is not None:
                self._open, self._scroll = chosen.target, 0
            return
        step = {"up": -1, "down": 1, "page up": -8, "page down": 8}.get(key)
        if step is None or not keys:
            return
        if self._chosen not in keys:
            self._chosen = keys[0 if step > 0 else -1]
        else:
            self._chosen = keys[min(max(keys.index(self._chosen) + step, 0), len(keys) - 1)]

    def _edit(self, key: str) -> None:
        assert self._typed is not None
        if key == "enter" and self._command is not None:
            self._command.type(self._typed)
            self._typed = None
        elif key == "escape":
            self._typed = None
        elif key == "backspace":
            self._typed = self._typed[:-1]
        elif len(key) == 1:
            self._typed += key

    # What is seen

    def _draw(self, screen: Screen) -> None:
        picture, width = self._picture, screen.width
        if picture is None:
            return
        top = self._top(picture, width)
        bottom = self._bottom(width)
        room = screen.height - len(top) - len(bottom)
        if self._help:
            body: list[Line] = [[(line, "")] for line in HELP.split("\n")]
        elif self._open is not None:
            lines = rows.whole(picture, self._open, width)
            self._scroll = min(self._scroll, max(len(lines) - room, 0))
            body = lines[self._scroll : self._scroll + room]
        else:
            body = self._lists(picture, width, room)
        body = [*body[:room], *([] for _ in range(room - len(body)))]
        screen.show([*top, *body, *bottom])

    def _top(self, picture: Look, width: int) -> list[Line]:
        moment = time.strftime("%H:%M:%S", time.localtime(picture.taken))
        right = f"figé à {moment}" if self._frozen else moment
        left = f" {self._heading}"
        line: Line = [(pad(left, width - len(right) - 1) + right + " ", "chosen")]
        return [line, *(row.line for row in rows.findings(picture, width, MOST_FINDINGS))]

    def _bottom(self, width: int) -> list[Line]:
        lines: list[Line] = []
        if self._command is not None:
            # The pane keeps its height, so that nothing above moves when the program prints.
            output = [line for line in self._command.lines if line][-(PANE - 1) :]
            lines.append([(("─ ce que dit le programme " + "─" * width)[:width], "faint")])
            lines += [[(line, "")] for line in output]
            lines += [[] for _ in range(PANE - 1 - len(output))]
        if self._typed is not None:
            return [*lines, [("au programme : ", "title"), (self._typed + "▏", ""), ("  (Entrée, Échap)", "faint")]]
        keys = "q quitter   espace figer   s un regard   ↑↓ choisir   Entrée ouvrir   ? aide"
        if self._command is not None:
            keys += "   i écrire"
        return [*lines, cut([(" " + keys, "faint")], width)]

    def _lists(self, picture: Look, width: int, room: int) -> list[Line]:
        now = time.monotonic()
        columns = rows.Columns.fitting(width)
        tasks, things = rows.tasks(picture, columns), rows.objects(picture, columns)
        if not picture.processes:
            where = self._looker.directory
            missing = where is not None and not os.path.isdir(where.path)
            why = "aucun répertoire de ce nom encore" if missing else "personne encore"
            tasks.append(Row("nobody", [(f"  {why} : j'attends", "warning" if missing else "faint")]))
        if self._picture is picture:
            self._changes.note([*tasks, *things], now)
        self._rows = [*tasks, *things]
        room -= 1  # the empty line between them
        most = max(room - len(things), room // 2) if len(tasks) + len(things) > room else len(tasks)
        shown = [*self._window(tasks, most), Row("", []), *self._window(things, room - min(most, len(tasks)))]
        return [self._styled(row, now) for row in shown]

    def _window(self, part: list[Row], room: int) -> list[Row]:
        """Return as many rows as there is room for, the heading and the chosen one among them."""
        if len(part) <= room or room < 3:
            return part[: max(room, 0)]
        chosen = next((place for place, row in enumerate(part) if row.key == self._chosen), 0)
        start = min(max(chosen - room // 2, 1), len(part) - room + 2)
        end = start + room - 2
        hidden = (start - 1) + len(part) - end
        return [part[0], *part[start:end], Row("more", [(f"  … et {hidden} de plus (↑ ↓)", "faint")])]

    def _styled(self, row: Row, now: float) -> Line:
        if row.key == self._chosen:
            return [("".join(text for text, _ in row.line), "chosen")]
        if row.said and self._changes.fresh(row.key, now):
            return [(text, "new" if style in ("", "faint", "calm", "title") else style) for text, style in row.line]
        return row.line
