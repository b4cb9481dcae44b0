"""Question 2, server: one System V message queue, two forked children.

    clients ── type 1 ──► ┌───────┐ ─► child: consultations ─┐ lock ┌───────────────┐
            ── type 2 ──► │ queue │ ─► child: reservations ──┴────► │ table in      │
            ◄─ type PID ─ └───────┘ ◄─ both       │                 │ shared memory │
                                                  │                 └───────────────┘
                                                  └─ every accepted one ──► spectacles.dat
                                       parent: signals, dead children, replies to dead clients

Channel: one queue for all clients; each child takes only its own type of message from it.
Table: System V shared memory; what is accepted is also written to the file.
Lock: a named POSIX semaphore, held for one look or one change, never while waiting for the disk.
Reply: its type is the PID that came in the request, so that each client can wait for its own.

Since question 1: five FIFOs became one queue, one client became many, and a consultation returns
the whole table.
"""

from __future__ import annotations

import os
import sys

from spectacles.common import cli, log
from spectacles.common.children import Children
from spectacles.common.lifecycle import Server, command, program
from spectacles.common.protocol import LIST, LIST_REPLY, RESERV, RESERV_REPLY
from spectacles.common.shared import SharedTable
from spectacles.q2_msq.channel import ServerQueue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spectacles.common.protocol import Request
    from spectacles.common.table import SpectacleTable


def answer(table: SpectacleTable, request: Request) -> bytes:
    """One request in, one reply out."""
    kind, client, show, seats = request
    if kind == LIST:
        log.info("[CONSULTATION] client %d : table envoyée", client)
        return LIST_REPLY.pack(os.getpid(), table.snapshot())
    left = table.reserve(show, seats)
    log.reservation(client, show, seats, left)
    return RESERV_REPLY.pack(os.getpid(), left >= 0)


def work(queue: ServerQueue, table: SpectacleTable, kind: int) -> None:
    """Answer the requests of one kind, for as long as the server lives."""
    for request in queue.requests(kind):  # blocks
        try:
            queue.reply(request, answer(table, request))
        except Exception:
            log.exception("[INFO] requête %s abandonnée", request)


@program
def main(argv: list[str] | None = None) -> None:
    """Run the server until a signal stops it."""
    options = cli.parse_server(cli.server_parser("q2_msq", "Question 2 : file de messages, deux fils."), argv)
    with Server("q2_msq", options) as server:
        queue = server.enter(ServerQueue(server, options.key, options.mode))
        table = server.enter(SharedTable(server, options.shm_key, options.sem_name, options.mode, server.store))
        children = server.enter(Children(server, queue, table.recover, queue.recover))
        children.start("consultations", work, queue, table, LIST)
        children.start("réservations", work, queue, table, RESERV)
        server.run(queue, children)


if __name__ == "__main__":
    sys.exit(command(main))
