"""What is said to people about a look, in French: who, what he waits for, what lies there."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from spectacles.common.text import printable
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

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spectacles.lab.kernel.model import Message, Object, Process, Task, Wait

LOWEST_PID = 300  # of an ordinary process, once PIDs have gone round: the kernel keeps those below

UNTOLD = ("pipe", "tube sans nom", "eventfd", "epoll", "descripteur")  # names of what says nothing to who reads them

STATES = {
    "R": "calcule",
    "S": "attend",
    "D": "attend le disque",
    "T": "suspendu (Ctrl-Z)",
    "t": "arrêté par un débogueur",
    "Z": "mort, pas encore enterré",
    "X": "mort",
    "I": "au repos",
}


def seconds(value: float) -> str:
    """Return a duration in at most five characters: "12 ms", "3,4 s", "12 s", "5 min", "3 h"."""
    if value < 0.0995:
        return f"{value * 1000:.0f} ms"
    if value < 9.95:
        return f"{value:.1f} s".replace(".", ",")
    if value < 99.5:
        return f"{value:.0f} s"
    if value < 5970:
        return f"{value / 60:.0f} min"
    return f"{value / 3600:.0f} h" if value < 356400 else f"{value / 86400:.0f} j"


def key(number: int, id_: int) -> str:
    """Return what to call a System V object: its key in hexadecimal, or its id where it is private (key 0)."""
    return f"{number:#x}" if number else f"n° {id_}"


def name(thing: Object) -> str:
    """Return what to call an object."""
    match thing:
        case Queue():
            return f"file {key(thing.key, thing.msqid)}"
        case MessageQueue():
            return f"file POSIX {printable(thing.name)}"
        case Pipe():
            return f"tube {printable(os.path.basename(thing.path))}" if thing.path else f"tube sans nom {thing.id[5:]}"
        case Semaphore():
            return f"sémaphore {printable(thing.name)}"
        case SemaphoreSet():
            return f"sémaphores {key(thing.key, thing.semid)}"
        case Memory():
            if thing.path:
                return f"mémoire {printable(thing.path)}"
            return f"mémoire {key(thing.key or 0, int(thing.id.rpartition(':')[2]))}"
        case File():
            return printable(os.path.basename(thing.path))
        case Socket() if thing.family == "unix":
            return f"socket UNIX {printable(thing.local) or thing.id[7:]}"
        case Socket() if thing.state == "LISTEN":
            return f"port {thing.local.rpartition(':')[2]}"
        case Socket():
            host, _, port = thing.remote.rpartition(":")
            return f"connexion {port if host == thing.local.rpartition(':')[0] else thing.remote}"
        case Lock():
            kinds = {"mutex": "verrou", "semaphore": "sémaphore", "condition": "condition"}
            return f"{kinds.get(thing.kind, 'verrou interne')} {printable(thing.name)}"


def target(wait: Wait, objects: Mapping[str, Object]) -> str:
    """Return what to call the object that is waited for."""
    thing = objects.get(wait.target or "")
    if thing is not None:
        return name(thing)
    if wait.path:
        return printable(os.path.basename(wait.path) or wait.path)
    kind, _, rest = (wait.target or "").partition(":")
    if kind == "device":
        return "le clavier" if rest.startswith(("/dev/pts", "/dev/tty", "/dev/console")) else printable(rest)
    if wait.target:
        return f"{kind} {printable(rest)}"
    return f"descripteur {wait.number}" if wait.number is not None else "?"


def waiting(task: Task, objects: Mapping[str, Object]) -> str:
    """Return in a few words what a task waits for, or does."""
    if task.state == "R":
        return STATES["R"]
    if task.ended:
        return STATES[task.state]
    if task.refused and not task.waits:
        place = f" dans {task.place}" if task.place else ""
        return f"attend{place} (refusé : {task.refused})"
    if not task.waits and not task.call:
        return STATES.get(task.state, task.state)
    said = wait_text(task.waits[0], task, objects) if task.waits else f"dans {task.call}"
    return f"{STATES['T']} ; {said}" if task.stopped else said


def wait_text(wait: Wait, task: Task, objects: Mapping[str, Object]) -> str:
    """Return in a few words what a wait is for."""
    what = target(wait, objects)
    call = task.call or ""
    match wait.kind:
        case "receive":
            number = wait.number or 0
            if what.startswith("file POSIX"):
                return f"{call} : un message de la {what}"
            if number == 0:
                return f"{call} : un message de tout type, {what}"
            if number < 0:
                return f"{call} : le plus petit type ≤ {-number}, {what}"
            own = ", son PID" if number == task.pid else ""
            return f"{call} : type {number}{own}, {what}"
        case "send":
            return f"{call} : de la place dans la {what}"
        case "read":
            if what == "le clavier":
                return f"{call} : le clavier"
            return f"{call} : {what}"
        case "write":
            return f"{call} : de la place, {what}"
        case "open":
            return f"{call} : l'autre bout de {what}"
        case "accept":
            return f"{call} : un client, {what}"
        case "connect":
            return f"{call} : {what}"
        case "semaphore":
            return f"{call} : {member(what, wait)}"
        case "lock":
            thing = objects.get(wait.target or "")
            held = f", tenu par {thing.holder}" if isinstance(thing, Lock) and thing.holder else ""
            dead = " (mort)" if isinstance(thing, Lock) and thing.holder and not thing.holder_alive else ""
            return f"{call} : {what}{held}{dead}"
        case "condition" | "memory":
            return f"{call} : {what}"
        case "join":
            return f"{call} : la fin du thread {wait.number}"
        case "child":
            return f"{call} : la fin d'un fils" if wait.number == -1 else f"{call} : la fin du fils {wait.number}"
        case "sleep":
            return f"{call} : dort" + (f" {seconds(wait.timeout)}" if wait.timeout is not None else "")
        case "signal":
            return f"{call} : un signal"
        case "event":
            inner = [target(w, objects) for w in task.waits[1:]]
            known = [text for text in inner if not text.startswith(UNTOLD)]
            limit = f" ({seconds(wait.timeout)} au plus)" if wait.timeout is not None else ""
            if known:
                return f"{call} : {', '.join(known[:3])}{', …' if len(known) > 3 else ''}{limit}"
            return f"{call} : {len(inner)} descripteur{'s' if len(inner) > 1 else ''}{limit}"
        case "disk":
            return f"{call} : le disque, {what}"
    return f"{call} : {what}"


def member(what: str, wait: Wait) -> str:
    """Return what to call the semaphore that is waited for, of a System V set its number too."""
    if wait.kind != "semaphore" or wait.number is None:
        return what
    return f"sémaphore {wait.number} de {what.removeprefix('sémaphores ')}"


def message(found: Message) -> str:
    """Return a message of a queue in a few words."""
    fields = dict(found.fields)
    dead = " (mort)" if found.addressee and found.alive is False else ""
    match found.layout:
        case "LIST_REQUEST":
            return f"type 1 : consultation, client {fields['pid']}{dead}"
        case "RESERV_REQUEST":
            seats, show = fields["nb_places"], fields["spectacle"]
            return f"type 2 : réservation, {seats} place(s) du spectacle {show}, client {fields['pid']}{dead}"
        case "LIST_REPLY":
            return f"type {found.type} : réponse, la table, au client {found.type}{dead}"
        case "RESERV_REPLY":
            answer = "acceptée" if fields["ack"] else "refusée"
            return f"type {found.type} : réponse, {answer}, au client {found.type}{dead}"
    whom = f", pour le processus {found.addressee}{dead} ?" if found.addressee else ""
    if not found.addressee and found.alive is False and found.type >= LOWEST_PID:
        whom = ", personne n'a ce PID"
    return f"type {found.type} : {found.size} octet(s){whom} {preview(found.data)}"


def preview(data: bytes, most: int = 24) -> str:
    """Return the first bytes as text where they are text, else in hexadecimal."""
    if not data:
        return ""
    head = data[:most]
    text = head.rstrip(b"\0")
    if text and all(32 <= byte < 127 for byte in text):
        return f"« {text.decode()} »" + (" …" if len(data) > most else "")
    return head[:12].hex(" ") + (" …" if len(data) > 12 else "")


def integers(data: bytes, most: int = 10) -> str:
    """Return bytes as C ints if each is a small one, and not all are zero; else as preview() does."""
    numbers = [number for (number,) in struct.iter_unpack("<i", data[: len(data) // 4 * 4])]
    if not any(numbers) or any(abs(number) >= 1_000_000 for number in numbers):
        return preview(data)
    while numbers[-1] == 0:
        numbers.pop()
    return ", ".join(str(number) for number in numbers[:most]) + (", …" if len(numbers) > most else "")


def dump(data: bytes) -> list[str]:
    """Return bytes as lines of sixteen: offset, hexadecimal, text."""
    lines = []
    for offset in range(0, len(data), 16):
        row = data[offset : offset + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{offset:5} {row[:8].hex(' '):<23}  {row[8:].hex(' '):<23}  {text}")
    return lines


def own_name(process: Process, task: Task) -> str:
    """Return the name that a task has given itself, "" for one that has just its program's."""
    programs = {os.path.basename(word)[:15] for word in process.command[:3]}
    ours = task.name in programs or process.title.startswith(task.name)  # q2_msq, of q2_msq.server
    return "" if ours else printable(task.name)


def process(found: Process) -> str:
    """Return what to call a process: as it calls itself, else from its command line."""
    return next((own_name(found, task) for task in found.tasks if task.tid == found.pid), "") or printable(found.title)
