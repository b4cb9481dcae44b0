"""Making room in a full queue: the part of the server's end that stands between a flood and everybody else.

Clients and server write to the same 16 KB, so a few careless processes can take the room that all others need (defect
11), and one that blocks in msgsnd(2) goes on the moment that a byte is free. What the server can move is the gate:
`msg_qbytes`, the limit of the queue, which only its owner may change. An honest request in a flood goes this way:

    client ── request ──► queue, full of the flood ◄── flooders, waiting for every byte that gets free
                            │
                            │ make_room(), called by who has no room for a reply (housekeeping: when it stays full):
                            │   1. close the gate, and take everything out   (tidy)
                            │   2. sort it: what is worth keeping?           (Crowd.sort)
                            ▼
                          shelf                       replies that are kept, and the reply in hand
                            │                            │
                            │   3. open the gate, and send them, first a WAKE_UP for the worker of each
                            │      kind on the shelf; while others are faster, get in line   (deliver, line.py)
                            ▼                            ▼
                          worker ── its reply ────► queue ──► client
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time

import sysv_ipc

from spectacles.common.limits import kernel_limit
from spectacles.common.protocol import LIST_REPLY, RESERV
from spectacles.q2_msq.crowd import CALM, Crowd, size_of
from spectacles.q2_msq.dropped import Dropped
from spectacles.q2_msq.line import Line
from spectacles.q2_msq.shelf import Shelf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from spectacles.q2_msq.shelf import Message

ANY = -RESERV  # msgrcv(2): the first message of the lowest type up to 2, so never a reply (defect 15)
ALL = 0  # ...and of whatever type
CLOSED = 0  # bytes: not even an empty message, which 1 lets in
CROWDED_AT = 100  # messages
PATIENCE = 0.25  # seconds that live clients get to read what fills the queue...
PATIENCE_IN_A_FLOOD = 0.02  # ...when it was so less than CALM ago
PAUSE = 0.001  # seconds between two looks meanwhile
DELIVERY_TIMEOUT = 3.0  # seconds to get back into the queue what was taken out; a tenth is usual in a flood


class Gate:
    """The gate of `queue`, shared by all workers of its server, forked children or threads. The queue must be ours.

    question: a request of our own that lies in it, to be dropped without a word.
    """

    def __init__(self, queue: sysv_ipc.MessageQueue, question: bytes | None = None) -> None:
        self._queue = queue
        self._limit = kernel_limit("msgmnb")  # bytes, all that an ordinary user may set
        self._line = Line(queue, kernel_limit("msgmax") - 1)  # too narrow for the largest messages: two fill a queue
        self._open()
        self._thread_lock = threading.Lock()
        self._process_lock = os.memfd_create("spectacles-msq")
        self.shelf = Shelf()
        self.dropped = Dropped()
        self.crowd = Crowd(self.shelf, self.dropped, self._limit // 2, question)
        self.closing = False
        self._evicted_at = float("-inf")  # when live clients' replies were last dropped

    def close(self) -> None:
        """Close the descriptors."""
        os.close(self._process_lock)
        self.shelf.close()

    # How full the queue is

    def is_full(self) -> bool:
        """Say whether the largest reply would not fit, be it for the number of messages."""
        count, size = self._filled()
        return size + LIST_REPLY.size > self._limit or count >= self._limit

    def is_crowded(self) -> bool:
        """Say whether many messages lie in the queue, of whatever size."""
        return int(self._queue.current_messages) > CROWDED_AT

    def has_room_for_strangers(self, count: int) -> bool:
        """Say whether `count` of the largest replies would fit in half of the queue."""
        return self._filled()[1] + count * LIST_REPLY.size <= self._limit // 2

    def _filled(self) -> tuple[int, int]:
        """Return how many messages and bytes are in the queue, proc(5): nothing is sent that others would notice."""
        number = b"%d" % self._queue.id
        with open("/proc/sysvipc/msg", "rb") as table:
            for line in table:
                _, queue_id, _, size, count, *_ = line.split()
                if queue_id == number:
                    return int(count), int(size)
        return 0, 0  # it has been removed, as the next call will say

    # Making room

    def make_room(self, reply: Message | None = None) -> list[tuple[int, bool]]:
        """Sort the queue out, send `reply` with what goes back, and return the clients met: PID, whether here.

        Blocks while live clients' replies leave no room, PATIENCE at most; then the oldest of them are dropped. Who has
        a reply waits for its turn; housekeeping does not, lest a stopped child stops the parent too: BlockingIOError.
        """
        in_hand = [reply] if reply else []
        with self._alone(wait=reply is not None):
            if reply and self.crowd.floods(reply[1]):
                return []
            if reply and not self._send_what_fits(in_hand):
                return []  # while we waited for our turn another has made room
            self.crowd.look_anew()
            try:
                kept = self._tidy(size_of(in_hand) or LIST_REPLY.size)
                self._deliver(self.crowd.sort([*kept, *in_hand]))
            finally:
                self._open()  # whatever has happened: a closed gate stops everybody
            met = self.crowd.clients()
        self.dropped.tell("file encombrée")
        return met

    def wake(self) -> None:
        """Wake the workers for whom requests are on the shelf: a wake-up may have been taken out, or given up."""
        with contextlib.suppress(sysv_ipc.BusyError), self._alone(wait=False):
            for body, kind in self.shelf.wake_ups():
                self._queue.send(body, False, kind)

    def take(self, type_: int) -> list[Message]:
        """Take out what is there now of `type_` (a PID, ANY: requests, or ALL). Does not block."""
        messages: list[Message] = []
        for _ in range(self._queue.current_messages):  # bounded: a flood must not keep us here
            try:
                messages.append(self._queue.receive(False, type_))
            except sysv_ipc.BusyError:
                break
        return messages

    def _tidy(self, needed: int) -> list[Message]:
        """Empty the queue, leave the gate closed, and return the replies to go back: they leave `needed` bytes of room.

        While live clients' leave less, these get some time to read them.
        """
        patience = PATIENCE if time.monotonic() - self._evicted_at > CALM else PATIENCE_IN_A_FLOOD
        deadline = time.monotonic() + patience
        while True:
            replies = self._take_all_out()
            if size_of(replies) <= self._limit - needed:
                return replies
            if time.monotonic() >= deadline:
                self._evicted_at = time.monotonic()
                return self.crowd.newest(replies)
            self._deliver(replies)
            time.sleep(PAUSE)

    def _take_all_out(self, waiting: Iterable[Message] = ()) -> list[Message]:
        """Close the gate, empty the queue, and return the replies to go back, last those `waiting` already."""
        self._queue.max_size = CLOSED
        self.crowd.count_anew()
        replies = self.crowd.sort([*self.take(ALL), *waiting])
        return replies if size_of(replies) <= self._limit else self.crowd.newest(replies)

    def _take_requests_out(self) -> list[Message]:
        """Close the gate, take out requests and wake-ups (replies may be ours), and return the wake-ups needed now."""
        self._queue.max_size = CLOSED
        self.crowd.sort(self.take(ANY))
        return self.shelf.wake_ups()

    def _deliver(self, replies: list[Message]) -> None:
        """Send `replies` into the empty queue, and what wakes the workers, and leave the gate open."""
        deadline = time.monotonic() + DELIVERY_TIMEOUT
        waiting = self._open_and_send(replies)
        while waiting and not self.closing and time.monotonic() < deadline:
            replies = self._take_all_out(waiting)
            waiting = self._line.send([*self.shelf.wake_ups(), *replies], self._take_requests_out)
            if waiting:
                waiting = self._open_and_send(self._take_all_out(waiting))
        self.dropped.add(len(waiting))
        self._open()

    def _open_and_send(self, replies: list[Message]) -> list[Message]:
        self._open()
        return self._send_what_fits([*self.shelf.wake_ups(), *replies])

    def _send_what_fits(self, messages: list[Message]) -> list[Message]:
        """Send the first of `messages`, as many as there is room for, and return the others."""
        for count, (body, type_) in enumerate(messages):
            try:
                self._queue.send(body, False, type_)
            except sysv_ipc.BusyError:
                return messages[count:]
        return []

    def _open(self) -> None:
        self._queue.max_size = self._limit

    @contextlib.contextmanager
    def _alone(self, wait: bool) -> Iterator[None]:
        """Keep other workers, threads or processes, from moving the gate. The kernel frees the lock of the dead.

        Raises BlockingIOError if one of them has it and we are not to `wait`.
        """
        if not self._thread_lock.acquire(wait):
            raise BlockingIOError
        try:
            fcntl.lockf(self._process_lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        finally:
            fcntl.lockf(self._process_lock, fcntl.LOCK_UN)
            self._thread_lock.release()
