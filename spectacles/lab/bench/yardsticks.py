"""What the servers are measured against: the least that Python can do on each channel, and the standard library's way.

`python -m spectacles.lab.bench.yardsticks bare Q --dir DIR` answers consultations, and only these, with a constant: one
blocking receive, one send, nothing else. `manager --dir DIR` serves the real table by multiprocessing's BaseManager.
Both print `Serveur UP` and end on SIGTERM. `load KIND --dir DIR --seconds S` is a client of the manager, or (with a
question in place of KIND) of a server, in a closed loop; it prints what it did as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from _thread import start_new_thread
from functools import partial
from multiprocessing.managers import BaseManager
from typing import TYPE_CHECKING

from spectacles.common import addresses, cli, storage
from spectacles.common.lifecycle import program
from spectacles.common.processors import share_one_processor
from spectacles.common.protocol import LIST, LIST_REPLY, LIST_REQUEST, PIPE_INT, TCP_REQUEST
from spectacles.common.spectacle import TABLE_SIZE
from spectacles.common.table import SpectacleTable
from spectacles.lab.programs.process import QUESTIONS, READY

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

SOCKET_NAME = "manager.sock"
AUTHKEY = b"spectacles"  # no secret: the socket is in a directory that only its user can enter


class TableManager(BaseManager):
    """A manager whose one object is the table."""

    table: Callable[[], SpectacleTable]  # added by register(), where mypy does not see it


def _until_terminated(*cleanup: Callable[[], object]) -> None:
    def leave(*_: object) -> None:
        for undo in cleanup:
            undo()
        os._exit(0)

    signal.signal(signal.SIGTERM, leave)
    print(READY, flush=True)


def bare_pipes(options: Namespace) -> None:
    """Answer consultations on the FIFOs of question 1."""
    names = ("tub1_view", "tub2_view", "tub1_reservation", "tub2_reservation", "tub3_reservation")
    os.chdir(options.dir)
    fds = []
    for name in names:
        os.mkfifo(name, 0o600)
        fds.append(os.open(name, os.O_RDWR))
    _until_terminated(*(partial(os.unlink, name) for name in names))
    read, write, source, sink, reply = os.read, os.write, fds[0], fds[1], PIPE_INT.pack(100)
    while True:
        read(source, 4)
        write(sink, reply)


def _queue(options: Namespace) -> tuple[Callable[..., tuple[bytes, int]], Callable[..., None], bytes]:
    import sysv_ipc

    key = addresses.directory_key(options.dir, addresses.PROJECT_MSQ)
    queue = sysv_ipc.MessageQueue(key, sysv_ipc.IPC_CREX, mode=0o600)
    _until_terminated(queue.remove)
    return queue.receive, queue.send, LIST_REPLY.pack(os.getpid(), bytes(TABLE_SIZE))


def bare_queue(options: Namespace) -> None:
    """Answer consultations on the queue of questions 2 and 3."""
    receive, send, reply = _queue(options)
    unpack = LIST_REQUEST.unpack
    while True:
        send(reply, True, unpack(receive(True, LIST)[0])[0])


def bare_thread_per_request(options: Namespace) -> None:
    """Answer consultations on the queue, each in a thread of its own, as question 4."""
    receive, send, reply = _queue(options)
    unpack = LIST_REQUEST.unpack

    def answer(body: bytes) -> None:
        send(reply, True, unpack(body)[0])

    share_one_processor()
    while True:
        start_new_thread(answer, (receive(True, LIST)[0],))


def bare_tcp(options: Namespace) -> None:
    """Answer consultations over TCP, a thread per connection, as question 5."""
    listener = socket.create_server((options.host, options.port))
    print(f"port {listener.getsockname()[1]}", flush=True)
    reply = bytes(TABLE_SIZE)

    def serve(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            recv, sendall = connection.recv, connection.sendall
            while recv(TCP_REQUEST.size):
                sendall(reply)

    _until_terminated(listener.close)
    while True:
        start_new_thread(serve, (listener.accept()[0],))


BARE = {
    "q1_pipes": bare_pipes,
    "q2_msq": bare_queue,
    "q3_threads": bare_queue,
    "q4_thread_per_request": bare_thread_per_request,
    "q5_sockets": bare_tcp,
}


def manager(options: Namespace) -> None:
    """Serve the table of DIR/spectacles.dat, saved as the servers do it with --no-fsync."""
    from threading import Lock

    fd = os.open(options.dir, os.O_RDONLY | os.O_DIRECTORY)
    store = storage.Store(fd, os.path.join(options.dir, storage.FILE_NAME), fsync=False)
    table = SpectacleTable(bytearray(TABLE_SIZE), Lock(), store)
    TableManager.register("table", callable=lambda: table, exposed=("snapshot", "reserve"))
    os.chdir(options.dir)  # the path of a UNIX socket is short, unix(7)
    server = TableManager(address=SOCKET_NAME, authkey=AUTHKEY).get_server()
    _until_terminated(partial(os.unlink, SOCKET_NAME))
    server.serve_forever()


def load(options: Namespace) -> None:
    """Ask for the table again and again and print {"requests", "seconds"}."""
    if options.what == "manager":
        TableManager.register("table", exposed=("snapshot", "reserve"))
        os.chdir(options.dir)
        client = TableManager(address=SOCKET_NAME, authkey=AUTHKEY)
        client.connect()
        ask: Callable[[], object] = client.table().snapshot
    elif options.what == "q5_sockets":
        from spectacles.q5_sockets.channel import ClientConnection

        options.tls, options.ca, options.cert, options.key = False, None, None, None
        connection = ClientConnection(options)
        request = TCP_REQUEST.pack(LIST, 0, 0)
        ask = lambda: connection.exchange(request, TABLE_SIZE)  # noqa: E731
    else:
        from spectacles.q2_msq.channel import ClientQueue

        queue = ClientQueue(addresses.directory_key(options.dir, addresses.PROJECT_MSQ), options.timeout)
        body = LIST_REQUEST.pack(os.getpid())
        ask = lambda: queue.exchange(LIST, body, LIST_REPLY.size)  # noqa: E731
    requests = 0
    start = time.monotonic()
    end = start + options.seconds
    while (now := time.monotonic()) < end:
        ask()
        requests += 1
    print(json.dumps({"requests": requests, "seconds": now - start}))


@program
def main(argv: list[str] | None = None) -> None:
    """Run one yardstick, or its client."""
    parser = cli.Parser(prog="python -m spectacles.lab.bench.yardsticks", description="Étalons du banc de mesure.")
    parser.add_argument("role", choices=("bare", "manager", "load"))
    parser.add_argument("what", nargs="?", choices=(*QUESTIONS, "manager"))
    cli.add_directory(parser)
    cli.add_host_port(parser)
    parser.add_argument("--seconds", type=cli.seconds, default=1.0)
    parser.add_argument("--timeout", type=cli.seconds, default=5.0)
    options = parser.parse_args(argv)
    options.dir = os.path.abspath(options.dir)
    {"bare": lambda: BARE[options.what](options), "manager": lambda: manager(options), "load": lambda: load(options)}[
        options.role
    ]()


if __name__ == "__main__":
    sys.exit(main())
