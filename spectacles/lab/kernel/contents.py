"""What bytes mean, where the layout is one of the service's (common/protocol.py), in any program that uses it.

Nothing says what a stranger's bytes are. So they are taken for a message of the service only if type, size and every
field make sense together; else they stay bytes.
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from spectacles.common.protocol import (
    LIST,
    LIST_REPLY,
    LIST_REQUEST,
    PIPE_INT,
    RESERV,
    RESERV_REPLY,
    RESERV_REQUEST,
    TCP_REQUEST,
)
from spectacles.common.spectacle import TABLE_SIZE, unpack_table
from spectacles.common.storage import check_table
from spectacles.lab.kernel.model import Show

MOST_PID = 1 << 22  # the kernel's own limit on 64 bits
FIRST_PID = RESERV + 1  # types below are requests
CLAIM = re.compile(rb"spectacles 0x([0-9a-f]{1,8})\0+")  # what q2_msq/takeover.py claim_queue() writes

Fields = tuple[tuple[str, int], ...]


class Decoded(NamedTuple):
    """layout: name of the struct. fields: what it says. client: PID in it or in the type. table: of a list's reply."""

    layout: str
    fields: Fields
    client: int
    table: tuple[Show, ...] = ()


def table_of(data: bytes) -> tuple[Show, ...] | None:
    """Return the shows in bytes that begin with a table, None if they do not; an empty table is not recognised.

    Bytes that are something else may pass for ids and numbers, but not with a title for each.
    """
    if len(data) < TABLE_SIZE or check_table(data[:TABLE_SIZE]) is not None:
        return None
    shows = unpack_table(data[:TABLE_SIZE])
    if not all(show.nom and show.nom.isprintable() for _, show in shows):
        return None
    return tuple(Show(slot, show.id, show.nom, show.places) for slot, show in shows) or None


def claimed(data: bytes) -> int | None:
    """Return the key of the queue that a server of ours makes its own by a memory with these bytes, or None."""
    found = CLAIM.fullmatch(data)
    return int(found[1], 16) if found else None


def message(type_: int, body: bytes) -> Decoded | None:
    """Return what a message of the queue of questions 2 to 4 says, None if it is not one of them."""
    size = len(body)
    if type_ == LIST and size in (4, LIST_REQUEST.size, RESERV_REQUEST.size, RESERV_REQUEST.size - 4):
        (pid,) = struct.unpack_from("<i", body)
        return Decoded("LIST_REQUEST", (("pid", pid),), pid) if 0 < pid <= MOST_PID else None
    if type_ == RESERV and size in (12, RESERV_REQUEST.size):
        pid, show, seats = struct.unpack_from("<iii", body)
        fields = (("pid", pid), ("spectacle", show), ("nb_places", seats))
        return Decoded("RESERV_REQUEST", fields, pid) if 0 < pid <= MOST_PID else None
    if type_ >= FIRST_PID and size in (LIST_REPLY.size - 4, LIST_REPLY.size):
        (server,) = struct.unpack_from("<i", body)
        shows = table_of(body[4:])
        if 0 < server <= MOST_PID and shows is not None:
            return Decoded("LIST_REPLY", (("pid", server),), type_, shows)
    if type_ >= FIRST_PID and size in (5, RESERV_REPLY.size):
        server, ack = struct.unpack_from("<iB", body)
        if 0 < server <= MOST_PID and ack <= 1:
            return Decoded("RESERV_REPLY", (("pid", server), ("ack", ack)), type_)
    return None


def tcp_request(data: bytes) -> tuple[str, Fields] | None:
    """Return what unread bytes on the server's side say, if they are whole requests of question 5: of the first."""
    if not data or len(data) % TCP_REQUEST.size:
        return None
    type_, show, seats = TCP_REQUEST.unpack_from(data)
    if type_ == LIST:
        return "TCP_LIST", ()
    if type_ == RESERV:
        return "TCP_RESERV", (("spectacle", show), ("nb_places", seats))
    return None


def tcp_reply(data: bytes) -> tuple[str, Fields] | None:
    """Return what unread bytes on the client's side say: a table or one byte."""
    if len(data) == TABLE_SIZE and table_of(data) is not None:
        return "TCP_LIST_REPLY", ()
    if len(data) == 1 and data[0] <= 1:
        return "TCP_RESERV_REPLY", (("ack", data[0]),)
    return None


def pipe_numbers(data: bytes) -> tuple[int, ...]:
    """Return the C ints in the bytes of a FIFO of question 1, () if they are no whole number of them."""
    if not data or len(data) % PIPE_INT.size:
        return ()
    return tuple(number for (number,) in PIPE_INT.iter_unpack(data))
