"""Question 5, server: TCP, one thread per connection.

    client ── connects ──► ┌──────┐ ─► thread: accept loop
    client ── connects ──► │ port │      └─ starts ─┐
                           └──────┘                 ▼
    client ◄═ connection ═════════════════════► thread: one client ─┐ lock ┌────────────────┐
    client ◄═ connection ═════════════════════► thread: one client ─┴────► │ table in       │
                                                ...     │                  │ process memory │
                                                        │                  └────────────────┘
                                                        └─ accepted ──► spectacles.dat
                                       main thread: signals

Channel: a TCP connection per client, in clear or in TLS; its thread lives as long as the session.
Table: plain memory of the one process; what is accepted is also written to the file.
Lock: a Lock of the process, held for one change, never while waiting for the disk; a look takes the
    image that the last change has published.
Reply: on the connection that the request came by; no PID any more, so client and server may be
    far apart.

Since question 4: no queue to fill or to clean, the kernel tells when a client has gone, and the
requests of one client keep their order. In return a client that says nothing holds a thread, hence
--idle-timeout and --max-clients.
"""

from __future__ import annotations

import sys
from threading import Lock

from spectacles.common import cli, log
from spectacles.common.detached import DetachedThreads
from spectacles.common.lifecycle import Server, command, program
from spectacles.common.protocol import LIST, TCP_RESERV_REPLY
from spectacles.common.spectacle import TABLE_SIZE
from spectacles.common.table import SpectacleTable
from spectacles.common.threads import Threads
from spectacles.q5_sockets.channel import Connection, Listener

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spectacles.common.protocol import Request


def answer(table: SpectacleTable, request: Request) -> bytes:
    """One request in, one reply out."""
    kind, client, show, seats = request
    if kind == LIST:
        log.info("[CONSULTATION] client %s : table envoyée", client)
        return table.snapshot()
    left = table.reserve(show, seats)
    log.reservation(client, show, seats, left)
    return TCP_RESERV_REPLY.pack(left >= 0)


def handle(connection: Connection, table: SpectacleTable) -> None:
    """Answer the requests of one client, in a thread that ends with its session."""
    with connection:
        for request in connection.requests():  # blocks
            try:
                connection.reply(request, answer(table, request))
            except Exception:
                log.exception("[INFO] requête %s abandonnée", request)
                return


def work(listener: Listener, table: SpectacleTable, threads: DetachedThreads) -> None:
    """Hand every connection to a thread, for as long as the server lives."""
    for connection in listener.connections():  # blocks
        threads.start(handle, connection, table)  # blocks when all threads are taken
    threads.join()


@program
def main(argv: list[str] | None = None) -> None:
    """Run the server until a signal stops it."""
    parser = cli.server_parser("q5_sockets", "Question 5 : TCP, un thread par connexion.", queue=False)
    cli.add_listener(parser)
    options = cli.parse_server(parser, argv)
    with Server("q5_sockets", options) as server:
        listener = server.enter(Listener(server, options))
        table = SpectacleTable(bytearray(TABLE_SIZE), Lock(), server.store)
        threads = server.enter(Threads())
        clients = DetachedThreads(options.max_clients, listener.no_thread, "client")
        threads.start("réception", work, listener, table, clients)
        server.run(listener, threads)


if __name__ == "__main__":
    sys.exit(command(main))
