"""A step while it is being made: what derive.py, locks.py know of it before it is drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from spectacles.lab.record.model import Action, LaneKind

if TYPE_CHECKING:
    from spectacles.lab.gate.events import Event


@dataclass(slots=True)
class Draft:
    """A step that is being made."""

    event: Event
    action: Action
    object: str
    kind: LaneKind
    begin: int  # the event from which on it can have happened: it was let go then
    end: float = math.inf
    ended: float | None = None
    result: int | None = None
    errno: str = ""
    brought: dict[str, Any] = field(default_factory=dict)
    exact: bool = True
    interrupted: bool = False
    blocked: bool = False
    place: str = ""
    words: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    count: int = 1
    seqs: tuple[int, ...] = ()

    @property
    def succeeded(self) -> bool:
        """Whether it was done, as far as is known."""
        if self.errno == "EINPROGRESS":  # a connection that is made without being waited for
            return True
        return not self.errno and not self.interrupted and (self.result is None or self.result >= 0)

    @property
    def size(self) -> int | None:
        """Bytes that it moved; None: not known."""
        arguments = self.event.arguments
        if self.action in (Action.SEND, Action.WRITE):
            asked = arguments.get("size")
            whole = self.result is None or self.event.call in ("msgsnd", "mq_send")
            return asked if whole or not self.succeeded else self.result
        if self.result is not None and self.result >= 0:
            return self.result
        return None

    @property
    def data(self) -> bytes:
        """The first of these bytes."""
        data: bytes = self.brought.get("data", self.event.arguments.get("data", b""))
        size = self.size
        return data if size is None else data[:size]
