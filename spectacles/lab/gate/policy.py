"""Who decides what becomes of a held call. The gate asks one object, for every call, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from spectacles.lab.gate.events import Event


@dataclass(frozen=True)
class Go:
    """Let it happen."""


@dataclass(frozen=True)
class Hold:
    """Keep it until Gate.let(), fail(), answer() or kill()."""


@dataclass(frozen=True)
class Answer:
    """It does not happen; the caller gets `value`: a sleep that is skipped."""

    value: int = 0


@dataclass(frozen=True)
class Fail:
    """It does not happen; the caller gets the errno `number`."""

    number: int


@dataclass(frozen=True)
class Kill:
    """It does not happen: its process dies there, by SIGKILL."""


Decision = Go | Hold | Answer | Fail | Kill


class Task(Protocol):
    """What a decision needs of a task: its name, the event it is held at, whether it has died."""

    name: str
    held: Event | None
    dead: bool


class Rest(Protocol):
    """How a task is at rest: "held", "asleep" or "dead"."""

    @property
    def state(self) -> str: ...


class Gate(Protocol):
    """What a policy may ask of the gate that asks it: supervisor.Gate, which says what each of these does."""

    @property
    def programs(self) -> Mapping[str, object]: ...

    @property
    def tasks(self) -> Mapping[str, Task]: ...

    def held(self) -> Sequence[Task]: ...

    def asleep(self, name: str) -> Rest | None: ...

    def at_rest(self) -> bool: ...

    def let(self, name: str) -> None: ...

    def fail(self, name: str, number: int) -> None: ...

    def kill(self, name: str, number: int = ...) -> None: ...


class Policy(Protocol):
    """Decides. Called by the gate's thread, with its lock held: must not block; may call any method of the gate
    that does not wait."""

    def opened(self, gate: Gate) -> None:
        """The gate is there; nothing runs yet."""

    def decide(self, gate: Gate, event: Event) -> Decision:
        """A task is held at `event`, of kind CALL, MARK or ACCESS."""

    def look(self, gate: Gate) -> None:
        """Called after each burst of events, and some hundred times a second while it says that it is `waiting`."""

    @property
    def waiting(self) -> bool:
        """Whether look() has something to look for besides events: a task that falls asleep."""

    @property
    def stepwise(self) -> bool:
        """Whether nothing happens but in Gate.settle(): then there is no thread, and no time lost between two."""


class Free:
    """Everything goes on at once: a recording."""

    waiting = False
    stepwise = False

    def opened(self, gate: Gate) -> None:
        """Nothing to prepare."""

    def decide(self, gate: Gate, event: Event) -> Decision:
        """Let it happen."""
        return Go()

    def look(self, gate: Gate) -> None:
        """Nothing to look for."""


class OneAtATime:
    """Everything is held; whoever owns the gate calls settle(), picks a task, let()s it go, and so on.

    The programs move only while settle() or wait_for() runs. Their sleeps are skipped: time does not pass in vain.
    """

    waiting = False
    stepwise = True

    def opened(self, gate: Gate) -> None:
        """Nothing to prepare."""

    def decide(self, gate: Gate, event: Event) -> Decision:
        """Hold it; answer a sleep at once."""
        return Answer(0) if event.call == "sleep" else Hold()

    def look(self, gate: Gate) -> None:
        """Nothing to look for."""
