"""What a power cut could leave of a program's files: not tried but reckoned, from its calls.

What was not synced may be on the disk or not, each write by itself (all that POSIX promises); a sector is written whole
or not at all. A name given by rename(2) is there for good once its folder was synced, fsync(2).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from spectacles.lab.gate.events import Event

BEFORE, AFTER, EMPTY, TORN, GONE, MIXED = "avant", "après", "vide", "coupé", "disparu", "mêlé"
BAD = frozenset((EMPTY, TORN, GONE, MIXED))
UNKNOWN = "?"  # changed without a call, through memory
SECTOR = 512  # bytes


@dataclass
class _Content:
    """One file, whatever its name is. now: what it holds; kept: what the disk may hold, but for `pending` calls."""

    number: int
    now: str
    kept: set[str]
    pending: list[Event] = field(default_factory=list)

    def change(self, event: Event, *, last: bool) -> None:
        """A call changes it, for the last time or not."""
        self.pending.append(event)
        self.now = AFTER if last and event.call != "open" else TORN if event.call == "write" else EMPTY

    def sync(self) -> None:
        """It is on the disk."""
        self.kept, self.pending = {self.now}, []

    def may_hold(self, new: bytes) -> set[str]:
        """Return what may be on the disk."""
        found = set(self.kept)
        if self.pending:
            found.add(self.now)
        if any(event.call != "write" for event in self.pending):
            found.add(EMPTY)
        writes = [event for event in self.pending if event.call == "write"]
        if len(writes) > 1 or any(_sectors(event, new) > 1 for event in writes):
            found.add(TORN)
        return found


class Disk:
    """The data files `files` of a program, as they are before a reservation. new: their bytes after it.

    calls: all that will be made on files, in their order; take() them one by one. folder: as the program calls it.
    """

    def __init__(
        self, files: Sequence[str], new: Mapping[str, bytes], calls: Iterable[Event], folder: str = ""
    ) -> None:
        self._new = new
        self._files = tuple(files)
        self._folders = (folder, ".")
        self._last: dict[int, int] = {}
        self._begin()
        for event in calls:
            self.take(event)
            number = self._changed(event)
            if number is not None:
                self._last[number] = event.seq
        self._begin()

    def _begin(self) -> None:
        self._contents: list[_Content] = []
        self._there: dict[str, list[_Content | None]] = {}  # what may be there by that name, as it is now last
        for name in self._files:
            self._there[name] = [self._make(BEFORE)]

    def _make(self, what: str) -> _Content:
        self._contents.append(_Content(len(self._contents), what, {what}))
        return self._contents[-1]

    def _changed(self, event: Event) -> int | None:
        """Return the number of what a call changes, None if it changes nothing."""
        content = self._there.get(event.object, [None])[-1]
        return content.number if content is not None and _changes(event) else None

    def take(self, event: Event) -> None:
        """Take in one call: it is made."""
        name = event.object
        if event.call == "fsync" and name in self._folders:
            for known in self._there.values():
                del known[:-1]
            return
        if event.call == "open" and "O_CREAT" in str(event.arguments.get("flags", "")):
            there = self._there.setdefault(name, [None])
            if there[-1] is None:
                there.append(self._make(EMPTY))
        content = self._there.get(name, [None])[-1]
        if event.call == "rename":
            to = str(event.arguments.get("to", ""))
            if content is not None:
                self._there.setdefault(to, [None]).append(content)
                self._there[name].append(None)
        elif event.call == "unlink" and name in self._there:
            self._there[name].append(None)
        elif content is not None and event.call == "fsync":
            content.sync()
        elif content is not None and _changes(event):
            content.change(event, last=self._last.get(content.number, -1) <= event.seq)

    def may_hold(self) -> tuple[str, ...]:
        """Return all that may be on the disk if the power goes now."""
        each = [
            set().union(
                *({GONE} if one is None else one.may_hold(self._new.get(name, b"")) for one in self._there[name])
            )
            for name in self._files
        ]
        found = set().union(*each)
        if len(each) > 1 and {BEFORE, AFTER} <= found:
            found.add(MIXED)
        return tuple(word for word in (BEFORE, AFTER, EMPTY, TORN, GONE, MIXED) if word in found)


def _changes(event: Event) -> bool:
    return event.call in ("write", "ftruncate") or (
        event.call == "open" and "O_TRUNC" in str(event.arguments.get("flags", ""))
    )


def _sectors(event: Event, new: bytes) -> int:
    """Return over how many sectors a write goes. Where it begins is seen in what the file holds afterwards."""
    size, data = int(event.arguments.get("size", 0)), event.arguments.get("data", b"")
    start = int(event.arguments.get("at", max(new.find(data), 0) if data else 0))
    return (start + size - 1) // SECTOR - start // SECTOR + 1
