"""What the programs of the catalogue send to each other, for people: numbers, mostly, and the message of hazard.h."""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from typing import TYPE_CHECKING

from spectacles.lab.record.model import Action, LaneKind

if TYPE_CHECKING:
    from spectacles.lab.record.model import Lane, Run, Step

VERBS = {Action.SEND: "envoie", Action.RECEIVE: "reçoit", Action.READ: "lit", Action.WRITE: "écrit"}
_MESSAGE = struct.Struct("=3i8s")  # of hazard.h, without its type
_LONGEST = 24  # bytes of what is shown as numbers
_NAMED = re.compile(r"^(.*?) (?:\d+ \((0x[0-9a-f]+)\)|\S+\+0x[0-9a-f]+)$")  # by a key, by an address


def clear(run: Run) -> Run:
    """Return a run with its messages in words, and things called as simply as their number allows."""
    numbers: dict[int, int] = {}  # of requests, drawn by lot: 1, 2...
    files = {lane.id for lane in run.lanes if lane.kind is LaneKind.FILE}
    steps = [_step(step, numbers) for step in run.steps]
    locked = {Action.TAKE: "prend le verrou", Action.RELEASE: "rend le verrou"}  # that a file has
    steps = [
        replace(step, words=locked[step.action])
        if step.object in files and step.action in locked and not step.errno
        else step
        for step in steps
    ]
    return replace(run, lanes=_lanes(run.lanes), steps=tuple(steps))


def _lanes(lanes: tuple[Lane, ...]) -> tuple[Lane, ...]:
    """Call the only queue "file", one of two "file 0x51"."""
    kinds = [lane.kind for lane in lanes]
    found = []
    for lane in lanes:
        named = _NAMED.match(lane.label) if lane.kind in (LaneKind.QUEUE, LaneKind.SEMAPHORE, LaneKind.LOCK) else None
        if named and kinds.count(lane.kind) == 1:
            found.append(replace(lane, label=named[1]))
        else:
            found.append(replace(lane, label=f"{named[1]} {named[2]}") if named and named[2] else lane)
    return tuple(found)


def _step(step: Step, numbers: dict[int, int]) -> Step:
    if step.errno and step.words.endswith(f" : {step.errno}"):  # which is said beside it, too
        return replace(step, words=step.words.removesuffix(f" : {step.errno}"))
    if step.action is Action.TAKE and step.errno == "EAGAIN":
        return replace(step, words="essaie de prendre le verrou")
    if step.action is Action.WRITE and not step.object:  # to the terminal: the whole line
        return replace(step, words=f"affiche « {step.data.decode('utf-8', 'replace').strip()} »")
    verb = VERBS.get(step.action)
    said = _said(step.data, numbers) if verb and step.size == len(step.data) else ""
    if not said:
        return step
    kind = re.search(r", type \d+$", step.words)
    typed = step.detail.get("type")
    suffix = kind[0] if kind else f", type {typed}" if isinstance(typed, int) else ""
    return replace(step, words=f"{verb} {said}{suffix}")


def _said(data: bytes, numbers: dict[int, int]) -> str:
    """Return what a message says, "" for what is text, or is none of the catalogue's."""
    if len(data) == _MESSAGE.size + 4 and data[12:19] in (b"demande", b"reponse"):
        pid, show, places, word = _MESSAGE.unpack_from(data)
        if word.startswith(b"d"):
            seats = f", {places} place{'s' if places > 1 else ''}" if places else ""
            return f"une demande, de {pid} : spectacle {show}{seats}"
        return f"la réponse : spectacle {show}, {places}"
    if len(data) == 20 and data.startswith(b"reponses"):  # the FIFO of the answer, the show
        return f"« {data[:16].rstrip(bytes(1)).decode('ascii', 'replace')} », {struct.unpack_from('=i', data, 16)[0]}"
    if len(data) == 16 and not data.startswith(b"reponses"):
        pid, show, places, number = struct.unpack("=4i", data)
        return f"PID {pid}, spectacle {show}, {places} places, n° {numbers.setdefault(number, len(numbers) + 1)}"
    if len(data) == 5:  # a letter and a number, without a hole between them
        return f"« {data[:1].decode('ascii', 'replace')} », {struct.unpack_from('=i', data, 1)[0]}"
    text = data.rstrip(b"\0")
    if not data or len(data) % 4 or len(data) > _LONGEST or (len(text) > 1 and all(32 <= byte < 127 for byte in text)):
        return ""
    return ", ".join(str(number) for (number,) in struct.iter_unpack("=i", data))
