"""A run as one reads it: who moved, up to where, and why that was a preemption; and as a script that plays it again."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spectacles.lab.gate.events import BEGINS, BUSY, HAS, LACKS, RELEASES, WAITS, WAKES, WANTS, Event, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spectacles.lab.schedules.stage import Run

ASKED = (Kind.CALL, Kind.MARK, Kind.ACCESS)
_VERBS = {
    "begins": "commence",
    "reads": "lit",
    "writes": "change",
    WANTS: "demande",
    BUSY: "attend",
    RELEASES: "rend",
    HAS: "obtient",
    LACKS: "n'obtient pas",
    WAITS: "se met en attente de",
    WAKES: "réveille qui attend",
    "read": "lit",
    "write": "écrit dans",
    "open": "ouvre",
    "unlink": "retire",
    "rename": "renomme",
    "mkfifo": "crée",
    "ftruncate": "coupe",
    "fsync": "met à l'abri",
    "flock": "verrouille",
    "fcntl": "verrouille",
    "pipe": "crée un tube",
    "poll": "attend de quoi lire",
    "msgget": "ouvre",
    "msgsnd": "envoie dans",
    "msgrcv": "prend dans",
    "msgctl": "règle",
    "semget": "ouvre",
    "semop": "opère sur",
    "semctl": "règle",
    "shmget": "ouvre",
    "shmat": "attache",
    "shmdt": "détache",
    "shmctl": "règle",
    "mq_open": "ouvre",
    "mq_send": "envoie dans",
    "mq_receive": "prend dans",
    "mq_unlink": "retire",
    "socket": "crée une socket",
    "bind": "attache",
    "listen": "écoute sur",
    "connect": "se connecte à",
    "accept": "accepte sur",
    "shutdown": "ferme",
    "send": "envoie sur",
    "recv": "reçoit de",
    "kill": "envoie un signal",
    "fork": "crée un processus",
    "thread": "crée un fil",
    "exec": "devient",
    "wait": "attend un fils",
    "exit": "finit",
    "sleep": "dort",
    "pause": "attend un signal",
}
_OBJECTS = (
    (r"^private memory #(\d+)", r"mémoire partagée \1"),
    (r"^shared memory #(\d+)", r"mémoire partagée \1"),
    (r"^memory ", "mémoire partagée "),
    (r"^private queue #(\d+)", r"file \1"),
    (r"^queue 0x0*", "file 0x"),
    (r"^private queue", "file"),
    (r"^semaphores ", "sémaphores "),
    (r"^semaphore ", "sémaphore "),
    (r"^new semaphore", "un sémaphore"),
    (r"^lock ", "verrou "),
    (r"^condition ", "condition "),
    (r"^pipe #", "tube "),
    (r"^POSIX queue ", "file POSIX "),
    (r"^connection ", "connexion "),
)


@dataclass(frozen=True)
class Line:
    """One thing that a task did."""

    text: str  # "lit mémoire partagée 1, octet 4"
    place: str = ""  # "booth.c:24"
    source: str = ""  # what stands there
    seq: int = 0


@dataclass(frozen=True)
class Segment:
    """What one task did while no other moved."""

    task: str
    lines: tuple[Line, ...]
    preempted: str = ""  # who was kept from going on for it, "" if nobody was
    before: str = ""  # and what he was about to do
    place: str = ""  # where: "booth.c:24"
    source: str = ""  # and what stands there
    killed: bool = False  # it does not move: it is killed here


class Sources:
    """Places in programs, as addr2line(1) knows them: "booth+0x12fc" -> "booth.c:24" and its text."""

    def __init__(self, folder: str | None) -> None:
        self._folder = Path(folder) if folder is not None else None
        self._found: dict[str, tuple[str, str]] = {}
        self._tool = shutil.which("addr2line")
        self._symbols: dict[str, list[tuple[int, int, str]]] = {}

    def of(self, at: str) -> tuple[str, str]:
        """Return the file and line of a place, and the text there; "" where nobody knows."""
        if at not in self._found:
            self._found[at] = self._look(at)
        return self._found[at]

    def _look(self, at: str) -> tuple[str, str]:
        program, _, offset = at.partition("+")
        binary = self._binary(program) if self._tool is not None and offset else None
        if binary is None or self._tool is None or self._folder is None:
            return "", ""
        command = [self._tool, "-e", str(binary), offset]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=10, check=False)
        found = re.match(r"(.+):(\d+)", done.stdout)
        if found is None or found[1] == "??":
            return "", ""
        text = ""
        for source in (Path(found[1]), self._folder / Path(found[1]).name):
            if source.is_file():
                lines = source.read_text(errors="replace").splitlines()
                text = lines[int(found[2]) - 1].strip() if int(found[2]) <= len(lines) else ""
                break
        return f"{Path(found[1]).name}:{found[2]}", text

    def variable(self, program: str, offset: int) -> str:
        """Return the name of the variable at an offset of a program, as nm(1) knows it; "" where nobody knows."""
        if program not in self._symbols:
            self._symbols[program] = self._read_symbols(program)
        return next((name for start, size, name in self._symbols[program] if start <= offset < start + size), "")

    def _read_symbols(self, program: str) -> list[tuple[int, int, str]]:
        tool, binary = shutil.which("nm"), self._binary(program)
        if tool is None or binary is None:
            return []
        done = subprocess.run([tool, "-S", str(binary)], capture_output=True, text=True, errors="replace", check=False)
        rows = [line.split() for line in done.stdout.splitlines()]
        return [(int(row[0], 16), int(row[1], 16), row[3]) for row in rows if len(row) == 4 and row[2] in "bBdD"]

    def _binary(self, program: str) -> Path | None:
        if self._folder is None:
            return None
        return next((path for path in sorted(self._folder.rglob(program)) if path.is_file()), None)


def object_words(name: str) -> str:
    """Return the name of an object in French."""
    for pattern, said in _OBJECTS:
        name, count = re.subn(pattern, said, name, count=1)
        if count:
            break
    return name


def event_words(event: Event, sources: Sources) -> str:
    """Say what an event is, without its task."""
    text = _VERBS.get(event.call, event.call)
    said = event.arguments
    if event.kind == Kind.ACCESS and "memory" not in event.object:
        name = sources.variable(event.object, said["offset"])
        return f"{text} la variable {name}" if name else f"{text} une variable de {event.object}"
    if event.object:
        text += f" {object_words(event.object)}"
    if event.kind == Kind.ACCESS:
        text += f", octet {said['offset']}"
    if event.call == "open" and said.get("flags"):
        text += f" ({said['flags']})"
    if event.call in ("msgsnd", "msgrcv") and said.get("type") is not None:
        text += f", type {said['type']}"
    if event.call in ("flock", "fcntl", "msgctl", "semctl", "shmctl"):
        text += f" ({said.get('how') or said.get('command')})"
    if event.call == "exit":
        text += f" (code {said['code']})"
    if event.call == "kill":
        text += f" {said['signal']} au processus {said['pid']}"
    return text


def segments(run: Run, sources: Sources) -> list[Segment]:
    """Return the run from its first choice on, cut where another task moves."""
    doing, told = _doing(run), _told(run)
    found: list[Segment] = []
    for index, step in enumerate(run.steps):
        verb, _, task = step.choice.rpartition(" ")
        lines = tuple(_line(event, told, sources) for event in doing.get(index, ()))
        last = next((one for one in step.ready if one.task == step.last and not one.yields), None)
        if found and found[-1].task == task and not verb and not found[-1].killed:
            found[-1] = dataclasses.replace(found[-1], lines=found[-1].lines + lines)
            continue
        preempted = last.task if last is not None and last.task != task and not verb else ""
        pending = _pending(run, index, preempted) if preempted else None
        waits = _line(pending, told, sources) if pending is not None else Line("")
        found.append(Segment(task, lines, preempted, waits.text, waits.place, waits.source, verb == "kill"))
    return found


def _line(event: Event, told: Mapping[int, str], sources: Sources) -> Line:
    place, text = sources.of(_at(event, told))
    return Line(event_words(event, sources), place, text, event.seq)


def _told(run: Run) -> dict[int, str]:
    """Return where calls were made, by their seq: that is in their results."""
    return {event.of: str(event.arguments["at"]) for event in run.events if event.of and event.arguments.get("at")}


def _at(event: Event, told: Mapping[int, str]) -> str:
    """Return where an event comes from, "" where nobody knows. A call is before the place that it returns to."""
    at = str(told.get(event.seq) or event.arguments.get("at") or "")  # of a pwrite(2), "at" is where in the file
    program, _, offset = at.partition("+")
    if not offset or event.kind == Kind.ACCESS or event.call == BEGINS:
        return at
    return f"{program}+{int(offset, 16) - 1:#x}"


def _doing(run: Run) -> dict[int, list[Event]]:
    """Return what the task of each step did in it, by the step's number: the call it was held at, and those that
    followed and were let happen at once."""
    events = {event.seq: event for event in run.events}
    decisions = [event for event in run.events if event.kind == Kind.DECISION and event.seq > run.first]
    decided = {decision.of for decision in decisions}
    found: dict[int, list[Event]] = {}
    index, task = -1, ""
    for event in run.events:
        if event.seq <= run.first:
            continue
        if event.kind == Kind.DECISION:
            index, task = index + 1, event.task
            if event.of in events and event.call != "kill":
                found.setdefault(index, []).append(events[event.of])
        elif event.kind in ASKED and event.task == task and event.seq not in decided:
            found.setdefault(index, []).append(event)
    return found


def _pending(run: Run, index: int, task: str) -> Event | None:
    """Return what a task was held at before the step of that number."""
    count = -1
    last = None
    for event in run.events:
        if event.kind == Kind.DECISION and event.seq > run.first:
            count += 1
            if count == index:
                return last
        if event.task == task and event.kind in ASKED:
            last = event
    return last


def script(run: Run, title: str, why: str, sources: Sources) -> str:
    """Return the script that plays a run again, matched by name: for each segment, up to where its task goes."""
    lines = [f"# {title}", *(f"# {line}" for line in why.splitlines()), ""]
    doing = _doing(run)
    parts: list[tuple[str, list[Event]]] = []
    left: dict[str, int] = {}
    for index, step in enumerate(run.steps):
        verb, _, task = step.choice.rpartition(" ")
        if verb == "kill":
            parts.append((step.choice, []))
        elif parts and parts[-1][0] == task:
            parts[-1][1].extend(doing.get(index, ()))
        else:
            parts.append((task, list(doing.get(index, ()))))
    made, told = _makers(run), _told(run)

    def go(event: Event) -> None:
        """Write the lines that let the task of an event go on until it has done that."""
        name, since = event.task, left.get(event.task, run.first)
        if event.seq <= since:
            return
        if name in made:  # it must be there first
            go(made[name])
        named = event.object if run.steady(event.object) == event.object else event.object.split()[0]
        what = event.call + (f"({', '.join((named, *_flags(event)))})" if event.object else "")
        # A line means the next call of that name: since where the task's last line left it, woken by others or not.
        count = sum(
            1
            for other in run.events
            if other.task == name
            and other.kind in ASKED
            and since < other.seq <= event.seq
            and _matches(other, event, named)
        )
        left[name] = event.seq
        place = sources.of(_at(event, told))[0]
        comment = f"{event_words(event, sources)}" + (f", {place}" if place else "")
        lines.extend([f"{name}: {what}"] * (count - 1))
        lines.append(f"{f'{name}: {what}':<50} # {comment}")

    for name, events in parts:
        if name.startswith("kill "):
            killed = name.partition(" ")[2]
            if killed in made:
                go(made[killed])
            lines.append(name)
        elif events:
            go(events[-1])
    return "\n".join([*lines, "let all go", ""])


def _makers(run: Run) -> dict[str, Event]:
    """Return the call that made each task, of those that were made by another after the first choice was there."""
    found: dict[str, Event] = {}
    last: dict[str, Event] = {}
    for event in run.events:
        if event.seq <= run.first:
            continue
        if event.call in ("fork", "thread") and event.kind == Kind.CALL:
            last[event.task] = event
        elif event.kind == Kind.BIRTH and (parent := str(event.arguments["parent"])) in last:
            found[event.task] = last[parent]
    return found


def _flags(event: Event) -> list[str]:
    """Return what tells one open(2) from another."""
    said = str(event.arguments.get("flags", "")).split() if event.call == "open" else []
    return [flag for flag in said if flag in ("O_TRUNC", "O_CREAT")]


def _matches(event: Event, last: Event, named: str) -> bool:
    """Say whether the line of a script for `last` fits `event`."""
    if event.call != last.call or not (event.object == last.object or event.object.split()[:1] == [named]):
        return False
    return all(flag in str(event.arguments.get("flags", "")) for flag in _flags(last))
