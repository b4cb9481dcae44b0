"""x2_basket by hand: sockets that send bytes, so that tests choose what is asked, and when a connection ends."""

from __future__ import annotations

import socket
import ssl
import struct
from types import TracebackType

from spectacles.lab.programs.process import ServerProcess
from tests import helpers, raw_tcp
from tests.raw_tcp import LIST, YES

HOLD, RELEASE, CONFIRM, BASKET = 3, 4, 5, 6
BASKET_SIZE = 724  # int seconds, Spectacle[10]


class Buyer:
    """One client, who has a connection and so a basket. A context manager that closes it."""

    def __init__(self, server: ServerProcess, tls: ssl.SSLContext | None = None) -> None:
        self.socket: socket.socket = raw_tcp.connect(server, tls)
        self.believed: dict[int, int] = {}  # the seats in the basket, as far as the answers to do() tell

    def __enter__(self) -> Buyer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def ask(self, kind: int, show: int = 0, seats: int = 0) -> bytes:
        """Send a request that is answered by one byte, and return that; b"" when the connection ends instead."""
        return raw_tcp.ask(self.socket, struct.pack("<iii", kind, show, seats))

    def hold(self, show: int, seats: int) -> bool:
        return self._yes(HOLD, show, seats)

    def release(self, show: int, seats: int) -> bool:
        return self._yes(RELEASE, show, seats)

    def confirm(self, seats: int) -> bool:
        return self._yes(CONFIRM, 0, seats)

    def reserve(self, show: int, seats: int) -> bool:
        return self._yes(2, show, seats)

    def free(self) -> dict[int, int]:
        """Return the seats left of each show, as this client is told."""
        return seats_of(raw_tcp.ask(self.socket, LIST))

    def basket(self) -> dict[int, int]:
        """Return the seats in the basket by show."""
        return self.look()[1]

    def look(self) -> tuple[int, dict[int, int]]:
        """Return the seconds that the first seats have left, and the seats in the basket by show."""
        self.socket.sendall(struct.pack("<iii", BASKET, 0, 0))
        reply = raw_tcp.receive(self.socket, BASKET_SIZE)
        assert len(reply) == BASKET_SIZE, f"{len(reply)} bytes"
        return struct.unpack_from("<i", reply)[0], seats_of(reply[4:])

    def leave(self) -> None:
        """Say good-bye, and wait until the server has done with this client."""
        self.socket.shutdown(socket.SHUT_WR)
        assert raw_tcp.is_closed(self.socket)

    def do(self, kind: str, show: int, seats: int) -> bool | dict[int, int]:
        """Do what is called `kind`, and return the answer; True after a leave. Raises OSError, AssertionError."""
        if kind == "list":
            return self.free()
        if kind == "basket":
            held = self.basket()
            self.believed = dict(held)
            return held
        if kind == "leave":
            self.leave()
            return True
        number = {"reserve": 2, "hold": HOLD, "release": RELEASE, "confirm": CONFIRM}[kind]
        answer = self._yes(number, show, seats)
        if answer and kind == "confirm":
            self.believed = {}
        elif answer and kind != "reserve":
            self.believed[show] = self.believed.get(show, 0) + (seats if kind == "hold" else -seats)
        return answer

    def _yes(self, kind: int, show: int, seats: int) -> bool:
        reply = self.ask(kind, show, seats)
        assert reply in (YES, raw_tcp.NO), f"{reply!r} in answer to {kind, show, seats}"
        return reply == YES


def seats_of(table: bytes) -> dict[int, int]:
    """Return the seats of each show in the bytes of a table."""
    assert len(table) == raw_tcp.TABLE_SIZE, f"{len(table)} bytes"
    records = struct.iter_unpack("<i50s11s3xi", table)
    return {slot: places for slot, (id_, _, _, places) in enumerate(records) if id_}


def sold(server: ServerProcess) -> dict[int, int]:
    """Return the seats that the file has left."""
    return {slot: show.places for slot, show in helpers.read_table(server.directory).items()}
