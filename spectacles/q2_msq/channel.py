"""One System V message queue between a server and many clients: questions 2, 3 and 4.

Requests have type 1 or 2; a reply has its client's PID as type. Everybody writes to the same 16 KB, so one careless
client can take the room that all the others need (defects 11 to 15). What keeps the queue flowing:

* the server never blocks in msgsnd(2);
* when there is no room it closes the gate (msg_qbytes, the limit of the queue, set to next to nothing: nobody else can
  send), takes everything out, keeps what somebody can still want, puts that back, and opens the gate. A client waits
  for one answer at a time, so of each process it keeps one request of a kind and one reply; nothing of the dead, and
  nothing of a process that asks over and over without reading;
* when live clients' replies alone fill it, it gives them time to read before it drops the oldest;
* a client that has died is noticed at once (pidfd_open(2)), and its unread reply removed before its PID is used again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import select
import signal
import struct
import threading
import time
from collections import deque
from functools import partial

import sysv_ipc

from spectacles.common import log
from spectacles.common.directory import process_exists
from spectacles.common.errors import NoServerError, SpectaclesError, reason
from spectacles.common.lifecycle import raise_descriptor_limit
from spectacles.common.protocol import LIST, LIST_REPLY, LIST_REQUEST, RESERV, RESERV_REPLY, RESERV_REQUEST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import TypeVar

    from spectacles.common.lifecycle import Server
    from spectacles.common.protocol import Request

    T = TypeVar("T")
    Message = tuple[bytes, int]  # body, type: as sysv_ipc returns them

ANY = -RESERV  # msgrcv(2): the first message of the lowest type up to 2, so never a reply (defect 15)
FIRST_PID = RESERV + 1  # a reply to PID 1 or 2 would be taken for a request (defect 13)
FAIRNESS = 8  # consultations that ANY takes in a row before it looks for a reservation
PATIENCE = 0.25  # seconds that live clients get to read what fills the queue...
PATIENCE_IN_A_FLOOD = 0.02  # ...when it was so a moment ago...
CALM = 1.0  # ...less than this many seconds
LINES = 5  # about dropped messages in a second
PAUSE = 0.001  # seconds between two looks meanwhile, or that the gate stays as it is
PUT_BACK_TIMEOUT = 1.0  # seconds to get back into the queue what was taken out; 0.01 is usual in a flood
GAP = 4096  # bytes, half of the largest message by default
MAX_ASKED = 3  # requests of a kind that one process may have in a full queue, be it impatient
DRAIN_TIMEOUT = 0.2  # seconds that clients get, when the server stops, to fetch what it has sent them
WATCHED_MARGIN = 64  # descriptors left for everything else than watching clients

REQUEST_SIZES = {(LIST, LIST_REQUEST.size), (RESERV, RESERV_REQUEST.size)}
REPLY_SIZES = {LIST_REPLY.size, RESERV_REPLY.size}

_PID = struct.Struct("<i")


def _kernel_limit(name: str) -> int:
    with open(f"/proc/sys/kernel/{name}", "rb") as file:
        return int(file.read())


def _open(key: int, flags: int, mode: int) -> sysv_ipc.MessageQueue:
    # A message larger than the buffer stays at the head of its type for ever (defect 14): take any that can exist.
    return sysv_ipc.MessageQueue(key, flags, mode=mode, max_message_size=_kernel_limit("msgmax"))


class ServerQueue:
    """The server's end. A context manager that creates the queue, or takes over a dead server's, and removes it.

    key: System V key, claimed for this server. mode: rights. One instance serves all children or threads.
    Raises HeldError when a live server has the key, SpectaclesError when the queue is another user's.
    """

    def __init__(self, server: Server, key: int, mode: int) -> None:
        server.claim("key", hex(key))
        self._key = key
        self._queue = self._create(key, mode)
        self._send = self._queue.send
        self._limit = _kernel_limit("msgmnb")  # bytes, all that an ordinary user may set
        self._queue.max_size = self._limit
        self.closing = False
        self._in_a_row = 0
        self._thread_lock = threading.Lock()
        self._process_lock = os.memfd_create("spectacles-msq")
        self.served = mmap.mmap(-1, 1)  # set by every reply; shared with forked children
        self._noted = mmap.mmap(-1, _kernel_limit("pid_max") + 1)  # a byte per PID, 1 once it is watched; shared too
        self._notes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)  # PIDs, from whoever replies to the main thread
        self._watched: dict[int, int] = {}  # pidfd -> PID
        self._most_watched = max(raise_descriptor_limit() // 2 - WATCHED_MARGIN, 1)
        self._epoll = select.epoll()
        self._epoll.register(self._notes[0], select.EPOLLIN)
        self._was_full = False
        self._left: list[Message] = []  # taken out, and not yet back in
        self._backlog: dict[int, deque[Message]] = {}  # kind -> requests taken out by the worker that serves them
        self._flooding: dict[int, float] = {}  # PID -> when it was last seen to ask over and over without reading
        self._dropped = 0  # messages not yet spoken of in the log
        self._told = 0  # times in the present second
        self._told_at = self._evicted_at = float("-inf")

    def __enter__(self) -> ServerQueue:
        # What a dead server left: requests of live clients will be served, and replies to them watched over.
        for type_ in self._make_room():
            if type_ >= FIRST_PID:
                self._note(type_)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(sysv_ipc.ExistentialError, OSError):
            self._drain()
        with contextlib.suppress(sysv_ipc.ExistentialError, OSError):
            self._queue.remove()  # wakes the clients that still wait: they know that the server has gone
        self._epoll.close()
        for fd in (*self._watched, *self._notes, self._process_lock):
            os.close(fd)

    def requests(self, kind: int) -> Iterator[Request]:
        """Yield the requests of `kind` (LIST, RESERV or ANY) as (kind, PID, show, seats) until stop(). Blocks.

        Malformed ones, and those of processes that do not exist, are logged and dropped. Raises SpectaclesError when
        the queue has been removed.
        """
        take = self._take_fairly if kind == ANY else partial(self._queue.receive, True, kind)
        noted = self._noted  # a client noted here was alive a moment ago, and its death will be noticed
        last_pid = len(noted)
        backlog = self._backlog.setdefault(kind, deque())
        list_size, unpack_list = LIST_REQUEST.size, LIST_REQUEST.unpack
        while not self.closing:
            if self._left:  # nobody else knows of it
                self._make_room(None, kind)
                continue
            try:
                body, type_ = backlog.popleft() if backlog else take()  # blocks
            except sysv_ipc.ExistentialError:
                raise SpectaclesError(f"la file {self._key:#x} a été supprimée") from None
            except sysv_ipc.Error:
                continue  # interrupted by a signal: to stop, or for nothing
            if type_ == LIST and len(body) == list_size:
                (client,) = unpack_list(body)
                request = (LIST, client, 0, 0)
            elif type_ == RESERV and len(body) == RESERV_REQUEST.size:
                request = (RESERV, *RESERV_REQUEST.unpack(body))
                client = request[1]
            else:
                self._tell(1, f"message de type {type_} et de {len(body)} octets ignoré")
                continue
            if not FIRST_PID <= client < last_pid or not (noted[client] or process_exists(client)):
                self._tell(1, f"requête de type {type_} au nom du PID {client} ignorée : aucun tel client")
                continue
            yield request

    def reply(self, request: Request, body: bytes) -> None:
        """Send `body` to the client of `request`. Never blocks for long: a reply that no one makes room for is lost."""
        client = request[1]
        try:
            self._send(body, False, client)
        except sysv_ipc.BusyError:
            if not self._floods(client):
                self._make_room((body, client), request[0])
        self.served[0] = 1
        # After the send: whatever the main thread does about the death of this client, it does it later than that.
        if not self._noted[client]:
            self._note(client)

    def fileno(self) -> int:
        """Return a descriptor that is readable when a client has died or a new one has been replied to."""
        return self._epoll.fileno()

    def tend(self) -> str | None:
        """Remove the unread replies of the dead, and what fills the queue while nobody reads it. Main thread only.

        Raises SpectaclesError when the queue has been removed.
        """
        try:
            for fd, _ in self._epoll.poll(0):
                if fd == self._notes[0]:
                    self._watch()
                else:
                    self._take_back(self._forget(fd))
            # Full twice in a row is not a busy moment: nobody is reading what is there.
            full = bool(self._left) or (self._queue.current_messages > 0 and not self._has_room())
            deadline = time.monotonic() + PATIENCE
            while full and (self._was_full or self._left) and not self.closing and time.monotonic() < deadline:
                self._make_room()
                time.sleep(PAUSE)  # who waited to send can, before what flooded the queue floods it again
                full = not self._has_room()
            self._was_full = full
            return None
        except (sysv_ipc.ExistentialError, OSError) as error:
            raise SpectaclesError(f"la file {self._key:#x} a été supprimée") from error

    def recover(self) -> None:
        """Put right what a child killed while it made room may have left. The caller makes sure that none is alive."""
        self._make_room()

    def stop(self) -> None:
        """End requests() after the request in hand. Safe in a signal handler; a blocked receive needs a signal too."""
        self.closing = True

    def _take_fairly(self) -> tuple[bytes, int]:
        """Receive a message of either type: the lowest type first, but then a flood of it would starve the other."""
        self._in_a_row += 1
        if self._in_a_row > FAIRNESS:
            self._in_a_row = 0
            with contextlib.suppress(sysv_ipc.BusyError):
                return self._queue.receive(False, RESERV)  # type: ignore[no-any-return]
        return self._queue.receive(True, ANY)  # type: ignore[no-any-return]  # blocks

    # The queue is full

    def _make_room(self, reply: Message | None = None, kind: int = 0) -> list[int]:
        """Sort the queue out, send `reply` with what is put back, and return the types of all that.

        kind: which requests the caller serves, if any. It keeps these in hand; the others go back to the queue.

        Blocks while live clients' replies leave no room, PATIENCE at most; then the oldest of them are dropped.
        """
        with self._alone():
            if reply is not None:
                if self._floods(reply[1]):
                    return []
                with contextlib.suppress(sysv_ipc.BusyError):
                    self._send(reply[0], False, reply[1])  # while we waited for our turn another made room
                    return []
            calm = time.monotonic() - self._evicted_at > CALM
            deadline = time.monotonic() + (PATIENCE if calm else PATIENCE_IN_A_FLOOD)
            needed = 0 if reply else LIST_REPLY.size
            while True:
                self._queue.max_size = 1  # the gate is closed
                messages = [*self._left, *self._take_all()]
                kept = self._wanted(messages, reply)
                if sum(len(body) for body, _ in kept) + needed <= self._limit:
                    break
                if time.monotonic() >= deadline:
                    kept = self._newest(kept)
                    self._evicted_at = time.monotonic()
                    break
                self._left = self._put_back([message for message in kept if message is not reply], kind)
                time.sleep(PAUSE)
            self._left = self._put_back(kept, kind)
        self._tell(len(messages) + (reply is not None) - len(kept), "file encombrée")
        return [type_ for _, type_ in kept]

    def _floods(self, client: int) -> bool:
        return time.monotonic() - self._flooding.get(client, float("-inf")) < CALM

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other workers, threads or processes, from moving the gate. The kernel frees the lock of the dead."""
        with self._thread_lock:
            fcntl.lockf(self._process_lock, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._process_lock, fcntl.LOCK_UN)

    def _take_all(self) -> list[Message]:
        """Take out all that is there now. Behind a closed gate, empty messages still come in, one after the other."""
        messages: list[Message] = []
        with contextlib.suppress(sysv_ipc.BusyError):
            messages.extend(self._queue.receive(False, 0) for _ in range(self._queue.current_messages))
        return messages

    def _wanted(self, messages: list[Message], reply: Message | None) -> list[Message]:
        """Return what is worth keeping of `messages`, and `reply`, in order."""
        asked: dict[tuple[int, int], int] = {}  # (kind, client) -> requests
        for body, type_ in messages:
            if (type_, len(body)) in REQUEST_SIZES:
                asker = (type_, _PID.unpack_from(body)[0])
                asked[asker] = asked.get(asker, 0) + 1
        now = time.monotonic()
        self._flooding |= {client: now for (_, client), count in asked.items() if count > MAX_ASKED}
        alive: dict[int, bool] = {}
        kept: dict[tuple[int, int, int], Message] = {}
        for message in [*messages, *([reply] if reply else [])]:
            body, type_ = message
            if (type_, len(body)) in REQUEST_SIZES:
                client = _PID.unpack_from(body)[0]
                place = (type_, client, 0)
            elif type_ >= FIRST_PID and len(body) in REPLY_SIZES:
                client = type_
                place = (0, client, len(body))
            else:
                continue
            if client not in alive:
                known = FIRST_PID <= client < len(self._noted)
                alive[client] = known and not self._floods(client) and process_exists(client)
            if alive[client] and not (type_ < FIRST_PID and place in kept):
                kept[place] = message  # the first of its requests, the last of its replies
        return list(kept.values())

    def _newest(self, kept: list[Message]) -> list[Message]:
        """Return the requests of `kept`, and its newest replies that fill half of the queue at most."""
        room = self._limit // 2
        left = []
        for body, type_ in reversed(kept):
            if type_ >= FIRST_PID:
                room -= len(body)
            if type_ < FIRST_PID or room >= 0:
                left.append((body, type_))
        return left[::-1]

    def _others(self, messages: list[Message], kind: int) -> list[Message]:
        """Add the requests of `kind` to the backlog of the worker that serves them, and return the rest."""
        if kind not in self._backlog:  # question 4, where a thread replies and another one receives
            return messages
        self._backlog[kind].extend(message for message in messages if message[1] == kind)
        return [message for message in messages if message[1] != kind]

    def _put_back(self, messages: list[Message], kind: int) -> list[Message]:
        """Open the gate and send `messages` into the empty queue; return what is left after a second. Blocks."""
        waiting = deque(self._others(messages, kind))
        self._queue.max_size = self._limit
        with contextlib.suppress(sysv_ipc.BusyError):
            while waiting:
                self._queue.send(waiting[0][0], False, waiting[0][1])
                waiting.popleft()
        deadline = time.monotonic() + PUT_BACK_TIMEOUT
        while waiting and time.monotonic() < deadline:
            self._put_back_in_line(waiting, kind, deadline)
        self._queue.max_size = self._limit
        return list(waiting)

    def _put_back_in_line(self, waiting: deque[Message], kind: int, deadline: float) -> None:
        """Send what is `waiting` while others are faster than us through the open gate.

        Opening it wakes those blocked in msgsnd(2), and they take our processor before we have sent anything. So we
        block in msgsnd too, and are woken with them, while another thread opens and closes the gate.
        """
        done = threading.Event()
        arguments = (waiting, kind, done, threading.get_ident(), deadline)
        keeper = threading.Thread(target=self._keep_gate, args=arguments)
        keeper.start()
        try:
            while waiting and time.monotonic() < deadline:
                body, type_ = waiting[0]
                with contextlib.suppress(sysv_ipc.Error):  # interrupted: it is late, or the server stops
                    self._queue.send(body, True, type_)  # blocks
                    waiting.popleft()
        finally:
            done.set()
            keeper.join()

    def _keep_gate(
        self, waiting: deque[Message], kind: int, done: threading.Event, sender: int, deadline: float
    ) -> None:
        narrow = True
        while not done.is_set() and time.monotonic() < deadline:
            self._queue.max_size = 1
            # Honest requests that came in with the others. What we have got in ourselves is out again too, but for
            # what somebody was waiting for: that has been handed over.
            waiting.extend(self._others(self._wanted(self._take_all(), None), kind))
            if not done.wait(PAUSE):
                # In turns too narrow for large messages, and so wide that small ones need their time to fill it.
                needed = sum(len(body) for body, _ in list(waiting))
                self._queue.max_size = min(needed + GAP, self._limit) if narrow else self._limit
                narrow = not narrow
                done.wait(PAUSE)
        while not done.wait(PAUSE):
            signal.pthread_kill(sender, signal.SIGUSR1)

    def _tell(self, dropped: int, why: str) -> None:
        """Log that messages were dropped, a few times a second at most: a flood must not become a flood of lines."""
        self._dropped += dropped
        now = time.monotonic()
        if now - self._told_at > CALM:
            self._told_at, self._told = now, 0
        if self._dropped and self._told < LINES:
            log.warning("[INFO] %s (%d message(s) écarté(s))", why, self._dropped)
            self._told += 1
            self._dropped = 0

    def _has_room(self) -> bool:
        """Say whether the largest reply would fit, by sending one to oneself."""
        own = os.getpid()
        try:
            self._queue.send(bytes(LIST_REPLY.size), False, own)
        except sysv_ipc.BusyError:
            return False
        self._take_back(own)
        return True

    def _take_back(self, type_: int) -> None:
        with contextlib.suppress(sysv_ipc.BusyError):
            for _ in range(self._limit):  # a flood of this type must not keep us here
                self._queue.receive(False, type_)

    # Clients die

    def _note(self, client: int) -> None:
        self._noted[client] = 1
        try:
            os.write(self._notes[1], _PID.pack(client))
        except BlockingIOError:
            self._noted[client] = 0  # the main thread is late; the next reply tries again

    def _watch(self) -> None:
        for (client,) in _PID.iter_unpack(os.read(self._notes[0], 4096)):
            if len(self._watched) >= self._most_watched:
                self._forget(next(iter(self._watched)))
            try:
                fd = os.pidfd_open(client)
            except ProcessLookupError:
                self._noted[client] = 0
                self._take_back(client)
                continue
            except OSError as error:  # no descriptors left, say: its next reply will try again
                self._noted[client] = 0
                log.warning("[INFO] client %d non surveillé : %s", client, reason(error))
                continue
            self._watched[fd] = client
            self._epoll.register(fd, select.EPOLLIN)

    def _forget(self, fd: int) -> int:
        client = self._watched.pop(fd)
        self._epoll.unregister(fd)  # closing is not enough where children have inherited it, epoll(7)
        os.close(fd)
        self._noted[client] = 0
        return client

    # From beginning to end

    def _create(self, key: int, mode: int) -> sysv_ipc.MessageQueue:
        try:
            queue = _open(key, sysv_ipc.IPC_CREAT, mode)
            # Its creator keeps an owner's rights even after giving it away, msgctl(2).
            if (queue.uid, queue.cuid) != (os.geteuid(), os.geteuid()):
                raise sysv_ipc.PermissionsError
            queue.mode = mode
        except sysv_ipc.PermissionsError:
            raise SpectaclesError(f"file {key:#x} : à un autre utilisateur ; choisissez une autre --key") from None
        except (sysv_ipc.Error, OSError, ValueError) as error:
            raise SpectaclesError(f"file {key:#x} : {error}") from error
        return queue

    def _drain(self) -> None:
        # The workers have left: nobody will answer what is still asked.
        with contextlib.suppress(sysv_ipc.BusyError):
            for _ in range(self._limit):
                self._queue.receive(False, ANY)
        deadline = time.monotonic() + DRAIN_TIMEOUT
        while self._queue.current_messages and time.monotonic() < deadline:
            time.sleep(0.005)


