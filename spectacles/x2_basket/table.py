"""The table of question 5, with seats set aside: in a basket they are nobody's yet, and not to be had by others.

The buffer, and the file, hold what is sold and nothing else. What is in baskets is kept beside it, in the memory of
this process: a server that dies takes all baskets with it, and in the file their seats were never gone.
"""

from __future__ import annotations

import errno
import math
import struct
import time
from collections import OrderedDict

from spectacles.common import log
from spectacles.common.errors import reason
from spectacles.common.protocol import CONFIRM, HOLD, RELEASE, TCP_BASKET_REPLY
from spectacles.common.spectacle import INT_MAX, MAX_SPECTACLE, RECORD_SIZE, TABLE_SIZE
from spectacles.common.storage import NOT_IN_PLACE
from spectacles.common.table import NOT_WRITTEN, Refusal, SpectacleTable, refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from spectacles.common.storage import Store

MAX_HOLDS = 100  # in one basket: each has an end of its own to be remembered

_PLACES = struct.Struct("<i")
_PLACES_OFFSET = RECORD_SIZE - _PLACES.size


class Hold:
    """Seats of one show that one request has put into a basket. until: when they go back, of time.monotonic()."""

    __slots__ = ("basket", "seats", "show", "until")

    def __init__(self, basket: Basket, show: int, seats: int, until: float) -> None:
        self.basket = basket
        self.show = show
        self.seats = seats
        self.until = until


class Basket:
    """What one client has set aside. A context manager: what is left in it at the end goes back, however it ended."""

    def __init__(self, table: BasketTable, client: str) -> None:
        self.client = client
        self.holds: list[Hold] = []  # the oldest first
        self._table = table

    def __enter__(self) -> Basket:
        return self

    def __exit__(self, *_: object) -> None:
        self._table.empty(self)

    def seats(self, show: int | None = None) -> int:
        """Return how many seats are in it, of one show or in all. The caller holds the table's lock."""
        return sum(hold.seats for hold in self.holds if show in (None, hold.show))


