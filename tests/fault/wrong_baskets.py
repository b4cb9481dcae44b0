"""Servers of x2_basket that are wrong in one way each: does the checker of their histories find it?

python -m tests.fault.wrong_baskets WAY --dir DIR ...
"""

from __future__ import annotations

import contextlib
import sys
import time

from spectacles.common.protocol import CONFIRM
from spectacles.common.spectacle import RECORD_SIZE
from spectacles.x2_basket import server
from spectacles.x2_basket.table import Basket, BasketTable


class GivesBackTwice(BasketTable):
    """As a timer would that does not know of the look before each request."""

    def _expire(self) -> None:
        before = sum(self._held)
        super()._expire()
        if back := before - sum(self._held):
            show = max(range(len(self._held)), key=self._held.__getitem__)
            self._held[show] -= back
            self._publish()


class SellsHalf(BasketTable):
    """One show after the other, and somebody else comes in between: the rest goes back, and yes is said."""

    def confirm(self, basket: Basket, show: int, seats: int) -> int:
        with self._lock:
            self._expire()
            first = [hold for hold in basket.holds if hold.show == basket.holds[0].show]
            for hold in [hold for hold in basket.holds if hold not in first]:
                self._take_out(hold, hold.seats)
            self._publish()
            left = basket.seats()
        super().confirm(basket, show, left)
        return seats if left else -1


class SellsTheRest(BasketTable):
    """Whatever is left of the basket, for the whole."""

    def confirm(self, basket: Basket, show: int, seats: int) -> int:
        with self._lock:
            self._expire()
            left = basket.seats()
        return super().confirm(basket, show, left)


class EndsTooSoon(BasketTable):
    """After half of the time."""

    def hold(self, basket: Basket, show: int, seats: int) -> int:
        left = super().hold(basket, show, seats)
        with self._lock:
            for hold in basket.holds[-1:] if left >= 0 else ():
                hold.until -= self._hold_seconds / 2
            self._publish()
        return left


class NeverEnds(BasketTable):
    """Seats that nobody confirms are gone until their client leaves."""

    def _expire(self) -> None:
        """Do nothing."""


class KeepsBaskets(BasketTable):
    """Who leaves leaves the basket behind."""

    def empty(self, basket: Basket) -> None:
        """Do nothing."""


class Hesitates(BasketTable):
    """With a lock that does not lock, and time between looking and taking."""

    def _places(self, show: int) -> int:
        places = super()._places(show)
        time.sleep(0.0005)
        return places


class Forgets(BasketTable):
    """Says yes before anything is in the file."""

    def confirm(self, basket: Basket, show: int, seats: int) -> int:
        written = bytes(self._buffer)
        replace = self._store.replace
        self._store.replace = lambda table: None  # type: ignore[method-assign]
        try:
            return super().confirm(basket, show, seats)
        finally:
            self._store.replace = replace  # type: ignore[method-assign]
            self._buffer[:] = written


class WritesHolds(BasketTable):
    """What is held is taken off in the file."""

    def hold(self, basket: Basket, show: int, seats: int) -> int:
        left = super().hold(basket, show, seats)
        if left >= 0:
            with self._lock:
                at = show * RECORD_SIZE
                record = bytearray(self._buffer[at : at + RECORD_SIZE])
                record[-4:] = left.to_bytes(4, "little")
                self._store.write(at, bytes(record))
        return left

    def tend(self) -> None:
        """Leave it so."""


WAYS = {
    way.__name__: way
    for way in (
        GivesBackTwice,
        SellsHalf,
        SellsTheRest,
        EndsTooSoon,
        NeverEnds,
        KeepsBaskets,
        Hesitates,
        Forgets,
        WritesHolds,
    )
}


def main() -> int:
    """Run the server that is wrong in the way of the first argument."""
    way = WAYS[sys.argv[1]]
    vars(server)["BasketTable"] = way
    if way is Hesitates:
        vars(server)["Lock"] = contextlib.nullcontext
    assert CONFIRM in server.KINDS
    return server.main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
