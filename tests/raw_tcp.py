"""Question 5 by hand: sockets that send bytes rather than requests, so that tests choose where they are cut."""

from __future__ import annotations

import re
import socket
import ssl
import struct
import time
from pathlib import Path

from spectacles.lab.programs.process import ServerProcess
from tests import helpers

LIST = bytes.fromhex("01000000 00000000 00000000")  # int type, spectacle, nb_places
TABLE_SIZE = 720
YES, NO = b"\1", b"\0"
GONE = (ConnectionResetError, BrokenPipeError, ssl.SSLError)  # what the end of a connection may look like


def reserve(show: int, seats: int) -> bytes:
    """Return the 12 bytes of a reservation."""
    return struct.pack("<iii", 2, show, seats)


def connect(server: ServerProcess, tls: ssl.SSLContext | None = None, name: str | None = None) -> socket.socket:
    """Return a connection to `server`, whose every call has a deadline; in TLS with `tls`, for the host `name`."""
    host, port = server.address()
    connection = socket.create_connection((host, port), helpers.DEADLINE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls is None:
        return connection
    try:
        return tls.wrap_socket(connection, server_hostname=name or host)
    except BaseException:
        connection.close()
        raise


def receive(connection: socket.socket, size: int) -> bytes:
    """Return the next `size` bytes; fewer if the stream ends before. Raises OSError, TimeoutError."""
    data = b""
    while len(data) < size and (part := connection.recv(size - len(data))):
        data += part
    return data


def ask(connection: socket.socket, request: bytes = LIST) -> bytes:
    """Send one request and return its answer, b"" if the connection ends instead. Raises TimeoutError."""
    try:
        connection.sendall(request)
        return receive(connection, TABLE_SIZE if request == LIST else 1)
    except GONE:
        return b""


def seats_left(connection: socket.socket, show: int = 0) -> int:
    """Ask for the table and return the seats left for slot `show`."""
    table = ask(connection)
    assert len(table) == TABLE_SIZE, f"{len(table)} bytes"
    places: int = struct.unpack_from("<i", table, show * 72 + 68)[0]
    return places


def is_closed(connection: socket.socket) -> bool:
    """Wait for the server to close the connection; say whether it did, without a byte more. Raises TimeoutError."""
    try:
        return connection.recv(1) == b""
    except GONE:
        return True


def reset(connection: socket.socket) -> None:
    """Close with a reset (RST) in place of a good-bye, as the kernel does for a host that crashed."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def fill(connection: socket.socket) -> int:
    """Send requests for the table without reading an answer, until no byte more fits. Return how many bytes did."""
    connection.setblocking(False)
    sent = 0
    quiet = 0
    while quiet < 20:  # what the server has just read makes room for more
        try:
            sent += connection.send(LIST * 100)
            quiet = 0
        except (BlockingIOError, ssl.SSLWantWriteError):
            quiet += 1
            time.sleep(0.01)
    return sent


def name_of(connection: socket.socket) -> str:
    """Return what the server's log calls this client."""
    host, port = connection.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def farewell(server: ServerProcess, connection: socket.socket | str) -> str:
    """Return the log line that ends the client's connection, once there is one."""
    client = connection if isinstance(connection, str) else name_of(connection)
    return server.wait_for(rf"client {re.escape(client)} (déconnecté|disparu)", helpers.DEADLINE)


def log_file(server: ServerProcess) -> str:
    """Return the text of the log file of `server`."""
    return Path(server.directory, "logs", "q5_sockets.log").read_text("utf-8")
