"""Who is in the queue, and what of theirs is worth keeping when there is no room for all of it.

A client waits for one answer at a time. So of each process one request of a kind and one reply of a kind are kept, the
oldest request and the newest reply; nothing of one that asks over and over without reading; and of strangers, whose PID
does not exist here, a few. Requests go to the shelf, where their worker finds them; replies go back into the queue.
"""

from __future__ import annotations

import struct
import time

from spectacles.common.protocol import FIRST_PID, LAST_PID, LIST_REPLY, NEEDED, RESERV_REPLY
from spectacles.q2_msq.shelf import WAKE_UP
from spectacles.q2_msq.watch import is_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from spectacles.q2_msq.dropped import Dropped
    from spectacles.q2_msq.shelf import Message, Shelf

MAX_ASKED = 3  # requests of a kind in one look: of one process, be it impatient, that is not flooding
CALM = 1.0  # seconds after which what was last seen of somebody is forgotten
STRANGERS = 10  # requests of theirs on the shelf for one making of room, about as many as half a queue answers
REPLY_SIZES = {LIST_REPLY.size, RESERV_REPLY.size}

HERE, STRANGER, UNWANTED = "here", "stranger", "unwanted"  # what a client can be

_PID = struct.Struct("<i")


def size_of(messages: Iterable[Message]) -> int:
    """Return the bytes that `messages` take up in a queue."""
    return sum(len(body) for body, _ in messages)


class Crowd:
    """Everybody who has something in the queue. Sort it out with one method; it remembers who floods.

    room: bytes of replies that are kept when they are too many. question: a request of our own, to be overlooked.
    """

    def __init__(self, shelf: Shelf, dropped: Dropped, room: int, question: bytes | None = None) -> None:
        self._shelf = shelf
        self._dropped = dropped
        self._room = room
        self._question = question
        self.flooding: dict[int, float] = {}  # PID -> when it was last seen to ask over and over without reading
        self.look_anew()

    def floods(self, client: int) -> bool:
        """Say whether `client` was just seen to ask over and over without reading."""
        return time.monotonic() - self.flooding.get(client, float("-inf")) < CALM

    def look_anew(self) -> None:
        """Forget who is who: they come and go."""
        self._met: dict[int, str] = {}  # client -> HERE, STRANGER or UNWANTED
        self._strangers_shelved = 0
        self.count_anew()
        for client in [client for client in self.flooding if not self.floods(client)]:
            del self.flooding[client]

    def count_anew(self) -> None:
        """Forget how often each has asked: all was taken out, and what is found from now on has come since."""
        self._asked: dict[tuple[int, int], int] = {}  # (kind of request, client) -> times

    def clients(self) -> list[tuple[int, bool]]:
        """Return the clients met since look_anew(), and whether they exist here."""
        return [(client, who == HERE) for client, who in self._met.items() if who != UNWANTED]

    def sort(self, messages: Iterable[Message]) -> list[Message]:
        """Put the requests that are worth keeping on the shelf, and return such replies, in order."""
        replies: dict[tuple[int, int], Message] = {}  # (size, client) -> the newest
        shelved: set[tuple[int, int]] = set()  # (kind, client): who is answered before the next may ask again
        for body, type_ in messages:
            size = len(body)
            if body in (WAKE_UP, self._question):
                continue  # our own
            if type_ in NEEDED and size >= NEEDED[type_].size:
                request = type_, _PID.unpack_from(body)[0]
                self._count(request)
                keep = request not in shelved and self._shelve(body, *request)
                if keep:
                    shelved.add(request)
            elif type_ >= FIRST_PID and size in REPLY_SIZES and self._who_is(type_) != UNWANTED:
                keep = replies.pop((size, type_), None) is None  # else it is the older one that goes
                replies[size, type_] = (body, type_)
            else:
                keep = False
            self._dropped.add(not keep)
        return self._first_those_who_are_here(list(replies.values()))

    def newest(self, replies: list[Message], room: int | None = None) -> list[Message]:
        """Return the newest of `replies` that fill `room` bytes at most."""
        room = self._room if room is None else room
        for count, (body, _) in enumerate(reversed(replies)):
            room -= len(body)
            if room < 0:
                self._dropped.add(len(replies) - count)
                return replies[len(replies) - count :]
        return replies

    def _count(self, request: tuple[int, int]) -> None:
        times = self._asked[request] = self._asked.get(request, 0) + 1
        client = request[1]
        if times > MAX_ASKED and FIRST_PID <= client <= LAST_PID:
            self.flooding[client] = time.monotonic()
            self._met[client] = UNWANTED

    def _shelve(self, body: bytes, kind: int, client: int) -> bool:
        who = self._who_is(client)
        if who == UNWANTED or (who == STRANGER and self._strangers_shelved >= STRANGERS):
            return False
        self._strangers_shelved += who == STRANGER
        return self._shelf.put(body, kind)

    def _who_is(self, client: int) -> str:
        if client not in self._met:
            if not FIRST_PID <= client <= LAST_PID or self.floods(client):
                self._met[client] = UNWANTED
            else:
                self._met[client] = HERE if is_process(client) else STRANGER
        return self._met[client]

    def _first_those_who_are_here(self, replies: list[Message]) -> list[Message]:
        # Who was seen to flood after its reply was has none to wait for. Strangers get what room is left of half.
        here = [reply for reply in replies if self._met[reply[1]] == HERE]
        strangers = [reply for reply in replies if self._met[reply[1]] == STRANGER]
        return [*here, *self.newest(strangers, self._room - size_of(here))]
