"""Question 4, server: one thread per request.

    clients ─ type 1, 2 ► ┌───────┐ ─► thread: receiver
                          │ queue │    └─ starts ─► thread: a request ─┐ lock ┌────────────────┐
            ◄ type PID ── └───────┘ ◄─ replies ──── thread: a request ─┴────► │ table in       │
                                                    ...     │                 │ process memory │
                                                            │                 └────────────────┘
                                                            └─ accepted ──► spectacles.dat
                                       main thread: signals, replies to dead clients

Channel: as in question 2; the receiver takes either type, never a reply, and hands each request to
    a thread of its own.
Table: plain memory of the one process; what is accepted is also written to the file.
Lock: a Lock of the process, held for one change, never while waiting for the disk; a look takes the
    image that the last change has published.
Reply: as in question 2, by the PID in the request.

Since question 3: a slow request delays nobody, but requests may overtake one another, and each
costs a thread. Beyond --max-threads the receiver stops taking, and the queue itself makes the
clients wait. Receiver and threads share one processor: the interpreter lets one of them run at a
time, and there it is the next one's turn at once.
"""

from __future__ import annotations

import os
import sys
from threading import Lock

from spectacles.common import cli, log
from spectacles.common.detached import DetachedThreads
from spectacles.common.lifecycle import Server, command, program
from spectacles.common.processors import share_one_processor
from spectacles.common.protocol import LIST, LIST_REPLY, RESERV_REPLY
from spectacles.common.spectacle import TABLE_SIZE
from spectacles.common.table import SpectacleTable
from spectacles.common.threads import Threads
from spectacles.q2_msq.channel import ANY, ServerQueue

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


def handle(queue: ServerQueue, table: SpectacleTable, request: Request) -> None:
    """Answer one request, in a thread that ends with it."""
    try:
        queue.reply(request, answer(table, request))
    except Exception:
        log.exception("[INFO] requête %s abandonnée", request)


def work(queue: ServerQueue, table: SpectacleTable, threads: DetachedThreads) -> None:
    """Hand every request to a thread, for as long as the server lives."""
    share_one_processor()
    for request in queue.requests(ANY):  # blocks
        threads.start(handle, queue, table, request)  # blocks when all threads are taken
    threads.join()


@program
def main(argv: list[str] | None = None) -> None:
    """Run the server until a signal stops it."""
    parser = cli.server_parser("q4_thread_per_request", "Question 4 : file de messages, un thread par requête.")
    cli.add_max_threads(parser)
    options = cli.parse_server(parser, argv)
    with Server("q4_thread_per_request", options) as server:
        queue = server.enter(ServerQueue(server, options.key, options.mode))
        table = SpectacleTable(bytearray(TABLE_SIZE), Lock(), server.store)
        threads = server.enter(Threads())
        threads.start("réception", work, queue, table, DetachedThreads(options.max_threads))
        server.run(queue, threads)


if __name__ == "__main__":
    sys.exit(command(main))
