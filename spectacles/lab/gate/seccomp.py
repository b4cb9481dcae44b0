"""The filter that stops calls, and the structures of its listener, seccomp_unotify(2)."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

TAG = 0x5EED  # the first argument of a getppid(2) that is a mark
ARCH = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}.get(os.uname().machine, 0)  # AUDIT_ARCH_*
X32 = 0x4000_0000  # bit of the numbers of x32 programs, whose arch is that of x86-64

_RET_ALLOW, _RET_USER_NOTIF = 0x7FFF_0000, 0x7FC0_0000
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NR, _ARCH, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data

_RECV, _SEND, _VALID = 0xC050_2100, 0xC018_2101, 0x4008_2102
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
_RESPONSE = struct.Struct("=QqiI")
_CONTINUE = 1


@dataclass(frozen=True)
class Notification:
    """A call that is held."""

    id: int
    tid: int  # of the caller, as we see it
    nr: int
    arch: int
    ip: int  # address of the instruction
    args: tuple[int, ...]  # six, unsigned

    @property
    def foreign(self) -> bool:
        """Whether it is of another architecture than ours: its number and its arguments mean something else."""
        return self.arch != ARCH or bool(self.nr & X32)


def build(numbers: Collection[int], mark: int) -> bytes:
    """Return the filter that holds the calls `numbers`, all of foreign architectures, and `mark` where it is tagged."""
    op = struct.Struct("=HBBI").pack
    ordered = sorted(numbers)
    if len(ordered) > 200:
        raise ValueError("a jump of a filter reaches 255 instructions")
    # Each test jumps to the last instruction (hold) when it is met; the last but one lets pass.
    hold = 4 + len(ordered) + 3 + 1
    program = [
        op(_LOAD, 0, 0, _ARCH),
        op(_EQUAL, 0, hold - 2, ARCH),  # not equal: hold
        op(_LOAD, 0, 0, _NR),
        op(_AT_LEAST, hold - 4, 0, X32),
    ]
    for number in ordered:
        program.append(op(_EQUAL, hold - len(program) - 1, 0, number))
    program += [
        op(_EQUAL, 0, 2, mark),
        op(_LOAD, 0, 0, _FIRST_ARGUMENT),
        op(_EQUAL, 1, 0, TAG),
        op(_RETURN, 0, 0, _RET_ALLOW),
        op(_RETURN, 0, 0, _RET_USER_NOTIF),
    ]
    return b"".join(program)


def receive(listener: int) -> Notification | None:
    """Take the next held call, once poll(2) says that there is one; None if its caller was interrupted meanwhile."""
    buffer = bytearray(_NOTIFICATION.size)
    try:
        fcntl.ioctl(listener, _RECV, buffer)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR):
            return None
        raise
    number, tid, _, nr, arch, ip, *args = _NOTIFICATION.unpack(buffer)
    return Notification(number, tid, nr, arch, ip, tuple(args))


def valid(listener: int, number: int) -> bool:
    """Say whether the call is still held: what was read of its caller's memory meanwhile was his."""
    try:
        fcntl.ioctl(listener, _VALID, struct.pack("=Q", number))
    except OSError:
        return False
    return True


def let(listener: int, number: int) -> bool:
    """Let a held call happen. False if it is held no more: a signal took its caller away, or his death."""
    return _respond(listener, _RESPONSE.pack(number, 0, 0, _CONTINUE))


def answer(listener: int, number: int, value: int, error: int = 0) -> bool:
    """Return `value`, or fail with `error`, in the place of a held call, which does not happen. False as in let()."""
    return _respond(listener, _RESPONSE.pack(number, 0 if error else value, -error, 0))


def _respond(listener: int, response: bytes) -> bool:
    try:
        fcntl.ioctl(listener, _SEND, bytearray(response))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINPROGRESS, errno.EBADF):
            return False
        raise
    return True
