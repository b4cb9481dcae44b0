"""Places in a program's run where something can be done to it: the calls between a request and its answer.

learn() watches one request; each call that the watched side makes meanwhile is a Site. At is the policy that stops,
fails or kills a task there in another world. A site is matched by names, never by its place in the run: the task, the
call, its object without the numbers that differ between runs, and which of several.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spectacles.lab.gate.events import BUSY, HAS, LACKS, Kind
from spectacles.lab.gate.policy import Go, Hold

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from spectacles.lab.gate.events import Event
    from spectacles.lab.gate.policy import Decision
    from spectacles.lab.gate.policy import Gate as PolicyGate

BORN = "+"  # in the place of the name of a task that was born after the server became ready
ANY = "*"  # in that of one that there was then, but not the first: of several workers each may take a request
_RUN = re.compile(r"^(server|V)-?\d+(?=\.|$)")  # programs that play the same part one after the other
_VARIES = re.compile(r"#\d+|\b[0-9a-f]{8}\b|\d{3,}|\+0x[0-9a-f]+|0x[0-9a-f]+")  # eight: a key in a name
SENDING = ("msgsnd", "mq_send", "write", "send")
RECEIVING = ("msgrcv", "mq_receive", "read", "recv")
_SKIPPED = ("poll", "sleep", "exec", "wait")


@dataclass(frozen=True)
class Site:
    """One call. task: its name, or BORN. object: as plain() has it. nth: which of those alike, from 1."""

    task: str
    call: str
    object: str
    nth: int = 1
    shown: str = ""  # the object as it was called when the site was learnt

    def __str__(self) -> str:
        """Say it in French: « avant write(spectacles.dat) de server.2 »."""
        who = "du thread ou processus qui sert" if self.task in (BORN, ANY) else f"de {self.task}"
        which = f", {self.nth}e fois" if self.nth > 1 else ""
        return f"avant {self.call}({self.shown}) {who}{which}"

    @property
    def script(self) -> str:
        """Return it as text that of_script() reads."""
        return "|".join((self.task, self.call, self.object, str(self.nth), self.shown))

    @classmethod
    def of_script(cls, text: str) -> Site:
        """Return the site that `script` has written. Raises ValueError."""
        task, call, thing, nth, shown = text.split("|", 4)
        return cls(task, call, thing, int(nth), shown)


def plain(thing: str) -> str:
    """Return the name of an object without what differs from run to run."""
    return _VARIES.sub("#", thing)


def part(task: str) -> str:
    """Return the name of a task whose program has played its part before: "server-2.1" is "server.1"."""
    return _RUN.sub(r"\1", task)


def sites(events: Sequence[Event], lasting: Iterable[str], tasks: Iterable[str]) -> list[Site]:
    """Return the calls in `events` of programs called `tasks`, in order.

    lasting: names of the tasks that there were when the server became ready; others serve a client or a request.
    """
    return [site for _, site in placed(events, lasting, tasks)]


def placed(events: Sequence[Event], lasting: Iterable[str], tasks: Iterable[str]) -> list[tuple[Event, Site]]:
    """Return what sites() does, each with its event."""
    old, prefixes = {part(name) for name in lasting}, tuple(tasks)
    count: dict[tuple[str, str, str], int] = {}
    found = []
    for event in events:
        if not event.task.startswith(prefixes) or event.kind not in (Kind.CALL, Kind.MARK):
            continue
        if event.call in (BUSY, HAS, LACKS, *_SKIPPED):
            continue
        key = (part(event.task) if part(event.task) in old else BORN, event.call, plain(event.object))
        count[key] = count.get(key, 0) + 1
        found.append((event, Site(*key, count[key], event.object)))
    return found


class At:
    """A policy: everything goes, but when it is armed and a task comes to a site, it does there what it is told."""

    waiting = False
    stepwise = False

    def __init__(self, site: Site | None = None, decision: Decision | None = None) -> None:
        self.site = site
        self.decision: Decision = decision or Go()
        self.reached = threading.Event()
        self.event: Event | None = None  # at which it was done
        self._armed = False
        self._count = 0
        self._old: set[str] = set()
        self._of: tuple[str, ...] = ("server",)

    def arm(self, site: Site | None = None, lasting: Iterable[str] = (), of: tuple[str, ...] = ("server",)) -> None:
        """Look for a site from now on (None: the one it was made for). lasting: names of tasks that are not BORN.

        of: what the names of the tasks begin with that it may be one of: whoever else is under the gate goes on.
        """
        self.site = site or self.site
        self._of = of
        self._old = set(lasting)
        self._count = 0
        self.reached.clear()
        self._armed = True

    def opened(self, gate: PolicyGate) -> None:
        """Nothing to prepare."""

    def decide(self, gate: PolicyGate, event: Event) -> Decision:
        """Do what it is there for at the site, once."""
        site = self.site
        if not self._armed or site is None or event.call != site.call or plain(event.object) != site.object:
            return Go()
        if not event.task.startswith(self._of):
            return Go()
        if site.task == ANY:
            if event.task not in self._old or part(event.task) == "server":
                return Go()
        elif (part(event.task) if event.task in self._old or site.task != BORN else BORN) != site.task:
            return Go()
        self._count += 1
        if self._count != site.nth:
            return Go()
        self._armed = False
        self.event = event
        self.reached.set()
        return self.decision

    def look(self, gate: PolicyGate) -> None:
        """Nothing to look for."""


class BeforeAnswer(At):
    """Holds one client, V at first, where it goes to receive its answer, once it has sent its request."""

    def __init__(self) -> None:
        super().__init__(None, Hold())
        self._sent = False
        self._name = "V"
        self._armed = True

    def arm_for(self, name: str) -> None:
        """Wait for another client."""
        self._name = name
        self._sent = False
        self.reached.clear()

    def decide(self, gate: PolicyGate, event: Event) -> Decision:
        """Hold it there."""
        if event.task.partition(".")[0] != self._name or self.reached.is_set():
            return Go()
        if event.call in SENDING and event.object != "terminal" and not event.object.startswith("/"):
            self._sent = True
        elif self._sent and event.call in RECEIVING and event.object != "terminal":
            self.event = event
            self.reached.set()
            return Hold()
        return Go()
