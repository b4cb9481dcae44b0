"""What a check is given: the program, how it is spoken to, how long things may take; and fresh worlds of it."""

from __future__ import annotations

import contextlib
import math
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectacles.common.errors import SpectaclesError
from spectacles.lab.check.model import NotApplicable, NotReached
from spectacles.lab.dossier.driving import Bench
from spectacles.lab.dossier.sites import plain
from spectacles.lab.gate.events import Kind
from spectacles.lab.record import sources

if TYPE_CHECKING:
    from collections.abc import Callable

    from spectacles.lab.check.control import Control
    from spectacles.lab.dossier.driving import Answer, Client
    from spectacles.lab.dossier.profile import Item, Profile
    from spectacles.lab.gate.events import Event
    from spectacles.lab.gate.policy import Policy


UNKNOWN = 1 << 30  # seats of a show whose number was not asked: others come first


class Time:
    """What is left of the time of one sweep; true while there is some. To be asked only where more is to be tried."""

    def __init__(self, case: Case, seconds: float) -> None:
        self._case = case
        self._until = time.monotonic() + seconds

    def __bool__(self) -> bool:
        """Whether there is time for another place; if not, the report will say so."""
        left = time.monotonic() < self._until
        self._case.short = self._case.short or not left
        return left


@dataclass
class Case:
    """One call of one check.

    folder: the program as built. profile: how it is spoken to. control: what a sound program took, just before. quick:
    whether to try the likeliest few of many. script: the one thing to do, of an outcome to be confirmed or played
    again; "" for all. found: numbers of the defects that checks before this one have found.
    """

    folder: Path
    profile: Profile
    control: Control
    quick: bool = False
    script: str = ""
    found: frozenset[int] = frozenset()
    sources: tuple[Path, ...] = ()  # of the server, in the folder
    client_sources: tuple[Path, ...] = ()
    sink: Callable[[Event], None] | None = None  # is told all events of gates: a recording
    gated: bool = False  # whether every world has a gate, to be recorded
    made: list[Bench] = field(default_factory=list)
    allowed: float = math.inf  # seconds that one sweep may take, of those that the whole program may
    short: bool = False  # whether something was not tried because they were over

    @property
    def patience(self) -> float:
        """Seconds after which an answer is late: a multiple of what the sound reference took."""
        return self.control.patience

    def within(self, seconds: float) -> Time:
        """Return the time of one sweep, from now on: `seconds`, or what there is for it."""
        return Time(self, min(seconds, self.allowed))

    @property
    def question(self) -> int:
        """The question of the subject that it claims to answer, 0: none."""
        return self.profile.question

    def bench(self, policy: Policy | None = None, *, gated: bool = False, **options: Any) -> Bench:
        """Return a fresh world of the program, to be entered. policy, gated: under a gate; see driving.Bench."""
        gated = gated or self.gated
        # Where two writes may be read as one, clients go at the pace of the server that is watched, or all of them are.
        slowly = 7 in self.found and (gated or policy is not None)
        options = {"everyone": self.gated or slowly, **options}
        if self.sink is not None and (gated or policy is not None):
            options["gate_options"] = {"sink": self.sink, **options.get("gate_options", {})}
        made = Bench(self.folder, self.profile, self.patience, policy, gated, **options)
        self.made.append(made)
        return made

    def item(self) -> Item:
        """Return the show to work with: the one with the fewest seats, but some. Raises NotApplicable."""
        items = [item for item in self.profile.items if item.seats is None or item.seats > 3]
        if not items:
            raise NotApplicable("aucun spectacle n'a assez de places")
        return min(items, key=lambda item: item.seats if item.seats is not None else UNKNOWN)

    def seats(self, bench: Bench, client: Client, item: str) -> int:
        """Return how many seats are left, asked. Raises NotReached."""
        answer = bench.ask(client.consult(item))
        return self.told(answer)

    def told(self, answer: Answer) -> int:
        """Return what a consultation has said. Raises NotReached."""
        if answer.left is None:
            raise NotReached(f"une simple consultation n'a pas de réponse ({answer})")
        return answer.left

    def granted(self, answer: Answer) -> Answer:
        """Return the answer if it is yes. Raises NotReached."""
        if answer.state != "yes":
            raise NotReached(f"une simple réservation n'est pas acceptée ({answer})")
        return answer

    def most(self, seats: int) -> int:
        """Return that number of seats, or what one request may ask for at most."""
        return min(seats, self.profile.most_seats) if self.profile.most_seats else seats

    def place(self, event: Event | None) -> str:
        """Return where in its source a program made the call of an event, "" where it has no debug information."""
        if event is None:
            return ""
        found = self._line(event)
        name, _, number = found.rpartition(":")
        for path in (self.folder / name, *self.folder.rglob(os.path.basename(name))) if name else ():
            with contextlib.suppress(OSError, ValueError, IndexError):
                line = path.read_text(encoding="utf-8", errors="replace").splitlines()[int(number) - 1]
                return f"{os.path.basename(name)}:{number} : {line.strip()[:160]}"
        return found

    def _line(self, event: Event) -> str:
        """Return "serveur.c:42" of a call, "" where that is not known.

        Where a call was made is told by its return. One that never did, or only after it was looked at, is at the line
        of those like it, if they are all at one.
        """
        own, alike = [event], []
        for bench in self.made:
            with contextlib.suppress(SpectaclesError):
                for other in bench.gate.events() if bench.gate is not None else ():
                    if other.kind is Kind.RESULT and other.call == event.call and "at" in other.arguments:
                        if (other.of, other.tid) == (event.seq, event.tid):
                            own.append(other)
                        elif plain(other.object) == plain(event.object):
                            alike.append(other)
        known = sources.places([*own, *alike], [self.folder])
        lines = [{known[str(at)] for one in some if (at := one.arguments.get("at")) in known} for some in (own, alike)]
        return next((line for some in lines if len(some) == 1 for line in some), "")

    def source(self, pattern: str, *, client: bool = False) -> str:
        """Return the first line of the program's own source in which a regular expression is found, "" without one.

        "serveur.c:42 : key_t clef = ftok(...)": what a person looks for, where no call stack leads there. client: in
        the source of the client.
        """
        for path in self.client_sources if client else self.sources:
            with contextlib.suppress(OSError):
                for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
                    if re.search(pattern, line) and not line.lstrip().startswith(("//", "#", "*", "/*")):
                        return f"{path.relative_to(self.folder)}:{number} : {line.strip()[:160]}"
        return ""
