"""Lines of source of places in programs, addr2line(1): for what was compiled with -g."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spectacles.lab.gate.events import Event

ASKING = 20.0  # seconds for one program
MOST = 20_000  # places
_ET_EXEC, _PT_LOAD = 2, 1


def places(events: Iterable[Event], folders: Iterable[str | Path]) -> dict[str, str]:
    """Return "serveur+0x26ca" -> "serveur.c:42" for the places of `events` in programs that lie in one of `folders`.

    {} without addr2line. A call is at the place before the one it returns to. Blocks for some tens of milliseconds.
    """
    tool = shutil.which("addr2line")
    wanted: dict[str, dict[str, int]] = {}
    for event in events:
        at = event.arguments.get("at")
        found = re.fullmatch(r"([^/+]+)\+0x([0-9a-f]+)", at) if isinstance(at, str) else None
        if found:
            wanted.setdefault(found[1], {})[found[0]] = int(found[2], 16) - (event.kind != "access")
    known: dict[str, str] = {}
    for name, addresses in wanted.items() if tool else ():
        program = next((path for folder in folders if (path := Path(folder, name)).is_file()), None)
        if program is not None and tool is not None:
            known |= _ask(tool, program, dict(list(addresses.items())[:MOST]))
    return known


def _ask(tool: str, program: Path, addresses: dict[str, int]) -> dict[str, str]:
    start = _start(program)
    try:
        done = subprocess.run(
            [tool, "-e", str(program)],
            input="\n".join(hex(start + address) for address in addresses.values()),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ASKING,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    found = {}
    for place, line in zip(addresses, done.stdout.splitlines(), strict=False):
        path, _, number = re.sub(r" \(discriminator \d+\)$", "", line).rpartition(":")
        if number.isdigit() and int(number) and not path.startswith("?"):
            found[place] = f"{os.path.basename(path)}:{number}"
    return found


def _start(program: Path) -> int:
    """Return the address that a program is linked to begin at: 0, but for one that cannot be moved; elf(5)."""
    with contextlib.suppress(OSError, struct.error), open(program, "rb") as file:
        head = file.read(64)
        if struct.unpack_from("<H", head, 16)[0] != _ET_EXEC:
            return 0
        (at,) = struct.unpack_from("<Q", head, 32)
        size, count = struct.unpack_from("<HH", head, 54)
        file.seek(at)
        table = file.read(size * count)
        loads = [struct.unpack_from("<IIQQ", table, size * place) for place in range(count)]
        return min((address - offset for kind, _, offset, address in loads if kind == _PT_LOAD), default=0)
    return 0
