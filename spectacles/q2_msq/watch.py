"""Noticing at once that a client has died, so that its unread reply can go before its PID is used again (defect 12).

Strangers, whose PID does not exist here, cannot be watched: their reply has to be read within STRANGER_TIME.
"""

from __future__ import annotations

import errno
import mmap
import os
import select
import struct
import time

from spectacles.common import log
from spectacles.common.errors import reason
from spectacles.common.limits import raise_descriptor_limit
from spectacles.common.protocol import LAST_PID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MARGIN = 64  # descriptors left for everything else
NO_PROCESS = (errno.ESRCH, errno.EINVAL, errno.ENOENT)  # nothing of this number, or a thread, by version of the kernel
WATCHED, STRANGER = 1, 2  # what is noted of a PID
STRANGER_TIME = 2.0  # seconds, much less than it takes to use all other PIDs before the same one again
LOOK = 0.2  # seconds, less than between two rounds of housekeeping: how often strangers are looked for here

_PID = struct.Struct("<i")


def is_process(pid: int) -> bool:
    """Say whether `pid` (above 0) is a process, of whatever user, and not a thread of one, pidfd_open(2)."""
    try:
        os.close(os.pidfd_open(pid))
    except OSError as error:
        return error.errno not in NO_PROCESS
    return True


class ClientWatch:
    """A pidfd_open(2) for each client that has been replied to, as many as there are descriptors.

    Workers note(), forked children or threads; the main thread watches, and asks for the dead().
    """

    def __init__(self) -> None:
        self.noted = mmap.mmap(-1, LAST_PID + 1)  # a byte per PID, in memory once it is written to; shared by forks
        self._notes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)  # PIDs, from whoever replies to the main thread
        self._watched: dict[int, int] = {}  # pidfd -> PID
        self._strangers: dict[int, float] = {}  # PID -> until when it may read, the earliest first
        self._looked = 0.0  # when it was last looked whether one of them exists here by now
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

    def note(self, client: int, *, stranger: bool = False) -> None:
        """Ask for `client` to be watched. Call it after the reply: what dead() makes of it comes later than that.

        stranger: its PID did not exist here when it asked; so is one that has been noted as such.
        """
        if self.noted[client] != STRANGER:
            self.noted[client] = STRANGER if stranger else WATCHED
        try:
            os.write(self._notes[1], _PID.pack(client))
        except BlockingIOError:
            self.noted[client] = 0  # the main thread is late; the next reply tries again

    def dead(self) -> Iterator[int]:
        """Watch whom note() has named, and yield the PIDs of those who have died, and of strangers whose time is over.

        Does not block. Main thread only.
        """
        ready = {fd for fd, _ in self._epoll.poll(0)}
        # The dead first: to watch another may close a descriptor, whose number is then that of the other.
        for fd in ready - {self._notes[0]}:
            yield self._forget(fd)
        if self._notes[0] in ready:
            yield from self._watch()
        yield from self._late_strangers()

    def _watch(self) -> Iterator[int]:
        for (client,) in _PID.iter_unpack(os.read(self._notes[0], 4096)):
            if len(self._watched) >= self._most:
                self._forget(next(iter(self._watched)))
            try:
                fd = os.pidfd_open(client)
            except OSError as error:
                exists = error.errno not in NO_PROCESS
                if not exists and self.noted[client] == STRANGER:
                    self._strangers.pop(client, None)  # to the end
                    self._strangers[client] = time.monotonic() + STRANGER_TIME
                    continue
                self.noted[client] = 0
                if exists:  # but there are no descriptors left, say: its next reply will try again
                    log.warning("[INFO] client %d non surveillé : %s", client, reason(error))
                else:
                    yield client
                continue
            self.noted[client] = WATCHED
            self._strangers.pop(client, None)
            self._watched[fd] = client
            self._epoll.register(fd, select.EPOLLIN)

    def _late_strangers(self) -> Iterator[int]:
        now = time.monotonic()
        looks = now - self._looked > LOOK
        if looks:
            self._looked = now
        for client, until in list(self._strangers.items()):
            # A process that has its number by now must not find the reply of one that has died.
            if until <= now or (looks and is_process(client)):
                del self._strangers[client]
                if self.noted[client] == STRANGER:
                    self.noted[client] = 0
                    yield client
            elif not looks:
                break

    def _forget(self, fd: int) -> int:
        client = self._watched.pop(fd)
        self._epoll.unregister(fd)  # closing is not enough where children have inherited it, epoll(7)
        os.close(fd)
        self.noted[client] = 0
        return client
