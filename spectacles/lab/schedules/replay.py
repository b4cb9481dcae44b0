"""Plays a script on a scenario, in a fresh world, matched by name: what the explorer found, shown again without it.

Nothing of the search is used here: the gate's own scripts are. Servers start in turns until all of them wait, then the
script begins, and the other programs are started. In turns: of several that wait for the same, it says who is served.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spectacles.lab.gate.policy import Answer, Decision, Go, Hold
from spectacles.lab.gate.script import PATIENCE, Missed, Script
from spectacles.lab.gate.supervisor import Gate, GateError
from spectacles.lab.programs.world import Limits, World, WorldError
from spectacles.lab.schedules.stage import LAST_SLEEPS, Run, StageError
from spectacles.lab.schedules.verdict import Failure, Why, judge

if TYPE_CHECKING:
    from spectacles.lab.gate.events import Event
    from spectacles.lab.gate.policy import Gate as AnyGate
    from spectacles.lab.programs.world import Program
    from spectacles.lab.schedules.scenario import Actor, Scenario

ENDING = 10.0  # seconds that programs get to end once the script has


@dataclass(frozen=True)
class Replay:
    """What a script came to."""

    run: Run
    failure: Failure | None
    missed: tuple[Missed, ...]  # lines that did not fit the program


class _Later:
    """A script that begins when it is told to: until then every call is held. Sleeps do not pass in vain."""

    waiting = True
    stepwise = False

    def __init__(self, script: Script) -> None:
        self._script = script
        self._begun = False

    def begin(self, gate: AnyGate) -> None:
        """Follow the script from now on."""
        self._script.opened(gate)
        self._begun = True
        for task in gate.held():
            assert task.held is not None
            if isinstance(self.decide(gate, task.held), Go):
                gate.let(task.name)

    def opened(self, gate: AnyGate) -> None:
        """Wait for begin()."""

    def decide(self, gate: AnyGate, event: Event) -> Decision:
        """As the script says."""
        if not self._begun:
            return Hold()
        if event.call == "sleep":
            return Answer(0)
        return self._script.decide(gate, event)

    def look(self, gate: AnyGate) -> None:
        """As the script does."""
        if self._begun:
            self._script.look(gate)


def replay(
    scenario: Scenario, text: str, *, patience: float = PATIENCE, clock: bool = True, linger: float = 0.0
) -> Replay:
    """Play a script. Blocks, `patience` seconds for a step that does not come, ENDING for the end.

    clock: whether time is the same in every run; False: as it is, but that alarms do not ring. linger: seconds at the
    end in which who waits may still wake by himself. Raises UsageError for a line that is no step, StageError,
    WorldError, GateError.
    """
    script = Script(text, patience=patience)
    policy = _Later(script)
    with contextlib.ExitStack() as undo:
        world = undo.enter_context(World(scenario.folder, limits=Limits(cpu=None), visible=scenario.visible))
        for command in scenario.before:
            if world.start(command).wait(60):
                raise StageError(f"{command[0]} : n'a pas pu être préparé")
        gate = undo.enter_context(
            Gate(world, policy, accesses=scenario.accesses, threads=True, clock=clock, alarms=False)
        )
        programs = {}
        for actor in scenario.actors:
            if actor.stays:
                programs[actor.name] = _start(gate, actor)
                _in_turns(gate)
        first = len(gate.events())
        policy.begin(gate)
        for actor in scenario.actors:
            if not actor.stays and not actor.last:
                programs[actor.name] = _start(gate, actor)
        deadline = time.monotonic() + ENDING + patience * len(script.steps)
        end, rest = "endless", {}
        while time.monotonic() < deadline:
            if not script.done.wait(0.01):
                continue
            try:
                rest = gate.settle(ENDING)
            except GateError:
                break
            if not any(found.state == "held" for found in rest.values()):
                time.sleep(linger)
                rest = gate.settle(ENDING) if linger else rest
                end = "rest"
                break
        for actor in scenario.actors:
            if actor.last and end == "rest":
                programs[actor.name] = _start(gate, actor)
                rest = gate.settle(ENDING)
        codes = {}
        for name, program in programs.items():
            with contextlib.suppress(WorldError):
                if gate.tasks[name].dead:
                    codes[name] = program.wait(ENDING)
        files = {}
        wanted = {content.place for content in scenario.contents}
        if scenario.service is not None and scenario.service.file:
            wanted.add(scenario.service.file)
        for place in wanted:
            if place.startswith("memory "):
                files[place] = gate.memory(place)
                continue
            with contextlib.suppress(OSError):
                files[place] = (world.folder / place).read_bytes()
        printed = {name: program.output() for name, program in programs.items()}
        run = Run((), end, tuple(gate.events()), first, str, rest, codes, printed, files, tuple(gate.notes))
    return Replay(run, judge(scenario, run), tuple(script.missed))


def _in_turns(gate: Gate) -> None:
    """Let one task go on after the other until nobody can: who moved last while he can, else the first by birth."""
    last = ""
    slept: Counter[str] = Counter()
    while True:
        gate.settle(ENDING)
        held = {task.name: task.held for task in gate.held() if task.held is not None}
        names = [name for name, event in held.items() if event.call != "sleep" or slept[name] < LAST_SLEEPS]
        if not names:
            return
        last = last if last in names else names[0]
        if held[last].call == "sleep":
            slept[last] += 1
            gate.answer(last, 0)
        else:
            gate.let(last)


def _start(gate: Gate, actor: Actor) -> Program:
    program = gate.start(actor.name, actor.command, env=actor.env, cwd=actor.folder)
    for line in actor.typed:
        program.type(line)
    return program


def same(found: Failure, again: Failure | None) -> bool:
    """Say whether a replay shows what was found: the same kind of failure."""
    return again is not None and (
        again.why == found.why or {again.why, found.why} <= {Why.CODE, Why.PRINTED, Why.CONTENT}
    )
