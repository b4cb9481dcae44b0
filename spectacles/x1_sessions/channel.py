"""One System V message queue between several servers and many clients.

    type 1, 2        a request to whichever server is free
    a server's PID   a request to that server: 4 bytes or 12 say of which kind it is, as its type no longer does
    a client's PID   a reply, which begins with the PID of its server

Who is whose the queue does not know: a message to a PID is a request or a reply by whether that is a server's. So all
servers are listed in the house, the dead too: what is addressed to one of these, another takes out and answers.

Unlike question 2's, these servers have no gate (q2_msq/gate.py): what one of them took out to make room would be lost
if it were killed, and two of them would move the one gate. A reply that does not fit waits for a moment; then those go
that nobody will read, then the oldest.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from functools import partial

import sysv_ipc

from spectacles.common.errors import NoServerError, SpectaclesError, reason
from spectacles.common.limits import kernel_limit
from spectacles.common.protocol import (
    FIRST_PID,
    LAST_PID,
    LIST,
    LIST_REPLY,
    NEEDED,
    RESERV,
    RESERV_REPLY,
    parse_request,
)
from spectacles.q2_msq.channel import ClientQueue, create_queue, is_gone, open_queue, peek, too_short
from spectacles.q2_msq.dropped import Dropped
from spectacles.q2_msq.takeover import claim_queue
from spectacles.q2_msq.watch import WATCHED, ClientWatch, is_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from spectacles.common.lifecycle import Server
    from spectacles.common.protocol import Request
    from spectacles.q2_msq.shelf import Message
    from spectacles.x1_sessions.house import Desk, Hand, House

ANY = -RESERV  # msgrcv(2): the first message of the lowest type up to 2
LEGACIES = 0  # what is addressed to the dead
FAIRNESS = 8  # consultations that ANY takes in a row before it looks for a reservation
TICK = 0.25  # seconds between two looks at what is addressed to the dead
PATIENCE = 0.25  # seconds that clients get to read what fills the queue
PAUSE = 0.001  # seconds between two tries meanwhile
DRAIN_TIMEOUT = 0.2  # seconds that clients get, when the last server stops, to fetch what was sent to them
REPLIES = {LIST_REPLY.size, RESERV_REPLY.size}  # bytes


class ServerQueue:
    """A server's end. A context manager: the first makes the queue, or takes over the dead's, the last removes it.

    house: entered before. key: System V key. mode: rights. One instance serves all threads.
    Raises HeldError when a live server of another kind has the key; SpectaclesError when it is another user's.
    """

    def __init__(self, server: Server, house: House, key: int, mode: int) -> None:
        ours = hex(key) in server.directory.lock.objects.get("key", ())
        server.claim("key", hex(key))
        self._house = house
        self._key = key
        self._closing = False
        self._in_a_row = 0
        self._question = b""
        self._dropped = Dropped()
        with contextlib.ExitStack() as undo:
            if house.first:
                self._claim = claim_queue(key)
                house.claim = self._claim.id if self._claim else -1
                undo.callback(self._let_go_of_claim)
                self._queue, self._question = create_queue(key, mode, ours=ours)
                self._queue.max_size = kernel_limit("msgmnb")  # the gate of a dead server of question 2 may be closed
            else:
                self._claim = _share_claim(house.claim)
                undo.callback(self._let_go_of_claim)
                self._queue = _find(key)
            undo.callback(self._remove_if_last)
            self._watch = ClientWatch()
            self._noted = self._watch.noted
            undo.callback(self._watch.close)
            self._undo = undo.pop_all()
        server.joined()

    def __enter__(self) -> ServerQueue:
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def requests(self, kind: int) -> Iterator[Request]:
        """Yield requests as (kind, PID, show, seats) until stop(): of ANY client, to our PID, or LEGACIES. Blocks.

        Each is in a hand of ours from when it is taken to just before it is answered. What is no request is logged and
        dropped. Raises SpectaclesError when the queue has been removed.
        """
        if kind == LEGACIES:
            return self._legacies()
        return self._taken(self._house.desk.hands[kind != ANY], self._messages(kind))

    def reply(self, request: Request, body: bytes) -> None:
        """Send `body` to the client of `request`. Never blocks for long: a reply that no one makes room for is lost."""
        client = request[1]
        if hand := self._house.hand():
            hand.empty()
        try:
            self._queue.send(body, False, client)
        except sysv_ipc.BusyError:
            self._make_room(body, client)
        if self._noted[client] != WATCHED:
            self._watch.note(client, stranger=not is_process(client))

    def fileno(self) -> int:
        """Return a descriptor that is readable when a client has died or a new one has been replied to."""
        return self._watch.fileno()

    def tend(self) -> str | None:
        """Remove the replies that nobody will read. Main thread only.

        Raises SpectaclesError when the queue has been removed, or the guard.
        """
        self._house.guard.look()
        try:
            servers = self._house.pids()
            for client in self._watch.dead():
                if client not in servers:
                    self._take_all(client)
            self._queue.current_messages  # noqa: B018  # asks the kernel
        except (sysv_ipc.ExistentialError, OSError) as error:
            if is_gone(error):
                raise SpectaclesError(f"la file {self._key:#x} a été supprimée") from error
            raise
        return None

    def stop(self) -> None:
        """End requests() after the request in hand. Safe in a signal handler; a blocked receive needs a signal too."""
        self._closing = True
        self._house.stop_waiting()

    # Requests

    def _messages(self, kind: int) -> Iterator[Message]:
        take = self._take_fairly if kind == ANY else partial(self._queue.receive, True, kind)
        while not self._closing:
            try:
                yield take()  # blocks
            except sysv_ipc.ExistentialError:
                raise SpectaclesError(f"la file {self._key:#x} a été supprimée") from None
            except sysv_ipc.Error:
                continue  # interrupted by a signal: to stop, or for nothing

    def _take_fairly(self) -> Message:
        """Receive a message of either type: the lowest type first, but then a flood of it would starve the other."""
        self._in_a_row += 1
        if self._in_a_row > FAIRNESS:
            self._in_a_row = 0
            with contextlib.suppress(sysv_ipc.BusyError):
                return self._queue.receive(False, RESERV)  # type: ignore[no-any-return]
        return self._queue.receive(True, ANY)  # type: ignore[no-any-return]  # blocks

    def _taken(self, hand: Hand, messages: Iterator[Message]) -> Iterator[Request]:
        self._house.work_with(hand)
        for body, type_ in messages:
            if request := self._parse(body, type_):
                hand.take(request)
                yield request
                hand.empty()  # given up

    def _parse(self, body: bytes, type_: int) -> Request | None:
        kind = type_ if type_ in NEEDED else RESERV if len(body) >= NEEDED[RESERV].size else LIST
        request = parse_request(body, kind)
        if request is None:
            self._drop(too_short(body, kind))
        elif not self._is_client(request[1]):
            if body != self._question:
                self._drop(f"requête de type {type_} au nom du PID {request[1]} ignorée : aucun tel client")
        else:
            return request
        return None

    def _is_client(self, pid: int) -> bool:
        # Who is watched was found to be one, and is alive.
        return FIRST_PID <= pid <= LAST_PID and (self._noted[pid] == WATCHED or pid not in self._house.pids())

    def _legacies(self) -> Iterator[Request]:
        """Yield what the dead had in hand, and what is sent to them; one of the living does so at a time."""
        while not self._closing:
            dead = self._house.dead(TICK)  # blocks
            if not dead:
                continue
            with self._house.directory.door() as ours:
                for desk in dead if ours else ():
                    if desk.is_dead():  # still: with the door closed no new server sits down there
                        yield from self._legacy(desk)

    def _legacy(self, desk: Desk) -> Iterator[Request]:
        with self._house.guard:
            pass  # if it died with the guard, what it had done is known now
        for hand in desk.hands:
            if (request := hand.request()) and not self._closing:
                self._house.work_with(hand)
                yield request
                hand.empty()
        if desk.is_anothers_number():  # messages to it are that process's
            desk.leave()
            return
        yield from self._taken(desk.hands[0], self._addressed_to(desk.pid))
        if not self._closing:
            if not desk.cleared:
                self._remove_unread_replies()
            desk.clear()

    def _addressed_to(self, dead: int) -> Iterator[Message]:
        while not self._closing:
            try:
                message: Message = self._queue.receive(False, dead)
            except sysv_ipc.BusyError:
                return
            except sysv_ipc.ExistentialError:
                raise SpectaclesError(f"la file {self._key:#x} a été supprimée") from None
            yield message

    def _drop(self, why: str) -> None:
        self._dropped.add()
        self._dropped.tell(why)

    # Room

    def _make_room(self, body: bytes, client: int) -> None:
        """Send a reply into a full queue, or drop it if there is nothing that may make way."""
        deadline = time.monotonic() + PATIENCE
        self._remove_unread_replies()
        while True:
            with contextlib.suppress(sysv_ipc.BusyError):
                self._queue.send(body, False, client)
                return
            if self._closing or (time.monotonic() >= deadline and not self._remove_oldest_reply()):
                self._drop(f"réponse au client {client} perdue : la file est pleine de demandes")
                return
            time.sleep(PAUSE)

    def _remove_unread_replies(self) -> None:
        """Remove the replies to clients that have died: their server may have, too, which watched them."""
        for reader in {type_ for type_, _ in self._replies()}:
            if not is_process(reader):
                self._take_all(reader)

    def _remove_oldest_reply(self) -> bool:
        reader = next((type_ for type_, _ in self._replies()), 0)
        if reader:
            with contextlib.suppress(sysv_ipc.BusyError):
                self._queue.receive(False, reader)
                self._drop("file encombrée")
        return reader != 0

    def _replies(self) -> Iterator[tuple[int, bytes]]:
        servers = self._house.pids()
        with contextlib.suppress(OSError):  # a kernel without MSG_COPY, or the queue has gone
            for type_, body in peek(self._queue.id):
                if type_ >= FIRST_PID and len(body) in REPLIES and type_ not in servers:
                    yield type_, body

    def _take_all(self, type_: int) -> None:
        """Take out what is there now of `type_`. Does not block."""
        with contextlib.suppress(sysv_ipc.BusyError):
            for _ in range(self._queue.current_messages):
                self._queue.receive(False, type_)

    # The end

    def _remove_if_last(self) -> None:
        if not self._house.directory.is_last():
            return
        with contextlib.suppress(sysv_ipc.ExistentialError, OSError):
            for type_ in (ANY, *self._house.pids()):
                self._take_all(type_)  # nobody will answer it
            deadline = time.monotonic() + DRAIN_TIMEOUT
            while self._queue.current_messages and time.monotonic() < deadline:
                time.sleep(0.005)
        with contextlib.suppress(sysv_ipc.ExistentialError, OSError):
            self._queue.remove()  # wakes the clients that still wait: they know that the servers have gone

    def _let_go_of_claim(self) -> None:
        if self._claim:
            self._claim.detach()


def _share_claim(number: int) -> sysv_ipc.SharedMemory | None:
    """Hold the claim of the other servers with them: the kernel removes it with the last of us."""
    with contextlib.suppress(sysv_ipc.Error, OSError, ValueError):
        return sysv_ipc.attach(number, None, sysv_ipc.SHM_RDONLY) if number >= 0 else None
    return None


def _find(key: int) -> sysv_ipc.MessageQueue:
    try:
        return open_queue(key, 0, 0o600)
    except (sysv_ipc.Error, OSError) as error:
        raise SpectaclesError(f"file {key:#x} des autres serveurs : {reason(error)}") from error


class SessionQueue(ClientQueue):
    """A client's end, which stays with the server that has answered it. As ClientQueue; a context manager."""

    def __init__(self, key: int, timeout: float) -> None:
        super().__init__(key, timeout)
        self.server = 0  # its PID, while we are with it
        self._pidfd = -1
        self._poll = select.poll()

    def __enter__(self) -> SessionQueue:
        return self

    def __exit__(self, *error: object) -> None:
        self.leave()
        super().__exit__(*error)

    def ask(self, kind: int, body: bytes, reply_size: int) -> bytes:
        """As exchange(), with the server that we are with as long as it lives, else with whichever is free.

        It may die just after we have looked: then another takes our request out, and answers.
        """
        if self.server and self._poll.poll(0):
            self.leave()
        try:
            if self.server:
                reply = self.exchange(self.server, body[: NEEDED[kind].size], reply_size)
            else:
                reply = self.exchange(kind, body, reply_size)
        except NoServerError:
            self.leave()
            raise
        self._stay_with(int.from_bytes(reply[:4], "little", signed=True))
        return reply

    def leave(self) -> None:
        """Be with no server: the next request is for whichever is free."""
        if self._pidfd >= 0:
            self._poll.unregister(self._pidfd)
            os.close(self._pidfd)
        self._pidfd, self.server = -1, 0

    def _stay_with(self, server: int) -> None:
        if server == self.server:
            return
        self.leave()
        # PID 1 and 2, of a container, are types of requests already; who is not seen from here cannot be watched.
        if server >= FIRST_PID:
            with contextlib.suppress(OSError):
                self._pidfd = os.pidfd_open(server)
                self._poll.register(self._pidfd, select.POLLIN)
                self.server = server
