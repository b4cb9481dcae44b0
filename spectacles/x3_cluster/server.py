"""Further 3, server: question 5 on several machines, in front of a table in etcd.

    client ◄═ connection ═► ┌─ a server, as in question 5 ──────┐           ┌─ etcd, three nodes ──┐
    client ◄═ connection ═► │ thread: one client ─┐ one of them │           │ ┌────────┐ ◄───► o   │
                            │ thread: one client ─┼─ for all ───┼─ change ─►│ │ leader │  majority │
                            │ ...                ─┘ who wait    │  if same  │ └────────┘ ◄───► o   │
                            └───────────────────────────────────┘           │  table of ten,       │
    client ◄═ connection ═► ┌─ another, on another machine ─────┐           │  a revision for each │
    client ◄═ connection ═► │ ...                               ├─ change ─►│                      │
                            └───────────────────────────────────┘  if same  └──────────────────────┘

Channel: a TCP connection per client, to any of the servers; the client knows several of them.
Table: in etcd, on the disks of the majority of its nodes; a server holds nothing that it would miss.
Lock: none. A show is changed on the condition that nobody has changed it since it was looked at; if somebody has,
    it is decided anew. Those who wait in one server are decided, and written, together.
Reply: on the connection that the request came by; without a majority, or when nobody can tell what has become of
    a request, the connection is closed without one.

Since question 5: a server, or its machine, may die, and the client goes to the next; what replaces the lock is the
revision, what replaces the shared fdatasync is the shared transaction. In return every look goes over the network.
"""

from __future__ import annotations

import sys
from functools import partial

from spectacles.common import cli, log
from spectacles.common.detached import DetachedThreads
from spectacles.common.lifecycle import Server, command, program
from spectacles.common.protocol import LIST, TCP_RESERV_REPLY
from spectacles.common.threads import Threads
from spectacles.q5_sockets.channel import Connection, Listener
from spectacles.x3_cluster.etcd import UnavailableError
from spectacles.x3_cluster.node import add_etcd, etcd_of, first_table
from spectacles.x3_cluster.table import ClusterTable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spectacles.common.protocol import Request


def answer(table: ClusterTable, request: Request) -> bytes:
    """One request in, one reply out."""
    kind, client, show, seats = request
    if kind == LIST:
        image = table.snapshot()
        log.info("[CONSULTATION] client %s : table envoyée", client)
        return image
    left = table.reserve(show, seats)
    log.reservation(client, show, seats, left)
    return TCP_RESERV_REPLY.pack(left >= 0)


def handle(connection: Connection, table: ClusterTable) -> None:
    """Answer the requests of one client, in a thread that ends with its session."""
    with connection:
        for request in connection.requests():  # blocks
            try:
                connection.reply(request, answer(table, request))
            except UnavailableError as error:
                log.error("[INFO] client %s laissé sans réponse : %s", connection.client, error)
                return
            except Exception:
                log.exception("[INFO] requête %s abandonnée", request)
                return


def work(listener: Listener, table: ClusterTable, threads: DetachedThreads) -> None:
    """Hand every connection to a thread, for as long as the server lives."""
    for connection in listener.connections():  # blocks
        threads.start(handle, connection, table)  # blocks when all threads are taken
    threads.join()


@program
def main(argv: list[str] | None = None) -> None:
    """Run the server until a signal stops it."""
    summary = "Question 5 sur plusieurs machines : une table dans etcd."
    parser = cli.server_parser("x3_cluster", summary, queue=False, file=False)
    cli.add_listener(parser)
    add_etcd(parser)
    parser.add_argument("--stale", action="store_true", help="consulte un seul membre d'etcd, en retard peut-être")
    options = cli.parse_server(parser, argv)
    with Server("x3_cluster", options, file=False) as server:
        table = server.enter(ClusterTable(etcd_of(server, options), stale=options.stale))
        table.create(partial(first_table, server.directory))
        listener = server.enter(Listener(server, options))
        threads = server.enter(Threads())
        clients = DetachedThreads(options.max_clients, listener.no_thread, "client")
        threads.start("réception", work, listener, table, clients)
        server.run(listener, threads)


if __name__ == "__main__":
    sys.exit(command(main))
