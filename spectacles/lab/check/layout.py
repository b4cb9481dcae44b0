"""What a program's messages look like, learnt by watching one client ask: which bytes change with which key.

A request is what the client sends between the last key and the answer: one message, or several. Where two requests
differ only in the number of seats, or in the show, the bytes that differ are that number; a number that is the client's
PID is its PID. The same for binary structs of any layout and for lines of text, and no debug information is needed.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from spectacles.lab.check.model import NotApplicable
from spectacles.lab.gate.events import Kind

if TYPE_CHECKING:
    from spectacles.lab.check.case import Case
    from spectacles.lab.dossier.driving import Bench
    from spectacles.lab.gate.events import Event

SENDS = ("msgsnd", "mq_send", "send", "write")
TAKES = ("msgrcv", "mq_receive", "recv", "read")
ORDERS = ("little", "big")
SEATS = (1, 2)  # of the two reservations that are compared
Order = Literal["little", "big"]


@dataclass(frozen=True)
class Field:
    """Where a number stands in a message. order: "text" for decimal digits. value: what stood there."""

    message: int  # index within the request
    offset: int
    size: int
    order: str
    value: int


@dataclass(frozen=True)
class Message:
    """One message as it was sent. what: the object, as the gate calls it. type: of a System V queue. size: as sent."""

    call: str
    what: str
    data: bytes
    type: int = 0
    size: int = 0


@dataclass(frozen=True)
class Request:
    """What the client sends to ask one thing."""

    messages: tuple[Message, ...] = ()
    fields: Mapping[str, Field] = field(default_factory=dict)  # "pid", "item", "seats"

    def filled(self, **values: int) -> list[bytes]:
        """Return the bytes of its messages, with other numbers in the fields that are named and known."""
        parts = [bytearray(message.data) for message in self.messages]
        places = [(self.fields[name], value) for name, value in values.items() if name in self.fields]
        for place, value in sorted(
            places, key=lambda row: -row[0].offset
        ):  # from the end, as digits shift what follows
            part = parts[place.message]
            part[place.offset : place.offset + place.size] = encode(value, place)
        return [bytes(part) for part in parts]


@dataclass(frozen=True)
class Layout:
    """What was learnt of a program's messages. kind: as Channel.kind. names: what its server makes, in that order."""

    kind: str
    names: tuple[str, ...]
    consult: Request
    reserve: Request
    prologue: tuple[bytes, ...] = ()  # what is sent over a connection before the first request
    answers: tuple[str, ...] = ()  # objects that the client takes answers from
    reply_type: int = 0  # of answers in a queue: that of the first one
    reply_pid: bool = False  # whether that is the client's PID
    sizes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # "client", "server": of messages in a queue
    events: tuple[Event, ...] = ()  # of the watched run

    @property
    def port(self) -> int:
        """The port of TCP. Raises NotApplicable."""
        for name in (*self.names, *(message.what for message in self.reserve.messages)):
            found = re.search(r"(?:port |:)(\d+)", name)
            if found:
                return int(found[1])
        raise NotApplicable("le port du serveur n'est pas connu")

    def number_of(self, what: str) -> int:
        """Return which queue of the server, in the order of their making, an object is."""
        queues = [name for name in self.names if "queue" in name]
        return queues.index(what) if what in queues else 0


def encode(value: int, place: Field) -> bytes:
    """Return a number as it stands in a message; what does not fit is cut to the nearest that does."""
    if place.order == "text":
        return str(value).encode()
    bits = 8 * place.size
    value = max(min(value, 2 ** (bits - 1) - 1), -(2 ** (bits - 1)))
    order: Order = "big" if place.order == "big" else "little"
    return value.to_bytes(place.size, order, signed=True)


def learn(case: Case) -> Layout:
    """Watch one client ask a few things. Blocks for a second or so. Raises NotApplicable, NotReached."""
    item = case.item()
    other = next((one for one in case.profile.items if one.typed != item.typed and one.seats != 0), None)
    with case.bench(gated=True) as bench:
        gate = bench.gate
        assert gate is not None
        bench.serve()
        client = bench.client("A", gated=True)
        asked: list[tuple[str, list[Event]]] = []
        for name, request in (
            ("first", client.consult(item.typed)),
            ("consult", client.consult(item.typed)),
            ("one", client.reserve(item.typed, SEATS[0])),
            ("two", client.reserve(item.typed, case.most(SEATS[1]))),
            ("other", client.reserve(other.typed, SEATS[0]) if other is not None else None),
        ):
            if request is None:
                continue
            since = len(gate.events())
            answer = bench.ask(request)
            if name in ("one", "two"):
                case.granted(answer)
            elif name != "other":
                case.told(answer)
            asked.append((name, gate.events(since)))
        return _understand(case, bench, asked)


