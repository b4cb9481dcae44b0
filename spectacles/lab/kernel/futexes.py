"""What a task waits for in futex(2): the word it waits on, and the structure of the C library around it.

The kernel knows an address and no more. What lies there is told by its value and its neighbours, in the layouts of
glibc on 64 bits: a mutex in use {2, count, holder's TID, users, kind}, a semaphore {value, waiters}, the TID of a
thread that is waited for. What fits none of them is called a condition, or unknown, and nothing is concluded from it.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import struct
from typing import TYPE_CHECKING

from spectacles.lab.kernel.calls import FUTEX_COMMAND, FUTEX_LOCK_PI, FUTEX_LOCK_PI2, FUTEX_WAIT, FUTEX_WAIT_BITSET
from spectacles.lab.kernel.model import Lock, Semaphore
from spectacles.lab.kernel.symbols import symbol_at

if TYPE_CHECKING:
    from spectacles.lab.kernel.proc import Mapping, Peephole

CONTENDED = 2  # a mutex's word while somebody waits
WAITERS, TID_MASK = 1 << 31, (1 << 30) - 1  # robust and priority-inheriting mutexes
MOST_WAITERS = 100_000
NAMED = "/dev/shm/sem."  # sem_overview(7)
# Names of the lock of the table: the original's, those derived from a directory in Python and in C.
SERVICE = re.compile(r"/(semaphore|spectacles-[0-9a-f]+|spectacles-c-[0-9a-f]{8})")

_MUTEX = struct.Struct("<iIiIi")  # lock, count, owner, nusers, kind
_SEMAPHORE = struct.Struct("<II")  # value, waiters: one word of 64 bits in new_sem


def named_semaphores() -> dict[int, str]:
    """Return the files of named semaphores in /dev/shm by inode.

    The path in /proc/PID/maps is of no use: sem_open(3) makes the file under another name and then links it.
    """
    found = {}
    with contextlib.suppress(OSError), os.scandir(os.path.dirname(NAMED)) as entries:
        for entry in entries:
            if entry.name.startswith(os.path.basename(NAMED)):
                with contextlib.suppress(OSError):
                    found[entry.inode()] = entry.path
    return found


def semaphore_id(mapping: Mapping) -> str:
    """Return the id of the semaphore in a mapping of /dev/shm."""
    return f"sem:{mapping.device:x}:{mapping.inode}"


def place_id(pid: int, address: int, mapping: Mapping | None) -> str:
    """Return the id of the word at `address`: the same for every process that shares it."""
    if mapping is not None and mapping.shared:
        return f"lock:{mapping.device:x}:{mapping.inode}:{address - mapping.start + mapping.offset:x}"
    return f"lock:{pid}:{address:x}"


def place_name(hole: Peephole, address: int, mapping: Mapping | None) -> str:
    """Return what to call the word at `address`: a variable, else where it lies."""
    if mapping is None:
        return f"{address:#x}"
    found = symbol_at(hole, address)
    if found:
        return found
    path = mapping.path.removesuffix(" (deleted)")
    if path == "[heap]" or not path or path.startswith("[anon"):
        return f"{address:#x} ({'tas' if path == '[heap]' else 'mémoire partagée' if mapping.shared else 'mémoire'})"
    if path.startswith("[stack"):
        return f"{address:#x} (pile)"
    offset = address - mapping.start + mapping.offset
    return f"{os.path.basename(path)}+{offset:#x}"


def named_semaphore(path: str) -> tuple[int, int] | None:
    """Return value and waiters of the semaphore in a file of /dev/shm. Raises OSError.

    None where the file is too small to be glibc's. Its time of access stays as it is, if it is ours.
    """
    data = read_file(path, 32)
    return _SEMAPHORE.unpack_from(data) if len(data) == 32 else None


def read_file(path: str, size: int) -> bytes:
    """Return the first bytes of a regular file without touching its time of access, where one may. Raises OSError."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
    try:
        fd = os.open(path, flags | os.O_NOATIME)
    except PermissionError:  # not its owner
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise
        fd = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return b""
        return os.pread(fd, size, 0)
    finally:
        os.close(fd)


def tasks_of(pid: int) -> set[int]:
    """Return the TIDs of a process."""
    with contextlib.suppress(OSError):
        return {int(name) for name in os.listdir(f"/proc/{pid}/task")}
    return set()


def process_of(tid: int) -> int | None:
    """Return the PID of the process that thread `tid` belongs to, None if there is none, or it has ended."""
    with contextlib.suppress(OSError), open(f"/proc/{tid}/status", "rb") as file:
        text = file.read()
        found = re.search(rb"^Tgid:\s+(\d+)$", text, re.MULTILINE)
        if found and not re.search(rb"^State:\s+[ZX]", text, re.MULTILINE):
            return int(found[1])
    return None


def look_at(hole: Peephole, address: int, operation: int, expected: int) -> tuple[str, Lock | Semaphore | int]:
    """Return the kind of wait ("lock", "semaphore", "condition", "memory", "join") and what lies at `address`.

    operation, expected: second and third argument of futex(2). For "join" a TID instead of an object.
    """
    mapping = hole.mapping(address)
    if mapping is not None and mapping.path.startswith(NAMED):
        return "semaphore", Semaphore(semaphore_id(mapping), "", None, None)
    id_, name = place_id(hole.pid, address, mapping), place_name(hole, address, mapping)
    users = (hole.pid,)
    command = operation & FUTEX_COMMAND
    data = hole.memory(address, _MUTEX.size)
    if len(data) < _MUTEX.size:
        return "memory", Lock(id_, name, "unknown", users=users)
    word, count, owner, nusers, kind = _MUTEX.unpack(data)
    shared = mapping is not None and mapping.shared
    holder = None
    if command in (FUTEX_LOCK_PI, FUTEX_LOCK_PI2):
        holder = word & TID_MASK
    elif command == FUTEX_WAIT and expected & WAITERS and nusers == 1 and (owner & TID_MASK) == (expected & TID_MASK):
        holder = expected & TID_MASK  # robust: the word itself names the holder
    elif command == FUTEX_WAIT and expected == CONTENDED and nusers == 1 and count <= 1000 and 0 <= kind < 512:
        holder = owner if 0 < owner < 1 << 22 else None
    if holder:
        pid = process_of(holder)
        if pid is not None and not shared and pid != hole.pid:
            pid = None  # a word of one process is held by one of its threads: the number was given to another since
        return "lock", Lock(id_, name, "mutex", holder, pid, pid is not None, users=users)
    if command == FUTEX_WAIT and expected == CONTENDED:
        return "lock", Lock(id_, name, "unknown", users=users)
    if expected and word & 0xFFFFFFFF == expected and expected in tasks_of(hole.pid):
        return "join", expected
    value, waiters = _SEMAPHORE.unpack_from(data)
    if command == FUTEX_WAIT_BITSET and not expected and address % 8 == 0 and 0 < waiters <= MOST_WAITERS:
        return "semaphore", Lock(id_, name, "semaphore", value=value, waiters=waiters, users=users)
    if command == FUTEX_WAIT_BITSET:
        return "condition", Lock(id_, name, "condition", users=users)
    return "memory", Lock(id_, name, "unknown", users=users)
