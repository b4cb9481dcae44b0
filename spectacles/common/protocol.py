"""The bytes of every message, requests and replies together. How they travel is elsewhere.

Every format states its byte order (little-endian) and its padding, so that two unlike machines understand each other
over TCP (defect 20), and is laid out as the C compiler lays out the structs of the original on x86-64 and aarch64. A
message of the queue is its body: the `long mtype` before it travels apart, as msgsnd(2) has it. A request is taken by
the bytes it needs, whatever comes after them: padding or none, one struct for both kinds, the mtype counted in.

A request inside a server is a plain tuple (kind, client, show, seats): `client` is what the log calls it (a PID, an
address), `show` a slot 0..9, never an id; what a request does not carry is 0.
"""

from __future__ import annotations

import struct

from spectacles.common.spectacle import TABLE_SIZE

LIST = 1  # the type of a consultation, client -> server
RESERV = 2  # the type of a reservation, client -> server
FIRST_PID = RESERV + 1  # of a client of the queue: a reply of type 1 or 2 would be taken for a request (defect 13)
LAST_PID = 2**22  # more than that, no process has, pid_max in proc(5)

# Question 1, one C int or bool per FIFO
PIPE_INT = struct.Struct("<i")  # show or seats, client -> server; seats left or -1, server -> client
PIPE_BOOL = struct.Struct("<?")  # acknowledged?, server -> client

# Questions 2 to 4, bodies of messages
LIST_REQUEST = struct.Struct("<i4x")  # client -> server: int pid
LIST_REPLY = struct.Struct(f"<i{TABLE_SIZE}s4x")  # server -> client: int server pid, Spectacle[10]
RESERV_REQUEST = struct.Struct("<iii4x")  # client -> server: int pid, int spectacle, int nb_places
RESERV_REPLY = struct.Struct("<i?3x")  # server -> client: int server pid, bool ack
NEEDED = {LIST: struct.Struct("<i"), RESERV: struct.Struct("<iii")}  # of a request: its fields, without the padding

# Question 5, on the connection
TCP_REQUEST = struct.Struct("<iii")  # client -> server: int type, int spectacle, int nb_places
TCP_RESERV_REPLY = struct.Struct("<?")  # server -> client; a list reply is the table, 720 bytes

# x2_basket: more types of the same request
HOLD = 3  # set `nb_places` seats of `spectacle` aside; the reply is a bool
RELEASE = 4  # give so many of them back; a bool
CONFIRM = 5  # buy the whole basket, in which there are `nb_places` seats; a bool
BASKET = 6  # show the basket
TCP_BASKET_REPLY = struct.Struct(f"<i{TABLE_SIZE}s")  # int seconds until the first seats go back, Spectacle[10]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Request = tuple[int, Any, int, int]

_unpack_list, _unpack_reserv = NEEDED[LIST].unpack_from, NEEDED[RESERV].unpack_from


def parse_request(body: bytes, kind: int) -> Request | None:
    """Return the request of `kind` (LIST or RESERV) that a message of the queue holds, None if it is too short."""
    try:
        if kind == LIST:
            return LIST, _unpack_list(body)[0], 0, 0
        return RESERV, *_unpack_reserv(body)
    except struct.error:
        return None
