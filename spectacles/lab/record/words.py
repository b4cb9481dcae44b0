"""What people read of a run, in French: names of lanes, what a step says.

Bytes have a meaning only where the layout is the service's (lab/kernel/contents.py); else they stay bytes. What a
program chose itself may be hostile: whoever shows it escapes it.
"""

from __future__ import annotations

import re
import signal
import struct
from typing import TYPE_CHECKING, Any

from spectacles.common.spectacle import RECORD_SIZE, TABLE_SIZE
from spectacles.lab.kernel import contents
from spectacles.lab.record.model import LaneKind

if TYPE_CHECKING:
    from collections.abc import Mapping

SHOWN = 24  # characters of a text that a step quotes

_KINDS = (  # beginnings of the gate's names of objects
    ("queue ", LaneKind.QUEUE, "file "),
    ("private queue ", LaneKind.QUEUE, "file privée "),
    ("POSIX queue ", LaneKind.QUEUE, "file POSIX "),
    ("pipe ", LaneKind.PIPE, "tube "),
    ("connection ", LaneKind.SOCKET, "connexion "),
    ("port ", LaneKind.SOCKET, "port "),
    ("socket ", LaneKind.SOCKET, "socket "),
    ("semaphores ", LaneKind.SEMAPHORE, "sémaphores "),
    ("private semaphores ", LaneKind.SEMAPHORE, "sémaphores privés "),
    ("semaphore ", LaneKind.SEMAPHORE, "sémaphore "),
    ("lock ", LaneKind.LOCK, "verrou "),
    ("condition ", LaneKind.LOCK, "condition "),
    ("memory ", LaneKind.MEMORY, "mémoire "),
    ("private memory ", LaneKind.MEMORY, "mémoire privée "),
    ("shared memory ", LaneKind.MEMORY, "mémoire partagée "),
)
_NAMED = {  # what our servers call their tasks, cut and without accents by the kernel, common/naming.py
    "consultations": "consultations",
    "reservations": "réservations",
    "reception": "réception",
}
NO_LANE = {"", "terminal", "socket", "new semaphore", "private queue", "private semaphores", "private memory",
           "queue", "semaphores", "memory", "eventpoll", "eventfd", "signalfd", "timerfd"}  # fmt: skip

_FIELDS = ((0, 4, "le numéro"), (4, 54, "le titre"), (54, 68, "la date"), (68, 72, "les places"))
_INT = struct.Struct("<i")


def lane(object_: str, fifos: set[str]) -> tuple[LaneKind, str]:
    """Return what kind of thing an object of the gate is, and what people call it."""
    if object_ in fifos:
        return LaneKind.FIFO, f"FIFO {object_}"
    for start, kind, french in _KINDS:
        if object_.startswith(start):
            rest = object_[len(start) :]
            key = re.fullmatch(r"0x0000([0-9a-f]{4})", rest)
            if key:  # one that a person has chosen, and knows in decimal
                return kind, f"{french}{int(key[1], 16)} (0x{int(key[1], 16):x})"
            return kind, french + re.sub(r"(^| )#(\d+)$", r"\1n° \2", rest)
    if re.match(r"(memfd|descriptor|family) ", object_):
        return LaneKind.OTHER, object_
    return LaneKind.FILE, object_


def task(name: str, comm: str, parent_comm: str, roles: set[str]) -> str:
    """Return what people call a child or a thread: its own name, what it does, or its number."""
    if comm in _NAMED and comm != parent_comm:
        return _NAMED[comm]
    if len(roles) == 1:
        return next(iter(roles))
    if comm and comm != parent_comm and not re.match(r"(python|Thread-|sh$)", comm):
        return comm
    return name


def role(fields: Mapping[str, Any], object_: str) -> str:
    """Return what a task that takes such a message is for, "" if that says nothing."""
    layout = fields.get("layout")
    if layout == "LIST_REQUEST" or object_.endswith("tub1_view"):
        return "consultations"
    if layout == "RESERV_REQUEST" or object_.endswith("tub1_reservation"):
        return "réservations"
    return ""


def fields_of(
    kind: LaneKind, object_: str, type_: int | None, data: bytes, size: int | None, end: str
) -> dict[str, Any]:
    """Return what bytes on a channel say, with their `layout`; {} for bytes that are not the service's.

    end: of a connection, whose bytes they are: "server" or "client".
    """
    if not data or size is None:
        return {}
    whole = data[:size] if len(data) >= size else b""
    if kind is LaneKind.QUEUE and type_ is not None:
        found = contents.message(type_, whole) if whole else None
        return {"layout": found.layout, **dict(found.fields)} if found else {}
    if kind is LaneKind.FIFO and object_.rpartition("/")[2].startswith(("tub1_", "tub2_", "tub3_")):
        return _pipe(object_.rpartition("/")[2], whole)
    if kind is LaneKind.SOCKET and end:
        said = (contents.tcp_request if end == "client" else contents.tcp_reply)(whole)
        return {"layout": said[0], **dict(said[1])} if said else {}
    return {}


def _pipe(name: str, data: bytes) -> dict[str, Any]:
    if name == "tub3_reservation":
        return {"layout": "PIPE_ACK", "ack": data[0]} if len(data) == 1 and data[0] <= 1 else {}
    numbers = contents.pipe_numbers(data)
    if len(numbers) != 1:
        return {}
    what = {"tub1_view": "spectacle", "tub1_reservation": "spectacle", "tub2_view": "places"}.get(name, "nb_places")
    # Our clients first send a number that is no show, and see whether it comes back: somebody is there.
    likely = numbers[0] >= -1 if what != "nb_places" else True
    return {"layout": f"PIPE_{name}" if likely else "PIPE_INT", what if likely else "nombre": numbers[0]}


