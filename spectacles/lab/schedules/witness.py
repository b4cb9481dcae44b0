"""A second witness for threads: Helgrind, where it is installed. It looks at one run, and at all of memory."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spectacles.lab.programs.world import Limits, World, WorldError

if TYPE_CHECKING:
    from spectacles.lab.schedules.scenario import Scenario

PATIENCE = 30.0  # seconds for its run


@dataclass(frozen=True)
class Testimony:
    """What it said. It may be wrong: a witness, not a judge."""

    races: int  # accesses without a lock in common
    first: str = ""  # "fils.c:25", where the program has -g


def helgrind(scenario: Scenario) -> Testimony | None:
    """Run the one program of a scenario under Helgrind; None where it is not installed, or says nothing of use.

    Blocks for a second or two, at most PATIENCE. Raises WorldError.
    """
    if shutil.which("valgrind") is None or len(scenario.actors) != 1:
        return None
    actor = scenario.actors[0]
    command = ["valgrind", "--tool=helgrind", "-q", *actor.command]
    with World(scenario.folder, limits=Limits(cpu=None), visible=scenario.visible) as world:
        program = world.start(command, env=actor.env)
        for line in actor.typed:
            program.type(line)
        try:
            program.wait(PATIENCE)
        except WorldError:
            return None
        said = program.output()
    if "Possible data race" not in said and re.search(r"valgrind:|==\d+== .*(fatal|error)", said, re.IGNORECASE):
        return None
    places = re.search(r"Possible data race.*?\(([\w.-]+:\d+)\)", said, re.DOTALL)
    return Testimony(said.count("Possible data race"), places[1] if places else "")