class BasketTable(SpectacleTable):
    """The table of a server whose clients have baskets. buffer, lock, store: as in SpectacleTable.

    hold_seconds: after which a hold ends. max_held: seats that one basket may hold.

    Nobody waits for the end of a hold: whoever comes next under the lock finds that its time is up, and gives its seats
    back before looking at anything else. So they are free at the very moment, and once only.
    """

    def __init__(
        self,
        buffer: bytearray,
        lock: AbstractContextManager[object],
        store: Store,
        hold_seconds: float,
        max_held: int = INT_MAX,
    ) -> None:
        super().__init__(buffer, lock, store)
        self._hold_seconds = hold_seconds
        self._max_held = max_held
        self._held = [0] * MAX_SPECTACLE  # seats in baskets
        self._in_time: OrderedDict[Hold, None] = OrderedDict()  # all holds, whichever ends first comes first
        self._publish()

    def basket(self, client: str) -> Basket:
        """Return a new basket of `client`, as the log calls it."""
        return Basket(self, client)

    def offer(self) -> bytes:
        """Return the 720 bytes of the table as clients see it, seats in baskets taken off: those of one instant."""
        if self._ends <= time.monotonic():
            with self._lock:
                self._expire()
        return self._offer

    def hold(self, basket: Basket, show: int, seats: int) -> int:
        """Put `seats` seats of slot `show` into the basket and return what is left to others, or return a Refusal."""
        with self._lock:
            places, aside = self._places(show), self._aside(show)
            left = places - aside - seats
            if seats <= 0 or left < 0:
                return refusal(places - aside, seats)
            if basket.seats() + seats > self._max_held:
                return Refusal(f"{self._max_held} place(s) au plus dans un panier")
            if len(basket.holds) >= MAX_HOLDS:
                return Refusal(f"déjà mis au panier {MAX_HOLDS} fois")
            hold = Hold(basket, show, seats, time.monotonic() + self._hold_seconds)
            basket.holds.append(hold)
            self._in_time[hold] = None
            self._held[show] += seats
            self._publish()
        return left

    def give_back(self, basket: Basket, show: int, seats: int) -> int:
        """Take `seats` seats of slot `show` out of the basket and return what is left to others, or return a Refusal.

        Those that were put in last go first, so that nobody lengthens the time of the others.
        """
        with self._lock:
            aside = self._aside(show)  # first: what has ended is in the basket no more
            held = basket.seats(show)
            if seats <= 0:
                return refusal(0, seats)
            if held < seats:
                return Refusal(f"il y en a {held} au panier")
            left = self._places(show) - aside + seats
            for hold in basket.holds[::-1]:
                if hold.show == show and seats:
                    back = min(hold.seats, seats)
                    self._take_out(hold, back)
                    seats -= back
            self._publish()
        return left

    def confirm(self, basket: Basket, show: int, seats: int) -> int:
        """Sell the whole basket, all of it or nothing, and return how many seats that was, or return a Refusal.

        seats: how many the client thinks are in it: if some have gone back meanwhile it is asked again. `show` means
        nothing. When it returns a number the seats are on the disk; a Refusal changes nothing, in the basket neither.
        Blocks on the disk, with the lock held: what is written is a new file, and nobody may change the old one.
        """
        with self._lock:
            self._expire()
            if seats <= 0 or basket.seats() != seats:
                return Refusal(f"il y a {basket.seats()} place(s) au panier")
            sold = bytearray(self._buffer)
            for hold in basket.holds:
                _add(sold, hold.show, -hold.seats)
            try:
                if not self._holds(self._store.look()):
                    raise OSError(errno.ENOENT, NOT_IN_PLACE)  # tend() will see to it
                self._store.replace(bytes(sold))
            except OSError as error:
                log.error("[PANIER] écriture impossible, le panier reste : %s", reason(error))
                return Refusal(NOT_WRITTEN)
            self._buffer[:] = sold
            self._image = bytes(sold)
            self._doubtful[:] = bytes(MAX_SPECTACLE)
            for hold in basket.holds[:]:
                self._take_out(hold, hold.seats)
            self._publish()
        return seats

    def contents(self, basket: Basket) -> bytes:
        """Return the 724 bytes that show a basket: the seconds until its first seats go back, and its shows."""
        with self._lock:
            self._expire()
            table = bytearray(TABLE_SIZE)
            for show in {hold.show for hold in basket.holds}:
                record = slice(show * RECORD_SIZE, show * RECORD_SIZE + _PLACES_OFFSET)
                table[record] = self._buffer[record]
                _add(table, show, basket.seats(show))
            left = basket.holds[0].until - time.monotonic() if basket.holds else 0
        return TCP_BASKET_REPLY.pack(math.ceil(left), bytes(table))

    def empty(self, basket: Basket) -> None:
        """Give back what is in the basket of a client that has left."""
        if not basket.holds:  # nobody else puts anything there
            return
        with self._lock:
            self._expire()
            seats = basket.seats()
            for hold in basket.holds[:]:
                self._take_out(hold, hold.seats)
            self._publish()
        if seats:
            log.info("[PANIER] client %s : parti, %d place(s) rendue(s)", basket.client, seats)

    def tend(self) -> None:
        """Give back what has ended though nobody asks, so that the log says so; then as SpectacleTable.tend()."""
        if self._ends <= time.monotonic():
            self.if_at_rest(self._expire)
        super().tend()

    def _put_right(self) -> None:
        super()._put_right()
        self._publish()

    def _aside(self, show: int) -> int:
        self._expire()
        return self._held[show] if 0 <= show < MAX_SPECTACLE else 0

    def _set_places(self, offset: int, places: int) -> None:
        super()._set_places(offset, places)
        self._publish()

    def _expire(self) -> None:
        """Give back the seats of all holds whose time is up. The caller holds the lock."""
        now = time.monotonic()
        if now < self._ends:
            return
        while self._in_time and (hold := next(iter(self._in_time))).until <= now:
            log.info(
                "[PANIER] client %s : %d place(s) du spectacle %d rendue(s), délai écoulé",
                hold.basket.client,
                hold.seats,
                hold.show,
            )
            self._take_out(hold, hold.seats)
        self._publish()

    def _take_out(self, hold: Hold, seats: int) -> None:
        """Take seats out of a hold, the whole of it when none is left. The caller holds the lock, and publishes."""
        hold.seats -= seats
        self._held[hold.show] -= seats
        if not hold.seats:
            hold.basket.holds.remove(hold)
            del self._in_time[hold]

    def _publish(self) -> None:
        """Make what clients see from what is sold and what is held: one assignment, as of the image of all others."""
        offer = bytearray(self._image)
        for show, seats in enumerate(self._held):
            if seats:
                _add(offer, show, -seats)
        self._offer = bytes(offer)
        # Last: whoever finds, without the lock, that nothing has ended takes the offer as it is.
        self._ends = next(iter(self._in_time)).until if self._in_time else math.inf


def _add(table: bytearray, show: int, seats: int) -> None:
    """Add to the seats of slot `show` in the bytes of a table."""
    offset = show * RECORD_SIZE + _PLACES_OFFSET
    _PLACES.pack_into(table, offset, _PLACES.unpack_from(table, offset)[0] + seats)


def report(client: object, kind: int, show: int, seats: int, left: int) -> None:
    """Log what came of a HOLD, RELEASE or CONFIRM; `left`: what the method of the table returned."""
    what = {
        HOLD: f"{seats} place(s) du spectacle {show} au panier",
        RELEASE: f"{seats} place(s) du spectacle {show} hors du panier",
        CONFIRM: f"panier de {seats} place(s) à confirmer",
    }[kind]
    outcome = "vendu" if kind == CONFIRM else f"reste {left}"
    if left < 0:
        outcome = f"refusé : {getattr(left, 'why', 'sans raison connue')}"
    log.info("[PANIER] client %s : %s, %s", client, what, outcome)