def _understand(case: Case, bench: Bench, asked: Sequence[tuple[str, list[Event]]]) -> Layout:
    assert bench.gate is not None
    events = bench.gate.events()
    pids = {event.task: int(event.arguments.get("inside") or 0) for event in events if event.kind is Kind.BIRTH}
    sent = {name: _sent(bench, some) for name, some in asked}
    who = {name: _pid(some, pids) for name, some in asked}
    if not sent["one"]:
        raise NotApplicable("rien n'a été vu de ce que le client envoie")
    pid = find(sent["one"], sent["one"], who["one"], who["one"], "pid") if who["one"] else None
    hidden = [] if pid is None else [pid]
    seats = case.most(SEATS[1])
    fields = {"pid": pid}
    if seats != SEATS[0]:
        fields["seats"] = find(sent["one"], sent["two"], SEATS[0], seats, "", hidden)
    if "other" in sent and len(sent["other"]) == len(sent["one"]):
        fields["item"] = differing(sent["one"], sent["other"], hidden)
    known = {name: place for name, place in fields.items() if place is not None}
    own = (
        {"pid": find(sent["consult"], sent["consult"], who["consult"], who["consult"], "pid")}
        if sent["consult"]
        else {}
    )
    takes = [event for event in events if _is_client(event) and event.call in TAKES and _is_channel(bench, event)]
    replies = [
        event
        for event in events
        if event.task.startswith("server") and event.call == "msgsnd" and event.kind is Kind.CALL
    ]
    reply = int(replies[0].arguments.get("type") or 0) if replies else 0
    consult = Request(sent["consult"], {name: place for name, place in own.items() if place is not None})
    queued = [event for event in events if event.call == "msgsnd" and event.kind is Kind.CALL]
    sizes = {
        side: tuple(
            dict.fromkeys(int(event.arguments["size"]) for event in queued if _is_client(event) is (side == "client"))
        )
        for side in ("client", "server")
    }
    before = len(sent["first"]) - len(sent["consult"])
    prologue = [message.data for message in sent["first"][: max(before, 0)]]
    return Layout(
        case.profile.channel.kind,
        case.profile.channel.names,
        consult,
        Request(sent["one"], known),
        tuple(prologue),
        tuple(dict.fromkeys(event.object for event in takes)),
        reply,
        bool(reply) and reply == who["first"],
        sizes,
        tuple(events),
    )


def _is_client(event: Event) -> bool:
    return re.match(r"A\d*(?:\.|$)", event.task) is not None


def _is_channel(bench: Bench, event: Event) -> bool:
    """Say whether a read or a write is one on the channel, and not on a file or the terminal."""
    if event.call not in ("read", "write"):
        return True
    if event.object.startswith("connection"):
        return True
    try:
        return stat.S_ISFIFO(os.stat(bench.world.folder / event.object).st_mode)
    except (OSError, ValueError):
        return "fifo" in event.object.lower()


def _sent(bench: Bench, events: Iterable[Event]) -> tuple[Message, ...]:
    """Return what a client has sent over the channel."""
    found = []
    for event in events:
        if event.kind is Kind.CALL and event.call in SENDS and _is_client(event) and _is_channel(bench, event):
            said: Mapping[str, Any] = event.arguments
            data = bytes(said.get("data") or b"")
            size = int(said.get("size") or len(data))
            found.append(
                Message(event.call, event.object, data.ljust(size, b"\0")[:65536], int(said.get("type") or 0), size)
            )
    return tuple(found)


def _pid(events: Iterable[Event], pids: Mapping[str, int]) -> int:
    """Return the PID, in its world, of the client's task that sends."""
    for event in events:
        if _is_client(event) and event.call in SENDS and event.kind is Kind.CALL:
            return pids.get(event.task, 0) or pids.get(event.task.partition(".")[0], 0)
    return 0


def find(
    one: Sequence[Message], two: Sequence[Message], first: int, second: int, name: str, hidden: Iterable[Field] = ()
) -> Field | None:
    """Return where `first` stands in the one request and `second` in the other, all else being the same."""
    if len(one) != len(two):
        return None
    for number, (a, b) in enumerate(zip(one, two, strict=True)):
        left, right = _without(a.data, number, hidden), _without(b.data, number, hidden)
        if left == right and not name:
            continue
        for size in (4, 8, 2, 1) if not name else (4,):
            # Where a compiler puts it first: with zeros before it, a number is a big-endian one at an odd place, too.
            offsets = range(len(left) - size + 1)
            places = [(offset % size != 0, order == "big", offset, order) for offset in offsets for order in ORDERS]
            for _, _, offset, order in sorted(places):
                place = Field(number, offset, size, order, first)
                end = offset + size
                if (
                    left[offset:end] == encode(first, place)
                    and right[offset:end] == encode(second, place)
                    and left[:offset] == right[:offset]
                    and left[end:] == right[end:]
                ):
                    return place
        digits = re.compile(rb"(?<!\d)%d(?!\d)" % first)
        for found in digits.finditer(left):
            place = Field(number, found.start(), len(found[0]), "text", first)
            if left[: place.offset] + b"%d" % second + left[found.end() :] == right:
                return place
    return None


def differing(one: Sequence[Message], two: Sequence[Message], hidden: Iterable[Field] = ()) -> Field | None:
    """Return the number in which two requests differ, whatever it is."""
    for number, (a, b) in enumerate(zip(one, two, strict=True)):
        left, right = _without(a.data, number, hidden), _without(b.data, number, hidden)
        if left == right:
            continue
        for found in re.finditer(rb"(?<!\d)\d+(?!\d)", left):
            at, rest = found.start(), left[found.end() :]
            other = right[at : len(right) - len(rest)]
            if left[:at] == right[:at] and right.endswith(rest) and other.isdigit() and other != found[0]:
                return Field(number, at, len(found[0]), "text", int(found[0]))
        if len(left) != len(right):
            return None
        places = [index for index, (x, y) in enumerate(zip(left, right, strict=True)) if x != y]
        start = places[0] - places[0] % 4
        size = 4 if len(left) >= start + 4 else len(left) - start
        if places[-1] >= start + size:
            return None
        word = left[start : start + size]
        order = "big" if word[:1] == b"\0" and word[-1:] != b"\0" else "little"
        return Field(
            number, start, size, order, int.from_bytes(word, "big" if order == "big" else "little", signed=True)
        )
    return None


def _without(data: bytes, number: int, hidden: Iterable[Field]) -> bytes:
    """Return the bytes with those of other fields set to zero."""
    plain = bytearray(data)
    for place in hidden:
        if place.message == number:
            plain[place.offset : place.offset + place.size] = bytes(place.size)
    return bytes(plain)
