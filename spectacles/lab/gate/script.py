"""A schedule in words that one can read aloud, matched by name and not by index.

    # the last seat is sold twice
    booth.1: reads(memory)
    booth.2: reads(memory)
    let booth.1 go
    let booth.2 go

One step a line, in order; `#` begins a comment. WHAT is the name of a call or of a mark (events.py), alone or with its
object and flags in brackets: `write`, `write(spectacles.dat)`, `open(spectacles.dat, O_TRUNC)`. The words in brackets
must be found in the object or in the arguments, whole words, in any order.

    TASK: WHAT               TASK goes on until it has done WHAT, and stops at its next call, or sleeps in this one
    hold TASK before WHAT    TASK goes on, like all others, until it is about to do WHAT; there it stays
    until TASK waits         everybody goes on until TASK is asleep in a call; `until TASK ends` until it is no more;
                             `until TASK rests` until TASK is there and nothing more happens by itself: everybody is
                             held, asleep, or no more
    let TASK go              TASK, held, goes on freely; `let all go`
    kill TASK [SIGNAL]       its process gets SIGKILL, or the signal named
    fail [TASK] ERRNO        the call that TASK is held at fails with ERRNO, and TASK goes on as before it was held

A task that is the subject of a `TASK: WHAT` moves only by such lines, from its first call on, until it is let go.
All others run free. TASK may not exist yet; its name is that of its events.

A step that does not fit the program is left out, and said so, in `missed`: its task has ended without doing it, is not
held, or did not do it within `patience` seconds. The script goes on with the next; at its end, everybody goes free.
"""

from __future__ import annotations

import errno
import re
import signal
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spectacles.common.errors import UsageError
from spectacles.lab.gate import calls, events
from spectacles.lab.gate.events import Event
from spectacles.lab.gate.policy import Decision, Go, Hold

if TYPE_CHECKING:
    from collections.abc import Callable

    from spectacles.lab.gate.policy import Gate

PATIENCE = 10.0  # seconds for one step
_TASK = r"[\w-]+(?:\.\d+)*"
_WHAT = r"(?P<call>\w+)(?:\((?P<words>.*)\))?"
_STEPS = tuple(
    (verb, re.compile(pattern))
    for verb, pattern in (
        ("step", rf"(?P<task>{_TASK})\s*:\s*{_WHAT}"),
        ("hold", rf"hold\s+(?P<task>{_TASK})\s+before\s+{_WHAT}"),
        ("until", rf"until\s+(?P<task>{_TASK})\s+(?P<state>waits|ends|rests)"),
        ("let", rf"let\s+(?P<task>{_TASK}|all)\s+go"),
        ("kill", rf"kill\s+(?P<task>{_TASK})(?:\s+(?P<signal>\w+))?"),
        ("fail", rf"fail(?:\s+(?P<task>{_TASK}))?\s+(?P<errno>E[A-Z0-9]+)"),
    )
)
_CALLS = {*calls.NAMES, *events.MARKS, "reads", "writes", "thread"}


@dataclass(frozen=True)
class Step:
    """One line of a script."""

    line: int
    text: str
    verb: str
    task: str
    call: str = ""
    words: tuple[str, ...] = ()
    state: str = ""
    number: int = 0  # of the signal, or the errno

    def fits(self, event: Event) -> bool:
        """Say whether the event is what this line is about."""
        if event.task != self.task or event.call != self.call:
            return False
        said = [event.object, *(str(value) for value in event.arguments.values() if not isinstance(value, bytes))]
        return all(any(_in(word, text) for text in said) for word in self.words)


@dataclass(frozen=True)
class Missed:
    """A line that could not be carried out, and why, in French."""

    step: Step
    why: str

    def __str__(self) -> str:
        return f"ligne {self.step.line} « {self.step.text} » : {self.why}"


def parse(text: str) -> list[Step]:
    """Return the steps of a script. Raises UsageError, which names the line."""
    steps: list[Step] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = _without_comment(raw).strip()
        if not line:
            continue
        for verb, pattern in _STEPS:
            found = pattern.fullmatch(line)
            if found:
                steps.append(_step(number, line, verb, found.groupdict(), steps))
                break
        else:
            raise UsageError(f"ligne {number} : « {line} » n'est pas un pas ; par exemple « hold A before msgsnd »")
    return steps


def _without_comment(text: str) -> str:
    """Return a line up to the first # that is not in brackets: there it is part of a name."""
    depth = 0
    for place, letter in enumerate(text):
        depth = max(depth + (letter == "(") - (letter == ")"), 0)
        if letter == "#" and not depth:
            return text[:place]
    return text


def _step(number: int, line: str, verb: str, found: dict[str, str | None], before: list[Step]) -> Step:
    call = found.get("call") or ""
    if call and call not in _CALLS:
        raise UsageError(f"ligne {number} : « {call} » n'est pas un appel connu ({' '.join(sorted(_CALLS))})")
    task = found.get("task") or ""
    value = 0
    if verb == "kill":
        name = (found.get("signal") or "SIGKILL").upper()
        name = name if name.startswith("SIG") else f"SIG{name}"
        if name not in signal.Signals.__members__:
            raise UsageError(f"ligne {number} : « {name} » n'est pas un signal")
        value = signal.Signals[name]
    if verb == "fail":
        code = getattr(errno, found["errno"] or "", None)
        if not isinstance(code, int):
            raise UsageError(f"ligne {number} : « {found['errno']} » n'est pas une erreur connue")
        value = code
        if not task:  # whoever the script has held last
            held = [step.task for step in before if step.verb in ("hold", "step")]
            if not held:
                raise UsageError(f"ligne {number} : qui doit échouer ? « fail A {found['errno']} »")
            task = held[-1]
    words = tuple(word.strip() for word in (found.get("words") or "").split(",") if word.strip())
    return Step(number, line, verb, task, call, words, found.get("state") or "", value)


