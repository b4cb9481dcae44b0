"""Plays a scenario under one schedule after another, in one world: the same choices make the same run.

    Stage ── spawn ──▶ server          alone, until all of it waits
          ── spawn ──▶ clients         each up to its first call that others can notice
          ── choose ─▶ one task moves up to its next such call, or sleeps, or ends; and so on, until nobody can move

A choice is a word: the name of the task that is let go, or "kill NAME". Where the words given end, the task that moved
last goes on if it can, else the first by birth; who was preempted, only once nobody else can.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from spectacles.common.errors import SpectaclesError
from spectacles.lab.gate import calls
from spectacles.lab.gate.events import HAS, Event, Kind
from spectacles.lab.gate.policy import Decision, Go, Hold
from spectacles.lab.gate.supervisor import Gate, GateError
from spectacles.lab.programs.world import Limits, World
from spectacles.lab.schedules import points
from spectacles.lab.schedules.scenario import SPIN, Scenario

if TYPE_CHECKING:
    from spectacles.lab.gate.policy import Gate as AnyGate
    from spectacles.lab.gate.supervisor import Rest

RESETS = 4  # times that a world is made fresh, of some seconds each, before it is said that it is not
FIRST_PID = 100  # the PID before that of the first program of a run, in a private world
MOST_NUMBERS = 20  # of them that are made sure to be the same in the next run, where there are threads
LAST_SLEEPS = 2  # sleeps, and waits in vain, that a task that stays gets while there is nobody else
IDLE = 6  # of them together, while nobody else moves, before it is said that nothing will happen any more


class StageError(SpectaclesError):
    """A scenario cannot be played here, or its programs do not start."""


class Diverged(SpectaclesError):
    """The same choices did not lead to the same point."""


@dataclass(frozen=True)
class Ready:
    """A task that can be let go, and what for."""

    task: str
    label: str  # "msgsnd(queue 0x0000002a)"
    keys: points.Keys
    yields: bool = False  # it sleeps, or has spun for long: that another goes on is no preemption
    in_vain: bool = False  # it waits with a time limit, for what is not there: the limit is what it would meet


@dataclass(frozen=True)
class Step:
    """One choice, and where it was made."""

    ready: tuple[Ready, ...]  # by birth
    last: str  # who moved last, "" at the start
    choice: str
    woken: tuple[str, ...] = ()  # who slept before it and does not after it
    born: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """What one schedule came to."""

    steps: tuple[Step, ...]
    end: str  # "rest": nobody can move; "endless": the bound of steps was met
    events: tuple[Event, ...]
    first: int  # seq of the last event before the first choice
    steady: Callable[[str], str]  # makes names the same in all worlds
    rest: dict[str, Any]  # task -> gate's Rest
    codes: dict[str, int]  # actor -> exit code, minus the signal; absent: it was alive
    printed: dict[str, str]
    files: dict[str, bytes] = field(default_factory=dict)  # of those that somebody will look at
    notes: tuple[str, ...] = ()

    @property
    def choices(self) -> tuple[str, ...]:
        """The schedule."""
        return tuple(step.choice for step in self.steps)


def steady(folder: str | os.PathLike[str]) -> Callable[[str], str]:
    """Return what makes names the same in all worlds: ftok(3) puts the device number of a folder into a key."""
    device = f"{os.stat(folder).st_dev & 0xFF:02x}"
    pattern = re.compile(rf"(?<![0-9a-f])([0-9a-f]{{2}}){device}([0-9a-f]{{4}})(?![0-9a-f])")
    return lambda name: pattern.sub(r"\1__\2", name) if device in name else name


class _Points:
    """A policy that holds tasks at what others can notice, and lets all else happen."""

    waiting = False
    stepwise = True

    def __init__(self) -> None:
        self.processes: dict[str, points.Process] = {}  # by the name of any of their tasks
        self.named: dict[int, str] = {}
        self.threads = False  # there have been some, in any run
        self.numbers = 0  # of processes and threads of the last run, where there were threads
        self.all = False  # hold every call: where a death makes a difference
        self.keys: dict[str, points.Keys] = {}
        self.steady: Callable[[str], str] = str

    def opened(self, gate: AnyGate) -> None:
        """Nothing to prepare."""

    def decide(self, gate: AnyGate, event: Event) -> Decision:
        """Hold it, or let it happen."""
        keys = points.touches(event, self.processes[event.task], self.named)
        self.keys[event.task] = tuple((self.steady(key), changes) for key, changes in keys)
        if keys or event.call == "sleep" or (self.all and event.call not in (HAS, "exec")):
            return Hold()
        return Go()

    def look(self, gate: AnyGate) -> None:
        """Nothing to look for."""

    def hear(self, event: Event) -> None:
        """Note who is born."""
        if event.kind == Kind.BIRTH:
            parent = self.processes.get(event.arguments["parent"])
            if self.threads:
                self.numbers = min(max(self.numbers, event.arguments["inside"] - FIRST_PID), MOST_NUMBERS)
            if event.arguments["thread"] and parent is not None:
                parent.threaded = self.threads = True
                self.processes[event.task] = parent
                return
            mother = parent.name if parent is not None else ""
            inherited = set(parent.open) if parent is not None else set()
            self.processes[event.task] = points.Process(event.task, mother, inherited)
            self.named[event.arguments["inside"]] = event.task

    def clear(self) -> None:
        """Forget the last run."""
        self.processes.clear()
        self.named.clear()
        self.keys.clear()


class Stage:
    """Plays one scenario again and again. A context manager. Raises StageError, WorldError, GateError, OSError."""

    def __init__(self, scenario: Scenario, *, kills: bool = False, private: bool | None = None) -> None:
        self.scenario = scenario
        self.notes: list[str] = []
        self._policy = _Points()
        self._policy.all = kills
        self._kills = kills
        self._undo = contextlib.ExitStack()
        self._private = private
        self.alone = False  # no private world: there can be no second stage
        self._copied: set[str] = set()
        self._staying = {actor.name for actor in scenario.actors if actor.stays}

    @property
    def threads(self) -> bool:
        """Whether a program has had threads, until now."""
        return self._policy.threads

    def __enter__(self) -> Stage:
        scenario = self.scenario
        with contextlib.ExitStack() as undo:
            limits = Limits(seconds=None, cpu=None)
            self._world = undo.enter_context(
                World(scenario.folder, limits=limits, visible=scenario.visible, private=self._private)
            )
            for command in scenario.before:
                program = self._world.start(command)
                if code := program.wait(60):
                    raise StageError(f"{command[0]} : code de sortie {code}\n{program.output()}".rstrip())
            self._world.remember()
            self._policy.steady = steady(self._world.folder)
            gate = Gate(
                self._world,
                self._policy,
                calls_held=(*calls.NAMES, "close"),
                accesses=scenario.accesses,
                threads=True,
                clock=True,
                sink=self._policy.hear,
            )
            self._gate = undo.enter_context(gate)
            for actor in scenario.actors:
                if gate.prepare(actor.name, actor.command, env=actor.env, cwd=actor.folder):
                    self._copied.add(actor.name)
            for name in self._copied:  # until all are there: what they do before may take numbers of processes
                os.close(gate.spawn(name))
            gate.renew()
            self.alone = not self._world.private
            if self.alone:
                self.notes.append(
                    self._world.refused or "sans monde privé : les PID changent d'une exécution à l'autre"
                )
            self.notes += gate.notes
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def play(self, choices: Sequence[str] = (), expected: Sequence[str] = ()) -> Run:
        """Play one schedule. choices: as many as are given; expected: the label of each, checked. Raises Diverged."""
        prepared, numbers = self._gate.prepared, self._policy.numbers
        if not any(self._world.reset(prepared, pid=FIRST_PID, numbers=numbers) for _ in range(RESETS)):
            raise GateError("ce qui a fini n'a pas encore rendu ses numéros : la machine est trop occupée")
        self._policy.clear()
        self._terminals: dict[str, int] = {}
        self._printed = {actor.name: bytearray() for actor in self.scenario.actors}
        codes: dict[str, int] = {}
        try:
            self._steps: list[Step] = []
            self._moves = 0
            for actor in self.scenario.actors:
                if actor.stays:
                    self._spawn(actor.name, actor.typed)
                    self._go_on((), ())
            first = len(self._gate.events())
            self._steps = []
            for actor in self.scenario.actors:
                if not actor.stays and not actor.last:
                    self._spawn(actor.name, actor.typed)
            end = self._go_on(choices, expected)
            steps = self._steps
            for actor in self.scenario.actors:
                if actor.last and end == "rest":
                    self._steps = []
                    self._spawn(actor.name, actor.typed)
                    self._go_on((), ())
            rest = dict(self._settle())
            self._drain()
            files = {}
            for content in {content.place for content in self.scenario.contents} | (
                {self.scenario.service.file} if self.scenario.service and self.scenario.service.file else set()
            ):
                files[content] = self._read(content)
            events = tuple(self._gate.events())
            alive = {name for name, task in self._gate.tasks.items() if not task.dead}
        finally:
            codes = self._gate.renew()
            self._drain()
            for terminal in self._terminals.values():
                os.close(terminal)
        return Run(
            tuple(steps),
            end,
            events,
            first,
            self._policy.steady,
            rest,
            {name: code for name, code in codes.items() if name not in alive},
            {name: data.decode("utf-8", "replace").replace("\r\n", "\n") for name, data in self._printed.items()},
            files,
            tuple(self.notes),
        )

    # One run

    def _spawn(self, name: str, typed: Sequence[str]) -> None:
        if name not in self._copied:
            raise StageError(f"{name} : pas de copie possible de ce programme ({' ; '.join(self.notes)})")
        terminal = self._gate.spawn(name)
        self._terminals[name] = terminal
        if typed:
            os.write(terminal, "".join(f"{line}\n" for line in typed).encode())
        self._settle()

    def _settle(self) -> dict[str, Rest]:
        while True:
            rest = self._gate.settle()
            stuck = [
                found
                for found in rest.values()
                if found.state == "asleep" and found.call == "write" and found.object in ("terminal", "")
            ]
            if not stuck or not self._drain():
                return rest

    def _drain(self) -> int:
        total = 0
        for name, terminal in self._terminals.items():
            with contextlib.suppress(OSError):
                while data := os.read(terminal, 65536):
                    self._printed[name] += data
                    total += len(data)
        return total

    def _read(self, place: str) -> bytes:
        if place.startswith("memory "):
            return self._gate.memory(place)
        with contextlib.suppress(OSError):
            return (self._world.folder / place).read_bytes()
        return b""

    def _go_on(self, choices: Sequence[str], expected: Sequence[str]) -> str:
        """Make one choice after the other until nobody can move."""
        gate = self._gate
        last = ""
        spun = 0
        idle = 0
        self._passed: dict[str, int] = {}
        kept: set[str] = set()  # who was preempted, and has not moved since
        rest = self._settle()
        while True:
            ready = self._ready(last, spun)
            if not ready or idle > IDLE:
                return "rest"
            number = len(self._steps)
            if number >= self.scenario.steps:
                return "endless"
            if number < len(choices):
                choice = choices[number]
                self._check(choice, ready, expected[number] if number < len(expected) else "")
            else:
                choice = default(ready, last, kept)
            if choice.rpartition(" ")[2] != last and any(one.task == last and not one.yields for one in ready):
                kept.add(last)
            kept.discard(choice.rpartition(" ")[2])
            asleep = {name for name, found in rest.items() if found.state == "asleep"}
            known = len(gate.tasks)
            name, in_vain = self._do(choice)
            idle = (idle + in_vain) if gate.tasks[name].program in self._staying else 0
            rest = self._settle()
            self._steps.append(
                Step(
                    ready,
                    last,
                    choice,
                    tuple(task for task in sorted(asleep) if task != name and rest[task].state != "asleep"),
                    tuple(list(gate.tasks)[known:]),
                )
            )
            spun = spun + 1 if name == last else 0
            last = name

    def _ready(self, last: str, spun: int) -> tuple[Ready, ...]:
        """Return who can be let go. Time passes only where nobody else can move: who sleeps, or waits in vain with a
        time limit, yields; and of servers alone only so often."""
        found = []
        over = all(task.dead for task in self._gate.tasks.values() if task.program not in self._staying)
        for task in self._gate.held():
            assert task.held is not None
            in_vain = task.held.call == "poll" and task.held.arguments.get("timeout") is not None
            in_vain = in_vain and not self._gate.has_something(task.name)
            if over and (in_vain or task.held.call == "sleep") and self._passed.get(task.name, 0) >= LAST_SLEEPS:
                continue
            yields = in_vain or task.held.call == "sleep" or (task.name == last and spun > SPIN)
            label = self._policy.steady(points.label(task.held))
            found.append(Ready(task.name, label, self._policy.keys[task.name], yields, in_vain))
        return tuple(found)

    def _check(self, choice: str, ready: Sequence[Ready], expected: str) -> None:
        task = choice.rpartition(" ")[2]
        found = next((one for one in ready if one.task == task), None)
        if found is None or (expected and found.label != expected):
            there = ", ".join(f"{one.task}: {one.label}" for one in ready)
            wanted = f"{task}: {expected}" if expected else choice
            raise Diverged(f"les mêmes choix ont mené ailleurs : pas de « {wanted} » ici, mais {there}")

    def _do(self, choice: str) -> tuple[str, bool]:
        """Carry out a choice; return whose it is, and whether he only lets time pass."""
        verb, _, name = choice.rpartition(" ")
        gate = self._gate
        held = gate.tasks[name].held
        assert held is not None
        passes = held.call == "sleep" or (held.call == "poll" and held.arguments.get("timeout") is not None)
        if verb == "kill":
            gate.kill(name, signal.SIGKILL)
            return name, False
        if passes and not (held.call == "poll" and gate.has_something(name)):
            self._passed[name] = self._passed.get(name, 0) + 1
            gate.answer(name, 0)
            return name, True
        gate.let(name)
        return name, False


def default(ready: Sequence[Ready], last: str, kept: Collection[str] = ()) -> str:
    """Return who goes on where nothing else is asked for: who moved last, else the first by birth.

    kept: who was preempted comes after all others, so that what is between his two steps is all that there can be.
    """
    names = [one.task for one in ready]
    for one in ready:
        if one.task == last and not one.yields:
            return last
    if last in names:  # it yields
        return names[(names.index(last) + 1) % len(names)]
    moving = [one.task for one in ready if not one.yields]
    return next((name for name in moving if name not in kept), moving[0] if moving else names[0])
