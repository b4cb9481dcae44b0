"""What is said about a step and a lane, in French. What a stranger's program chose is made harmless here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from spectacles.common.text import printable
from spectacles.lab.display.french import number
from spectacles.lab.record.drawings.timeline import LAST, Part
from spectacles.lab.record.model import TASKS, Action

if TYPE_CHECKING:
    from spectacles.lab.record.drawings.timeline import Row, Timeline
    from spectacles.lab.record.model import Hold, Lane, Step

# Characters that are shown of words and of a name: a program may give itself one of ten thousand.
LONGEST, LONGEST_NAME = 200, 80
# What printable() leaves, as it is text to somebody, and what turns or hides its neighbours in a line with other text.
_INVISIBLE = re.compile(
    "[\u00ad\u061c\u115f\u1160\u180e\u200b-\u200f\u2060-\u2064\u206a-\u206f\u3164\ufe00-\ufe0f\ufeff]"
)
_STACKED = re.compile(
    "([\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]{2})[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+"
)


def harmless(text: str, most: int = LONGEST) -> str:
    """Return `text` on one line, at most about `most` characters, and said to be cut where it is."""
    size = len(text)
    shown = _INVISIBLE.sub(lambda found: ascii(found[0])[1:-1], printable(text[:most]))
    shown = _STACKED.sub(r"\1…", shown)
    return shown if size <= most else f"{shown}… ({number(size)} caractères)"


def label(lane: Lane | None, id_: str = "") -> str:
    """Return what to call a lane. id_: what is known of one that is not there."""
    return harmless((lane.label or lane.id) if lane is not None else id_, LONGEST_NAME) or "?"


def _bytes(size: int | None) -> str:
    return "" if size is None else f" {number(size)} octet{'s' if size > 1 else ''}"


def act(step: Step, timeline: Timeline) -> str:
    """Return what a step did, without who did it."""
    if step.words:
        return harmless(step.words)
    what = label(timeline.lanes.get(step.object), step.object) if step.object else ""
    size = _bytes(step.size if step.size is not None else None)
    verbs = {
        Action.SEND: f"envoie{size}",
        Action.RECEIVE: f"reçoit{size}",
        Action.TAKE: f"prend {what}",
        Action.RELEASE: f"rend {what}",
        Action.READ: f"lit{size}",
        Action.WRITE: f"écrit{size}",
        Action.LOOK: f"regarde {what}",
        Action.CHANGE: f"change {what}",
        Action.OPEN: f"ouvre {what}",
        Action.CLOSE: f"ferme {what}",
        Action.MAKE: f"crée {what}",
        Action.REMOVE: f"supprime {what}",
        Action.SYNC: f"attend le disque, {what}",
        Action.WAKE: f"réveille {what}",
        Action.BIRTH: f"fait naître {what}",
        Action.DEATH: "meurt",
        Action.SIGNAL: f"envoie un signal à {what}",
    }
    return verbs.get(step.action, f"{harmless(step.call, 40)} {what}").strip().rstrip(",")


def _for(step: Step) -> str:
    """Return what a wait without a lane is for, "" where its call says it."""
    known = {"read": "(clavier)", "wait": "(un fils)", "pause": "(un signal)"}
    return "" if step.object else known.get(step.call, "")


def told(row: Row, timeline: Timeline, *, seen: bool = False) -> str:
    """Return what happened in a row, without who did it, its outcome or its place in the source.

    seen: whether one sees which object it happened to.
    """
    step = row.step
    what = label(timeline.lanes.get(step.object), step.object) if step.object and not seen else ""
    if row.part is Part.BEGINS:
        # What is sent is known before it is; what will be received, only by whoever has drawn the run to its end.
        sends = f" ({act(step, timeline)})" if step.action is Action.SEND and step.words else ""
        return f"attend : {' '.join(filter(None, (harmless(step.call, 40), what or _for(step))))}{sends}"
    said = act(step, timeline)
    return said if not what or what in said else f"{said} ({what})"


def outcome(step: Step) -> str:
    """Return how a step went where it did not go well: "ENOSPC", "interrompu par un signal"; "" otherwise."""
    parts = [harmless(step.errno, 40)] if step.errno else []
    if step.interrupted:
        parts.append("interrompu par un signal")
    return ", ".join(parts)


def held(hold: Hold, timeline: Timeline) -> str:
    """Return in whose hands a lock is."""
    who = label(timeline.lanes.get(hold.task), hold.task)
    return f"tenu par {who}" + (", qui est mort" if hold.lost else "")


def still(step: Step, timeline: Timeline) -> str:
    """Return what a task still waited for when the run ended."""
    who = label(timeline.lanes.get(step.task), step.task)
    what = label(timeline.lanes.get(step.object), step.object) if step.object else ""
    said = f"{who} attend toujours : {' '.join(filter(None, (harmless(step.call, 40), what or _for(step))))}"
    hold = timeline.holder(step.object, LAST) if step.object else None
    return f"{said}, {held(hold, timeline)}" if hold else said


def cycle(tasks: list[str], timeline: Timeline) -> str:
    """Return what to say of tasks each of which waits for the next, and the last for the first."""
    names = [label(timeline.lanes.get(task), task) for task in (*tasks, tasks[0])]
    return f"interblocage : {names[0]} attend {', qui attend '.join(names[1:])}"


def left(timeline: Timeline) -> list[str]:
    """Return what was still lying somewhere when the run ended."""
    found = []
    for lane in timeline.run.lanes:
        count = timeline.lies(lane.id, LAST)
        if count and lane.kind not in TASKS:
            found.append(f"{label(lane)} : {number(count)} envoi{'s' if count > 1 else ''} que personne n'a pris")
        lost = timeline.lies(lane.id, lane.died - 0.5) if lane.died and lane.kind not in TASKS else 0
        if lost:
            lying = f"{number(lost)} envoi{'s' if lost > 1 else ''}"
            found.append(f"{label(lane)} : {lying} que personne n'avait pris, perdu{'s' if lost > 1 else ''} avec")
    return found
