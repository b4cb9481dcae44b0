"""Making room in a full queue: the part of the server's end that stands between a flood and everybody else.

Clients and server write to the same 16 KB, so a few careless processes can take the room that all others need (defect
11), and one that blocks in msgsnd(2) goes on the moment that a byte is free. What the server can move is the gate:
`msg_qbytes`, the limit of the queue, which only its owner may change.

    1. close it, and take everything out: requests are set aside in a pipe for the worker of their kind, replies are
       kept, what nobody can want is dropped;
    2. open it and send the replies, with an empty message in front that wakes the worker for whom requests are set
       aside. All who wait for room wake up too; while they are faster, take out what they have sent and try again.

A client waits for one answer at a time. So of each process one request of a kind and one reply are kept; nothing of the
dead; and nothing of one that asks over and over without reading. Live clients' replies that alone fill the queue get
some time to be read before the oldest are dropped. The first to go are strangers', whose PID does not exist here.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import struct
import threading
import time
from collections import deque

import sysv_ipc

from spectacles.common import log
from spectacles.common.limits import kernel_limit
from spectacles.common.protocol import FIRST_PID, LAST_PID, LIST_REPLY, NEEDED, RESERV, RESERV_REPLY
from spectacles.q2_msq.watch import is_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Message = tuple[bytes, int]  # body, type: as sysv_ipc returns them

ANY = -RESERV  # msgrcv(2): the first message of the lowest type up to 2, so never a reply (defect 15)
WAKE_UP = b"\xff\xff\xff"  # to a worker: too short for a request, and the beginning of no client's PID
CROWD = 100  # messages
MAX_ASKED = 3  # requests of a kind that one process may make while the gate is moved once, be it impatient
PATIENCE = 0.25  # seconds that live clients get to read what fills the queue...
PATIENCE_IN_A_FLOOD = 0.02  # ...when it was so a moment ago...
CALM = 1.0  # ...less than this many seconds
PAUSE = 0.001  # seconds between two looks meanwhile
PUT_BACK_TIMEOUT = 3.0  # seconds to get back into the queue what was taken out; a tenth is usual in a flood
TURNS = 20  # of the gate, before another thread tries
INSTANT = 0.0002  # seconds that the gate stays as it is meanwhile
CLOSED = 0  # bytes: not even an empty message, which 1 lets in
WIDE = 1 << 30  # bytes, more than any queue has
LINES = 5  # about dropped messages in a second
STRANGERS = 10  # requests of theirs that are set aside while room is being made, about as many as half a queue answers

REPLY_SIZES = {LIST_REPLY.size, RESERV_REPLY.size}

_PID = struct.Struct("<i")


class Gate:
    """The gate of `queue`, shared by all workers of its server, forked children or threads. The queue must be ours.

    question: a request of our own that lies in it, to be dropped without a word.
    """

    def __init__(self, queue: sysv_ipc.MessageQueue, question: bytes = b"") -> None:
        self._queue = queue
        self._question = question
        self._limit = kernel_limit("msgmnb")  # bytes, all that an ordinary user may set
        queue.max_size = self._limit
        self._thread_lock = threading.Lock()
        self._process_lock = os.memfd_create("spectacles-msq")
        self._aside = {kind: os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) for kind in NEEDED}
        self._poll = select.poll()
        for read_fd, _ in self._aside.values():
            self._poll.register(read_fd, select.POLLIN)
        self.closing = False
        self._line = threading.Lock()  # of the next two, which the thread that waits in line shares
        self._waiting: deque[Message] = deque()  # taken out, and not yet back in
        self._inside = 0  # bytes that are back in
        self._asked: dict[tuple[int, int], int] = {}  # (kind, client) -> requests, since all was last taken out
        self._alive: dict[int, bool] = {}  # client -> whether it can want an answer, while room is being made
        self._strangers: set[int] = set()  # those of them whose PID does not exist here
        self._strangers_aside = 0  # their requests set aside, while room is being made
        self.flooding: dict[int, float] = {}  # PID -> when it was last seen to ask over and over without reading
        self._evicted_at = float("-inf")
        self._dropped = 0  # messages not yet spoken of in the log
        self._told = 0  # times in the present second
        self._told_at = float("-inf")

    def close(self) -> None:
        """Close the descriptors."""
        for fd in (self._process_lock, *(fd for ends in self._aside.values() for fd in ends)):
            os.close(fd)

    def is_full(self) -> bool:
        """Say whether the largest reply would not fit, be it for the number of messages."""
        count, size = self._filled()
        return size + LIST_REPLY.size > self._limit or count >= self._limit

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

    def floods(self, client: int) -> bool:
        """Say whether `client` was just seen to ask over and over without reading."""
        return time.monotonic() - self.flooding.get(client, float("-inf")) < CALM

    def is_crowded(self) -> bool:
        """Say whether many messages lie in the queue, of whatever size."""
        return int(self._queue.current_messages) > CROWD

    def aside(self, kind: int) -> Message:
        """Return, once, a request of `kind` that has been set aside, a WAKE_UP if there is none.

        One at a time: what a child had read ahead would be lost when it leaves or dies.
        """
        try:
            return os.read(self._aside[kind][0], NEEDED[kind].size), kind
        except BlockingIOError:
            return WAKE_UP, kind

    def take(self, type_: int) -> list[Message]:
        """Take out what is there now of `type_` (0: of all, ANY: requests). Does not block."""
        messages: list[Message] = []
        for _ in range(self._queue.current_messages):  # bounded: a flood must not keep us here
            try:
                messages.append(self._queue.receive(False, type_))
            except sysv_ipc.BusyError:
                break
        return messages

    def make_room(self, reply: Message | None = None) -> list[tuple[int, bool]]:
        """Sort the queue out, send `reply` with what goes back, and return the clients met: PID, whether here.

        Blocks while live clients' replies leave no room, PATIENCE at most; then the oldest of them are dropped. Who has
        a reply waits for its turn; housekeeping does not, lest a stopped child stops the parent too: BlockingIOError.
        """
        with self._alone(wait=reply is not None):
            if reply is not None:
                if self.floods(reply[1]):
                    return []
                with contextlib.suppress(sysv_ipc.BusyError):
                    self._queue.send(reply[0], False, reply[1])  # while we waited for our turn another made room
                    return []
            calm = time.monotonic() - self._evicted_at > CALM
            deadline = time.monotonic() + (PATIENCE if calm else PATIENCE_IN_A_FLOOD)
            spare = self._limit - (len(reply[0]) if reply else LIST_REPLY.size)
            self._alive = {}
            self._strangers = set()
            self._strangers_aside = 0
            for client in [client for client in self.flooding if not self.floods(client)]:
                del self.flooding[client]
            try:
                while True:
                    self._queue.max_size = CLOSED
                    self._asked = {}
                    kept = self._sort(self.take(0))
                    if sum(len(body) for body, _ in kept) <= spare:
                        break
                    if time.monotonic() >= deadline:
                        kept = self._newest(kept, self._limit // 2)
                        self._evicted_at = time.monotonic()
                        break
                    self._put_back(kept)
                    time.sleep(PAUSE)
                if reply:
                    kept = self._sort([*kept, reply])
                self._put_back(kept)
            finally:
                self._queue.max_size = self._limit  # whatever has happened: a closed gate stops everybody
            met = [(client, client not in self._strangers) for client, alive in self._alive.items() if alive]
        self.tell(0, "file encombrée")
        return met

    def wake(self) -> None:
        """Wake the workers for whom requests are set aside: an earlier wake-up may have been taken out, or given up."""
        with contextlib.suppress(sysv_ipc.BusyError), self._alone(wait=False):
            for body, kind in self._wake_ups():
                self._queue.send(body, False, kind)

    def tell(self, dropped: int, why: str) -> None:
        """Log that messages were dropped, a few times a second at most: a flood must not become a flood of lines."""
        self._dropped += dropped
        now = time.monotonic()
        if now - self._told_at > CALM:
            self._told_at, self._told = now, 0
        if self._dropped and self._told < LINES:
            log.warning("[INFO] %s (%d message(s) écarté(s))", why, self._dropped)
            self._told += 1
            self._dropped = 0

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

    def _sort(self, messages: Iterable[Message]) -> list[Message]:
        """Set requests aside and return the replies worth keeping, the newest of each client and size, in order.

        Strangers' come last, and are kept if half of the queue is enough for all.
        """
        replies: dict[tuple[int, int], Message] = {}
        heard: set[tuple[int, int]] = set()  # at this look: who is answered before the next may ask again
        for body, type_ in messages:
            size = len(body)
            if type_ in NEEDED and size >= NEEDED[type_].size:
                if body == self._question:
                    continue
                client = _PID.unpack_from(body)[0]
                request = type_, client
                self._asked[request] = self._asked.get(request, 0) + 1
                if self._asked[request] > MAX_ASKED and FIRST_PID <= client <= LAST_PID:
                    self.flooding[client] = time.monotonic()
                    self._alive[client] = False
                if request not in heard and self._wants(client) and self._set_aside(body, type_, client):
                    heard.add(request)
                    continue
            elif type_ >= FIRST_PID and size in REPLY_SIZES and self._wants(type_):
                place = (size, type_)
                self._dropped += replies.pop(place, None) is not None
                replies[place] = (body, type_)
                continue
            self._dropped += body != WAKE_UP
        wanted = [reply for reply in replies.values() if self._alive[reply[1]]]
        known = [reply for reply in wanted if reply[1] not in self._strangers]
        room = self._limit // 2 - sum(len(body) for body, _ in known)
        return [*known, *self._newest([reply for reply in wanted if reply[1] in self._strangers], room)]

    def _wants(self, client: int) -> bool:
        if client not in self._alive:
            self._alive[client] = FIRST_PID <= client <= LAST_PID and not self.floods(client)
            if self._alive[client] and not is_process(client):
                self._strangers.add(client)
        return self._alive[client]

    def _set_aside(self, body: bytes, kind: int, client: int) -> bool:
        if client in self._strangers:
            if self._strangers_aside >= STRANGERS:
                return False
            self._strangers_aside += 1
        try:
            # The bytes that are needed, always as many: whole or not at all, pipe(7).
            return os.write(self._aside[kind][1], body[: NEEDED[kind].size]) > 0
        except BlockingIOError:
            return False

    def _newest(self, replies: list[Message], room: int) -> list[Message]:
        """Return the newest of `replies` that fill `room` bytes at most."""
        for count, (body, _) in enumerate(reversed(replies)):
            room -= len(body)
            if room < 0:
                self._dropped += len(replies) - count
                return replies[len(replies) - count :]
        return replies

    def _put_back(self, replies: list[Message]) -> None:
        """Send `replies` into the empty queue, and what wakes the workers, and leave the gate open."""
        self._waiting = deque([*self._wake_ups(), *replies])
        self._inside = 0
        self._queue.max_size = self._limit
        with contextlib.suppress(sysv_ipc.BusyError):
            self._send_waiting(block=False)
        deadline = time.monotonic() + PUT_BACK_TIMEOUT
        while self._waiting and not self.closing and time.monotonic() < deadline:
            self._queue.max_size = CLOSED
            self._asked = {}
            self._inside = 0
            replies = self._sort([*self.take(0), *self._waiting])
            if sum(len(body) for body, _ in replies) > self._limit:
                replies = self._newest(replies, self._limit // 2)
            self._waiting = deque([*self._wake_ups(), *replies])
            self._send_in_line()
        self._dropped += len(self._waiting)
        self._queue.max_size = self._limit

    def _send_waiting(self, block: bool) -> None:
        while first := self._first():
            body, type_ = first
            self._queue.send(body, block, type_)
            self._got_in()

    def _first(self) -> Message | None:
        with self._line:
            return self._waiting[0] if self._waiting else None

    def _got_in(self) -> None:
        with self._line:
            self._inside += len(self._waiting.popleft()[0])

    def _send_in_line(self) -> None:
        """Try to send what is waiting while others are faster than us through the open gate.

        Opening it wakes all who wait in msgsnd(2), and they take our processor before we can send anything. So a thread
        of ours waits there too, to be woken with them, while this one moves the gate. Who gets in is the scheduler's
        choice, and where it is not us it stays so for long: hence TURNS, and then another thread.
        """

        def send() -> None:
            with contextlib.suppress(sysv_ipc.Error, OSError):  # interrupted: it is late; or the queue has gone
                self._send_waiting(block=True)

        sender = threading.Thread(target=send)
        try:
            sender.start()
        except RuntimeError:  # the system gives no thread: a try without one
            self._queue.max_size = self._limit
            with contextlib.suppress(sysv_ipc.BusyError):
                self._send_waiting(block=False)
            return
        for turn in range(TURNS):
            # One byte too narrow for us first: those before us in line, if theirs is smaller, line up again behind us.
            for width in (-1, 0, WIDE) if turn % 3 == 0 else (-1, 0):
                sender.join(INSTANT)
                if sender.is_alive():
                    self._queue.max_size = CLOSED
                    self._sort(self.take(ANY))  # not ours: the thread may not have noted yet that it got in
                    with self._line:
                        self._waiting.extend([again for again in self._wake_ups() if again not in self._waiting])
                    self._open(width)
        while sender.is_alive():
            sender.join(INSTANT)
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                signal.pthread_kill(sender.ident or 0, signal.SIGUSR1)

    def _open(self, width: int) -> None:
        """Open the gate `width` bytes wider than what is waiting first needs."""
        with self._line:
            needed = self._inside + len(self._waiting[0][0]) if self._waiting else 0
        self._queue.max_size = max(min(needed + width, self._limit), CLOSED)

    def _wake_ups(self) -> list[Message]:
        ready = {fd for fd, _ in self._poll.poll(0)}
        return [(WAKE_UP, kind) for kind, (read_fd, _) in self._aside.items() if read_fd in ready]
