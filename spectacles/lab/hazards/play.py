"""One program of a hazard under its script: started, watched to its end, and what came of it.

Programs are started one after another, each once all that were started before it have come to rest, so that the same
happens in every run. The end is when everybody is at rest, or no more, and the script is through.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from spectacles.common.errors import SpectaclesError
from spectacles.lab.gate.events import Event, Kind
from spectacles.lab.gate.script import Script
from spectacles.lab.gate.supervisor import Gate, Rest
from spectacles.lab.hazards.hazard import BROKEN, CATALOGUE, SOUND, Hazard, Signature
from spectacles.lab.programs.world import Program, World, WorldError

PATIENCE = 60.0  # seconds for a start, and for the end, on a machine however busy
PAUSE = 0.001


class HazardError(SpectaclesError):
    """A hazard cannot be played here: no compiler, no private world."""


@dataclass(frozen=True)
class Outcome:
    """What came of a run."""

    said: Mapping[str, str]  # all that each program printed
    waits: Mapping[str, str]  # program -> the call that a task of it is asleep in, at the end
    killed: Mapping[str, int]  # program -> the signal that ended it
    seats: tuple[int, ...]  # (): there are none
    missed: tuple[str, ...] = ()  # lines of the script that did not fit, and why
    seen: tuple[tuple[int, tuple[int, ...]], ...] = field(default=(), repr=False)  # seq of an event, seats from then on

    def differs(self, signature: Signature) -> list[str]:
        """Return in which ways it is not what it must be, in French; [] if it is."""
        found = [
            f"{name} : « {_last(self.said.get(name, ''))} » au lieu de « {text} »"
            for name, text in signature.said.items()
            if _last(self.said.get(name, "")) != text
        ]
        found += [
            f"{name} : attend dans {self.waits.get(name, 'rien')} au lieu de {call}"
            for name, call in signature.waits.items()
            if self.waits.get(name) != call
        ]
        found += [
            f"{name} : attend dans {call}"
            for name, call in self.waits.items()
            if name not in signature.waits and not name.startswith("serve")  # who waits for the next request
        ]
        if dict(self.killed) != dict(signature.killed):
            found.append(f"tués : {dict(self.killed)} au lieu de {dict(signature.killed)}")
        if signature.seats and self.seats != signature.seats:
            found.append(f"places : {list(self.seats)} au lieu de {list(signature.seats)}")
        return found


@contextmanager
def built(hazard: Hazard, which: str, defines: Sequence[str] = ()) -> Iterator[Path]:
    """Compile one of the two programs; yields a folder with `hazard` in it. Raises HazardError without a compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise HazardError("pas de compilateur C (cc) : les programmes des périls ne peuvent être construits")
    with tempfile.TemporaryDirectory(prefix="spectacles-") as folder:
        flags = ["-std=gnu11", "-O1", "-g", "-pthread", "-w", *(["-DBROKEN"] if which == BROKEN else []), *defines]
        done = subprocess.run(
            [compiler, *flags, "-I", CATALOGUE, "-o", f"{folder}/hazard", hazard.source], capture_output=True, text=True
        )
        if done.returncode:
            raise HazardError(f"{hazard.source.name} ne se compile pas : {done.stderr.strip().splitlines()[0]}")
        yield Path(folder)


def play(hazard: Hazard, which: str, *, sink: Callable[[Event], None] | None = None) -> Outcome:
    """Run the BROKEN or the SOUND program of a hazard under its script. Blocks for a second or so.

    sink: gets every event as it happens, and must not block. Raises HazardError, WorldError, GateError.
    """
    assert which in (BROKEN, SOUND)
    heard = _Heard(hazard, sink)
    with built(hazard, which) as folder, World(folder) as world:
        if not world.private:
            raise HazardError(world.refused)  # its queues and semaphores have fixed keys
        heard.seats_file = world.folder / hazard.seats_file
        script = Script(hazard.script)
        with Gate(world, script, accesses=hazard.accesses, sink=heard.event) as gate:
            if hazard.accesses and gate.notes:
                raise HazardError(gate.notes[0])
            started: dict[str, Program] = {}
            for words in hazard.programs:
                started[words[0]] = _start(gate, words, hazard.pids.get(words[0]))
                _until_quiet(gate)
            rests = _until_quiet(gate, script.done.is_set)
            for name, program in started.items():
                if gate.tasks[name].dead:
                    program.wait(PATIENCE)
            heard.over = True  # what comes now is our own clearing up
            return Outcome(
                said=heard.said(),
                waits={name: rests[name].call for name in started if rests[name].state == "asleep"},
                killed={name: -code for name, program in started.items() if (code := program.code or 0) < 0},
                seats=heard.seats(),
                missed=tuple(str(missed) for missed in script.missed),
                seen=tuple(heard.seen),
            )


class _Heard:
    """What is gathered while a run goes on: called by the gate with every event, its lock held."""

    def __init__(self, hazard: Hazard, sink: Callable[[Event], None] | None) -> None:
        self.seats_file = Path()
        self.over = False
        self.seen: list[tuple[int, tuple[int, ...]]] = []
        self._sink = sink
        self._said: dict[int, tuple[str, bytes]] = {}  # by the seq of the write: task, text

    def event(self, event: Event) -> None:
        """Take one in."""
        if self.over:
            return
        seats = self.seats()
        if seats and (not self.seen or self.seen[-1][1] != seats):
            self.seen.append((event.seq, seats))
        if event.kind == Kind.CALL and event.call == "write" and event.object == "terminal":
            self._said[event.seq] = (event.task, event.arguments.get("data", b""))
        elif event.kind == Kind.INTERRUPTED:
            self._said.pop(event.of, None)  # it will be made again
        if self._sink is not None:
            self._sink(event)

    def said(self) -> dict[str, str]:
        """Return what each program wrote to its terminal, its children and threads included."""
        found: dict[str, str] = {}
        for task, data in self._said.values():
            name = task.partition(".")[0]
            found[name] = found.get(name, "") + data.decode("utf-8", "replace")
        return found

    def seats(self) -> tuple[int, ...]:
        """Return the seats in the file, () if there is none, or not a whole one."""
        try:
            data = self.seats_file.read_bytes()
        except OSError:
            return ()
        return struct.unpack("@2i", data) if len(data) == 8 else ()


def _start(gate: Gate, words: Sequence[str], pid: int | None) -> Program:
    """Start one; a PID of choice may take a moment to be free again."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return gate.start(words[0], ["./hazard", *words], pid=pid)
        except WorldError:
            if pid is None or time.monotonic() > deadline:
                raise
            time.sleep(PAUSE)


def _until_quiet(gate: Gate, done: Callable[[], bool] = lambda: True) -> dict[str, Rest]:
    """Return how all are at rest, once they are and `done` says so."""
    rests = gate.until_quiet(PATIENCE, done)
    if rests is None:  # of this run, not of this machine: whoever plays many goes on
        raise SpectaclesError(f"pas au repos en {PATIENCE:g} s")
    return rests


def _last(text: str) -> str:
    """Return the last line."""
    return text.rstrip("\n").rpartition("\n")[2]