def _plural(count: int, one: str) -> str:
    return f"{count} {one}{'s' if abs(count) > 1 else ''}"


def message(fields: Mapping[str, Any], sent: bool) -> str:
    """Return in words a message of the service, "" for one that is none."""
    layout = fields.get("layout", "")
    show, seats = fields.get("spectacle"), fields.get("nb_places")
    if layout in ("LIST_REQUEST", "TCP_LIST"):
        return "demande la liste" if sent else "reçoit la demande de la liste"
    if layout in ("RESERV_REQUEST", "TCP_RESERV"):
        asked = f"{_plural(int(seats or 0), 'place')} du spectacle {show}"
        return f"demande {asked}" if sent else f"reçoit la demande de {asked}"
    if layout in ("LIST_REPLY", "TCP_LIST_REPLY"):
        return "envoie la table" if sent else "reçoit la table"
    if layout in ("RESERV_REPLY", "TCP_RESERV_REPLY", "PIPE_ACK"):
        answer = "accepté" if fields.get("ack") else "refusé"
        return f"répond : {answer}" if sent else f"apprend : {answer}"
    if layout == "PIPE_INT":
        return f"{'envoie' if sent else 'reçoit'} le nombre {fields.get('nombre')}"
    if layout == "PIPE_tub1_view":
        return f"demande les places du spectacle {show}" if sent else f"reçoit la demande pour le spectacle {show}"
    if layout == "PIPE_tub1_reservation":
        return f"demande le spectacle {show}" if sent else f"reçoit le spectacle {show}"
    if layout == "PIPE_tub2_reservation":
        return (
            f"en demande {_plural(int(seats or 0), 'place')}" if sent else f"reçoit {_plural(int(seats or 0), 'place')}"
        )
    if layout == "PIPE_tub2_view":
        left = fields.get("places", 0)
        said = "aucun tel spectacle" if left == -1 else f"il reste {_plural(left, 'place')}"
        return f"répond : {said}" if sent else f"apprend : {said}"
    return ""


def quoted(data: bytes) -> str:
    """Return the beginning of a text between « », "" if the bytes are none."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", data.rstrip(b"\0").decode("utf-8", "replace")).strip("\r\n")
    plain = text.replace("\t", " ").replace("\r", "").replace("\n", " ")
    if not plain.strip() or not plain.isprintable() or "\ufffd" in plain[:-1]:
        return ""
    return f"« {plain if len(plain) <= SHOWN else plain[: SHOWN - 1] + '…'} »"


def some_bytes(data: bytes, size: int | None, type_: int | None = None) -> str:
    """Return how many bytes, as text where they are text, with the type of a message."""
    text = quoted(data)
    said = text or (_plural(size, "octet") if size is not None else "des octets")
    return said + (f", type {type_}" if type_ is not None else "")


def asked(type_: int | None) -> str:
    """Return what a receive of this type waits for."""
    if type_ is None or type_ == 0:
        return "attend un message"
    return f"attend un message de type {type_}" if type_ > 0 else f"attend un message de type ≤ {-type_}"


def access(changes: bool, offset: int, data: bytes, is_table: bool) -> tuple[str, str]:
    """Return what part of shared memory an access is about (the same for the same part), and its words."""
    if is_table and 0 <= offset < TABLE_SIZE:
        slot, inside = divmod(offset, RECORD_SIZE)
        for start, stop, name in _FIELDS:
            if start <= inside < stop:
                value = ""
                if name in ("les places", "le numéro") and len(data) >= 4 and not changes:
                    value = f" : {_INT.unpack_from(data)[0]}"
                verb = "change" if changes else "regarde"
                return f"{slot}.{name}", f"{verb} {name} du spectacle {slot}{value}"
    verb = "écrit" if changes else "lit"
    return str(offset // 8), f"{verb} à l'octet {offset}"


def whole(changes: bool, is_table: bool, count: int) -> str:
    """Return the words of an access to much of a memory at once."""
    what = "la table" if is_table else "la mémoire"
    return f"{'remplit' if changes else 'lit'} {what} ({count} accès)"


def stored(data: bytes, size: int | None, at: int | None, writing: bool, name: str) -> str:
    """Return what is read from or written to a file."""
    verb = "écrit" if writing else "lit"
    if size is not None and size >= TABLE_SIZE - 8 and contents.table_of(data[:TABLE_SIZE]) is not None:
        return f"{verb} la table"
    if size == RECORD_SIZE and len(data) >= size and at is not None and at % RECORD_SIZE == 0 and at < TABLE_SIZE:
        seats = _INT.unpack_from(data, RECORD_SIZE - 4)[0]
        if _INT.unpack_from(data)[0] > 0 and contents.table_of(data[:size] + bytes(TABLE_SIZE - RECORD_SIZE)):
            return f"{verb} le spectacle {at // RECORD_SIZE} : {_plural(seats, 'place')}"
    return f"{verb} {some_bytes(data, size)}"


def signal_name(number: object) -> str:
    """Return SIGKILL for 9."""
    try:
        return signal.Signals(int(str(number))).name
    except ValueError:
        return f"signal {number}"
