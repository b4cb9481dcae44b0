"""Shares schedules out among processes, each with a stage of its own: one a processor.

explorer ── branches ──▶ worker    a process; pickled, over its standard input and output
         ◀── outcomes ──
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from spectacles.common.errors import SpectaclesError
from spectacles.lab.gate.supervisor import GateError
from spectacles.lab.schedules.stage import Diverged, Stage
from spectacles.lab.schedules.verdict import judge

if TYPE_CHECKING:
    from spectacles.lab.schedules.scenario import Scenario
    from spectacles.lab.schedules.search import Branch
    from spectacles.lab.schedules.stage import Step
    from spectacles.lab.schedules.verdict import Failure

AT_ONCE = 6  # branches handed to a worker before the first is done
_LENGTH = struct.Struct("=Q")
_ROOT = Path(__file__).resolve().parents[3]
_CODE = "import sys; sys.path.insert(0, sys.argv.pop(1)); from spectacles.lab.schedules import pool; pool.serve()"


@dataclass(frozen=True)
class Outcome:
    """What a branch came to. trouble: why it could not be judged, in French."""

    branch: Branch
    steps: tuple[Step, ...]
    failure: Failure | None
    trouble: str = ""


def play(stage: Stage, branch: Branch) -> Outcome:
    """Play a branch; once more where the same choices led elsewhere. Raises nothing of the programs' own doing."""
    trouble = ""
    for _ in range(2):
        try:
            run = stage.play(branch.choices, branch.labels)
        except (Diverged, GateError) as error:
            trouble = str(error)
            continue
        return Outcome(branch, run.steps, judge(stage.scenario, run))
    return Outcome(branch, (), None, trouble)


class Worker:
    """A process that plays branches. A context manager."""

    def __init__(self, scenario: Scenario, *, kills: bool, processor: int | None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CODE, str(_ROOT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.busy = 0
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        _send(self._in, (scenario, kills, processor))

    def give(self, branch: Branch) -> None:
        """Hand it a branch. Raises SpectaclesError when it is no more."""
        try:
            _send(self._in, branch)
        except OSError:
            raise SpectaclesError("un processus de l'exploration a fini") from None
        self.busy += 1

    def ready(self, timeout: float) -> bool:
        """Say whether an outcome has come, within so many seconds."""
        return bool(select.select([self._out], [], [], timeout)[0])

    def take(self) -> Outcome:
        """Return the next outcome. Blocks. Raises SpectaclesError when the worker is no more, or could not begin."""
        got = _receive(self._out)
        self.busy -= 1
        if isinstance(got, Outcome):
            return got
        raise SpectaclesError(str(got) if got is not None else "un processus de l'exploration a fini")

    def stop(self) -> None:
        """Let it not go on; its world ends with it."""
        self._process.kill()
        self.busy = 0

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:  # Ctrl-C: nobody waits for the run that it plays
            self.stop()
        with contextlib.suppress(OSError):
            self._in.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._out.close()


def settle_down(processor: int | None) -> None:
    """Stay on one processor, and with us all that we start: who lets a task go and who is let go never run at once."""
    if processor is not None:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, {processor})


def serve() -> None:
    """The worker's side."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever explores, who ends us
    inward = os.fdopen(os.dup(0), "rb")
    outward = os.fdopen(os.dup(1), "wb")
    scenario, kills, processor = _receive(inward)
    settle_down(processor)
    try:
        with Stage(scenario, kills=kills) as stage:
            while (branch := _receive(inward)) is not None:
                _send(outward, play(stage, branch))
    except BrokenPipeError:
        pass  # whoever explores is done
    except (SpectaclesError, OSError) as error:
        with contextlib.suppress(OSError):
            _send(outward, str(error))


def _send(stream: Any, what: object) -> None:
    data = pickle.dumps(what)
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def _receive(stream: IO[bytes]) -> Any:
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    return pickle.loads(stream.read(_LENGTH.unpack(head)[0]))
