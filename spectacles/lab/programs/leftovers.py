"""What lies in the kernel and in a folder, as plain lists: counted by the first process of a world, from inside.

An entry is [kind, name, size, detail]: kind is one of KINDS, name what a person would look for (a key, a name, a
path), size in bytes (of a semaphore set: semaphores), detail the numbers that tell one object from the next of the
same name.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

QUEUE, MEMORY, SEMAPHORES = "queue", "shared memory", "semaphores"  # System V
POSIX_QUEUE, POSIX_MEMORY, POSIX_SEMAPHORE = "POSIX queue", "POSIX shared memory", "POSIX semaphore"
FIFO, SOCKET, FILE, CHANGED = "FIFO", "socket", "file", "changed file"
KINDS = (QUEUE, MEMORY, SEMAPHORES, POSIX_QUEUE, POSIX_MEMORY, POSIX_SEMAPHORE, FIFO, SOCKET, FILE, CHANGED)
MOST = 100_000  # bytes of entries that are told; the others are only counted

Entry = tuple[str, str, int, dict[str, int]]
_SYSTEM_V = (  # kind, file, its columns of the number and of the size
    (QUEUE, "msg", "msqid", "cbytes"),
    (MEMORY, "shm", "shmid", "size"),
    (SEMAPHORES, "sem", "semid", "nsems"),
)


def system_v() -> list[Entry]:
    """Return the System V objects of the IPC namespace that we are in, sysvipc(7)."""
    found: list[Entry] = []
    for kind, name, number, size in _SYSTEM_V:
        try:
            with open(f"/proc/sysvipc/{name}") as table:
                titles = table.readline().split()
                rows = [dict(zip(titles, map(int, line.split()), strict=False)) for line in table]
        except OSError:
            continue  # a kernel built without
        for row in rows:
            row["id"] = row[number]
            found.append((kind, f"{row['key'] & 0xFFFFFFFF:#010x}", row[size], row))
    return found


def posix() -> list[Entry]:
    """Return the POSIX objects of /dev/shm and /dev/mqueue, shm_overview(7), sem_overview(7), mq_overview(7)."""
    found: list[Entry] = []
    for place, kind in (("/dev/shm", POSIX_MEMORY), ("/dev/mqueue", POSIX_QUEUE)):
        try:
            entries = list(os.scandir(place))
        except OSError:
            continue
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue  # removed a moment ago
            semaphore = kind == POSIX_MEMORY and entry.name.startswith("sem.")
            name = f"/{entry.name.removeprefix('sem.')}" if semaphore else f"/{entry.name}"
            found.append((
                POSIX_SEMAPHORE if semaphore else kind,
                name,
                status.st_size,
                {"uid": status.st_uid, "inode": status.st_ino},
            ))  # fmt: skip
    return found


def tree(top: str) -> dict[str, tuple[int, int, int, int]]:
    """Return mode, size, time of the last change (ns) and inode of all in the folder `top`, by path relative to it.

    Other file systems below it are left out. A directory that its owner may not read is opened to him first.
    """
    found: dict[str, tuple[int, int, int, int]] = {}
    todo = [top]
    device = os.lstat(top).st_dev
    while todo:
        place = todo.pop()
        try:
            entries = list(os.scandir(place))
        except PermissionError:
            try:
                os.chmod(place, 0o700)
                entries = list(os.scandir(place))
            except OSError:
                continue
        except OSError:
            continue
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if status.st_dev != device:
                continue
            name = os.path.relpath(entry.path, top)
            found[name] = (status.st_mode, status.st_size, status.st_mtime_ns, status.st_ino)
            if stat.S_ISDIR(status.st_mode):
                todo.append(entry.path)
    return found


def files(top: str, before: dict[str, tuple[int, int, int, int]], prefix: str = "") -> list[Entry]:
    """Return what is in the folder `top` and was not, or is not the same, when tree() said `before`."""
    found: list[Entry] = []
    for name, now in sorted(tree(top).items()):
        mode = now[0]
        if stat.S_ISDIR(mode) or now == before.get(name):
            continue
        kind = FIFO if stat.S_ISFIFO(mode) else SOCKET if stat.S_ISSOCK(mode) else FILE
        if kind == FILE and name in before:
            kind = CHANGED
        found.append((kind, prefix + name, now[1], {"mode": mode}))
    return found


def remove(top: str) -> None:
    """Remove a folder and all in it, whatever its programs made of its modes; what cannot be removed stays."""
    with contextlib.suppress(OSError):
        os.chmod(top, 0o700)
    for place, directories, _ in os.walk(top):
        for name in directories:
            path = os.path.join(place, name)
            if not os.path.islink(path):
                with contextlib.suppress(OSError):
                    os.chmod(path, 0o700)
    for place, directories, names in os.walk(top, topdown=False):
        for name in names + directories:
            path = os.path.join(place, name)
            with contextlib.suppress(OSError):
                os.rmdir(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
    with contextlib.suppress(OSError):
        os.rmdir(top)


def remove_one(path: str) -> None:
    """Remove a file, or a folder and all in it; what cannot be removed stays."""
    if os.path.isdir(path) and not os.path.islink(path):
        remove(path)
    else:
        with contextlib.suppress(OSError):
            os.unlink(path)


def clear(stay: Collection[str]) -> None:
    """Remove every object of the IPC namespace, of /dev/shm, /dev/mqueue and /tmp, but the paths that stay.

    For the first process of a private world: all there is is its programs'.
    """
    libc = ctypes.CDLL(None)
    for kind, _, _, row in system_v():
        if kind == QUEUE:
            libc.msgctl(row["id"], 0, None)
        elif kind == MEMORY:
            libc.shmctl(row["id"], 0, None)
        else:
            libc.semctl(row["id"], 0, 0)
    for place in ("/dev/shm", "/dev/mqueue", "/tmp"):
        with contextlib.suppress(OSError):
            for name in os.listdir(place):
                path = f"{place}/{name}"
                if path not in stay:
                    remove_one(path)


def shortened(entries: list[Entry]) -> tuple[list[Entry], dict[str, int]]:
    """Return the first entries, as many as fit in one message, and how many of each kind there were."""
    counts: dict[str, int] = {}
    kept = []
    room = MOST
    for entry in entries:
        counts[entry[0]] = counts.get(entry[0], 0) + 1
        room -= len(json.dumps(entry))
        if room > 0:
            kept.append(entry)
    return kept, counts
