"""Client of questions 2, 3 and 4: the queue is the same, so the client is the same.

client ── type 1: {pid} ─────────────────────▶ ┌───────┐
       ── type 2: {pid, spectacle, places} ──▶ │ queue │ ──▶ server
       ◀── type = the client's own PID ─────── └───────┘
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys

from spectacles.common import cli, menu
from spectacles.common.errors import NoAnswerError
from spectacles.common.lifecycle import program
from spectacles.common.lockfile import server_of
from spectacles.common.protocol import LIST, LIST_REPLY, LIST_REQUEST, RESERV, RESERV_REPLY, RESERV_REQUEST
from spectacles.common.spectacle import REFUSED, Spectacle, unpack_table
from spectacles.q2_msq.channel import ClientQueue

PID = struct.Struct("<i")  # of the server: what a reply begins with
ACK = 4  # offset of `bool ack` in a reply to a reservation


class Session:
    """A conversation over the queue: see menu.Session."""

    def __init__(self, queue: ClientQueue, question: str = "Questions 2 à 4") -> None:
        self._queue = queue
        self._pid = os.getpid()
        self.question = question
        self.server = ""

    def reconnect(self) -> None:
        self.server = ""
        self._queue.connect()

    def catalogue(self) -> None:
        """Only the server holds the truth."""

    def list(self) -> list[tuple[int, Spectacle]]:
        reply = self._queue.exchange(LIST, LIST_REQUEST.pack(self._pid), LIST_REPLY.size)
        server_pid, table = LIST_REPLY.unpack(reply)
        self.server = f"réponses du PID {server_pid}"
        return unpack_table(table)

    def consult(self, show: int) -> int:
        return next((known.places for slot, known in self.list() if slot == show), REFUSED)

    def reserve(self, show: int, seats: int) -> bool:
        request = RESERV_REQUEST.pack(self._pid, show, seats)
        reply = self._queue.exchange(RESERV, request, RESERV_REPLY.size)
        (server_pid,) = PID.unpack_from(reply)
        self.server = f"réponses du PID {server_pid}"
        if reply[ACK] > 1:
            raise NoAnswerError(f"réponse incompréhensible, {reply[ACK]} au lieu de 0 ou 1 (bool ack, octet {ACK})")
        return bool(reply[ACK])


def question(directory: str, key: int) -> str:
    """Return which question the server is, if that can be known: a client speaks to all three, and to x1, alike."""
    with contextlib.suppress(OSError, KeyError, IndexError):
        server = server_of(directory)
        if hex(key) in server["key"].split():
            name = server["question"]
            return f"Question {name[1]}" if name[0] == "q" else f"Suite {name.partition('_')[0]}"
    return "Questions 2 à 4"


@program
def main(argv: list[str] | None = None) -> int:
    """Run the client: its exit code is that of common.errors."""
    parser = cli.client_parser("q2_msq", "Client des questions 2, 3 et 4 (file de messages System V).")
    options = cli.parse_client(parser, argv)
    with ClientQueue(options.key, options.timeout) as queue:
        return menu.run(Session(queue, question(options.dir, options.key)), options)


if __name__ == "__main__":
    sys.exit(main())
