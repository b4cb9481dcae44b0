"""What is explored: programs, what is typed to each, what must hold. Data only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

STEPS = 4000  # of one run, before it is said never to end
SPIN = 300  # steps of one task in a row, while others could move, before another is let move


@dataclass(frozen=True)
class Actor:
    """One program of a scenario."""

    name: str  # of its task: "server", "A"; its children are "server.1", ...
    command: tuple[str, ...]  # looked for in the folder and on PATH
    typed: tuple[str, ...] = ()  # lines typed at its terminal
    stays: bool = False  # a server: started first, alone, until all of it waits; it need not end
    env: Mapping[str, str] = field(default_factory=dict)
    code: int | None = 0  # the exit code that it must end with; None: any that is not a crash
    prints: tuple[str, ...] = ()  # regular expressions that must each be found in what it prints
    never: tuple[str, ...] = ()  # and that must not
    last: bool = False  # started once all others have ended or wait; alone: what it says is of the end
    folder: str = "."  # where it is started, within that of the scenario

    def __post_init__(self) -> None:
        for pattern in (*self.prints, *self.never):
            re.compile(pattern)


@dataclass(frozen=True)
class Content:
    """What a file, or shared memory, must hold at the end of every run."""

    place: str  # a path relative to the folder; "memory 0x0000002b" or "memory /name"
    pattern: str = ""  # a regular expression, on the bytes as latin-1
    size: int | None = None  # bytes
    layout: str = ""  # a struct format whose first value, at `offset`, must lie between `least` and `most`
    offset: int = 0
    least: int | None = None
    most: int | None = None


@dataclass(frozen=True)
class Service:
    """The box office: clients reserve and consult, and are told so. What the accounts are kept on."""

    operations: Mapping[str, tuple[str, ...]]  # actor -> "reserve", "5", "1"; one request each
    initial: Mapping[int, int]  # seats of each show before the run
    accepted: str  # a regular expression on the output of one that was accepted
    refused: str  # likewise; where both are found, it was refused
    seats: str = ""  # likewise of a consultation, with a group: the seats; "" where none is asked
    file: str = "spectacles.dat"  # where the table is at the end, "" if nowhere
    refusals: bool = True  # whether a refusal must have a reason; False: whoever is refused may have been at any time


@dataclass(frozen=True)
class Scenario:
    """Programs, and what must hold however they are scheduled."""

    title: str
    actors: tuple[Actor, ...]
    folder: str | None = None  # copied afresh for each run
    before: tuple[tuple[str, ...], ...] = ()  # commands run once, before the folder is remembered
    contents: tuple[Content, ...] = ()
    service: Service | None = None
    visible: tuple[str, ...] = ()  # paths that programs may read at their place
    accesses: bool = True  # whether each access to shared memory is a point of choice
    passes: frozenset[str] = frozenset()  # kinds of failure (verdict.Why) that are let pass
    steps: int = STEPS

    def __post_init__(self) -> None:
        names = [actor.name for actor in self.actors]
        for name in names:
            if not re.fullmatch(r"[A-Za-z][\w-]*", name):
                raise ValueError(f"« {name} » n'est pas un nom de tâche : des lettres, des chiffres, - et _")
        if len(set(names)) < len(names):
            raise ValueError("deux programmes ont le même nom")
        if not any(not actor.stays for actor in self.actors):
            raise ValueError("aucun programme ne doit finir : il n'y a rien à attendre")
