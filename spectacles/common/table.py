"""The table of ten shows that every server keeps: look, take seats, keep memory and file the same.

The table is a buffer and a lock, both handed in. One class therefore serves processes (System V shared memory
and a named semaphore), threads (a bytearray and a Lock), and an experiment that hands in a lock that does not lock.
"""

from __future__ import annotations

import mmap
import struct
from contextlib import suppress

from spectacles.common import log
from spectacles.common.errors import SpectaclesError, reason
from spectacles.common.spectacle import (
    MAX_SPECTACLE,
    RECORD_SIZE,
    REFUSED,
    TABLE_SIZE,
    check_table,
    unpack_table,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from spectacles.common.storage import Store

NOT_WRITTEN = "écriture impossible"
PATIENCE = 0.1  # seconds that housekeeping waits for the table's lock

_PLACES = struct.Struct("<i")
_PLACES_OFFSET = RECORD_SIZE - _PLACES.size
_ID_AND_PLACES = struct.Struct(f"<i{_PLACES_OFFSET - _PLACES.size}xi")


class Refusal(int):
    """REFUSED, with the reason, `why`, for the log: what reserve() returns in place of the seats left."""

    why: str

    def __new__(cls, why: str) -> Refusal:
        refusal = super().__new__(cls, REFUSED)
        refusal.why = why
        return refusal


class SpectacleTable:
    """The table: every access to `buffer` is made while `lock` is held.

    buffer: writable, at least 720 bytes; filled from `store` here.
    lock: a context manager that excludes every other user of the buffer, in this process and in others.
    store: where an accepted reservation is written before it is acknowledged.
    doubtful: ten bytes of memory, shared with whoever shares the buffer, which is then filled already; None makes them.

    Here all users are threads of one process, so that a change can also be published: snapshot() hands out the last
    image, a bytes object that nobody can change and that one assignment replaces, and needs no lock. Between
    processes SharedTable does without it.
    """

    def __init__(
        self,
        buffer: bytearray | memoryview,
        lock: AbstractContextManager[object],
        store: Store,
        doubtful: memoryview | None = None,
    ) -> None:
        self._buffer = memoryview(buffer)[:TABLE_SIZE]
        self._lock = lock
        self._store = store
        # Slots whose record a failed write left in doubt, and the buffer has right. A child that dies must not take
        # this knowledge with it: shared with forked children.
        self._doubtful = memoryview(mmap.mmap(-1, MAX_SPECTACLE)) if doubtful is None else doubtful
        if doubtful is None:
            self._buffer[:] = store.load()
        self._image = self._buffer.tobytes()
        store.table = self

    def reload(self) -> None:
        """Fill the buffer from the file, which is the truth after a death. The caller excludes all other users.

        But not with what somebody else has put into the file, nor with a record that could not be undone: there the
        buffer is right, and tend() writes it. Raises SpectaclesError when neither is a possible table.
        """
        memory = self._buffer.tobytes()
        possible = check_table(memory) is None
        try:
            table = self._store.load()
        except SpectaclesError:
            if not possible:
                raise
            return
        if possible and not _explained_by_a_death(table, memory):
            return
        for show in range(MAX_SPECTACLE):
            if not self._doubtful[show]:
                record = slice(show * RECORD_SIZE, (show + 1) * RECORD_SIZE)
                self._buffer[record] = table[record]
        self._image = self._buffer.tobytes()

    def release(self) -> None:
        """Let go of the buffer, so that shared memory can be detached."""
        self._store.table = None
        self._buffer.release()

    def snapshot(self) -> bytes:
        """Return the 720 bytes of the table as they were at one instant of this call."""
        return self._image

    def consult(self, show: int) -> int:
        """Return the seats left for slot `show`, REFUSED (-1) if there is no such show (defects 3 and 5)."""
        with self._lock:
            return self._places(show)

    def reserve(self, show: int, seats: int) -> int:
        """Take `seats` seats of slot `show` and return what is left, or return a Refusal (-1) and change nothing.

        When it returns 0 or more the reservation is in the file (and on the disk, unless --no-fsync). The disk is
        waited for outside the lock, so that others can consult, and share the wait, meanwhile. A failed write gives
        the seats back, is logged and refused (defects 6 and 7). Blocks on the lock and on the disk. Whatever comes of
        it, the `with` gives the lock back: a refusal that kept it stopped the original for good (defect 18).
        """
        with self._lock:
            places, aside = self._places(show), self._aside(show)
            left = places - seats
            if seats <= 0 or left < aside:
                return refusal(places - aside, seats)
            offset = show * RECORD_SIZE
            before = self._buffer[offset : offset + RECORD_SIZE].tobytes()
            try:
                self._write_again()
                ticket = self._store.write(offset, before[:_PLACES_OFFSET] + _PLACES.pack(left))
            except OSError as error:
                self._undo(show, error)
                return Refusal(NOT_WRITTEN)
            self._set_places(offset, left)
        try:
            self._store.sync(ticket)
        except OSError as error:
            with self._lock:
                self._set_places(offset, self._places(show) + seats)
                self._undo(show, error)
            return Refusal(NOT_WRITTEN)
        return left - aside

    def _aside(self, show: int) -> int:
        """Return how many seats are nobody's yet, and not to be had either: none, where there is no basket."""
        return 0

    def _places(self, show: int) -> int:
        if not 0 <= show < MAX_SPECTACLE:
            return REFUSED
        id_, places = _ID_AND_PLACES.unpack_from(self._buffer, show * RECORD_SIZE)
        return places if id_ else REFUSED

    def _set_places(self, offset: int, places: int) -> None:
        _PLACES.pack_into(self._buffer, offset + _PLACES_OFFSET, places)
        self._image = self._buffer.tobytes()

    def _undo(self, show: int, error: OSError) -> None:
        self._doubtful[show] = 1
        log.error("[RESERVATION] écriture impossible, places rendues : %s", reason(error))
        try:
            self._write_again()
        except OSError as again:
            log.error("[RESERVATION] retour en arrière impossible, à refaire : %s", reason(again))

    def _write_again(self) -> None:
        """Write the records that a failed write left in doubt, before anything else is written."""
        while (show := self._doubtful.tobytes().find(1)) >= 0:
            offset = show * RECORD_SIZE
            self._store.write(offset, self._buffer[offset : offset + RECORD_SIZE].tobytes())
            self._doubtful[show] = 0

    def tend(self) -> None:
        """Make the file of that name hold what the table holds, whoever has removed, replaced or changed it.

        Housekeeping, in the main thread of the process that made the table. A look costs a few microseconds; it blocks
        (PATIENCE seconds at most, then for the disk) only if there is something to put right. Raises SpectaclesError
        when the table is spoilt in memory and in the file.
        """
        try:
            # Without the lock: a reservation that is being written looks like a difference, and is looked at again.
            if self._holds(self._store.look()) and not self._in_doubt():
                return
            if not self._acquire(PATIENCE):
                return  # till the next round, when whoever died with it will have been noticed
        except OSError as error:
            self._store.unknown(error)
            return
        try:
            self._put_right()
        finally:
            self._lock.release()  # type: ignore[attr-defined]

    def _put_right(self) -> None:
        with suppress(OSError):
            self._write_again()
        with suppress(OSError):  # what failed is said by the store, once, and tried again in the next round
            if self._holds(self._store.look()):
                self._store.fine()
                return
            memory = self._buffer.tobytes()
            if problem := check_table(memory):
                log.error("[INFO] table abîmée en mémoire (%s) : relue du fichier", problem)
                self._buffer[:] = self._store.load()
                self._image = self._buffer.tobytes()
                return
            self._store.restore(memory)
            self._doubtful[:] = bytes(MAX_SPECTACLE)

    def _in_doubt(self) -> bool:
        return any(self._doubtful) or self._store.is_out_of_order()

    def _holds(self, content: bytes | None) -> bool:
        """Say whether `content`, of the file, is what the buffer holds, records in doubt left aside."""
        if content is None or len(content) != TABLE_SIZE:
            return False
        memory = self._buffer.tobytes()
        return content == memory or all(
            self._doubtful[show] or content[at : at + RECORD_SIZE] == memory[at : at + RECORD_SIZE]
            for show, at in enumerate(range(0, TABLE_SIZE, RECORD_SIZE))
        )

    def settle(self) -> None:
        """Put right what a worker may have left that was killed as it took too long to leave. None is left."""

    def finish(self) -> str | None:
        """tend() once more, when nobody is left, and return why the file does not hold the table, if so."""
        self.tend()
        try:
            if self._holds(self._store.look()) and not self._in_doubt():
                return None
        except OSError:  # said by tend(): it may well be as it should
            if not self._in_doubt():
                return None
        return f"{self._store.path} n'est pas à jour, et ne peut pas l'être ; {self.seats_left()}"

    def seats_left(self) -> str:
        """Return the seats left, as the last thing to say when they could be written nowhere."""
        shows = unpack_table(self._buffer.tobytes())
        return "places restantes : " + ", ".join(f"case {slot}, {show.places}" for slot, show in shows)

    def if_at_rest(self, action: Callable[[], None]) -> None:
        """Run action() with the lock held, or not at all if somebody holds it."""
        if self._acquire(0):
            try:
                action()
            finally:
                self._lock.release()  # type: ignore[attr-defined]

    def _acquire(self, timeout: float) -> bool:
        # Without a lock that can be waited for (lab.programs.lockless) nothing can be looked at in peace.
        acquire = getattr(self._lock, "acquire", None)
        return acquire is not None and bool(acquire(timeout=timeout))


def _explained_by_a_death(table: bytes, memory: bytes) -> bool:
    """Say whether the file differs from the memory as a child leaves them that died in the middle of a reservation."""
    slots = [slice(at, at + RECORD_SIZE) for at in range(0, TABLE_SIZE, RECORD_SIZE)]
    different = [(table[slot], memory[slot]) for slot in slots if table[slot] != memory[slot]]
    return all(
        len(different) == 1
        and ours[:_PLACES_OFFSET] == known[:_PLACES_OFFSET]
        and _PLACES.unpack_from(ours, _PLACES_OFFSET) < _PLACES.unpack_from(known, _PLACES_OFFSET)
        for ours, known in different
    )


def refusal(places: int, seats: int) -> Refusal:
    """Return why `seats` seats cannot be had of a show with `places` left (REFUSED, -1: there is no such show)."""
    if places < 0:
        return Refusal("ce spectacle n'existe pas")
    return Refusal("il faut au moins une place" if seats <= 0 else f"il en reste {places}")
