"""Further than question 2, server: several of them on one queue, each client with one of them.

    clients ── type 1, 2 ──► ┌───────┐ ─► server A, thread accueil ───┐ guard ┌───────────────┐
            ── type A ─────► │ queue │ ─►           thread séances ───┤       │ table in      │
                             │       │ ─►       thread successions ───┼─────► │ shared memory │
            ── type 1, 2, B ►│       │ ─► server B, the same three ───┤       └───────────────┘
            ◄─ type PID ──── └───────┘ ◄─ whoever has taken it        │
                                                                      └─ accepted ──► spectacles.dat
                                          main thread: signals, replies to dead clients

Channel: question 2's queue. A first request, by its type, goes to whichever server is free; the
    reply says which, and from then on that server's PID is the type: one server for one client.
Table: System V shared memory, with a desk for each server. The first server makes it and the queue,
    the last removes them; in between they come, go and die in any order.
Lock: a System V semaphore, which the kernel gives back when its holder dies (SEM_UNDO); the next
    holder puts the table right from the file.
Reply: its type is the PID in the request, as in question 2, whose clients are served unchanged.

Since question 2: no parent and children, but equals. Nobody restarts the dead: the others answer
what these had in hand, and what is still sent to them.
"""

from __future__ import annotations

import os
import sys

from spectacles.common import cli, log
from spectacles.common.lifecycle import Server, command, program
from spectacles.common.protocol import LIST, LIST_REPLY, RESERV_REPLY
from spectacles.common.threads import Threads
from spectacles.x1_sessions.channel import ANY, LEGACIES, ServerQueue
from spectacles.x1_sessions.guarded import GuardedTable
from spectacles.x1_sessions.house import House

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
    parser = cli.server_parser("x1_sessions", "Suite x1 : plusieurs serveurs sur une file de messages.")
    options = cli.parse_server(parser, argv)
    with Server("x1_sessions", options, shared=True) as server:
        house = server.enter(House(server, options.shm_key, options.mode))
        table = server.enter(GuardedTable(house, server.store))
        queue = server.enter(ServerQueue(server, house, options.key, options.mode))
        threads = server.enter(Threads())
        threads.start("accueil", work, queue, table, ANY)
        threads.start("séances", work, queue, table, os.getpid())
        threads.start("successions", work, queue, table, LEGACIES)
        server.run(queue, threads)


if __name__ == "__main__":
    sys.exit(command(main))
