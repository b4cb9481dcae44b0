"""A look as lines for a projector: who waits for what, what lies where, what is wrong. Pure: no terminal here."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size

from spectacles.common.text import printable
from spectacles.lab.kernel import words
from spectacles.lab.kernel.model import (
    File,
    Lock,
    Memory,
    MessageQueue,
    Pipe,
    Queue,
    Semaphore,
    SemaphoreSet,
    Socket,
)
from spectacles.lab.watch.screen import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from spectacles.lab.kernel.model import Look, Object, Process, Show, Task
    from spectacles.lab.watch.screen import Line

MANY = 6  # threads of one process that do the same are shown as one line
IDLE = ("event", "sleep", "signal", "child", "join")  # waits that are seldom what one looks for
MOST_MESSAGES = 4  # of a queue, in the list of objects...
MANY_MESSAGES = 10_000  # ...and in text: all that were copied
WIDE = 10_000  # columns: of text that is cut off nowhere
WIDER = 12  # columns that the name of an object may have more than its column, as what it has in it is short then
FRESH = 1.2  # seconds for which a change stands out


@dataclass(frozen=True)
class Row:
    """A line about one thing. key: the same in the next look. said: what must differ for the line to be a change.

    target: id of the object that it can be opened for, None for none.
    """

    key: str
    line: Line
    said: str = ""
    target: str | None = None


@dataclass
class Changes:
    """Remembers what each row said, so that what has changed since stands out for a moment."""

    said: dict[str, str] = field(default_factory=dict)
    since: dict[str, float] = field(default_factory=dict)
    known: bool = False

    def note(self, rows: Iterable[Row], now: float) -> None:
        """Take note of the rows of a look. now: seconds, of a monotonic clock."""
        said = {row.key: row.said for row in rows}
        if self.known:
            for key, text in said.items():
                if self.said.get(key) != text:
                    self.since[key] = now
        self.said, self.known = said, True

    def fresh(self, key: str, now: float) -> bool:
        """Say whether a row has changed a moment ago."""
        return now - self.since.get(key, float("-inf")) < FRESH


def pad(text: str, width: int) -> str:
    """Return text as exactly `width` columns, … where it was cut."""
    if cell_len(text) > width:
        return set_cell_size(text, max(width - 1, 0)) + "…"
    return set_cell_size(text, width)


def _plural(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number < 2 else many or one + 's'}"


# Tasks


@dataclass(frozen=True)
class Columns:
    """Widths of the columns of both lists, in characters."""

    who: int
    waits: int
    since: int
    processor: int
    name: int

    @classmethod
    def fitting(cls, width: int) -> Columns:
        """Return those for a screen of `width` columns."""
        who, since, processor, name = (28, 8, 8, 24) if width >= 96 else (20, 7, 7, 20)
        return cls(who, width - who - since - processor - 3, since, processor, name)


def tasks(look: Look, columns: Columns) -> list[Row]:
    """Return a line for every task: who, what it waits for, since when, processor time."""
    heading = f"{pad('QUI', columns.who)} {pad('ATTEND', columns.waits)} "
    heading += f"{'DEPUIS'.rjust(columns.since)} {'CALCUL'.rjust(columns.processor)}"
    found = [Row("tasks", [(heading, "heading")])]
    bad = {tid for finding in look.findings if finding.level == "alarm" for tid in finding.tasks}
    for process in _families(look.processes):
        for group in _groups(process, look):
            first = group[0]
            said = words.waiting(first, look.objects)
            style = ""
            if first.tid in bad:
                style = "alarm"
            elif first.stopped or first.refused:
                style = "warning"
            elif first.ended or (first.waits and first.waits[0].kind in IDLE):
                style = "faint"
            oldest = max((task.since or 0.0 for task in group), default=0.0)
            ago = words.seconds(oldest) if first.state != "R" else ""
            if ago and not first.exact:
                ago = f"≥ {ago}"
            spent = words.seconds(sum(task.processor for task in group))
            found.append(
                Row(
                    f"task {first.tid}",
                    [
                        (pad(_name(process, group, columns.who), columns.who) + " ", ""),
                        (pad(said, columns.waits), style),
                        (f" {ago.rjust(columns.since)} {spent.rjust(columns.processor)}", "faint"),
                    ],
                    f"{len(group)} {said}",
                    first.waits[0].target if first.waits else None,
                )
            )
    return found


def _families(processes: Sequence[Process]) -> list[Process]:
    """Return the processes with every child right behind its parent, those asked for first."""
    by_parent: dict[int, list[Process]] = {}
    present = {process.pid for process in processes}
    for process in processes:
        by_parent.setdefault(process.parent if process.parent in present else 0, []).append(process)
    found: list[Process] = []

    def add(process: Process) -> None:
        found.append(process)
        for child in by_parent.get(process.pid, ()):
            add(child)

    for process in sorted(by_parent.get(0, ()), key=lambda process: (process.role != "tree", process.pid)):
        add(process)
    return found


def _groups(process: Process, look: Look) -> list[list[Task]]:
    if len(process.tasks) <= MANY:
        return [[task] for task in process.tasks]
    groups: dict[tuple[str, str], list[Task]] = {}
    for task in process.tasks:
        kind = re.sub(r"\d+", "#", task.name) if task.tid != process.pid else ""
        groups.setdefault((kind, re.sub(r"\d+", "#", words.waiting(task, look.objects))), []).append(task)
    return list(groups.values())


def _name(process: Process, group: list[Task], width: int = WIDE) -> str:
    first = group[0]
    own = words.own_name(process, first)
    if first.tid != process.pid:
        return f" └ {f'{len(group)} threads' if len(group) > 1 else first.tid} {own}".rstrip()
    # What a program calls itself says more than its command line, which has to give way where not both have room.
    both = f"{process.pid} {own + ' · ' if own else ''}{printable(process.title)}"
    return both if not own or cell_len(both) <= width else f"{process.pid} {own}"


# Objects


def seats(shows: Sequence[Show], other: Sequence[Show] | None = None) -> Line:
    """Return the seats of a table; those that differ from `other` stand out."""
    known = {show.slot: show.seats for show in other} if other is not None else None
    line: Line = []
    for show in shows:
        differs = known is not None and known.get(show.slot) != show.seats
        line += [(f"[{show.slot}] ", "faint"), (f"{show.seats}", "alarm" if differs else ""), ("  ", "")]
    return line


def objects(look: Look, columns: Columns, most: int = MOST_MESSAGES) -> list[Row]:
    """Return a line for every object that is of use to see, and for the `most` first messages of each queue."""
    bad = {id_ for finding in look.findings if finding.level == "alarm" for id_ in finding.objects}
    memory = next((t for t in look.objects.values() if isinstance(t, Memory) and t.table), None)
    found = [Row("objects", [(f"{pad('QUOI', columns.name)} CE QU'IL Y A", "heading")])]
    order = (Queue, MessageQueue, Pipe, Socket, Lock, Semaphore, SemaphoreSet, Memory, File)
    for thing in sorted(_told(look), key=lambda t: (order.index(type(t)), *_rank(t))):
        line = _content(thing, look, memory)
        style = "alarm" if thing.id in bad else ""
        said = "".join(text for text, _ in line)
        name = words.name(thing)
        width = min(max(columns.name, cell_len(name)), columns.name + WIDER)
        found.append(Row(thing.id, [(pad(name, width), style), (" ", ""), *line], said, thing.id))
        if isinstance(thing, Queue):
            found += _messages(thing, most)
    return found


def _rank(thing: Object) -> tuple[object, ...]:
    if isinstance(thing, Pipe):
        return (thing.path or "~", thing.id)
    if isinstance(thing, Socket):
        return (thing.state != "LISTEN", thing.id)
    return (words.name(thing),)


def _told(look: Look) -> list[Object]:
    """Return the objects that are of use to see."""
    waited = {wait.target for task in look.tasks.values() for wait in task.waits}
    return [thing for thing in look.objects.values() if not _dull(thing, look, waited)]


def _dull(thing: Object, look: Look, waited: set[str | None]) -> bool:
    if isinstance(thing, Socket):
        if thing.family == "unix":
            return thing.id not in waited
        peer = look.objects.get(thing.peer or "")
        # Of the two ends of a connection the server's line says both.
        return thing.state != "LISTEN" and isinstance(peer, Socket) and not _is_server(thing, look)
    if isinstance(thing, Lock):
        return thing.kind in ("condition", "unknown")
    if isinstance(thing, File):
        return thing.table is None and thing.problem is None and thing.id not in waited
    return False


def _is_server(thing: Socket, look: Look) -> bool:
    ports = {t.local.rpartition(":")[2] for t in look.objects.values() if isinstance(t, Socket) and t.state == "LISTEN"}
    return thing.local.rpartition(":")[2] in ports


def _content(thing: Object, look: Look, memory: Memory | None) -> Line:
    if thing_refused := getattr(thing, "refused", None):
        return [(f"refusé : {thing_refused}", "warning")]
    match thing:
        case Queue():
            limit = f" sur {thing.limit}" if thing.limit is not None else ""
            if not thing.count:
                return [("vide", "calm")]
            return [(f"{_plural(thing.count, 'message')}, {_plural(thing.size, 'octet')}{limit}", "title")]
        case MessageQueue():
            limit = f" sur {thing.most}" if thing.most is not None else ""
            return [(f"{_plural(thing.count or 0, 'message')}{limit}, {_plural(thing.size or 0, 'octet')}", "")]
        case Pipe():
            return _pipe(thing)
        case Socket():
            return _socket(thing, look)
        case Lock() if thing.kind == "semaphore":
            return [(f"valeur {thing.value}, {_plural(thing.waiters or 0, 'attend', 'attendent')}", "")]
        case Lock() if thing.holder:
            alive = f"tenu par {thing.holder}" if thing.holder_alive else f"tenu par {thing.holder}, qui est mort"
            return [(alive, "" if thing.holder_alive else "alarm")]
        case Lock():
            return [("attendu", "")]
        case Semaphore():
            if thing.value is None:
                return [("valeur inconnue", "warning")]
            free = f"libre ({thing.value})" if thing.value else "pris (0)"
            waiting = f", {_plural(thing.waiters or 0, 'attend', 'attendent')}" if thing.waiters else ""
            return [(free + waiting, "calm" if thing.value else "title")]
        case SemaphoreSet():
            parts = []
            for number, member in enumerate(thing.members):
                text = f"[{number}] {member.value}"
                if member.waiters + member.zero_waiters:
                    text += f" ({_plural(member.waiters + member.zero_waiters, 'attend', 'attendent')}"
                    text += f", pris par {member.last})" if member.last and not member.value else ")"
                parts.append(text)
            return [("  ".join(parts), "")]
        case Memory():
            attached = f"{_plural(thing.size, 'octet')}, {_plural(thing.attached, 'attaché')}  "
            if thing.claims is not None:
                return [(f"dit que la file {thing.claims:#x} a un serveur  {attached}", "faint")]
            if thing.table is None:
                return [(words.integers(thing.data) + "  ", ""), (attached, "faint")]
            return [*seats(thing.table), (attached, "faint")]
        case File() if thing.problem:
            return [(thing.problem, "warning")]
        case File() if thing.table is not None:
            same = memory is not None and memory.table == thing.table
            if same:
                return [("mêmes places qu'en mémoire", "calm"), *_locks(thing)]
            return [*seats(thing.table, memory.table if memory is not None else None), *_locks(thing)]
        case File():
            return [(_plural(thing.size, "octet"), ""), *_locks(thing)]


def _locks(thing: File) -> Line:
    held = [f"{lock.pid}" for lock in thing.locks if not lock.waiting]
    return [(f"  verrouillé par {', '.join(held)}", "faint")] if held else []


def _pipe(thing: Pipe) -> Line:
    ends = []
    if thing.readers or thing.writers:
        both = thing.readers == thing.writers
        ends.append(("ouvert par " if both else "lu par ") + (_pids(thing.readers) or "personne"))
        if not both:
            ends.append("écrit par " + (_pids(thing.writers) or "personne"))
    else:
        ends.append("ouvert par personne")
    if thing.size is None:
        return [("?", "warning"), (f"  {', '.join(ends)}", "faint")]
    if not thing.size:
        return [("vide", "calm"), (f"  {', '.join(ends)}", "faint")]
    what = f" : {', '.join(str(number) for number in thing.numbers[:6])}" if thing.numbers else ""
    what = what or f" : {words.preview(thing.data)}"
    return [(f"{_plural(thing.size, 'octet')}{what}", "title"), (f"  {', '.join(ends)}", "faint")]


def _pids(pids: Sequence[int]) -> str:
    return " ".join(str(pid) for pid in pids[:4]) + (" …" if len(pids) > 4 else "")


def _socket(thing: Socket, look: Look) -> Line:
    if thing.state == "LISTEN":
        if thing.family == "unix":
            return [("à l'écoute", "faint")]
        most = f" sur {thing.most}" if thing.most is not None else ""
        waiting = thing.waiting or 0
        text = f"{_plural(waiting, 'connexion')} à accepter{most}"
        return [(text, "title" if waiting else "calm")]
    peer = look.objects.get(thing.peer or "")
    line: Line = []
    if not thing.users:
        line.append(("pas encore acceptée  ", "warning"))
    elif thing.state != "ESTABLISHED":
        line.append((f"{STATES.get(thing.state, thing.state)}  ", "warning"))
    what = _said(thing)
    line.append((f"reçu, {what}" if thing.unread else "rien de reçu", "title" if thing.unread else "calm"))
    if isinstance(peer, Socket):
        line.append(
            (f" ; envoyé, {_said(peer)}" if peer.unread else ", rien d'envoyé", "title" if peer.unread else "calm")
        )
        if peer.users:
            line.append((f"  client {_pids(peer.users)}", "faint"))
    return line


STATES = {
    "CLOSE_WAIT": "fermée par le client",
    "FIN_WAIT1": "fermée par le serveur",
    "FIN_WAIT2": "fermée par le serveur",
    "TIME_WAIT": "finie",
    "SYN_SENT": "demandée",
    "SYN_RECV": "demandée",
    "LAST_ACK": "finie",
    "CLOSING": "finie",
}


def _said(thing: Socket) -> str:
    fields = dict(thing.fields)
    known = {
        "TCP_LIST": "une consultation",
        "TCP_RESERV": f"une réservation ({fields.get('nb_places')} place(s) du spectacle {fields.get('spectacle')})",
        "TCP_LIST_REPLY": "la table",
        "TCP_RESERV_REPLY": "« acceptée »" if fields.get("ack") else "« refusée »",
    }.get(thing.layout or "")
    return f"{_plural(thing.unread or 0, 'octet')} non lus" + (f" : {known}" if known else "")


def _messages(thing: Queue, most: int) -> list[Row]:
    found = []
    for number, message in enumerate(thing.messages[:most]):
        dead = message.addressee is not None and message.alive is False
        style = "alarm" if dead and message.sure and message.type == message.addressee else "warning" if dead else ""
        text = f"    ✉ {words.message(message)}"
        found.append(Row(f"{thing.id} {number}", [(text, style)], text, thing.id))
    if thing.count > most:
        found.append(Row(f"{thing.id} …", [(f"    … et {thing.count - most} de plus", "faint")], "", thing.id))
    return found


# What is wrong


def findings(look: Look, width: int, most: int | None = None) -> list[Row]:
    """Return what is wrong, folded at `width`; at most `most` lines, None for all."""
    rows: list[Row] = []
    for number, finding in enumerate(look.findings):
        if finding.kind == "differs" and most is not None:
            continue  # stands out where the seats are shown
        mark = " ALARME " if finding.level == "alarm" else " ATTENTION "
        style = "alarm" if finding.level == "alarm" else "warning"
        for place, text in enumerate(_fold(finding.text, width - len(mark) - 1)):
            head = mark if place == 0 else " " * len(mark)
            rows.append(Row(f"finding {number} {place}", [(head, style), (" " + text, style)], finding.text))
    if most is not None and len(rows) > most:
        rows = [*rows[: most - 1], Row("finding …", [(f" … et {len(rows) - most + 1} lignes de plus", "warning")])]
    return rows


def _fold(text: str, width: int) -> list[str]:
    # French punctuation belongs to the word before it
    text = re.sub(r" ([:;!?»])", "\u00a0\\1", text).replace("« ", "«\u00a0")
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and cell_len(lines[-1]) + 1 + cell_len(word) > width:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + word
    return lines


# One object, whole


def whole(look: Look, id_: str, width: int) -> list[Line]:
    """Return everything that is known of an object: every message, every byte that was copied, every show."""
    thing = look.objects.get(id_)
    if thing is None:
        return [[("Cet objet n'existe plus.", "warning")]]
    lines: list[Line] = [[(words.name(thing), "title")], []]
    lines += [[(pad(label, 22), "faint"), (text, "")] for label, text in _facts(thing)]
    waiting = [task for task in look.tasks.values() if any(wait.target == id_ for wait in task.waits)]
    names = {process.pid: words.process(process) for process in look.processes}
    for task in waiting:
        since = f" depuis {words.seconds(task.since)}" if task.since is not None else ""
        text = f"{task.tid} {names.get(task.pid, '')} : {words.waiting(task, look.objects)}{since}"
        lines.append([(pad("l'attend", 22), "faint"), (text, "")])
    lines.append([])
    if isinstance(thing, Queue):
        for number, message in enumerate(thing.messages, 1):
            lines.append([(f"n° {number}  {words.message(message)}", "title")])
            lines += _table(message.table) or [[(row, "")] for row in words.dump(message.data)]
            lines.append([])
        if thing.count > len(thing.messages):
            lines.append([(f"… et {thing.count - len(thing.messages)} messages de plus, non copiés", "faint")])
    table = getattr(thing, "table", None)
    if table:
        lines += _table(table)
    elif isinstance(thing, Pipe | Socket | Memory):
        lines += [[(row, "")] for row in words.dump(thing.data)]
    for finding in look.findings:
        if id_ in finding.objects:
            lines += [
                [],
                *([(text, "alarm" if finding.level == "alarm" else "warning")] for text in _fold(finding.text, width)),
            ]
    return lines


def _table(shows: Sequence[Show]) -> list[Line]:
    return [
        [(f"[{show.slot}] ", "faint"), (pad(printable(show.name), 50), ""), (f"{show.seats:>10}", "title")]
        for show in shows
    ]


def _facts(thing: Object) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    if isinstance(thing, Queue | SemaphoreSet):
        facts += [("droits", f"{thing.mode:o}, utilisateur {thing.user}")]
    match thing:
        case Queue():
            limit = f" sur {thing.limit}" if thing.limit is not None else ""
            facts += [
                ("msqid", str(thing.msqid)),
                ("contient", f"{_plural(thing.count, 'message')}, {_plural(thing.size, 'octet')}{limit}"),
                ("dernier msgsnd", f"PID {thing.last_sender}" if thing.last_sender else "aucun"),
                ("dernier msgrcv", f"PID {thing.last_receiver}" if thing.last_receiver else "aucun"),
            ]
        case Pipe():
            facts += [
                ("chemin", printable(thing.path or "aucun")),
                ("contient", _plural(thing.size, "octet") if thing.size is not None else "?"),
                ("lu par", _all(thing.readers)),
                ("écrit par", _all(thing.writers)),
            ]
            if thing.numbers:
                facts.append(("en entiers du C", ", ".join(str(number) for number in thing.numbers[:16])))
        case Socket():
            facts += [
                ("famille, état", f"{thing.family}, {thing.state}"),
                ("ici", printable(thing.local)),
                ("là-bas", printable(thing.remote) or "–"),
                ("non lus", _plural(thing.unread, "octet") if thing.unread is not None else "–"),
                ("non acquittés", _plural(thing.unacknowledged, "octet") if thing.unacknowledged is not None else "–"),
                ("ouverte par", _all(thing.users)),
            ]
        case Memory():
            facts += [
                ("taille", _plural(thing.size, "octet")),
                ("attachée par", f"{thing.attached} : {_all(thing.users)}"),
                ("créateur, dernier", f"PID {thing.creator}, PID {thing.last}" if thing.creator else "–"),
            ]
        case Semaphore():
            facts += [
                ("valeur", str(thing.value)),
                ("en attente", str(thing.waiters)),
                ("ouvert par", _all(thing.users)),
            ]
        case SemaphoreSet():
            facts += [("semid", str(thing.semid))]
            for number, member in enumerate(thing.members):
                facts.append(
                    (
                        f"sémaphore {number}",
                        f"valeur {member.value}, {member.waiters} l'attendent, {member.zero_waiters} attendent zéro, "
                        f"changé en dernier par {member.last}",
                    )
                )
        case File():
            facts += [("chemin", printable(thing.path)), ("taille", _plural(thing.size, "octet"))]
            for lock in thing.locks:
                kind = "exclusif" if lock.write else "partagé"
                facts.append(("verrou", f"{lock.kind} {kind}, PID {lock.pid}"))
            facts.append(("ouvert par", _all(thing.users)))
        case Lock():
            facts += [("sorte", thing.kind), ("tenu par", str(thing.holder or "?")), ("processus", _all(thing.users))]
        case MessageQueue():
            facts += [
                (
                    "contient",
                    f"{_plural(thing.count or 0, 'message')} sur {thing.most}, {_plural(thing.size or 0, 'octet')}",
                ),
                ("message", f"{thing.most_size} octets au plus"),
                ("ouverte par", _all(thing.users)),
            ]
    if thing_refused := getattr(thing, "refused", None):
        facts.append(("refusé", thing_refused))
    return facts


def _all(pids: Sequence[int]) -> str:
    return ", ".join(str(pid) for pid in pids) or "personne que l'on voie"


def text(look: Look, heading: str) -> str:
    """Return a look as text for a pipe or a file: without colours, and nothing is cut off."""
    who = [_name(process, group) for process in look.processes for group in _groups(process, look)]
    waits = [words.waiting(task, look.objects) for task in look.tasks.values()]
    names = [words.name(thing) for thing in _told(look)]
    who_width, waits_width, name_width = (max(map(cell_len, [*texts, " " * 6])) for texts in (who, waits, names))
    columns = Columns(who_width, waits_width, 8, 8, name_width)
    parts: list[Line] = [[(heading, "")], []]
    levels = {"alarm": "ALARME", "warning": "ATTENTION"}
    for finding in look.findings:
        parts += [[(f"{levels[finding.level]}  {finding.text}", "")], []]
    parts += [*(row.line for row in tasks(look, columns))]
    parts += [[], *(row.line for row in objects(look, columns, MANY_MESSAGES))]
    if look.refused:
        parts += [[], *([(f"refusé : {line}", "")] for line in look.refused)]
    return "\n".join(clean("".join(text for text, _ in line)).rstrip() for line in parts)


def short(path: str) -> str:
    """Return a path as people write it: ~ for the home directory."""
    home = os.path.expanduser("~")
    return path.replace(home, "~", 1) if home != "/" and path.startswith(home + "/") else path
