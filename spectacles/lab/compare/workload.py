"""The work that every server gets, and what its clients note while they do it."""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from spectacles.common import storage
from spectacles.common.spectacle import Spectacle, pack_table

if TYPE_CHECKING:
    from pathlib import Path

CONSULT, RESERVE = "consult", "reserve"
VAST = 1_000_000_000  # seats that no load can sell
SHOWS = (VAST, VAST, VAST, 30)  # slots 0 to 3; the last one is soon sold out, so that refusals happen
SMALL = len(SHOWS) - 1
SMALL_SHARE = 0.1  # of the reservations are for the small show
MOST_SEATS = 3  # of one reservation, which takes 1 to this


@dataclass(frozen=True)
class Workload:
    """The same work for every server. Two runs can be compared when theirs are equal.

    duration: seconds. consults, reserves: so many consultations for so many reservations. rate: requests per second of
    all clients together, None for a closed loop. fsync: whether a reservation waits for the disk. seed: of what is
    drawn by lot. shows: seats of each at the start; none but the last can be sold out.
    """

    duration: float = 1.5
    consults: int = 4
    reserves: int = 1
    rate: float | None = None
    fsync: bool = True
    seed: int = 1
    shows: tuple[int, ...] = SHOWS

    def describe(self) -> str:
        """Return the workload in one French sentence."""
        pace = (
            "en boucle fermée" if self.rate is None else f"à {self.rate:g} demandes/s en tout, départs fixés d'avance"
        )
        disk = "acquittées une fois sur le disque" if self.fsync else "acquittées sans attendre le disque"
        text = (
            f"consultations et réservations {self.consults}:{self.reserves}, de 1 à {MOST_SEATS} places, {disk} ; "
            f"{len(self.shows) - 1} spectacles inépuisables et un de {self.shows[SMALL]} places "
            f"({SMALL_SHARE * 100:.0f} % des réservations) ; {pace}, {self.duration:g} s par mesure, graine {self.seed}"
        )
        return re.sub(r"(?<=\d)\.(?=\d)", ",", text)

    def fill(self, directory: Path) -> None:
        """Write the spectacles.dat that every measurement starts from."""
        shows = {
            slot: Spectacle(slot + 1, f"Spectacle {slot}", "2027-01-01", places)
            for slot, places in enumerate(self.shows)
        }
        (directory / storage.FILE_NAME).write_bytes(pack_table(shows))


class Request(NamedTuple):
    """One request as its client saw it. ns of CLOCK_MONOTONIC, which all processes of a machine share.

    seats: asked by a reservation, 0 for a consultation. result: whether a reservation was acknowledged; the seats of a
    show, or of every show where a consultation returns them all; None without an answer, as is ret.
    """

    kind: str
    show: int
    seats: int
    result: Any
    call: int
    ret: int | None


@dataclass
class Notes:
    """What one client process has noted, or several together.

    latencies: nanoseconds, by kind. sold: seats acknowledged, by show. refused: reservations refused, by show.
    history: the first requests; complete until `until` (CLOCK_MONOTONIC, ns; None: to the end).
    late: requests that a fixed rate had planned and that had not left when twice the time was over.
    first, last: ns, of the first call, last return.
    """

    latencies: dict[str, array[int]] = field(default_factory=lambda: {CONSULT: array("q"), RESERVE: array("q")})
    sold: dict[int, int] = field(default_factory=dict)
    refused: dict[int, int] = field(default_factory=dict)
    history: list[Request] = field(default_factory=list)
    until: int | None = None
    late: int = 0
    first: int = 0
    last: int = 0
    problem: str | None = None