def _in(word: str, text: str) -> bool:
    """Say whether `word` is in `text`, not as part of a longer word."""
    return re.search(rf"(?<![\w./-]){re.escape(word)}(?![\w-])", text) is not None


class Script:
    """A policy that follows a script. text: see the top of this file. Raises UsageError.

    `done` says when its last step has been carried out or left out; `missed` what was left out.
    """

    def __init__(self, text: str, *, patience: float = PATIENCE) -> None:
        self.steps = parse(text)
        self.missed: list[Missed] = []
        self.done = threading.Event()
        self._patience = patience
        self._at = 0
        self._since = 0.0
        self._stepped = {step.task for step in self.steps if step.verb == "step"}
        self._doing: Event | None = None  # of a `TASK: WHAT`: the call that was let happen
        self._armed: set[int] = set()  # indexes of steps `hold` that may be met before their turn

    # The policy

    waiting = True
    stepwise = False

    def opened(self, gate: Gate) -> None:
        """Begin."""
        self._since = time.monotonic()
        self._arm()

    def decide(self, gate: Gate, event: Event) -> Decision:
        """Hold it, if this is where it shall stay."""
        if self.done.is_set():
            return Go()
        if event.task in self._stepped:
            return Hold()
        if any(self.steps[index].fits(event) for index in self._armed):
            return Hold()
        return Go()

    def look(self, gate: Gate) -> None:
        """Carry out as many steps as can be, and see whether the one that is waited for can still come."""
        while self._at < len(self.steps):
            step = self.steps[self._at]
            if gate.programs:
                outcome = self._carry_out(gate, step)
            else:
                outcome, self._since = None, time.monotonic()  # nothing was started yet
            if outcome is None:
                if time.monotonic() - self._since < self._patience:
                    return
                outcome = f"rien de tel en {self._patience:g} s"
            if outcome:
                self.missed.append(Missed(step, outcome))
            self._at += 1
            self._doing = None
            self._since = time.monotonic()
        if not self.done.is_set():
            self._free(gate, "all")
            self._armed.clear()
            self.done.set()
            self.waiting = False

    # Its steps: each returns "" when it is done, why not when it never will be, None when it may yet be

    def _carry_out(self, gate: Gate, step: Step) -> str | None:
        verbs: dict[str, Callable[[Gate, Step], str | None]] = {
            "step": self._do_step,
            "hold": self._do_hold,
            "until": self._do_until,
            "let": self._do_let,
            "kill": self._do_kill,
            "fail": self._do_fail,
        }
        return verbs[step.verb](gate, step)

    def _arm(self) -> None:
        """Let the `hold` lines that come next be met at once: whoever is let go may get there before we look again."""
        index = self._at
        while index < len(self.steps) and self.steps[index].verb == "hold":
            self._armed.add(index)
            index += 1

    def _gone(self, gate: Gate, name: str) -> bool:
        task = gate.tasks.get(name)
        return task is not None and task.dead

    def _do_step(self, gate: Gate, step: Step) -> str | None:
        self._stepped.add(step.task)
        task = gate.tasks.get(step.task)
        if self._doing is not None:
            if task is None or task.dead or task.held is not None:
                return ""
            rest = gate.asleep(step.task)
            return "" if rest is not None else None
        if task is None:
            return None
        if task.dead:
            return "la tâche a fini sans le faire"
        if task.held is not None:
            if step.fits(task.held):
                self._doing = task.held
            gate.let(step.task)
        return None

    def _do_hold(self, gate: Gate, step: Step) -> str | None:
        self._armed.add(self._at)
        task = gate.tasks.get(step.task)
        if task is not None and task.held is not None:
            if step.fits(task.held):
                self._armed.discard(self._at)
                return ""
            gate.let(step.task)  # held for another step that is over, or a task that moves by steps
        if self._gone(gate, step.task):
            self._armed.discard(self._at)
            return "la tâche a fini sans y arriver"
        return None

    def _do_until(self, gate: Gate, step: Step) -> str | None:
        task = gate.tasks.get(step.task)
        if task is None:
            return None
        if step.state == "rests":
            return "" if gate.at_rest() else None
        rest = gate.asleep(step.task)
        if step.state == "ends":
            return "" if task.dead else None
        if task.dead:
            return "la tâche a fini sans attendre"
        return "" if rest is not None and rest.state == "asleep" else None

    def _do_let(self, gate: Gate, step: Step) -> str | None:
        if step.task != "all" and step.task not in gate.tasks:
            return "pas de tâche de ce nom"
        self._at += 1
        self._arm()  # before it goes
        self._at -= 1
        self._free(gate, step.task)
        return ""

    def _free(self, gate: Gate, name: str) -> None:
        if name == "all":
            self._stepped.clear()
        self._stepped.discard(name)
        for task in gate.held():
            if name in ("all", task.name):
                gate.let(task.name)

    def _do_kill(self, gate: Gate, step: Step) -> str | None:
        if step.task not in gate.tasks:
            return "pas de tâche de ce nom"
        if self._gone(gate, step.task):
            return "la tâche a déjà fini"
        gate.kill(step.task, step.number)
        return ""

    def _do_fail(self, gate: Gate, step: Step) -> str | None:
        task = gate.tasks.get(step.task)
        if task is None or task.held is None:
            return f"{step.task} n'est pas retenu"
        self._at += 1
        self._arm()
        self._at -= 1
        gate.fail(step.task, step.number)
        return ""


def words(event: Event) -> str:
    """Return the line of a script that makes a task do what it did in an event: how a schedule is written down."""
    return f"{event.task}: {event.call}" + (f"({event.object})" if event.object else "")
