"""Question 1, server: five named FIFOs, two forked children, one client.

    client ── show ──► tub1_view ────────► child:        ─┐ lock ┌───────────────┐
           ◄─ seats ── tub2_view ◄──────── consultations  ├────► │ table in      │
           ── show ──► tub1_reservation ─► child:        ─┘      │ shared memory │
           ── seats ─► tub2_reservation ─► reservations          └───────────────┘
           ◄─ ack ──── tub3_reservation ◄─     └─ every accepted one ──► spectacles.dat
                                           parent: signals, dead children

Channel: one FIFO for each number of each request and reply, opened read-write here so that it
    never reaches EOF.
Table: System V shared memory; what is accepted is also written to the file, where the client reads
    the titles.
Lock: a named POSIX semaphore, held for one look or one change, never while waiting for the disk.
Reply: it does not find its client. A FIFO does not say who writes or reads: one client at a time.
"""

from __future__ import annotations

import sys

from spectacles.common import cli, log
from spectacles.common.children import Children
from spectacles.common.lifecycle import Server, command, program
from spectacles.common.protocol import LIST, PIPE_BOOL, PIPE_INT, RESERV
from spectacles.common.shared import SharedTable
from spectacles.q1_pipes.channel import ServerPipes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spectacles.common.protocol import Request
    from spectacles.common.table import SpectacleTable


def answer(table: SpectacleTable, request: Request) -> bytes:
    """One request in, one reply out."""
    kind, client, show, seats = request
    if kind == LIST:
        places = table.consult(show)
        log.consultation(client, show, places)
        return PIPE_INT.pack(places)
    left = table.reserve(show, seats)
    log.reservation(client, show, seats, left)
    return PIPE_BOOL.pack(left >= 0)


def work(pipes: ServerPipes, table: SpectacleTable, kind: int) -> None:
    """Answer the requests of one kind, for as long as the server lives."""
    for request in pipes.requests(kind):  # blocks
        try:
            pipes.reply(request, answer(table, request))
        except Exception:
            log.exception("[INFO] requête %s abandonnée", request)


@program
def main(argv: list[str] | None = None) -> None:
    """Run the server until a signal stops it."""
    options = cli.parse_server(cli.server_parser("q1_pipes", "Question 1 : tubes nommés, deux fils, un client."), argv)
    with Server("q1_pipes", options) as server:
        pipes = server.enter(ServerPipes(server, options.mode))
        table = server.enter(SharedTable(server, options.shm_key, options.sem_name, options.mode, server.store))
        children = server.enter(Children(server, pipes, table.recover, pipes.open))
        children.start("consultations", work, pipes, table, LIST)
        children.start("réservations", work, pipes, table, RESERV)
        server.run(pipes, children)


if __name__ == "__main__":
    sys.exit(command(main))
