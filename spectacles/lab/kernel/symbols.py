"""The name of a variable at an address, from the symbols of the program it belongs to, elf(5): `verrou`, not 0x55d0c0.

Only variables of 64-bit programs and their libraries; a program that was stripped has none.
"""

from __future__ import annotations

import bisect
import os
import struct
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spectacles.lab.kernel.proc import Mapping, Peephole

MOST_BYTES = 64 << 20  # of a program that is read for it
SHT_SYMTAB, SHT_DYNSYM, PT_LOAD, STT_OBJECT = 2, 11, 1, 1

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SYMBOL = struct.Struct("<IBBHQQ")


def symbol_at(hole: Peephole, address: int) -> str | None:
    """Return the variable at `address` of the process, as `name` or `name+8`, None if nothing says it."""
    image = _image(hole.maps(), address)
    if image is None:
        return None
    path, base = image
    try:
        status = os.stat(f"/proc/{hole.pid}/root{path}")
        starts, symbols = _variables(f"/proc/{hole.pid}/root{path}", status.st_ino, status.st_mtime_ns)
    except (OSError, struct.error, ValueError):
        return None
    place = bisect.bisect_right(starts, address - base) - 1
    if place < 0:
        return None
    start, size, name = symbols[place]
    inside = address - base - start
    if inside >= max(size, 1):
        return None
    return name if not inside else f"{name}+{inside}"


def _image(maps: list[Mapping], address: int) -> tuple[str, int] | None:
    """Return file and load address of the program or library that `address` is a variable of.

    Its zeroed variables lie in an anonymous mapping right behind the file's own.
    """
    path, base, end = "", 0, 0
    for mapping in maps:
        if mapping.path.startswith("/") and mapping.path != path:
            path, base = mapping.path, mapping.start - mapping.offset
        elif not mapping.path.startswith("/") and (mapping.path or mapping.start != end):
            path = ""
        end = mapping.end
        if mapping.start <= address < mapping.end:
            return (path, base) if path and mapping.writable and not mapping.shared else None
    return None


@lru_cache(maxsize=64)
def _variables(path: str, inode: int, changed: int) -> tuple[list[int], list[tuple[int, int, str]]]:
    """Return the variables of a program as (start, size, name), sorted, starts also apart; relative to its image."""
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size > MOST_BYTES:
            return [], []
        data = file.read()
    header = _HEADER.unpack_from(data)
    if data[:5] != b"\x7fELF\x02":
        return [], []
    segments_at, sections_at = header[5], header[6]
    segment_size, segment_count, section_size, section_count = header[9:13]
    segments = [_SEGMENT.unpack_from(data, segments_at + i * segment_size) for i in range(segment_count)]
    lowest = min((s[3] - s[2] for s in segments if s[0] == PT_LOAD), default=0)
    sections = [_SECTION.unpack_from(data, sections_at + i * section_size) for i in range(section_count)]
    wanted = [s for s in sections if s[1] == SHT_SYMTAB] or [s for s in sections if s[1] == SHT_DYNSYM]
    found = []
    for section in wanted:
        names_at = sections[section[6]][4]
        for offset in range(section[4], section[4] + section[5], _SYMBOL.size):
            name, information, _, index, value, size = _SYMBOL.unpack_from(data, offset)
            if information & 15 == STT_OBJECT and index and value:
                end = data.index(b"\0", names_at + name)
                found.append((value - lowest, size, data[names_at + name : end].decode("utf-8", "replace")))
    found.sort()
    return [start for start, _, _ in found], found
