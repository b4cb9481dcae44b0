"""When a server is ready: its tasks wait, and one of them for somebody else. Seen in the kernel, not in its output."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from spectacles.common.errors import SpectaclesError
from spectacles.lab.kernel import model
from spectacles.lab.kernel.inside import InsideLooker
from spectacles.lab.kernel.looker import Looker

if TYPE_CHECKING:
    from spectacles.lab.programs.world import Program, World

PAUSE = 0.02  # seconds between two looks


def await_server(world: World, program: Program, timeout: float, *, needed: bool = True, typed: bool = False) -> bool:
    """Wait until `program`, or what it has started, waits for a request; return whether it does.

    typed: or for a line at its terminal, as a client does.
    needed: raise SpectaclesError when it has ended, or does not within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while program.code is None and time.monotonic() < deadline:
        with contextlib.suppress(SpectaclesError):  # it has ended, or has not got to its exec(3), and may not be seen
            if _waits_twice(world, program, deadline, typed):
                return True
        time.sleep(PAUSE)
    if not needed:
        return False
    said = program.output().strip().splitlines()
    how = f"a fini, code {program.code}" if program.code is not None else f"n'attend aucune demande en {timeout:g} s"
    raise SpectaclesError(f"le serveur {how}" + (f" : {said[-1]}" if said else ""))


def _waits_twice(world: World, program: Program, deadline: float, typed: bool) -> bool:
    """Say whether the program was seen to wait for the same in two looks, before `deadline`. Raises SpectaclesError."""
    before: set[tuple[int, str]] = set()
    with contextlib.closing(_looker(world, program)) as looker:
        while program.code is None and time.monotonic() < deadline:
            now = _waits(looker.look(), typed)
            if now and now == before:
                return True
            before = now
            time.sleep(PAUSE)
    return False


def _looker(world: World, program: Program) -> InsideLooker | Looker:
    if world.private:  # entered through the program: only root may look at the world's first process
        return InsideLooker(program.pid, (program.inside,))
    return Looker((program.pid,))


def _waits(look: model.Look, typed: bool) -> set[tuple[int, str]]:
    """Return who waits for which queue, FIFO, listening socket; empty unless all tasks wait for something.

    typed: or terminal.
    """
    found: set[tuple[int, str]] = set()
    for process in look.processes:
        if process.role != "tree":
            continue
        for task in process.tasks:
            if not task.waits:
                return set()
            found |= {
                (task.tid, wait.target)
                for wait in task.waits
                if wait.target is not None and _is_for_requests(look.objects.get(wait.target), wait.kind)
            }
            found |= {(task.tid, "terminal") for wait in task.waits if typed and _is_for_a_line(wait)}
    return found


def _is_for_a_line(wait: model.Wait) -> bool:
    return wait.kind == "read" and (wait.target or "").startswith(("device:/dev/pts", "device:/dev/tty"))


def _is_for_requests(thing: object, kind: str) -> bool:
    if isinstance(thing, model.Queue | model.MessageQueue):
        return kind == "receive"
    if isinstance(thing, model.Pipe):
        return thing.path is not None and kind in ("read", "open", "event")
    if isinstance(thing, model.Socket):
        return thing.state == "LISTEN"
    return False
