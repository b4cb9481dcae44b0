"""One System V message queue between a server and many clients: questions 2, 3 and 4.

Requests have type 1 or 2; a reply has its client's PID as type. Everybody writes to the same 16 KB, and nobody can tell
who sent what (defects 11 to 15). So the server never blocks in msgsnd(2), has room made when there is none (gate.py),
removes the replies that the dead have left (watch.py), and takes over a dead server's queue only (takeover.py).

A PID that does not exist here may be a stranger's: a client in another PID namespace (a container) that shares the IPC
namespace. It may as well be that of a client that has just died, or of nobody. A stranger is served while there is room
for its answer, half of the queue at most being for all of them; what it has not read is removed after a while.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import math
import mmap
import os
import signal
import struct
import time
from functools import partial

import sysv_ipc

from spectacles.common import log
from spectacles.common.addresses import c_key
from spectacles.common.errors import NoAnswerError, NoServerError, SpectaclesError, reason
from spectacles.common.lifecycle import interrupt
from spectacles.common.limits import kernel_limit
from spectacles.common.processes import process_exists, process_runs
from spectacles.common.protocol import (
    FIRST_PID,
    LAST_PID,
    LIST_REPLY,
    NEEDED,
    RESERV,
    RESERV_REPLY,
    parse_request,
)
from spectacles.q2_msq.crowd import CALM
from spectacles.q2_msq.gate import ANY as ANY
from spectacles.q2_msq.gate import PATIENCE, PAUSE, Gate
from spectacles.q2_msq.shelf import WAKE_UP
from spectacles.q2_msq.takeover import claim_queue, make_sure_of_death
from spectacles.q2_msq.watch import STRANGER, WATCHED, ClientWatch, is_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    from spectacles.common.lifecycle import Server
    from spectacles.common.protocol import Request
    from spectacles.q2_msq.shelf import Message

    T = TypeVar("T")

FAIRNESS = 8  # consultations that ANY takes in a row before it looks for a reservation
FULL_TOO_LONG = 0.2  # seconds, less than between two rounds of housekeeping
MSG_COPY, MSG_NOERROR, IPC_NOWAIT = 0o40000, 0o10000, 0o4000  # of msgrcv(2), which the binding does not name
STRANGERS_PATIENCE = 0.02  # seconds that a request waits until strangers have read what fills half of the queue
DRAIN_TIMEOUT = 0.2  # seconds that clients get, when the server stops, to fetch what it has sent them


def open_queue(key: int, flags: int, mode: int) -> sysv_ipc.MessageQueue:
    """Return the queue `key`, msgget(2), as one out of which anything can be taken. Raises what the binding does."""
    # A message larger than the buffer stays at the head of its type for ever (defect 14): take any that can exist.
    return sysv_ipc.MessageQueue(c_key(key), flags, mode=mode, max_message_size=kernel_limit("msgmax"))


def is_gone(error: Exception) -> bool:
    """Say whether `error` is that the queue has been removed."""
    # EINVAL is what send() says of a queue that was removed.
    return isinstance(error, sysv_ipc.ExistentialError) or getattr(error, "errno", 0) in (errno.EINVAL, errno.EIDRM)


def too_short(body: bytes, kind: int) -> str:
    """Return what the log says of a request that lacks some of its fields."""
    return (
        f"requête de type {kind} et de {len(body)} octet(s) ignorée : il en faut au moins {NEEDED[kind].size} ; "
        "la taille que prend msgsnd est celle de la structure (sizeof) moins celle de son « long mtype »"
    )


def peek(queue_id: int) -> Iterator[tuple[int, bytes]]:
    """Yield type and body of each message in a queue, which stay there. Raises OSError without MSG_COPY, msgrcv(2)."""
    import ctypes  # here: 1 MB that only a failure costs

    libc = ctypes.CDLL(None, use_errno=True)
    size = kernel_limit("msgmax")
    buffer = ctypes.create_string_buffer(struct.calcsize("@l") + size)
    for index in itertools.count():
        flags = MSG_COPY | MSG_NOERROR | IPC_NOWAIT
        length = libc.msgrcv(queue_id, buffer, ctypes.c_size_t(size), ctypes.c_long(index), flags)
        if length < 0:
            if ctypes.get_errno() == errno.ENOMSG:
                return
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        (type_,) = struct.unpack_from("@l", buffer)
        yield type_, buffer.raw[struct.calcsize("@l") :][:length]


def _is_to_nobody(type_: int, reply: bytes) -> bool:
    """Say whether a message as long as a reply is neither a request nor a reply to another client."""
    if type_ < FIRST_PID:
        return len(reply) == LIST_REPLY.size  # a reply to a reservation is as short as a request for the list
    (server,) = struct.unpack_from("<i", reply)
    return server == type_ or not process_exists(type_)


def _of_other_size(size: int, expected: int) -> str:
    """Say what is wrong with a reply of `size` bytes."""
    counted = " (le type compté en trop : sizeof de la structure moins celui du type)" if size == expected + 8 else ""
    return f"réponse de {size} octets au lieu de {expected}{counted or ' (sizeof de la structure moins celui du type)'}"


def create_queue(key: int, mode: int, *, ours: bool) -> tuple[sysv_ipc.MessageQueue, bytes]:
    """Make the queue `key`, or take over a dead server's; return it with what was asked to make sure of the death.

    ours: as in make_sure_of_death(). Blocks, BUSY_TIMEOUT at most. Raises HeldError, SpectaclesError.
    """
    # Room for the largest reply; and for another, since the newest that fill half of the queue are kept.
    for name, least in (("msgmax", LIST_REPLY.size), ("msgmnb", 2 * LIST_REPLY.size)):
        if (limit := kernel_limit(name)) < least:
            raise SpectaclesError(f"limite du noyau kernel.{name} trop basse : {limit} octets, il en faut {least}")
    try:
        with contextlib.suppress(sysv_ipc.ExistentialError):
            return open_queue(key, sysv_ipc.IPC_CREX, mode), b""
        queue = open_queue(key, sysv_ipc.IPC_CREAT, mode)
        # Its creator keeps an owner's rights even after giving it away, msgctl(2).
        if (queue.uid, queue.cuid) != (os.geteuid(), os.geteuid()):
            raise sysv_ipc.PermissionsError
        question = make_sure_of_death(queue, key, ours=ours)
        queue.mode = mode
        log.warning("[INFO] file %#x laissée par un serveur mort, reprise", key)
    except sysv_ipc.PermissionsError:
        raise SpectaclesError(f"file {key:#x} : à un autre utilisateur ; choisissez une autre --key") from None
    except (sysv_ipc.Error, OSError, ValueError) as error:
        raise SpectaclesError(f"file {key:#x} : {reason(error)}") from error
    return queue, question


class ServerQueue:
    """The server's end. A context manager that creates the queue, or takes over a dead server's, and removes it.

    key: System V key, claimed for this server. mode: rights. One instance serves all children or threads.
    Raises HeldError when a live server has the key, or answers in the queue; SpectaclesError when it is another user's.
    """

    def __init__(self, server: Server, key: int, mode: int) -> None:
        # Noted by a server that was killed: then only one that claims its queues can have made this one.
        ours = hex(key) in server.directory.lock.objects.get("key", ())
        server.claim("key", hex(key))
        self._key = key
        self.closing = False
        self._in_a_row = 0
        self._full_since = math.inf  # when housekeeping first saw it so
        self._no_room_at = -math.inf  # when a stranger's request was last dropped
        self._in_hand: dict[int, float] = {}  # strangers who are being served -> since when
        with contextlib.ExitStack() as undo:
            self._claim = claim_queue(key)
            undo.callback(self._let_go)
            self._queue, question = create_queue(key, mode, ours=ours)
            undo.callback(self._queue.remove)
            self._send = self._queue.send
            self._gate = Gate(self._queue, question)
            self._watch = ClientWatch()
            self._noted = self._watch.noted
            self.served = mmap.mmap(-1, 1)  # set by every reply; shared with forked children
            # What a dead server left: requests of live clients will be served, and replies to them watched over.
            self._make_room()
            undo.pop_all()

    def __enter__(self) -> ServerQueue:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(sysv_ipc.ExistentialError, OSError):
            self._drain()
        with contextlib.suppress(sysv_ipc.ExistentialError, OSError):
            self._queue.remove()  # wakes the clients that still wait: they know that the server has gone
        self._let_go()
        self._watch.close()
        self._gate.close()

    def _let_go(self) -> None:
        if self._claim:
            self._claim.detach()

    def requests(self, kind: int) -> Iterator[Request]:
        """Yield the requests of `kind` (LIST, RESERV or ANY) as (kind, PID, show, seats) until stop(). Blocks.

        Those that are too short, those in the name of what is no PID of a client, and strangers' for whom there is no
        room are logged and dropped; without a word, those of who floods a crowded queue. Raises SpectaclesError when
        the queue has been removed.
        """
        noted = self._noted  # a client watched was alive a moment ago, and its death will be noticed
        flooding = self._gate.crowd.flooding
        for body, type_ in self._messages(kind):
            request = parse_request(body, type_)
            if request is None:
                self._drop(too_short(body, type_))
                continue
            client = request[1]
            if not FIRST_PID <= client <= LAST_PID:
                self._drop(f"requête de type {type_} au nom du PID {client} ignorée : aucun tel client")
            elif noted[client] != WATCHED and not self._admits(client):
                self._drop(f"requête de type {type_} du PID {client}, inconnu ici, ignorée : file à moitié pleine")
            elif not flooding or not self._gate.crowd.floods(client) or not self._gate.is_crowded():
                yield request  # not if it floods a crowded queue: it would not read the answer either

    def reply(self, request: Request, body: bytes) -> None:
        """Send `body` to the client of `request`. Never blocks for long: a reply that no one makes room for is lost."""
        client = request[1]
        self._in_hand.pop(client, None)
        try:
            self._send(body, False, client)
        except sysv_ipc.BusyError:
            self._make_room((body, client))
        self.served[0] = 1
        if self._noted[client] != WATCHED:
            self._watch.note(client)

    def fileno(self) -> int:
        """Return a descriptor that is readable when a client has died or a new one has been replied to."""
        return self._watch.fileno()

    def tend(self) -> str | None:
        """Remove the replies that nobody will read, and what fills the queue while nobody reads it. Main thread only.

        Raises SpectaclesError when the queue has been removed.
        """
        try:
            for client in self._watch.dead():
                self._gate.take(client)
            self._gate.wake()
            now = time.monotonic()
            full = self._queue.current_messages > 0 and self._gate.is_full()
            # Full for so long is not a busy moment: nobody is reading what is there.
            too_long = now - self._full_since >= FULL_TOO_LONG
            while full and too_long and not self.closing and time.monotonic() < now + PATIENCE:
                self._make_room()
                time.sleep(PAUSE)  # who waited to send can, before what flooded the queue floods it again
                full = self._gate.is_full()
            self._full_since = min(self._full_since, now) if full else math.inf
            return None
        except BlockingIOError:
            return None  # a worker is making room, or stands still as it does
        except (sysv_ipc.ExistentialError, OSError) as error:
            if is_gone(error):
                raise SpectaclesError(f"la file {self._key:#x} a été supprimée") from error
            raise

    def recover(self) -> None:
        """Put right what a child killed while it made room may have left. The caller makes sure that none is alive."""
        self._make_room()

    def stop(self) -> None:
        """End requests() after the request in hand. Safe in a signal handler; a blocked receive needs a signal too."""
        self.closing = self._gate.closing = True

    def _messages(self, kind: int) -> Iterator[Message]:
        """Yield what comes for a worker of `kind`, out of the queue or off the shelf, until stop(). Blocks."""
        take = self._take_fairly if kind == ANY else partial(self._queue.receive, True, kind)
        while not self.closing:
            try:
                message = take()  # blocks
            except sysv_ipc.ExistentialError:
                raise SpectaclesError(f"la file {self._key:#x} a été supprimée") from None
            except sysv_ipc.Error:
                continue  # interrupted by a signal: to stop, or for nothing
            if message[0] == WAKE_UP:
                yield from self._shelved(message[1])
            else:
                yield message

    def _shelved(self, kind: int) -> Iterator[Message]:
        while not self.closing and (message := self._gate.shelf.take(kind)):
            yield message

    def _drop(self, why: str) -> None:
        self._gate.dropped.add()
        self._gate.dropped.tell(why)

    def _make_room(self, reply: Message | None = None) -> None:
        # Whose reply was out of the queue when they died: nothing was found to be removed, and now it is back.
        for client, exists in self._gate.make_room(reply):
            if not self._noted[client]:
                self._watch.note(client, stranger=not exists)

    def _admits(self, client: int) -> bool:
        """Say whether to serve a client that is not watched: one that exists here, or that there is room for."""
        if is_process(client):
            self._noted[client] = 0  # whatever had this number before
            return True
        self._noted[client] = STRANGER
        now = time.monotonic()
        deadline = now + (STRANGERS_PATIENCE if now - self._no_room_at > CALM else 0)
        while not self._gate.has_room_for_strangers(1 + len(self._in_hand)):
            now = time.monotonic()
            if now >= deadline or self.closing:
                self._no_room_at = now
                for stranger, since in self._in_hand.copy().items():  # threads reply meanwhile
                    if now - since > CALM:  # its request has been given up
                        self._in_hand.pop(stranger, None)
                return False
            time.sleep(PAUSE)
        self._in_hand[client] = now
        return True

    def _take_fairly(self) -> tuple[bytes, int]:
        """Receive a message of either type: the lowest type first, but then a flood of it would starve the other."""
        self._in_a_row += 1
        if self._in_a_row > FAIRNESS:
            self._in_a_row = 0
            with contextlib.suppress(sysv_ipc.BusyError):
                return self._queue.receive(False, RESERV)  # type: ignore[no-any-return]
        return self._queue.receive(True, ANY)  # type: ignore[no-any-return]  # blocks

    def _drain(self) -> None:
        self._gate.take(ANY)  # the workers have left: nobody will answer what is still asked
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
        self.connect()
        self._previous_handler = signal.signal(signal.SIGALRM, interrupt)

    def __enter__(self) -> ClientQueue:
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGALRM, self._previous_handler)  # the queue itself is the server's

    def connect(self) -> None:
        """Look for the queue, again if need be: a new server makes a new one. Raises NoServerError."""
        key = self._key
        try:
            self._queue = open_queue(key, 0, 0o600)  # without a mode msgget(2) checks no rights, and msgsnd does later
        except sysv_ipc.ExistentialError:
            raise NoServerError(f"aucun serveur : la file {key:#x} n'existe pas") from None
        except sysv_ipc.PermissionsError:
            raise NoServerError(f"la file {key:#x} est à un autre utilisateur, droits insuffisants") from None

    def exchange(self, kind: int, body: bytes, reply_size: int) -> bytes:
        """Send a request of type `kind` and return the reply of `reply_size` bytes. Blocks, `timeout` at most.

        Raises NoServerError: nobody could be asked. NoAnswerError: no answer in time, or none of this size, or the
        server has gone; the request may have been served.
        """
        deadline = time.monotonic() + self._timeout
        # Again and again: the first may come just before the call that it is to interrupt.
        signal.setitimer(signal.ITIMER_REAL, self._timeout, 0.05)
        sent, other = False, 0
        try:
            self._discard_stale_replies()
            self._until(deadline, lambda: self._queue.send(body, True, kind))
            sent = True
            while True:
                reply: bytes = self._until(deadline, lambda: self._queue.receive(True, self._pid))[0]
                if len(reply) == reply_size:
                    return reply
                other = len(reply)
                if other not in (LIST_REPLY.size, RESERV_REPLY.size):  # else perhaps to what was asked before
                    raise NoAnswerError(_of_other_size(other, reply_size))
        except sysv_ipc.ExistentialError:
            if sent:
                raise NoAnswerError("le serveur s'est arrêté sans répondre à la demande") from None
            raise NoServerError("le serveur s'est arrêté") from None
        except sysv_ipc.PermissionsError:
            raise NoServerError(f"la file {self._key:#x} : droits insuffisants") from None
        except TimeoutError:
            late = f"pas de réponse du serveur en {self._timeout:g} s"
            if not sent:
                raise NoServerError(f"{late} : la file est pleine, la demande n'a pas pu y entrer") from None
            if other:
                raise NoAnswerError(f"{late}, mais une {_of_other_size(other, reply_size)}") from None
            raise self._diagnosis(late, kind, body, reply_size) from None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _until(self, deadline: float, call: Callable[[], T]) -> T:
        while True:
            try:
                return call()  # blocks
            except (sysv_ipc.Error, OSError) as error:
                if is_gone(error):
                    raise sysv_ipc.ExistentialError from None
                if type(error) is not sysv_ipc.Error:  # which only says that a signal has come
                    raise
            if time.monotonic() >= deadline:
                raise TimeoutError

    def _diagnosis(self, late: str, kind: int, body: bytes, reply_size: int) -> NoAnswerError:
        """Return what the queue shows of a request without an answer, without taking anything out of it."""
        try:
            messages = list(peek(self._queue.id))
        except OSError:  # a kernel without MSG_COPY
            messages = None
        if messages is None:
            return NoAnswerError(late)
        if (kind, body) in messages:
            return NoAnswerError(f"{late} : personne ne lit la file, la demande y est restée", waits=True)
        for type_, reply in messages:
            if len(reply) == reply_size and _is_to_nobody(type_, reply):
                return NoAnswerError(
                    f"{late}, mais une réponse de type {type_}, que personne n'attend, est dans la file :"
                    f" serait-ce la nôtre ? Son type doit être {self._pid}, le PID du client"
                )
        reader = self._queue.last_receive_pid
        if reader > 0 and not process_runs(reader):
            return NoAnswerError(f"{late} : le processus {reader}, qui a lu la file en dernier, s'est arrêté")
        return NoAnswerError(f"{late} : la demande a été prise, et n'a pas eu de réponse")

    def _discard_stale_replies(self) -> None:
        # To an earlier request of this process, or to an earlier process with this PID (defect 12).
        with contextlib.suppress(sysv_ipc.BusyError):
            while True:
                self._queue.receive(False, self._pid)
