"""Client of question 1: five FIFOs, one client at a time.

    client ── int show ──────▶ tub1_view ─────────▶ server
           ◀── int seats ───── tub2_view ◀─────────
           ── int show ──────▶ tub1_reservation ──▶
           ── int seats ─────▶ tub2_reservation ──▶
           ◀── bool ack ────── tub3_reservation ◀──

The menu of shows comes from the client's own reading of spectacles.dat; only the seats are asked of the server.
"""

from __future__ import annotations

import os
import sys

from spectacles.common import cli, menu, storage
from spectacles.common.errors import NoServerError, reason
from spectacles.common.lifecycle import program
from spectacles.common.protocol import LIST, RESERV
from spectacles.common.spectacle import REFUSED, TABLE_SIZE, Spectacle, unpack_table
from spectacles.q1_pipes.channel import ClientPipes


class Session:
    """A conversation over the FIFOs: see menu.Session."""

    question = "Question 1"
    server = ""  # no answer says who has written it

    def __init__(self, pipes: ClientPipes, directory: str) -> None:
        self._pipes = pipes
        self.reconnect = pipes.connect
        self._path = os.path.join(directory, storage.FILE_NAME)

    def catalogue(self) -> list[tuple[int, Spectacle]]:
        try:
            with open(self._path, "rb") as file:
                return unpack_table(file.read(TABLE_SIZE + 1))
        except (OSError, ValueError) as error:
            raise NoServerError(f"{self._path} illisible : {reason(error)}") from error

    def list(self) -> list[tuple[int, Spectacle]]:
        shows = self.catalogue()
        for slot, show in shows:
            show.places = self.consult(slot)
        return shows

    def consult(self, show: int) -> int:
        return max(self._pipes.exchange(LIST, show), REFUSED)

    def reserve(self, show: int, seats: int) -> bool:
        return bool(self._pipes.exchange(RESERV, show, seats))


@program
def main(argv: list[str] | None = None) -> int:
    """Run the client: its exit code is that of common.errors."""
    parser = cli.client_parser("q1_pipes", "Client de la question 1 (tubes nommés).")
    options = cli.parse_client(parser, argv)
    with ClientPipes(options.dir, options.timeout) as pipes:
        return menu.run(Session(pipes, options.dir), options)


if __name__ == "__main__":
    sys.exit(main())
