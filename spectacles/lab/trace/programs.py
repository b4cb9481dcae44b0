"""Anybody's programs, recorded: started one after the other, typed to, ended."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shlex
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spectacles.common.errors import SpectaclesError, UsageError
from spectacles.common.text import printable
from spectacles.lab.gate.supervisor import Gate
from spectacles.lab.kernel.machine import machine
from spectacles.lab.programs.world import Limits, Program, World, WorldError
from spectacles.lab.record import sources, store
from spectacles.lab.trace import readiness
from spectacles.lab.trace.service import INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from spectacles.lab.gate.script import Script

STARTING = 3.0  # seconds that a program gets to wait for somebody, before the next is started
STILL = 2.0  # seconds in which nothing moves, and nothing ever will
PAUSE = 0.02
MOST_LEFT = 8  # names of things left behind that are told
TIMED = ("sleep", "poll", "sigwait", "restart")  # calls of which a task may wake by itself


@dataclass
class Plan:
    """What is to be recorded. commands: task -> command line. typed: (task, "" for any; line)."""

    commands: dict[str, list[str]]
    folder: str = "."
    typed: list[tuple[str, str]] = field(default_factory=list)
    script: Script | None = None
    accesses: bool = False
    private: bool | None = None
    seconds: float = 60.0
    interactive: bool = False
    path: str | None = None


def named(commands: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """Return the commands by names for their tasks: serveur, client, client2. Raises UsageError for an empty one."""
    found: dict[str, list[str]] = {}
    for words in commands:
        if not words or not words[0]:
            raise UsageError("une commande vide")
        program = words[0]
        if re.fullmatch(r"(python[\d.]*|perl|sh|bash|java|ruby|node)", os.path.basename(program)):
            program = next((word for word in words[1:] if not word.startswith("-") and "." in word), program)
        name = re.sub(r"[^\w-]", "_", os.path.basename(program).rsplit(".", 1)[0]) or "programme"
        number = 2
        fresh = name
        while fresh in found:
            fresh, number = f"{name}{number}", number + 1
        found[fresh] = list(words)
    return found


def lines(text: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """Return what `client: 1; client: 5 2` types to whom; without a name, to whoever reads. Raises UsageError."""
    found = []
    for part in text.replace("\n", ";").split(";"):
        name, colon, rest = part.partition(":")
        if colon and name.strip() in names:
            found.append((name.strip(), rest.strip()))
        elif colon and re.fullmatch(r"\s*[A-Za-z][\w-]*\s*", name):
            raise UsageError(f"--type : pas de programme « {name.strip()} » ({', '.join(names)})")
        else:
            found.append(("", part.strip()))
    return found


def record(plan: Plan) -> tuple[store.Record, str]:
    """Run the programs until they have ended, and return what was recorded and why it ended, "" if by itself.

    Blocks. A KeyboardInterrupt ends the programs and not the recording: the reason is then INTERRUPTED. Raises
    SpectaclesError, when a program cannot be started.
    """
    with contextlib.ExitStack() as stack:
        world = stack.enter_context(World(plan.folder, private=plan.private, limits=Limits(seconds=plan.seconds + 60)))
        about = store.head(
            plan.commands, machine(plan.folder), title=" | ".join(map(shlex.join, plan.commands.values()))
        )
        recorder = stack.enter_context(store.Recorder(about, plan.path))
        gate = stack.enter_context(Gate(world, plan.script, accesses=plan.accesses, sink=recorder.sink))
        if world.refused:
            print(f"spectacles trace : {world.refused}", file=sys.stderr)
        run = _Run(plan, world, gate)
        try:
            run.start()
            why = run.until_over()
        except KeyboardInterrupt:
            why = INTERRUPTED
        recorder.over()
        run.show(everything=True)
        run.say_untyped()
        folders: list[str | Path] = [
            world.folder,
            *(os.path.dirname(words[0]) for words in plan.commands.values() if "/" in words[0]),
        ]
        recorder.places(sources.places(recorder.record.events, folders))
        for note in plan.script.missed if plan.script is not None else ():
            print(f"spectacles trace : {printable(str(note))}", file=sys.stderr)
    if not world.private:
        told = [f"{thing.kind} {thing.name}" for thing in world.left.objects]
        names = [name for name in told if name not in world.left.removed]
        kept = ", ".join(names[:MOST_LEFT]) + (", …" if len(names) > MOST_LEFT else "")
        if names:
            print(f"spectacles trace : laissé là par ces programmes : {printable(kept)}", file=sys.stderr)
    return recorder.record, why


class _Run:
    def __init__(self, plan: Plan, world: World, gate: Gate) -> None:
        self._plan = plan
        self._world = world
        self._gate = gate
        self._programs: dict[str, Program] = {}
        self._typed = list(plan.typed)
        self._never: list[tuple[str, str]] = []  # to be typed to who had ended
        self._shown: dict[str, int] = {}  # characters of each program's output
        self._deadline = time.monotonic() + plan.seconds
        self._input = plan.interactive

    def start(self) -> None:
        """Start all, each once the one before waits for somebody, is held by the script, or has ended."""
        names = list(self._plan.commands)
        if self._plan.interactive and len(names) > 1:
            print(f"(ce que vous tapez va à qui lit ; « {names[-1]}: 5 » dit à qui)")
        for name in names:
            program = self._programs[name] = self._gate.start(name, self._plan.commands[name])
            if self._plan.script is not None:
                self._gate.until_quiet(STARTING)
            elif name != names[-1]:
                readiness.await_server(self._world, program, STARTING, needed=False, typed=name != names[0])
            if program.failed:
                raise SpectaclesError(program.failed)

    def until_over(self) -> str:
        """Wait for the end; return why it is the end, "" where all have ended."""
        still = 0.0
        while True:
            for program in self._programs.values():
                if program.failed:
                    raise SpectaclesError(program.failed)
            self._type()
            self.show()
            running = [name for name, program in self._programs.items() if program.code is None]
            if not running:
                return ""
            others = [name for name in self._programs if name != next(iter(self._programs))]
            waits = self._at_rest()
            alone = others and running == [next(iter(self._programs))] and not self._typed
            if alone and self._at_rest(timed=True):
                return ""  # its clients have left, it waits for others
            if time.monotonic() > self._deadline:
                return f"{self._plan.seconds:g} s sont passées"
            still = still + PAUSE if waits and not self._readers() else 0.0
            if still > STILL:
                return f"plus rien ne bouge ({', '.join(running)})"
            time.sleep(PAUSE)

    def _at_rest(self, *, timed: bool = False) -> bool:
        """Say whether all wait for somebody, and no time will wake any. timed: whether that does not matter."""
        if not self._gate.at_rest() or (self._plan.script is not None and not self._plan.script.done.is_set()):
            return False
        for name, task in list(self._gate.tasks.items()):
            rest = None if task.dead else self._gate.asleep(name)
            if not timed and rest is not None and rest.state == "asleep" and rest.call in TIMED:
                return False
        return True

    def _readers(self) -> list[str]:
        """Return the programs that wait for a line."""
        found = []
        for name, task in list(self._gate.tasks.items()):
            if not task.dead and (self._input or self._typed):
                rest = self._gate.asleep(name)
                if rest is not None and (rest.state, rest.call, rest.object) == ("asleep", "read", "terminal"):
                    found.append(task.program)
        return found

    def _type(self) -> None:
        """Give a line to who waits for one."""
        if self._input:
            self._take_input()
        readers = self._readers() if self._typed else []
        if not readers:
            return
        name, line = self._typed[0]
        if name and self._programs[name].code is not None:
            self._never.append(self._typed.pop(0))
        elif not name or name in readers:
            self._typed.pop(0)
            with contextlib.suppress(WorldError):
                self._programs[name or readers[-1]].type(line)

    def say_untyped(self) -> None:
        """Say which lines nobody has read: a program that asks less than one thinks is a finding."""
        lines = [f"{name}: {line}" if name else line for name, line in (*self._never, *self._typed) if line]
        if lines:
            told = printable(" ; ".join(lines[:MOST_LEFT])) + (" ; …" if len(lines) > MOST_LEFT else "")
            print(f"spectacles trace : jamais lu par personne : {told}", file=sys.stderr)

    def _take_input(self) -> None:
        while select.select([sys.stdin], [], [], 0)[0]:
            line = sys.stdin.readline()
            if not line:
                self._input = False
                return
            name, colon, rest = line.rstrip("\n").partition(":")
            known = colon and name.strip() in self._programs
            self._typed.append((name.strip(), rest.strip()) if known else ("", line.rstrip("\n")))

    def show(self, *, everything: bool = False) -> None:
        """Show what the programs have printed since, to whoever types to them."""
        if not self._plan.interactive:
            return
        readers = self._readers()
        for name, program in self._programs.items():
            text = program.output()
            new = text[self._shown.get(name, 0) :]
            if not everything and name not in readers and program.code is None:
                new = new[: new.rfind("\n") + 1]
            self._shown[name] = self._shown.get(name, 0) + len(new)
            for line in new.splitlines():
                print(f"{name} │ {printable(line)}", flush=True)
