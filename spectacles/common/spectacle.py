"""A show, and the bytes of ten: the record of the C programs, 72 bytes, and the table of ten of them, 720.

What is done with a table, by whom and under which lock, is in table.py.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


MAX_SPECTACLE = 10
NOM_SIZE = 50  # bytes, the final NUL included
DATE_SIZE = 11
RECORD = struct.Struct("<i50s11s3xi")  # int id; char nom[50]; char date[11]; 3 of padding; int places
RECORD_SIZE = RECORD.size  # 72 bytes
TABLE_SIZE = MAX_SPECTACLE * RECORD_SIZE  # 720 bytes
INT_MAX = 2**31 - 1
REFUSED = -1

_ID = struct.Struct("<i")


def encode_text(text: str, size: int) -> bytes:
    """Return `text` in UTF-8, at most `size` - 1 bytes, cut between characters so that a NUL always follows."""
    data = text.encode("utf-8", "replace")
    return data[: size - 1].decode("utf-8", "ignore").encode()


class Spectacle:
    """One show. `id` 0 marks an empty slot; `places` is what is left, 0 to 2**31 - 1."""

    __slots__ = ("date", "id", "nom", "places")

    def __init__(self, id: int, nom: str, date: str, places: int) -> None:
        self.id = id
        self.nom = nom
        self.date = date
        self.places = places

    def pack(self) -> bytes:
        """Return the 72 bytes of the C struct, padding zero. Raises struct.error beyond a C int."""
        nom, date = encode_text(self.nom, NOM_SIZE), encode_text(self.date, DATE_SIZE)
        return RECORD.pack(self.id, nom, date, self.places)

    @classmethod
    def unpack(cls, record: bytes | memoryview) -> Spectacle:
        """Read 72 bytes. Text ends at its first NUL; bytes that are not UTF-8 show as U+FFFD."""
        id_, nom, date, places = RECORD.unpack(record)
        return cls(id_, _text(nom), _text(date), places)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spectacle) and self.pack() == other.pack()

    __hash__ = None  # type: ignore[assignment]  # mutable: places change

    def __repr__(self) -> str:
        return f"Spectacle(id={self.id}, nom={self.nom!r}, date={self.date!r}, places={self.places})"


def _text(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode("utf-8", "replace")


def unpack_table(table: bytes) -> list[tuple[int, Spectacle]]:
    """Return the shows in the 720 bytes of a table, each with its slot 0..9; empty slots are left out.

    Raises ValueError for another size.
    """
    if len(table) != TABLE_SIZE:
        raise ValueError(f"{len(table)} octets au lieu de {TABLE_SIZE}")
    slots = ((i, table[i * RECORD_SIZE : (i + 1) * RECORD_SIZE]) for i in range(MAX_SPECTACLE))
    return [(i, Spectacle.unpack(slot)) for i, slot in slots if _ID.unpack_from(slot)[0] != 0]


def check_table(table: bytes) -> str | None:
    """Say in one sentence what is impossible in the bytes of a table, None if nothing is.

    Text need not be UTF-8: C programs cut names within a letter, or write Latin-1. It needs its final NUL, by which
    they know where it ends. An empty slot (id 0) may hold anything, padding too: the original leaves stack bytes there.
    """
    if len(table) != TABLE_SIZE:
        return f"{len(table)} octets au lieu de {TABLE_SIZE}"
    return next((f"case {slot} : {problem}" for slot, _, problem in _problems(table)), None)


def problem_place(table: bytes) -> tuple[int, str] | None:
    """Return slot (0..9) and field of what check_table() finds impossible, None if it is something else, or nothing."""
    return next(((slot, field) for slot, field, _ in _problems(table)), None) if len(table) == TABLE_SIZE else None


def _problems(table: bytes) -> Iterator[tuple[int, str, str]]:
    for slot in range(MAX_SPECTACLE):
        id_, nom, date, places = RECORD.unpack_from(table, slot * RECORD_SIZE)
        if id_ == 0:
            continue
        if id_ < 0:
            yield slot, "id", f"id négatif ({id_})"
        if places < 0:
            yield slot, "places", f"nombre de places négatif ({places})"
        for name, text, size in (("nom", nom, NOM_SIZE), ("date", date, DATE_SIZE)):
            if b"\0" not in text:
                yield slot, name, f"{name} sans fin (aucun NUL dans {size} octets)"


def pack_table(shows: dict[int, Spectacle]) -> bytes:
    """Return the 720 bytes of a table that has `shows` (slot 0..9 -> show), its other slots empty."""
    empty = bytes(RECORD_SIZE)
    return b"".join(shows[i].pack() if i in shows else empty for i in range(MAX_SPECTACLE))