class ClientQueue:
    """A client's end: one request, one reply, within a deadline. A context manager.

    key: of the server's queue, which must exist: a client never creates it. timeout: seconds for one exchange.
    Uses SIGALRM, as msgsnd(2) and msgrcv(2) know no deadline: main thread only. Raises NoServerError.
    """

    def __init__(self, key: int, timeout: float) -> None:
        self._key = key
        self._timeout = timeout
        self._pid = os.getpid()
        if self._pid < FIRST_PID:
            raise NoServerError(f"PID {self._pid} : une réponse à ce numéro passerait pour une requête")
        try:
            self._queue = _open(key, 0, 0o600)  # without a mode msgget(2) checks no rights, and msgsnd does later
        except sysv_ipc.ExistentialError:
            raise NoServerError(f"aucun serveur : la file {key:#x} n'existe pas") from None
        except sysv_ipc.PermissionsError:
            raise NoServerError(f"la file {key:#x} est à un autre utilisateur, droits insuffisants") from None
        self._previous_handler = signal.signal(signal.SIGALRM, _interrupt)

    def __enter__(self) -> ClientQueue:
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGALRM, self._previous_handler)  # the queue itself is the server's

    def exchange(self, kind: int, body: bytes, reply_size: int) -> bytes:
        """Send a request of type `kind` and return the reply of `reply_size` bytes. Blocks, `timeout` at most.

        Raises NoServerError: no answer in time (the request may have been served), or the server has gone.
        """
        deadline = time.monotonic() + self._timeout
        # Again and again: the first may come just before the call that it is to interrupt.
        signal.setitimer(signal.ITIMER_REAL, self._timeout, 0.05)
        try:
            self._discard_stale_replies()
            self._until(deadline, lambda: self._queue.send(body, True, kind))
            while True:
                reply: bytes = self._until(deadline, lambda: self._queue.receive(True, self._pid))[0]
                if len(reply) == reply_size:
                    return reply
        except sysv_ipc.ExistentialError:
            raise NoServerError("le serveur s'est arrêté") from None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _until(self, deadline: float, call: Callable[[], T]) -> T:
        while True:
            try:
                return call()  # blocks
            except sysv_ipc.ExistentialError:
                raise
            except (sysv_ipc.Error, OSError) as error:
                if isinstance(error, OSError) and error.errno in (errno.EINVAL, errno.EIDRM):
                    raise sysv_ipc.ExistentialError from None  # what send() says of a removed queue
            if time.monotonic() >= deadline:
                raise NoServerError(f"pas de réponse du serveur en {self._timeout:g} s")

    def _discard_stale_replies(self) -> None:
        # To an earlier request of this process, or to an earlier process with this PID (defect 12).
        with contextlib.suppress(sysv_ipc.BusyError):
            while True:
                self._queue.receive(False, self._pid)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Do nothing: the signal has interrupted a blocked call, which is all it is for."""
