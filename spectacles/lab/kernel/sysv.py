"""System V objects, read and never touched: /proc/sysvipc for what everybody may know, *ctl(2) for the rest.

Messages are copied by msgrcv(MSG_COPY), which leaves queue and times as they are and needs the right to read the queue
and a kernel with CONFIG_CHECKPOINT_RESTORE. Shared memory is never attached, which would change what
shmctl(IPC_STAT) tells others: a server takes one more process attached for a live one.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import NamedTuple

from spectacles.lab.kernel.model import SetMember
from spectacles.lab.kernel.proc import read

IPC_NOWAIT, MSG_COPY = 0o4000, 0o40000
IPC_STAT = 2
GETPID, GETALL, GETNCNT, GETZCNT = 11, 13, 14, 15
MOST_MEMBERS = 64  # semaphores of a set that are looked at
_QBYTES = 88  # offset of msg_qbytes in struct msqid64_ds where a long has 64 bits

_libc = ctypes.CDLL(None, use_errno=True)
_libc.msgrcv.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long, ctypes.c_int]
_libc.msgrcv.restype = ctypes.c_ssize_t
_libc.msgctl.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
_libc.semctl.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p]


class QueueLine(NamedTuple):
    """A line of /proc/sysvipc/msg."""

    key: int
    id: int
    mode: int
    size: int
    messages: int
    last_sender: int
    last_receiver: int
    user: int


class SetLine(NamedTuple):
    """A line of /proc/sysvipc/sem."""

    key: int
    id: int
    mode: int
    members: int
    user: int


class MemoryLine(NamedTuple):
    """A line of /proc/sysvipc/shm."""

    key: int
    id: int
    mode: int
    size: int
    creator: int
    last: int
    attached: int
    user: int


def _lines(kind: str) -> list[list[int]]:
    try:
        lines = read(f"/proc/sysvipc/{kind}", 1 << 22).splitlines()[1:]
    except OSError:  # a kernel without System V IPC
        return []
    found = []
    for line in lines:
        words = line.split()
        found.append([int(words[0]) & 0xFFFFFFFF, int(words[1]), int(words[2], 8), *(int(word) for word in words[3:])])
    return found


def queues() -> dict[int, QueueLine]:
    """Return all queues of this IPC namespace by msqid."""
    return {line[1]: QueueLine(*line[:8]) for line in _lines("msg")}


def sets() -> dict[int, SetLine]:
    """Return all semaphore sets of this IPC namespace by semid."""
    return {line[1]: SetLine(*line[:5]) for line in _lines("sem")}


def memories() -> dict[int, MemoryLine]:
    """Return all shared memory of this IPC namespace by shmid."""
    return {line[1]: MemoryLine(*line[:8]) for line in _lines("shm")}


class Copier:
    """Copies messages out of queues, with one buffer that takes any that can exist."""

    def __init__(self) -> None:
        try:
            size = int(read("/proc/sys/kernel/msgmax"))
        except OSError:
            size = 8192
        # The kernel allocates as much as it is offered, so no more than the largest message; a smaller buffer fails.
        self._size = size
        self._buffer = ctypes.create_string_buffer(8 + size)

    def messages(self, msqid: int, most: int) -> list[tuple[int, bytes]]:
        """Return type and body of at most `most` messages of a queue, first in first out, without taking any.

        Raises OSError: EACCES, EPERM (rights), EINVAL or EIDRM (gone), ENOSYS (no MSG_COPY in this kernel).
        """
        found: list[tuple[int, bytes]] = []
        for number in range(most):
            length = _libc.msgrcv(msqid, self._buffer, self._size, number, MSG_COPY | IPC_NOWAIT)
            if length < 0:
                code = ctypes.get_errno()
                if code == errno.ENOMSG:
                    break
                raise OSError(code, os.strerror(code))
            (type_,) = struct.unpack_from("l", self._buffer)
            found.append((type_, self._buffer[8 : 8 + length]))  # type: ignore[arg-type]
        return found


def queue_limit(msqid: int) -> int:
    """Return msg_qbytes. Raises OSError."""
    buffer = ctypes.create_string_buffer(256)
    if _libc.msgctl(msqid, IPC_STAT, buffer) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    (limit,) = struct.unpack_from("L", buffer, _QBYTES)
    return int(limit)


def set_members(semid: int, count: int) -> tuple[SetMember, ...]:
    """Return the semaphores of a set. Raises OSError: needs the right to read it."""
    values = (ctypes.c_ushort * max(count, 1))()
    _semctl(semid, 0, GETALL, values)
    return tuple(
        SetMember(
            values[number],
            _semctl(semid, number, GETNCNT),
            _semctl(semid, number, GETZCNT),
            _semctl(semid, number, GETPID),
        )
        for number in range(min(count, MOST_MEMBERS))
    )


def _semctl(semid: int, number: int, command: int, argument: object = None) -> int:
    result: int = _libc.semctl(semid, number, command, argument)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
