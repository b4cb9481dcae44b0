"""Client of several servers: question 2's, but that it stays with the server that has answered it.

client ── type 1 or 2: {pid, ...} ────────────▶ ┌───────┐ ──▶ whichever server is free
       ◀── type = the client's own PID: {S...} ─┤ queue │ ◀── server S
       ── type = S: {pid, ...} ───────────────▶ │       │ ──▶ server S
       ◀── type = the client's own PID ──────── └───────┘ ◀── ... for as long as both live
"""

from __future__ import annotations

import os
import sys

from spectacles.common import cli, menu
from spectacles.common.errors import NoAnswerError
from spectacles.common.lifecycle import program
from spectacles.common.protocol import LIST, LIST_REPLY, LIST_REQUEST, RESERV, RESERV_REPLY, RESERV_REQUEST
from spectacles.common.spectacle import REFUSED, Spectacle, unpack_table
from spectacles.q2_msq.client import ACK
from spectacles.x1_sessions.channel import SessionQueue


class Session:
    """A conversation with one of the servers: see menu.Session."""

    question = "Plusieurs serveurs (x1)"

    def __init__(self, queue: SessionQueue) -> None:
        self._queue = queue
        self._pid = os.getpid()

    @property
    def server(self) -> str:
        return f"en séance avec le PID {self._queue.server}" if self._queue.server else ""

    def reconnect(self) -> None:
        self._queue.leave()
        self._queue.connect()

    def catalogue(self) -> None:
        """Only the servers hold the truth."""

    def list(self) -> list[tuple[int, Spectacle]]:
        _, table = LIST_REPLY.unpack(self._queue.ask(LIST, LIST_REQUEST.pack(self._pid), LIST_REPLY.size))
        return unpack_table(table)

    def consult(self, show: int) -> int:
        return next((known.places for slot, known in self.list() if slot == show), REFUSED)

    def reserve(self, show: int, seats: int) -> bool:
        reply = self._queue.ask(RESERV, RESERV_REQUEST.pack(self._pid, show, seats), RESERV_REPLY.size)
        if reply[ACK] > 1:
            raise NoAnswerError(f"réponse incompréhensible, {reply[ACK]} au lieu de 0 ou 1 (bool ack, octet {ACK})")
        return bool(reply[ACK])


@program
def main(argv: list[str] | None = None) -> int:
    """Run the client: its exit code is that of common.errors."""
    parser = cli.client_parser("x1_sessions", "Client de plusieurs serveurs sur une file de messages (suite x1).")
    options = cli.parse_client(parser, argv)
    with SessionQueue(options.key, options.timeout) as queue:
        return menu.run(Session(queue), options)


if __name__ == "__main__":
    sys.exit(main())
