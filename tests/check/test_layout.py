"""What is learnt of a program's messages from those of one client: where its numbers stand, in any layout."""

from __future__ import annotations

import struct

import pytest

from spectacles.lab.check import layout
from spectacles.lab.check.layout import Message, Request


def message(*data: bytes) -> tuple[Message, ...]:
    """Return a request of so many messages."""
    return tuple(Message("msgsnd", "queue", one, 1, len(one)) for one in data)


@pytest.mark.parametrize(
    ("pack", "offset", "size", "order"),
    [
        (lambda n: struct.pack("<iii", 7, 3, n), 8, 4, "little"),
        (lambda n: struct.pack(">iii", 7, 3, n), 8, 4, "big"),
        (lambda n: struct.pack("<50s15s3xii", b"n", b"1", 2, n), 72, 4, "little"),  # zeros before it
        (lambda n: struct.pack("<hhi", 3, n, 99), 2, 2, "little"),
        (lambda n: b"PRENDRE lune %d\n" % n, 13, 1, "text"),
        (lambda n: b"%d|12|x" % n, 0, 1, "text"),
    ],
)
def test_where_the_seats_stand(pack: object, offset: int, size: int, order: str) -> None:
    """Seen to fail: with offsets tried from the left, whatever their alignment."""
    assert callable(pack)
    found = layout.find(message(pack(1)), message(pack(2)), 1, 2, "")
    assert found is not None
    assert (found.offset, found.size, found.order) == (offset, size, order)
    filled = Request(message(pack(1)), {"seats": found}).filled(seats=5)
    assert filled == [pack(5)]


def test_what_does_not_fit_is_cut_to_what_does() -> None:
    """And a number of more digits shifts what follows. (Seen to fail: with to_bytes of any number.)"""
    place = layout.Field(0, 2, 2, "little", 1)
    assert layout.encode(10**9, place) == struct.pack("<h", 32767)
    assert layout.encode(-(10**9), place) == struct.pack("<h", -32768)
    fields = {"item": layout.Field(0, 2, 1, "text", 3), "seats": layout.Field(0, 4, 1, "text", 1)}
    assert Request(message(b"P 3 1\n"), fields).filled(item=-1, seats=268435456) == [b"P -1 268435456\n"]


def test_the_show_is_whatever_differs() -> None:
    """Beside a PID that differs as well. (Seen to fail: without the fields that are hidden.)"""
    one, two = (message(struct.pack("<iiii", pid, show, 1, 0)) for pid, show in ((100, 3), (101, 1)))
    pid = layout.Field(0, 0, 4, "little", 100)
    found = layout.differing(one, two, [pid])
    assert found is not None
    assert (found.offset, found.size, found.value) == (4, 4, 3)
    assert layout.differing(one, one) is None


def test_two_halves_are_two_messages() -> None:
    """Question 1: the show in one FIFO, the seats in another."""
    one, two = (message(struct.pack("<i", 3), struct.pack("<i", seats)) for seats in (1, 2))
    found = layout.find(one, two, 1, 2, "")
    assert found is not None
    assert (found.message, found.offset) == (1, 0)
