"""After question 5: TCP, one thread per connection, and a basket in each.

    client ── connects ──► ┌──────┐ ─► thread: accept loop
    client ── connects ──► │ port │      └─ starts ─┐
                           └──────┘                 ▼
    client ◄═ connection ═════════════════════► thread: one client, basket ─┐ lock ┌───────────────┐
    client ◄═ connection ═════════════════════► thread: one client, basket ─┴────► │ table, and    │
                                                ...         │                      │ seats held    │
                                                            │                      └───────────────┘
                                                            └─ only what is sold ─► spectacles.dat
                                       main thread: signals, baskets whose time is up

Channel: as in question 5, whose clients work unchanged; four types of requests more.
Table: plain memory of the one process, with the seats in baskets beside it; the file knows only what
    is sold.
Lock: as in question 5; but who confirms a basket keeps it while waiting for the disk.
Reply: on the connection, as in question 5.

Since question 5: the server remembers something of its client between two requests, so that its end
means something: of the connection, of the time given (--hold-seconds), of the server. Whichever comes
first gives the seats back, and only once.
"""

from __future__ import annotations

import sys
from threading import Lock

from spectacles.common import cli, log
from spectacles.common.detached import DetachedThreads
from spectacles.common.lifecycle import Server, command, program
from spectacles.common.protocol import BASKET, CONFIRM, HOLD, LIST, RELEASE, RESERV, TCP_RESERV_REPLY
from spectacles.common.spectacle import TABLE_SIZE
from spectacles.common.threads import Threads
from spectacles.q5_sockets.channel import Connection, Listener
from spectacles.x2_basket.table import Basket, BasketTable, report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spectacles.common.protocol import Request

KINDS = (LIST, RESERV, HOLD, RELEASE, CONFIRM, BASKET)


def answer(table: BasketTable, basket: Basket, request: Request) -> bytes:
    """One request in, one reply out."""
    kind, client, show, seats = request
    if kind == LIST:
        log.info("[CONSULTATION] client %s : table envoyée", client)
        return table.offer()
    if kind == BASKET:
        contents = table.contents(basket)
        log.info("[PANIER] client %s : panier envoyé", client)
        return contents
    if kind == RESERV:
        left = table.reserve(show, seats)
        log.reservation(client, show, seats, left)
    else:
        change = {HOLD: table.hold, RELEASE: table.give_back, CONFIRM: table.confirm}[kind]
        left = change(basket, show, seats)
        report(client, kind, show, seats, left)
    return TCP_RESERV_REPLY.pack(left >= 0)


def handle(connection: Connection, table: BasketTable) -> None:
    """Answer the requests of one client, in a thread that ends with its session, as its basket does."""
    with connection, table.basket(connection.client) as basket:
        for request in connection.requests():  # blocks
            try:
                connection.reply(request, answer(table, basket, request))
            except Exception:
                log.exception("[INFO] requête %s abandonnée", request)
                return


def work(listener: Listener, table: BasketTable, threads: DetachedThreads) -> None:
    """Hand every connection to a thread, for as long as the server lives."""
    for connection in listener.connections():  # blocks
        threads.start(handle, connection, table)  # blocks when all threads are taken
    threads.join()


@program
def main(argv: list[str] | None = None) -> None:
    """Run the server until a signal stops it."""
    parser = cli.server_parser("x2_basket", "Après la question 5 : un panier par connexion.", queue=False)
    cli.add_listener(parser)
    cli.add_baskets(parser)
    options = cli.parse_server(parser, argv)
    with Server("x2_basket", options) as server:
        listener = server.enter(Listener(server, options, KINDS))
        table = BasketTable(bytearray(TABLE_SIZE), Lock(), server.store, options.hold_seconds, options.max_held)
        threads = server.enter(Threads())
        clients = DetachedThreads(options.max_clients, listener.no_thread, "client")
        threads.start("réception", work, listener, table, clients)
        server.run(listener, threads)


if __name__ == "__main__":
    sys.exit(command(main))
