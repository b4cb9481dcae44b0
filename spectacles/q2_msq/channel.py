"""One System V message queue between a server and many clients: questions 2, 3 and 4.

Requests have type 1 or 2; a reply has its client's PID as type. Everybody writes to the same 16 KB, so one careless
client can take the room that all the others need (defects 11 to 15). What keeps the queue flowing:

* the server never blocks in msgsnd(2);
* a part of the queue is kept for replies: the limit that clients meet (msg_qbytes) is lower than the one that the
  server raises, for the length of one msgsnd, when it needs to;
* when even that is full the server takes everything out, keeps what somebody can still want, and puts that back;
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
from functools import partial

import sysv_ipc

from spectacles.common import log
from spectacles.common.directory import process_exists
from spectacles.common.errors import NoServerError, SpectaclesError
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

ANY = -RESERV  # msgrcv(2): the first message of the lowest type up to 2, so never a reply (defect 15)
FIRST_PID = RESERV + 1  # a reply to PID 1 or 2 would be taken for a request (defect 13)
FAIRNESS = 8  # consultations that ANY takes in a row before it looks for a reservation
DRAIN_TIMEOUT = 0.2  # seconds that clients get, when the server stops, to fetch what it has sent them
WATCHED_MARGIN = 64  # descriptors left for everything else than watching clients

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
        self._limit_for_clients = self._limit * 3 // 4
        self._queue.max_size = self._limit_for_clients
        self.closing = False
        self._in_a_row = 0
        self._thread_lock = threading.Lock()
        self._process_lock = os.memfd_create("spectacles-msq")
        self.served = mmap.mmap(-1, 1)  # set by every reply; shared with forked children
        self._noted = mmap.mmap(
            -1, _kernel_limit("pid_max") + 1
        )  # one byte per PID: 1 once the watch knows it; shared too
        self._notes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)  # PIDs, from whoever replies to the main thread
        self._watched: dict[int, int] = {}  # pidfd -> PID
        self._most_watched = max(raise_descriptor_limit() // 2 - WATCHED_MARGIN, 1)
        self._epoll = select.epoll()
        self._epoll.register(self._notes[0], select.EPOLLIN)
        self._was_full = False

    def __enter__(self) -> ServerQueue:
        self._sort()  # what a dead server left: requests of live clients will be served
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
        while not self.closing:
            try:
                body, type_ = take()  # blocks
            except sysv_ipc.ExistentialError:
                raise SpectaclesError(f"la file {self._key:#x} a été supprimée") from None
            except sysv_ipc.Error:
                continue  # interrupted by a signal: to stop, or for nothing
            if type_ == LIST and len(body) == LIST_REQUEST.size:
                (client,) = LIST_REQUEST.unpack(body)
                request = (LIST, client, 0, 0)
            elif type_ == RESERV and len(body) == RESERV_REQUEST.size:
                request = (RESERV, *RESERV_REQUEST.unpack(body))
                client = request[1]
            else:
                log.warning("[INFO] message de type %d et de %d octets ignoré", type_, len(body))
                continue
            if not FIRST_PID <= client < last_pid or not (noted[client] or process_exists(client)):
                log.warning("[INFO] requête de type %d au nom du PID %d ignorée : aucun tel client", type_, client)
                continue
            yield request

    def reply(self, request: Request, body: bytes) -> None:
        """Send `body` to the client of `request`. Never blocks for long: a reply that no one makes room for is lost."""
        client = request[1]
        try:
            self._send(body, False, client)
        except sysv_ipc.BusyError:
            self._reply_when_full(client, body)
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
        for fd, _ in self._epoll.poll(0):
            if fd == self._notes[0]:
                self._watch()
            else:
                self._forget(fd)
        try:
            # Full twice in a row is not a busy moment: nobody is reading what is there.
            full = self._queue.current_messages > 0 and not self._has_room()
            if full and self._was_full:
                self._sort()
            self._was_full = full
            return None
        except (sysv_ipc.ExistentialError, OSError) as error:
            raise SpectaclesError(f"la file {self._key:#x} a été supprimée") from error

    def recover(self) -> None:
        """Put right what a child killed while it made room may have left. The caller makes sure that none is alive."""
        self._queue.max_size = self._limit_for_clients
        self._sort()

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

    def _reply_when_full(self, client: int, body: bytes) -> None:
        self._take_back(client)  # its last reply, unread: a client waits for one answer at a time
        if self._send_raised(client, body):
            return
        self._sort()
        if not self._send_raised(client, body):
            log.warning("[INFO] file pleine, réponse au client %d abandonnée", client)

    def _send_raised(self, type_: int, body: bytes) -> bool:
        """Send with the limit raised to all that the kernel gives. Return False if there is no room even then."""
        with self._making_room():
            self._queue.max_size = self._limit
            try:
                self._queue.send(body, False, type_)
                return True
            except sysv_ipc.BusyError:
                return False
            finally:
                self._queue.max_size = self._limit_for_clients

    @contextlib.contextmanager
    def _making_room(self) -> Iterator[None]:
        """Keep other workers, threads or processes, from moving the limit. The kernel frees the lock of the dead."""
        with self._thread_lock:
            fcntl.lockf(self._process_lock, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._process_lock, fcntl.LOCK_UN)

    def _sort(self) -> None:
        """Take every message out, drop what nobody can want, and put the rest back in order. Bounded by the queue."""
        with self._making_room():
            self._queue.max_size = 1  # nobody else sends meanwhile
            messages: list[tuple[bytes, int]] = []
            with contextlib.suppress(sysv_ipc.BusyError):
                while len(messages) < self._limit:
                    messages.append(self._queue.receive(False, 0))
            kept = self._wanted(messages)
            self._queue.max_size = self._limit
            for body, type_ in kept:
                with contextlib.suppress(sysv_ipc.BusyError):
                    self._queue.send(body, False, type_)
            self._queue.max_size = self._limit_for_clients
        if len(kept) < len(messages):
            log.warning("[INFO] file encombrée : %d messages écartés, %d gardés", len(messages) - len(kept), len(kept))

    def _wanted(self, messages: list[tuple[bytes, int]]) -> list[tuple[bytes, int]]:
        """Return the requests that are well formed and the newest replies to live clients, half the queue at most."""
        kept = []
        room = self._limit // 2
        seen = set()
        for body, type_ in reversed(messages):
            request = (type_, len(body)) in ((LIST, LIST_REQUEST.size), (RESERV, RESERV_REQUEST.size))
            reply = type_ >= FIRST_PID and len(body) in (LIST_REPLY.size, RESERV_REPLY.size)
            if not request and not (reply and (type_, len(body)) not in seen and room >= len(body)):
                continue
            client = _PID.unpack_from(body)[0] if request else type_
            if client < FIRST_PID or not process_exists(client):
                continue
            if reply:
                room -= len(body)
                seen.add((type_, len(body)))
            kept.append((body, type_))
        kept.reverse()
        return kept

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
            while True:
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
            except OSError:  # dead already
                self._noted[client] = 0
                self._take_back(client)
                continue
            self._watched[fd] = client
            self._epoll.register(fd, select.EPOLLIN)

    def _forget(self, fd: int) -> None:
        client = self._watched.pop(fd)
        self._epoll.unregister(fd)  # closing is not enough where children have inherited it, epoll(7)
        os.close(fd)
        self._noted[client] = 0
        with contextlib.suppress(sysv_ipc.ExistentialError, OSError):
            self._take_back(client)

    # From beginning to end

    def _create(self, key: int, mode: int) -> sysv_ipc.MessageQueue:
        try:
            queue = _open(key, sysv_ipc.IPC_CREAT, mode)
            if queue.uid != os.geteuid():
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
            self._queue = _open(key, 0, 0)
        except sysv_ipc.ExistentialError:
            raise NoServerError(f"aucun serveur : la file {key:#x} n'existe pas") from None
        except sysv_ipc.PermissionsError:
            raise NoServerError(f"la file {key:#x} est à un autre utilisateur, droits insuffisants") from None

    def __enter__(self) -> ClientQueue:
        return self

    def __exit__(self, *_: object) -> None:
        pass  # the queue is the server's

    def exchange(self, kind: int, body: bytes, reply_size: int) -> bytes:
        """Send a request of type `kind` and return the reply of `reply_size` bytes. Blocks, `timeout` at most.

        Raises NoServerError: no answer in time (the request may have been served), or the server has gone.
        """
        deadline = time.monotonic() + self._timeout
        previous = signal.signal(signal.SIGALRM, _interrupt)
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
            signal.signal(signal.SIGALRM, previous)

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
