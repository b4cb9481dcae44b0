"""The table of several servers: in the memory of their house, behind its guard, in one file that each has open.

What a server was killed in is found out from three things that outlive it: the file, the memory, and its hand. The
order in which a reservation changes them says how far it had come:

    taken out of the queue    hand: undecided
    written                                         file: fewer seats
    decided                   hand: seats left
    seen by the others                                                  memory: fewer seats
    on the disk, answered     hand: empty
"""

from __future__ import annotations

from spectacles.common import log
from spectacles.common.protocol import RESERV
from spectacles.common.spectacle import MAX_SPECTACLE, RECORD_SIZE
from spectacles.common.table import SpectacleTable
from spectacles.x1_sessions.house import UNDECIDED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spectacles.common.storage import Store
    from spectacles.x1_sessions.house import House


class GuardedTable(SpectacleTable):
    """A SpectacleTable that several servers share. A context manager.

    house: of all of them. store: our own open file; if another of them makes it anew, ours follows.
    """

    def __init__(self, house: House, store: Store) -> None:
        self._house = house
        store.share(house.file, first=house.first)
        super().__init__(house.table, house.guard, store, house.doubtful)
        house.guard.put_right = self._put_right_after_a_death
        if house.first:  # the file is the truth, whatever the memory of the dead says
            with house.guard:
                self._buffer[:] = store.load()
                self._doubtful[:] = bytes(MAX_SPECTACLE)

    def __enter__(self) -> GuardedTable:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def snapshot(self) -> bytes:
        """Return the 720 bytes of the table as they are at one instant. Blocks while another holds the guard."""
        with self._lock:
            return self._buffer.tobytes()

    def reserve(self, show: int, seats: int) -> int:
        """As SpectacleTable.reserve; but what a server that is dead now had decided is only said."""
        hand = self._house.hand()
        if hand is None or hand.left == UNDECIDED:
            return super().reserve(show, seats)
        with self._lock:
            offset = show * RECORD_SIZE
            ticket = self._store.write(offset, self._buffer[offset : offset + RECORD_SIZE].tobytes())
        self._store.sync(ticket)
        return hand.left

    def _set_places(self, offset: int, places: int) -> None:
        if hand := self._house.hand():
            hand.left = places
        super()._set_places(offset, places)

    def _undo(self, show: int, error: OSError) -> None:
        if hand := self._house.hand():
            hand.left = UNDECIDED
        super()._undo(show, error)

    def _put_right_after_a_death(self, number: int) -> None:
        """Read the table from the file again. number: of the hand of who died with the guard; the guard is ours."""
        log.warning("[INFO] serveur mort, la table en main : relue du fichier")
        hand = self._house.hand_of(number)
        request = hand and hand.request()
        show = request[2] if request and request[0] == RESERV and 0 <= request[2] < MAX_SPECTACLE else None
        before = 0 if show is None else self._places(show)
        self.reload()
        if hand and request and show is not None and hand.left == UNDECIDED:
            left = self._places(show)
            if left == before - request[3] < before:
                hand.left = left  # it is in the file: done, and not yet said

    def _acquire(self, timeout: float) -> bool:
        return self._house.guard.acquire(timeout)
