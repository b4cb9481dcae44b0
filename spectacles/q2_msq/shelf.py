"""Where requests wait that were taken out of the queue to make room: a pipe for each kind, that no flood reaches."""

from __future__ import annotations

import os
import select

from spectacles.common.protocol import NEEDED

TYPE_CHECKING = False
if TYPE_CHECKING:
    Message = tuple[bytes, int]  # body, type: as sysv_ipc returns them

WAKE_UP = b"\xff\xff\xff"  # too short for a request, and the beginning of no client's PID


class Shelf:
    """Requests for the workers of one server, forked children or threads, whoever has put them here.

    A worker waits in msgrcv(2), for the queue alone; so it is a message that tells it to look here, a WAKE_UP.
    """

    def __init__(self) -> None:
        self._pipes = {kind: os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) for kind in NEEDED}
        self._poll = select.poll()
        for read_fd, _ in self._pipes.values():
            self._poll.register(read_fd, select.POLLIN)

    def close(self) -> None:
        """Close the pipes."""
        for ends in self._pipes.values():
            for fd in ends:
                os.close(fd)

    def put(self, body: bytes, kind: int) -> bool:
        """Put a request here, as many bytes of it as are needed. Return False if there is no more space."""
        try:
            return os.write(self._pipes[kind][1], body[: NEEDED[kind].size]) > 0  # whole or not at all, pipe(7)
        except BlockingIOError:
            return False

    def take(self, kind: int) -> Message | None:
        """Take the next request of `kind`, None if there is none.

        One at a time: what a child had read ahead would be lost when it leaves or dies.
        """
        try:
            return os.read(self._pipes[kind][0], NEEDED[kind].size), kind
        except BlockingIOError:
            return None

    def wake_ups(self) -> list[Message]:
        """Return a WAKE_UP for each kind of which there are requests here."""
        ready = {fd for fd, _ in self._poll.poll(0)}
        return [(WAKE_UP, kind) for kind, (read_fd, _) in self._pipes.items() if read_fd in ready]
