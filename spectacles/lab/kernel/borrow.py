"""What lies in a pipe, a socket or a POSIX queue, seen through a descriptor of a process that has it open.

Opening a FIFO in order to look would let go a client that waits in open(2) for a server. So the descriptor of a process
that has it is borrowed, pidfd_getfd(2), for some ten microseconds: what it leads to stays open for so long, also if its
owner closes it or dies meanwhile. It needs the rights of a debugger over that process.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import termios
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

PIDFD_GETFD = 438  # the same number on every machine that Linux was given it for
MOST_BYTES = 4096  # that are copied out
SPLICE_F_NONBLOCK = 2

_libc = ctypes.CDLL(None, use_errno=True)
_libc.tee.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_size_t, ctypes.c_uint]
_libc.tee.restype = ctypes.c_ssize_t
_libc.mq_getattr.argtypes = [ctypes.c_int, ctypes.c_void_p]


@contextlib.contextmanager
def borrowed(pid: int, fd: int) -> Iterator[int]:
    """Lend descriptor `fd` of process `pid` for a moment. Raises OSError: EPERM without the rights, EBADF if closed."""
    process = os.pidfd_open(pid)
    try:
        mine = _libc.syscall(PIDFD_GETFD, process, fd, 0)
        if mine < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    finally:
        os.close(process)
    try:
        yield mine
    finally:
        os.close(mine)


def _count(fd: int, request: int) -> int:
    number = array.array("i", [0])
    fcntl.ioctl(fd, request, number)
    return number[0]


class Tee:
    """A pipe of our own into which the contents of others are copied. close() it."""

    def __init__(self) -> None:
        self._read_fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def close(self) -> None:
        """Close both ends."""
        os.close(self._read_fd)
        os.close(self._write_fd)

    def pipe(self, pid: int, fd: int) -> tuple[int, bytes]:
        """Return how many bytes lie in the pipe open as `fd` in `pid`, and the first of them. Raises OSError.

        tee(2) wants a readable descriptor; through another only the number is seen.
        """
        with borrowed(pid, fd) as mine:
            size = _count(mine, termios.FIONREAD)
            if not size or _libc.tee(mine, self._write_fd, min(size, MOST_BYTES), SPLICE_F_NONBLOCK) <= 0:
                return size, b""
        try:
            return size, os.read(self._read_fd, 1 << 20)
        except BlockingIOError:
            return size, b""


class SocketContents(NamedTuple):
    """unread: bytes, data: the first of them; unacknowledged: bytes sent.

    Of a listener instead: waiting, connections that nobody has accepted; most: how many it keeps.
    """

    unread: int | None = None
    data: bytes = b""
    unacknowledged: int | None = None
    waiting: int | None = None
    most: int | None = None


def socket_contents(pid: int, fd: int) -> SocketContents:
    """Return what can be learned from a socket open as `fd` in `pid`. Raises OSError."""
    with borrowed(pid, fd) as mine, _as_socket(mine) as copy:
        if copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            if copy.family == socket.AF_UNIX:
                return SocketContents()
            # struct tcp_info: eight bytes, then words; of a listener tcpi_unacked and tcpi_sacked are its queue
            waiting, most = struct.unpack_from("8x4x4x4x4xII", copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32))
            return SocketContents(waiting=waiting, most=most)
        unread, unacknowledged = _count(mine, termios.FIONREAD), _count(mine, termios.TIOCOUTQ)
        # Where SO_PEEK_OFF is set, looking would move it.
        if not unread or copy.getsockopt(socket.SOL_SOCKET, getattr(socket, "SO_PEEK_OFF", 42)) >= 0:
            return SocketContents(unread, b"", unacknowledged)
        try:
            data = copy.recv(min(unread, MOST_BYTES), socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            data = b""
        return SocketContents(unread, data, unacknowledged)


@contextlib.contextmanager
def _as_socket(fd: int) -> Iterator[socket.socket]:
    found = socket.socket(fileno=fd)
    try:
        yield found
    finally:
        found.detach()  # it is for borrowed() to close


class MessageQueueContents(NamedTuple):
    """size: bytes in a POSIX queue; messages: how many. most, most_size: its limits."""

    size: int | None
    messages: int
    most: int
    most_size: int


def message_queue_contents(pid: int, fd: int) -> MessageQueueContents:
    """Return what can be learned from a POSIX queue open as `fd` in `pid`. Raises OSError."""
    with borrowed(pid, fd) as mine:
        attributes = (ctypes.c_long * 8)()
        if _libc.mq_getattr(mine, attributes) < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        size = None
        with contextlib.suppress(OSError, ValueError, IndexError):
            # "QSIZE:129 ..."; at an offset of its own, since the descriptor's is shared with its owner
            size = int(os.pread(mine, 100, 0).split()[0].partition(b":")[2])
    return MessageQueueContents(size, attributes[3], attributes[1], attributes[2])
