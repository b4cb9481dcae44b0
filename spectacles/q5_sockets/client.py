"""Client of question 5: one TCP connection for the whole session.

client ══ connection ══▶ {type, spectacle, places}
       ◀════════════════ Spectacle[10], or bool
"""

from __future__ import annotations

import sys

from spectacles.common import cli, menu
from spectacles.common.lifecycle import program
from spectacles.common.protocol import LIST, RESERV, TCP_REQUEST, TCP_RESERV_REPLY
from spectacles.common.spectacle import REFUSED, TABLE_SIZE, Spectacle, unpack_table
from spectacles.q5_sockets.channel import ClientConnection, is_text


class Session:
    """A conversation over the connection: see menu.Session."""

    question = "Question 5"

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self.reconnect = connection.connect

    @property
    def server(self) -> str:
        """There is no PID any more: the connection leads to an address."""
        return self._connection.peer

    def catalogue(self) -> None:
        """Only the server holds the truth."""

    def list(self) -> list[tuple[int, Spectacle]]:
        reply = self._connection.exchange(TCP_REQUEST.pack(LIST, 0, 0), TABLE_SIZE)
        if is_text(reply):
            raise self._connection.strange(reply)
        return unpack_table(reply)

    def consult(self, show: int) -> int:
        return next((known.places for slot, known in self.list() if slot == show), REFUSED)

    def reserve(self, show: int, seats: int) -> bool:
        return self.ask(RESERV, show, seats)

    def ask(self, kind: int, show: int, seats: int) -> bool:
        """Send a request that is answered by yes or no, and return the answer. Blocks."""
        reply = self._connection.exchange(TCP_REQUEST.pack(kind, show, seats), TCP_RESERV_REPLY.size)
        if reply not in (TCP_RESERV_REPLY.pack(False), TCP_RESERV_REPLY.pack(True)):
            raise self._connection.strange(reply)
        return reply == TCP_RESERV_REPLY.pack(True)


@program
def main(argv: list[str] | None = None) -> int:
    """Run the client: its exit code is that of common.errors."""
    parser = cli.client_parser("q5_sockets", "Client de la question 5 (TCP).", queue=False)
    cli.add_connection(parser)
    options = cli.parse_client(parser, argv)
    with ClientConnection(options) as connection:
        if options.command is None:
            print("[INFO] Connecté au serveur")
        return menu.run(Session(connection), options)


if __name__ == "__main__":
    sys.exit(main())
