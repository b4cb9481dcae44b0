"""What the catalogue says: one hazard is one C file and one TOML file of the same name.

title, question, defect (0: none), lesson
programs       [["server"], ["A", "0"]]: arguments of the program, the first also its name; in the order of their start
pids           {A = 4242}: PIDs of choice
accesses       whether accesses to shared memory are seen (x86-64 only)
seats_file     where the seats are, as native ints; "places"
script         see gate/script.py; the same for the broken program and the sound one
[broken], [sound]  the signature: what each must come to, see Outcome.differs()
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spectacles.common.errors import UsageError

CATALOGUE = Path(__file__).with_name("catalogue")
BROKEN, SOUND = "broken", "sound"


@dataclass(frozen=True)
class Signature:
    """What a run must come to. Texts are the last lines that programs print."""

    said: Mapping[str, str]
    waits: Mapping[str, str]  # program -> the call that its first stuck task is asleep in
    killed: Mapping[str, int]  # program -> signal
    seats: tuple[int, ...] = ()  # at the end; (): does not matter


@dataclass(frozen=True)
class Hazard:
    """One of the catalogue."""

    name: str
    title: str  # French
    question: int  # of the subject, where it is met
    defect: int  # its number in docs/defects.md, 0 if it is none
    lesson: str  # French, some five lines
    programs: tuple[tuple[str, ...], ...]
    script: str
    signatures: Mapping[str, Signature]  # by BROKEN, SOUND
    pids: Mapping[str, int]
    accesses: bool = False
    seats_file: str = "places"

    @property
    def source(self) -> Path:
        """Its C file."""
        return CATALOGUE / f"{self.name}.c"


def names() -> list[str]:
    """Return the names of all hazards, in the order of the questions."""
    return [hazard.name for hazard in everything()]


def everything() -> list[Hazard]:
    """Return all hazards, in the order of questions and defects."""
    found = [load(path.stem) for path in CATALOGUE.glob("*.toml")]
    return sorted(found, key=lambda hazard: (hazard.question, hazard.defect or 99, hazard.name))


def load(name: str) -> Hazard:
    """Return one. Raises UsageError, which names those there are."""
    path = CATALOGUE / f"{name}.toml"
    if "/" in name or not path.exists():
        known = " ".join(sorted(path.stem for path in CATALOGUE.glob("*.toml")))
        raise UsageError(f"péril inconnu : {name} (parmi {known})")
    said = tomllib.loads(path.read_text(encoding="utf-8"))
    programs = tuple(tuple(words) for words in said["programs"])
    return Hazard(
        name=name,
        title=said["title"],
        question=said["question"],
        defect=said["defect"],
        lesson=said["lesson"].strip(),
        programs=programs,
        script=said["script"].strip(),
        signatures={which: _signature(said[which], [words[0] for words in programs]) for which in (BROKEN, SOUND)},
        pids=said.get("pids", {}),
        accesses=said.get("accesses", False),
        seats_file=said.get("seats_file", "places"),
    )


def _signature(said: Mapping[str, Any], programs: Sequence[str]) -> Signature:
    return Signature(
        said={name: text for name, text in said.items() if name in programs},
        waits=said.get("waits", {}),
        killed=said.get("killed", {}),
        seats=tuple(said.get("seats", ())),
    )
