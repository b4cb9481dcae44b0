"""Getting messages into a queue through a gate at which others wait too, and are faster: two threads.

Opening the gate wakes all who wait in msgsnd(2), and they take our processor before we can send anything. So a thread
of ours waits there too, to be woken with them, while the one that has started it moves the gate, turn by turn:

    sender: one message                     mover
    msgsnd(2): waits                        closes the gate, takes out what others got in
        ┆ woken with all others ◄─────────  opens it as wide as the message needs: in, if it is the first
        ┆ others were faster: waits         closes the gate, takes out what others got in
        ┆ woken with all others ◄─────────  opens it wide: in, if it is among the first
        ┆                                   ...
    in: ends ────────────────────────────►  sees that it has ended: the next message

That the sender has ended is all that the mover looks at: they share nothing else.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections import deque

import sysv_ipc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from spectacles.q2_msq.shelf import Message

TURNS = 40  # for one message: who gets in is the scheduler's choice, and where it is not us it stays so for long
INSTANT = 0.0002  # seconds that the gate stays as it is


class Line:
    """Our place among those who wait to send to `queue`, which is ours to open and to close.

    wide: bytes to which it is opened in every other turn.
    """

    def __init__(self, queue: sysv_ipc.MessageQueue, wide: int) -> None:
        self._queue = queue
        self._wide = wide

    def send(self, messages: Iterable[Message], take_out: Callable[[], Iterable[Message]]) -> list[Message]:
        """Send `messages` into the empty queue, in order; return those left when one of them has had all its turns.

        take_out: closes the gate, takes out what others got in, and returns what has to be sent too because of that.
        Blocks, for some milliseconds a message.
        """
        waiting = deque(messages)
        inside = 0  # bytes of ours
        while waiting:
            exactly = inside + len(waiting[0][0])
            sender = _Sender(self._queue, waiting[0])
            try:
                for width in (exactly, max(exactly, self._wide)) * (TURNS // 2):
                    if not sender.waits():
                        break
                    waiting.extend([message for message in take_out() if message not in waiting])
                    self._queue.max_size = width
            finally:
                sender.interrupt()
            if not sender.got_in:
                break
            waiting.popleft()
            inside = exactly
        return list(waiting)


class _Sender(threading.Thread):
    """A thread that sends one message, and ends when it is in, or when it is interrupted."""

    def __init__(self, queue: sysv_ipc.MessageQueue, message: Message) -> None:
        super().__init__()
        self._queue = queue
        self._message = message
        self.got_in = False  # to be looked at when it has ended
        with contextlib.suppress(RuntimeError):  # the system gives no thread: it has ended before it began
            self.start()

    def run(self) -> None:
        """Wait in line. Blocks."""
        body, type_ = self._message
        with contextlib.suppress(sysv_ipc.Error, OSError):  # interrupted: it is late; or the queue has gone
            self._queue.send(body, True, type_)
            self.got_in = True

    def waits(self) -> bool:
        """Give it an instant, and say whether it still waits."""
        if self.is_alive():
            self.join(INSTANT)
        return self.is_alive()

    def interrupt(self) -> None:
        """Let it end if it still waits. Again and again: a signal may come just before it blocks."""
        while self.waits():
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                signal.pthread_kill(self.ident or 0, signal.SIGUSR1)
