"""Further 3, client: question 5's session, with any of several servers; when one does not answer, with the next.

    client ══ connection ══► server 1     (gone)
           ══ connection ══► server 2     the same table

What is asked again by itself is what changes nothing: a consultation, and a reservation that was not sent. One that was
sent and not answered may have been made: people are told so, and decide.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from functools import partial

from spectacles.common import cli, menu
from spectacles.common.errors import NoAnswerError, NoServerError, UsageError
from spectacles.common.lifecycle import program
from spectacles.q5_sockets.channel import ClientConnection
from spectacles.q5_sockets.client import Session as OneServer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from spectacles.common.spectacle import Spectacle

    Answer = TypeVar("Answer")


class Session(OneServer):
    """A conversation with the servers of `options`, one at a time: see menu.Session. A context manager.

    options: as for ClientConnection, with `hosts`, "HOST" or "HOST:PORT" each, in place of host. Raises NoServerError
    if none can be reached, UsageError.
    """

    question = "Pour aller plus loin 3"

    def __init__(self, options: Namespace) -> None:
        self._options = vars(options)
        self._servers = [_server(host, options.port) for host in options.hosts or [cli.DEFAULT_HOST]]
        self._current = 0
        self.reconnect()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        if self._known is not None:
            self._known.close()

    @property
    def server(self) -> str:
        return self._known.peer if self._known is not None else ""

    def reconnect(self) -> None:
        """Connect to the first server to be reached, from the one in hand on. Raises NoServerError if none can."""
        self._known: ClientConnection | None = None
        failures = []
        for _ in self._servers:
            host, port = self._servers[self._current]
            try:
                self._known = self._connection = ClientConnection(
                    Namespace(**self._options | {"host": host, "port": port})
                )
                return
            except NoServerError as error:
                failures.append(str(error))
                self._leave()
        raise NoServerError(" ; ".join(dict.fromkeys(failures)))

    def list(self) -> list[tuple[int, Spectacle]]:
        return self._ask(super().list, changes=False)

    def reserve(self, show: int, seats: int) -> bool:
        return self._ask(partial(super().reserve, show, seats), changes=True)

    def _ask(self, question: Callable[[], Answer], *, changes: bool) -> Answer:
        """Return question() of the server in hand, or of the next ones. changes: whether to ask once if it was sent."""
        left = len(self._servers)
        while True:
            if self._known is None:
                self.reconnect()
            left -= 1
            try:
                return question()
            except NoServerError as error:
                self._leave()
                if not left or (changes and isinstance(error, NoAnswerError)):
                    raise

    def _leave(self) -> None:
        """Turn to the next server: whoever does not answer is not asked first again."""
        self._known = None
        self._current = (self._current + 1) % len(self._servers)


def _server(text: str, port: int) -> tuple[str, int]:
    """Return host and port of "HOST", "HOST:PORT", "[IPV6]:PORT" or an IPv6 address. Raises UsageError."""
    host, colon, number = text.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")) or text.endswith("]"):
        return text.removeprefix("[").removesuffix("]"), port
    found = cli.parse_integer(number)
    if found is None or not 0 < found < 65536:
        raise UsageError(f"hôte « {text} » : « {number} » n'est pas un port, 1 à 65535")
    return host.removeprefix("[").removesuffix("]"), found


@program
def main(argv: list[str] | None = None) -> int:
    """Run the client: its exit code is that of common.errors."""
    parser = cli.client_parser("x3_cluster", "Client de x3 (TCP, plusieurs serveurs).", queue=False)
    cli.add_connection(parser, several=True)
    options = cli.parse_client(parser, argv)
    with Session(options) as session:
        if options.command is None:
            print("[INFO] Connecté au serveur")
        return menu.run(session, options)


if __name__ == "__main__":
    sys.exit(main())
