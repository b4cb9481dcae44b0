"""What the debug information of a program says of its structs, DWARF through pyelftools."""

from __future__ import annotations

from pathlib import Path

from elftools.common.exceptions import DWARFError, ELFError
from elftools.elf.elffile import ELFFile

MOST = 500  # structs looked at


def message_bodies(path: str | Path) -> set[int]:
    """Return the sizes, in bytes, of the bodies of structs that may be messages of a queue: what follows a first long.

    Empty without debug information.
    """
    found: set[int] = set()
    try:
        with open(path, "rb") as file:
            elf = ELFFile(file)
            if not elf.has_dwarf_info():
                return found
            for unit in elf.get_dwarf_info().iter_CUs():
                for entry in unit.iter_DIEs():
                    if entry.tag == "DW_TAG_structure_type" and len(found) < MOST:
                        size = entry.attributes.get("DW_AT_byte_size")
                        first = next(entry.iter_children(), None)
                        if size is not None and first is not None and _is_long(first):
                            found.add(size.value - 8)
    except (OSError, ELFError, DWARFError, KeyError, ValueError):
        return set()
    return found


def _is_long(member: object) -> bool:
    """Say whether a member is a whole number of eight bytes."""
    kind = member.get_DIE_from_attribute("DW_AT_type")  # type: ignore[attr-defined]
    while kind.tag in ("DW_TAG_typedef", "DW_TAG_const_type", "DW_TAG_volatile_type"):
        kind = kind.get_DIE_from_attribute("DW_AT_type")
    size = kind.attributes.get("DW_AT_byte_size")
    return kind.tag == "DW_TAG_base_type" and size is not None and size.value == 8
