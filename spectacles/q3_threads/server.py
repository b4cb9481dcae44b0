"""Question 3, server: the two children become two threads.

    clients ── type 1 ──► ┌───────┐ ─► thread: consultations ─┐ lock ┌────────────────┐
            ── type 2 ──► │ queue │ ─► thread: reservations ──┴────► │ table in       │
            ◄─ type PID ─ └───────┘ ◄─ both        │                 │ process memory │
                                                   │                 └────────────────┘
                                                   └─ every accepted one ──► spectacles.dat
                                       main thread: signals, replies to dead clients

Channel: as in question 2, and the client is question 2's: it cannot tell.
Table: plain memory of the one process; what is accepted is also written to the file.
Lock: a Lock of the process, held for one change, never while waiting for the disk; a look takes the
    image that the last change has published.
Reply: as in question 2, by the PID in the request.

Since question 2: no shared memory, no named semaphore, nobody to replace. A crash now takes both
workers at once, and leaves nothing but the queue.
"""

from __future__ import annotations

import os
import sys
from threading import Lock

from spectacles.common import cli, log
from spectacles.common.lifecycle import Server, command, program
from spectacles.common.protocol import LIST, LIST_REPLY, RESERV, RESERV_REPLY
from spectacles.common.spectacle import TABLE_SIZE
from spectacles.common.table import SpectacleTable
from spectacles.common.threads import Threads
from spectacles.q2_msq.channel import ServerQueue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spectacles.common.protocol import Request


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
    options = cli.parse_server(cli.server_parser("q3_threads", "Question 3 : file de messages, deux threads."), argv)
    with Server("q3_threads", options) as server:
        queue = server.enter(ServerQueue(server, options.key, options.mode))
        table = SpectacleTable(bytearray(TABLE_SIZE), Lock(), server.store)
        threads = server.enter(Threads())
        threads.start("consultations", work, queue, table, LIST)
        threads.start("réservations", work, queue, table, RESERV)
        server.run(queue, threads)


if __name__ == "__main__":
    sys.exit(command(main))
