"""Noticing at once that a client has died, so that its unread reply can go before its PID is used again (defect 12)."""

from __future__ import annotations

import mmap
import os
import select
import struct

from spectacles.common import log
from spectacles.common.errors import reason
from spectacles.common.limits import kernel_limit, raise_descriptor_limit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MARGIN = 64  # descriptors left for everything else

_PID = struct.Struct("<i")


class ClientWatch:
    """A pidfd_open(2) for each client that has been replied to, as many as there are descriptors.

    Workers note(), forked children or threads; the main thread watches, and asks for the dead().
    """

    def __init__(self) -> None:
        self.noted = mmap.mmap(-1, kernel_limit("pid_max") + 1)  # a byte per PID, 1 once it is watched; shared by forks
        self._notes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)  # PIDs, from whoever replies to the main thread
        self._watched: dict[int, int] = {}  # pidfd -> PID
        self._most = max(raise_descriptor_limit() // 2 - MARGIN, 1)
        self._epoll = select.epoll()
        self._epoll.register(self._notes[0], select.EPOLLIN)

    def close(self) -> None:
        """Close the descriptors."""
        self._epoll.close()
        for fd in (*self._watched, *self._notes):
            os.close(fd)

    def fileno(self) -> int:
        """Return a descriptor that is readable when dead() has something to do."""
        return self._epoll.fileno()

    def note(self, client: int) -> None:
        """Ask for `client` to be watched. Call it after the reply: what dead() makes of it comes later than that."""
        self.noted[client] = 1
        try:
            os.write(self._notes[1], _PID.pack(client))
        except BlockingIOError:
            self.noted[client] = 0  # the main thread is late; the next reply tries again

    def dead(self) -> Iterator[int]:
        """Watch whom note() has named, and yield the PIDs of those who have died. Does not block. Main thread only."""
        ready = {fd for fd, _ in self._epoll.poll(0)}
        # The dead first: to watch another may close a descriptor, whose number is then that of the other.
        for fd in ready - {self._notes[0]}:
            yield self._forget(fd)
        if self._notes[0] in ready:
            yield from self._watch()

    def _watch(self) -> Iterator[int]:
        for (client,) in _PID.iter_unpack(os.read(self._notes[0], 4096)):
            if len(self._watched) >= self._most:
                self._forget(next(iter(self._watched)))
            try:
                fd = os.pidfd_open(client)
            except ProcessLookupError:
                self.noted[client] = 0
                yield client
                continue
            except OSError as error:  # no descriptors left, say: its next reply will try again
                self.noted[client] = 0
                log.warning("[INFO] client %d non surveillé : %s", client, reason(error))
                continue
            self._watched[fd] = client
            self._epoll.register(fd, select.EPOLLIN)

    def _forget(self, fd: int) -> int:
        client = self._watched.pop(fd)
        self._epoll.unregister(fd)  # closing is not enough where children have inherited it, epoll(7)
        os.close(fd)
        self.noted[client] = 0
        return client
