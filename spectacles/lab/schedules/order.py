"""What came before what in a run, as one number: two prefixes that differ only in the order of independent steps have
the same, and lead to the same state (Mazurkiewicz's traces, kept as CHESS does)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spectacles.lab.schedules.points import Keys

_MASK = (1 << 64) - 1


class Order:
    """The steps of one run until now."""

    def __init__(self) -> None:
        self.state = 0  # the same for all orders of the same steps, if dependent ones are in the same order
        self._last: dict[str, int] = {}  # task -> its last step
        self._changed: dict[str, int] = {}  # key -> the last step that changed it
        self._read: dict[str, int] = {}  # key -> the sum of those that have read it since

    def after(self, task: str, what: str, keys: Keys) -> int:
        """Return what `state` would be after that step, and leave it."""
        return (self.state + self._step(task, what, keys)) & _MASK

    def step(self, task: str, what: str, keys: Keys, woken: Iterable[str] = (), born: Iterable[str] = ()) -> None:
        """Take in a step."""
        number = self._step(task, what, keys)
        self.state = (self.state + number) & _MASK
        self._last[task] = number
        for key, changes in keys:
            if changes:
                self._changed[key] = number
                self._read.pop(key, None)
            else:
                self._read[key] = (self._read.get(key, 0) + number) & _MASK
        for other in (*woken, *born):  # whatever it was that let them go on
            self._last[other] = hash((self._last.get(other, 0), number))

    def kill(self, what: str) -> None:
        """Take in what depends on all that was, and all that will be on it."""
        self.state = hash((self.state, what)) & _MASK
        self._last = {task: hash((number, self.state)) for task, number in self._last.items()}

    def _step(self, task: str, what: str, keys: Keys) -> int:
        before = tuple(
            (key, self._changed.get(key, 0), self._read.get(key, 0) if changes else 0) for key, changes in sorted(keys)
        )
        return hash((task, what, self._last.get(task, 0), before)) & _MASK
